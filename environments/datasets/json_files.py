"""Tables in JSON: one object per line, or one list of objects; and the older files whose lines are literals of Python."""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any

import polars as pl

from environments.datasets.files import read_bytes
from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.text_files import Bad, beginning
from simulator.errors import DataError

_LONGEST = 1_000_000
"""Letters of a line that is read as a literal of Python, at most."""

_DEEPEST = 40
"""Brackets within brackets of such a line, at most."""

_STRING = re.compile(r'\'(?:[^\'\\]|\\.)*\'|"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\](){}]")
_CALCULATED = re.compile(r"--|~|(?<![eE])\+|\*")
"""Signs of a calculation, which the parser would take apart at any depth; data has none."""


def read_json(path: Path, bad: Bad, *, head: bool = False) -> RawTable:
    """The objects of a file as a table: a column for each key, lists and objects as JSON.

    Args:
        path: the file; packed ones are unpacked.
        bad: told of lines that hold no object.
        head: reads only the beginning, where the objects have lines of their own.

    Raises:
        DataError: the file is missing or empty, or a line holds no object.
    """
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    text = beginning(text) if head and not text.lstrip().startswith("[") else text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's about a backslash in a literal; it is data
        rows, lines = _objects(path, text, bad)
    keys: dict[str, None] = {}
    for row in rows:
        keys.update(dict.fromkeys(row))
    columns = {_clean(str(key)): pl.Series([_text(row.get(key)) for row in rows], dtype=pl.String) for key in keys}
    return RawTable(path, pl.DataFrame({**columns, LINE: pl.Series(lines, dtype=pl.Int64)}))


def _objects(path: Path, text: str, bad: Bad) -> tuple[list[dict[str, Any]], list[int]]:
    listed = _listed(text)
    if listed is not None:
        return _only_objects(path, listed, [None] * len(listed), list(range(1, len(listed) + 1)), bad)
    sources, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            sources.append(line)
            lines.append(number)
    return _only_objects(path, [_value(line) for line in sources], sources, lines, bad)


def _only_objects(path: Path, found: list[Any], sources: list[Any], lines: list[int], bad: Bad) -> tuple[list[dict[str, Any]], list[int]]:
    wrong = [number for number, value in enumerate(found) if not isinstance(value, dict)]
    if wrong:
        first = wrong[0]
        shown = repr(str(sources[first] if sources[first] is not None else found[first])[:60])
        bad(
            f"{path}, line {lines[first]}, column 'object': found {shown}, allowed is one JSON object per line; correct the row, or leave "
            "such rows out with dataset.on_bad_rows = 'skip'.",
            "not a JSON object",
            len(wrong),
        )
    kept = [number for number, value in enumerate(found) if isinstance(value, dict)]
    if not kept:
        raise DataError(f"{path}: found no JSON object, allowed is one per line, or one list of them; is it the right file?")
    return [found[number] for number in kept], [lines[number] for number in kept]


def _listed(text: str) -> list[Any] | None:
    """The entries of a file that is one list."""
    if not text.lstrip().startswith("["):
        return None
    value = _value(text.strip())
    return value if isinstance(value, list) else None


def _value(line: str) -> Any:
    """What a line holds, None if that is neither JSON nor a literal of Python."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return literal(line)


def literal(text: str) -> Any:
    """The value of a literal of Python, such as ``{'title': "It's", 'price': None}``; None if it is none, or beyond all bounds."""
    if len(text) > _LONGEST:
        return None
    bare = _STRING.sub("", text)  # what is in quotes may be anything
    if _CALCULATED.search(bare) or _depth(bare) > _DEEPEST:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _depth(text: str) -> int:
    """Brackets within brackets, at most."""
    deepest = depth = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{(" else -1
        deepest = max(deepest, depth)
    return deepest


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    return _clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

"""The values of fields: ids, words that mean nothing is known, texts with HTML entities, and lists of genres."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from environments.datasets.raw_table import EXACT_IDS

NOTHING = frozenset(
    (
        "",
        "nan",
        "NaN",
        "NAN",
        "-nan",
        "None",
        "none",
        "NONE",
        "null",
        "Null",
        "NULL",
        "N/A",
        "n/a",
        "NA",
        "<NA>",
        "#N/A",
        "#NA",
        "NaT",
        "nil",
        "NIL",
        r"\N",
    )
)
"""What stands in the fields of tables where nothing is known; ids may be called so."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_WHOLE_FLOAT = r"^-?\d+\.0+$"
_ROUNDED = r"^-?\d(?:\.\d+)?[eE]\+\d+$"
"""A number as spreadsheets round long ones: "9.78E+12"."""

_LONGEST_LIST = 100_000
"""Letters of a field that is read as a list, at most."""

UNIT = "\x1f"
"""Between the entries of a list that came from elsewhere."""


def known(text: pl.Expr) -> pl.Expr:
    """The stripped text, null where it says that nothing is known (`NOTHING`)."""
    stripped = text.str.strip_chars()
    return pl.when(~stripped.is_in(list(NOTHING))).then(stripped)


def decoded(text: pl.Expr) -> pl.Expr:
    """Text in which HTML entities (``&amp;``, ``&#39;``) are the signs that they stand for."""
    return text.map_elements(without_entities, return_dtype=pl.String)


def without_entities(text: str) -> str:
    """As `decoded`, of one text; what was encoded twice is decoded twice."""
    if "&" not in text:
        return text
    for _ in range(3):
        plain = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
        if plain == text:
            break
        text = plain
    return text


@dataclass(frozen=True)
class Ids:
    """Ids of a column in one spelling.

    Attributes:
        ids: stripped; whole numbers that were all written as floats ("1.0") without the point.
        were_floats: whether they were.
        rounded: mask of ids that a program has rounded ("9.78E+12"), so that several became one; None if there are none.
    """

    ids: pl.Series
    were_floats: bool = False
    rounded: pl.Series | None = None


def plain_ids(ids: pl.Series) -> Ids:
    """Ids in one spelling, see `Ids`."""
    stripped = ids.str.strip_chars()
    filled = stripped.filter(stripped.fill_null("") != "")
    if filled.len() and filled.str.contains(_WHOLE_FLOAT).all():
        whole = stripped.str.replace(r"\.0+$", "")
        if (whole.cast(pl.Int64, strict=False).abs() < EXACT_IDS).all():
            return Ids(whole, were_floats=True)
    rounded = stripped.str.contains(_ROUNDED).fill_null(False)
    numbers = filled.cast(pl.Float64, strict=False)
    # an id such as "1e+5" among words is a word
    return Ids(stripped, rounded=rounded if rounded.any() and numbers.null_count() == 0 else None)


@dataclass(frozen=True)
class Lists:
    """The lists of a column.

    Attributes:
        values: List(String), without empty entries and words that mean nothing.
        style: how they were written, in words.
    """

    values: pl.Series
    style: str


def lists(texts: pl.Series, separator: str | None) -> Lists:
    """The lists in a column of text.

    A field may be a list of JSON or Python (of texts, or of objects with a "name"), or entries between separators. Without a given
    separator, "|" and ";" always are one; a comma is one unless the column shows that names hold commas ("Arts, Crafts & Sewing"): some
    field has both a comma and another separator, or the others are far more frequent.

    Args:
        texts: String. separator: between the entries, None to find it.
    """
    distinct = texts.drop_nulls().unique(maintain_order=True).to_list()
    # a given separator that no bracket can be mistaken for leaves lists as they are read
    literal = {text: found for text in distinct if text.lstrip()[:1] in ("[", "{", "(") and (found := _literal(text)) is not None}
    plain = [text for text in distinct if text not in literal]
    if separator is not None:
        separators: tuple[str, ...] = (separator,)
    else:
        separators = _separators([without_entities(text) for text in plain])
    parsed = {text: _kept(found) for text, found in literal.items()}
    parsed |= {text: _kept(_split(without_entities(text), separators)) for text in plain}
    written = (
        [f"between {' and '.join(repr(sign) for sign in separators)}"]
        if separators and any(len(parsed[text]) > 1 for text in plain)
        else []
    )
    written += ["lists in brackets"] if literal else []
    values = pl.Series([parsed.get(text, []) if text is not None else [] for text in texts.to_list()], dtype=pl.List(pl.String))
    return Lists(values, ", ".join(written) or "one each")


def _separators(texts: list[str]) -> tuple[str, ...]:
    found = [sign for sign in ("|", ";", UNIT) if any(sign in text for text in texts)]
    parted = sum(any(sign in text for sign in found) for text in texts)
    comma = [text for text in texts if "," in text]
    both = any(any(sign in text for sign in found) for text in comma)
    if comma and not both and 10 * len(comma) >= parted:
        found.append(",")
    return tuple(found)


def _split(text: str, separators: Iterable[str]) -> list[str]:
    parts = [text]
    for separator in separators:
        parts = [piece for part in parts for piece in part.split(separator)]
    return parts


def _kept(parts: Iterable[str]) -> list[str]:
    stripped = (without_entities(part).strip() for part in parts)
    return list(dict.fromkeys(part for part in stripped if part not in NOTHING))


def _literal(text: str) -> list[str] | None:
    """The entries of a list in JSON or Python; None if the text is none."""
    if len(text) > _LONGEST_LIST or text.count("[") + text.count("{") + text.count("(") > 1_000:
        return None
    # numpy prints its arrays without commas, which Python would read as one long text
    text = re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text.strip())
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return _names(value)
    bare = re.fullmatch(r"\[([^\[\]{}'\"]*)\]", text)  # [Action, Comedy]
    return bare.group(1).split(",") if bare else None


def _names(value: object) -> list[str] | None:
    """The names in a list, or in an object's keys of weight above zero."""
    if isinstance(value, dict):
        return [str(value["name"])] if "name" in value else [str(key) for key, weight in value.items() if weight]
    if isinstance(value, set):
        value = sorted(value, key=str)
    if not isinstance(value, list | tuple):
        return None
    names: list[str] = []
    for entry in value:
        if isinstance(entry, dict):
            names += [str(entry[key]) for key in ("name", "genre", "title") if key in entry][:1]
        elif isinstance(entry, list | tuple):
            names += _names(entry) or []
        elif entry is not None:
            names.append(str(entry))
    return names

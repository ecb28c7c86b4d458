"""Tables in text files: the separator, the header, and rows of as many fields as there are columns."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from environments.datasets.files import TEXT, kind, read_bytes
from environments.datasets.raw_table import LINE, RawTable, listed
from simulator.errors import DataError

CANDIDATES = ("::", "\t", ";", "|", ",", " ")
"""Separators that are looked for, the likelier first."""

NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "space", "|": "vertical bar", "::": "two colons"}
"""Separators in words."""

_HEAD = 1 << 20
"""Letters that are looked at where the beginning is enough."""

_SAMPLE = 50
"""Lines that are looked at for the separator, at most."""

Bad = Callable[[str, str, int], None]
"""Told (message, reason, count) of rows that are left out; raises where that is not allowed."""


@dataclass(frozen=True)
class TextFormat:
    """How a text file is written.

    Attributes:
        separator: one or more characters between fields; None goes by the name of the file and its first lines.
        columns: names of the fields; None takes them from the first line.
        encoding: "latin-1" also takes UTF-8, in which non-ASCII latin-1 text is practically never valid.
        quoted: whether fields may stand in double quotes (RFC 4180); None where the separator is a comma or a semicolon, or the first
            line is in quotes.
        ends_with_newline: whether a file without a final newline is known to be cut off.
        prefix: of the settings of this file, for messages: "" for interactions, "item_", "user_".
    """

    separator: str | None = None
    columns: Sequence[str] | None = None
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    quoted: bool | None = None
    ends_with_newline: bool = False
    prefix: str = ""


def read_text(path: Path, form: TextFormat, bad: Bad, *, head: bool = False) -> RawTable:
    """Reads a text file of separated fields; a byte-order mark and the ends of line LF, CRLF and CR are accepted.

    Args:
        path: the file; packed ones are unpacked.
        form: how it is written.
        bad: told of rows that cannot be used.
        head: reads only the beginning.

    Raises:
        DataError: the file is missing, empty, cut off, in another encoding, or a row has a wrong number of fields.
    """
    text = _decode(path, read_bytes(path), form.encoding)
    text = beginning(text) if head else text
    lines = [line for line in text[:_HEAD].split("\n") if line][:_SAMPLE] or [line for line in text.split("\n") if line][:1]
    if not lines:
        raise _empty(path)
    separator = form.separator or _separator(path, lines, form)
    quoted = _is_quoted(separator, lines) if form.quoted is None else form.quoted
    cut_off = not text.endswith("\n")
    if quoted and '"' in text:
        rows = _quoted_rows(path, text, separator, form)
    else:
        numbered = pl.DataFrame({"text": text.split("\n")}).with_row_index(LINE, offset=1)
        rows = numbered.filter(pl.col("text") != "").select(
            pl.col(LINE).cast(pl.Int64), pl.col("text").str.split(separator).alias("fields")
        )
    rows, names = _header(path, rows, form)
    if cut_off and form.ends_with_newline and rows.height:
        last = int(rows[LINE][-1])
        bad(
            f"{path}, line {last}, column '{names[-1]}': the file is cut off there, without the end of the line that every complete "
            "copy has; fetch the file again.",
            "row cut off",
            1,
        )
        rows = rows.slice(0, rows.height - 1)
    rows = _of_width(path, rows, names, separator, cut_off, bad)
    fields = [pl.col("fields").list.get(index).alias(name) for index, name in enumerate(names)]
    return RawTable(path, rows.select(*fields, LINE), separator=separator)


def _empty(path: Path) -> DataError:
    return DataError(f"'{path}' is empty; allowed is a file with at least one row, fetch it again.")


def beginning(text: str) -> str:
    """The first lines of a text, about a megabyte."""
    return text if len(text) <= _HEAD else text[:_HEAD].rpartition("\n")[0] + "\n"


def holds_data(names: Sequence[str]) -> bool:
    """Whether a first line looks like a row rather than like names of columns: a field of it is a number."""
    return any(_is_number(name) for name in names)


def no_names(path: Path, names: Sequence[str], prefix: str) -> DataError:
    """The error of a file whose first line is no header."""
    return DataError(
        f"{path}, line 1: found {listed(list(names))} where the names of the columns should be; if the file has no header, name its "
        f"{len(names)} columns in order with dataset.{prefix}columns, for example "
        f"dataset.{prefix}columns = {_example(len(names), prefix)}."
    )


def _example(count: int, prefix: str) -> str:
    usual = {"item_": ("item_id", "title", "genres"), "user_": ("user_id", "age", "gender", "occupation")}
    names = usual.get(prefix, ("user_id", "item_id", "rating", "timestamp"))
    more = tuple(f"other{number}" for number in range(1, 9))
    return "[" + ", ".join(f'"{name}"' for name in (*names, *more)[:count]) + (", ...]" if count > len(names) + len(more) else "]")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")


def _separator(path: Path, lines: Sequence[str], form: TextFormat) -> str:
    """The separator that the ending promises if the first line has it, else what splits all of the first lines alike."""
    promised = TEXT.get(kind(path))
    if promised and lines and len(_fields(lines[0], promised)) > 1:
        return promised
    found = ""
    widest = 1
    for candidate in CANDIDATES:
        widths = {len(_fields(line, candidate)) for line in lines}
        if len(widths) == 1 and min(widths) > widest:
            found, widest = candidate, min(widths)
    if found or promised:
        return found or str(promised)
    headed = max(CANDIDATES, key=lambda candidate: len(_fields(lines[0], candidate)))  # some row is wrong; the header tells
    if headed != " " and len(_fields(lines[0], headed)) > 1:
        return headed
    raise DataError(
        f"'{path}' has no ending that tells its format, and its lines show no separator; allowed are {', '.join((*TEXT, '.parquet'))}, "
        f"JSON (.json, .jsonl) and RecBole's files (.inter), or set dataset.{form.prefix}separator."
    )


def _fields(line: str, separator: str) -> list[str]:
    if '"' in line and len(separator) == 1:
        try:
            return next(csv.reader([line], delimiter=separator), [line])
        except csv.Error:
            return line.split(separator)
    return line.split(separator)


def _is_quoted(separator: str, lines: Sequence[str]) -> bool:
    if len(separator) > 1:
        return False
    return separator in ",;" or (bool(lines) and all(len(one) > 1 and one[0] == one[-1] == '"' for one in lines[0].split(separator)))


def _quoted_rows(path: Path, text: str, separator: str, form: TextFormat) -> pl.DataFrame:
    lines, fields, start = [], [], 1
    with _fields_of_any_length():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            for row in reader:
                if row:
                    lines.append(start)
                    fields.append(row)
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}, line {start}: found a double quote that is not closed or stands inside a field ({error}); a quoted field starts "
                f"and ends with a quote, and quotes in it are doubled (dataset.{form.prefix}quoted = false takes quotes as they are)."
            ) from error
    return pl.DataFrame({LINE: lines, "fields": fields}, schema={LINE: pl.Int64, "fields": pl.List(pl.String)})


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _header(path: Path, rows: pl.DataFrame, form: TextFormat) -> tuple[pl.DataFrame, list[str]]:
    """The rows of data and the names of their columns, without a last column that is only a separator at the end of every line."""
    if rows.is_empty():
        raise _empty(path)
    if form.columns is None:
        names = [name.strip() for name in rows["fields"][0].to_list()]
        rows = rows.slice(1)
    else:
        names = list(form.columns)
    closed = rows.height > 0 and rows.select((pl.col("fields").list.last() == "").all()).item()
    if len(names) > 1 and not names[-1] and (closed or not (rows["fields"].list.len() == len(names)).any()):
        names = names[:-1]
    if closed and (rows["fields"].list.len() == len(names) + 1).all():
        rows = rows.with_columns(pl.col("fields").list.head(len(names)))
    if len(set(names)) < len(names):
        if form.columns is None and holds_data(names):
            raise no_names(path, names, form.prefix)
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}, line 1: a column name stands twice in the header ('{twice}' in {listed(names)}); names must differ.")
    return rows, names


def _of_width(path: Path, rows: pl.DataFrame, names: Sequence[str], separator: str, cut_off: bool, bad: Bad) -> pl.DataFrame:
    right = pl.col("fields").list.len() == len(names)
    wrong = rows.filter(~right)
    if wrong.height:
        line, found = int(wrong[LINE][0]), len(wrong["fields"][0])
        column = names[min(found, len(names) - 1)]
        advice = "the file is cut off there; fetch it again" if cut_off and line == rows[LINE][-1] else "correct the row"
        bad(
            f"{path}, line {line}, column '{column}': found {found} fields, allowed are {len(names)} "
            f"({listed(list(names))}) separated by {NAMES.get(separator, repr(separator))}; {advice}.",
            "wrong number of fields",
            wrong.height,
        )
    return rows.filter(right)


def _decode(path: Path, raw: bytes, encoding: str) -> str:
    zero = raw.find(b"\0")
    if zero >= 0:
        line = raw.count(b"\n", 0, zero) + 1
        raise DataError(f"{path}, line {line}: found a zero byte, allowed is text in {encoding}; the file is binary, damaged, or UTF-16.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            line_start = raw.rfind(b"\n", 0, error.start) + 1
            line = raw.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{path}, line {line}, character {error.start - line_start + 1}: found the byte 0x{raw[error.start]:02x}, "
                "allowed is text in utf-8; convert the file, or set dataset.encoding = 'latin-1' where the loader has that key."
            ) from error
        text = raw.decode(encoding)
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")

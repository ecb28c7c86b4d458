"""Strict reading of text tables: every bad value is found, and named with file, line, column, what it is and what is allowed.

`Reader` turns a file into a `RawTable` of strings in which each row knows its line; its checks then either stop with a
`DataError` at the first bad row or, with ``on_bad_rows = "skip"``, drop the bad rows and count them by reason. Checks are
polars expressions over whole columns, so strictness costs little: a million rows take about a second.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl

from simulator.errors import DataError, with_suggestion

BadRows = Literal["error", "skip"]

LINE = "_line"
"""Column of a `RawTable` with the number of the line in its file, from 1."""

LATEST_TIME = 4_102_444_800
"""2100-01-01 in seconds since 1970; later timestamps are surely in another unit."""


@dataclass(frozen=True)
class RawTable:
    """The rows of a file as text.

    Attributes:
        path: the file, for messages.
        frame: one String column per field (numbers once checked), and `LINE`.
        names: our column name -> the file's own name, where they differ; messages use the file's.
        unit: what `LINE` counts: "line" of a text file, "row" of a Parquet file.
    """

    path: Path
    frame: pl.DataFrame
    names: Mapping[str, str] = field(default_factory=dict)
    unit: str = "line"

    @property
    def columns(self) -> list[str]:
        """Names of the fields, in order of the file."""
        return [name for name in self.frame.columns if name != LINE]

    def pick(self, wanted: Mapping[str, str]) -> RawTable:
        """Only the columns ``wanted[ours] = file's name``, under our names.

        Raises:
            DataError: the file lacks a column.
        """
        for name in wanted.values():
            if name not in self.columns:
                raise DataError(f"{self.path}, line 1: there is no such column; {with_suggestion('column', name, self.columns)}")
        columns = [pl.col(name).alias(ours) for ours, name in wanted.items()]
        return replace(self, frame=self.frame.select(*columns, LINE), names=dict(wanted))

    def with_column(self, column: str, values: pl.Expr) -> RawTable:
        """The table with one column added or replaced."""
        return replace(self, frame=self.frame.with_columns(values.alias(column)))

    def place(self, line: int, column: str) -> str:
        """ "FILE, line 3, column 'rating'"."""
        return f"{self.path}, {self.unit} {line}, column '{self.names.get(column, column)}'"


class Reader:
    """Reads the files of one data set; holds what was skipped.

    Attributes:
        on_bad_rows: "error" stops at the first bad row, "skip" drops and counts.
        skipped: reason -> number of rows dropped so far.
    """

    def __init__(self, on_bad_rows: BadRows = "error") -> None:
        self.on_bad_rows = on_bad_rows
        self.skipped: dict[str, int] = {}

    def text_table(
        self,
        path: Path,
        *,
        separator: str,
        columns: Sequence[str] | None = None,
        encoding: Literal["utf-8", "latin-1"] = "utf-8",
        quoted: bool = False,
        ends_with_newline: bool = False,
    ) -> RawTable:
        r"""Reads a text file of separated fields; ``.gz`` is unpacked, CRLF and a byte-order mark are accepted.

        Args:
            path: the file.
            separator: one or more characters between fields.
            columns: names of the fields; None takes them from the first line.
            encoding: "latin-1" also takes UTF-8, in which non-ASCII latin-1 text is practically never valid.
            quoted: whether fields may stand in double quotes (RFC 4180).
            ends_with_newline: whether a file without a final newline is known to be cut off.

        Raises:
            DataError: the file is missing, empty, cut off, in another encoding, or a row has a wrong number of fields.
        """
        text = _decode(path, read_bytes(path), encoding)
        cut_off = not text.endswith("\n")
        if quoted and '"' in text:
            rows = self._quoted_rows(path, text, separator)
        else:
            lines = pl.DataFrame({"text": text.split("\n")}).with_row_index(LINE, offset=1)
            rows = lines.filter(pl.col("text") != "").select(
                pl.col(LINE).cast(pl.Int64), pl.col("text").str.split(separator).alias("fields")
            )
        if columns is None:
            names = [name.strip() for name in rows["fields"][0].to_list()]
            if len(set(names)) < len(names):
                raise DataError(f"{path}, line 1: a column name stands twice in the header ({', '.join(names)}); names must differ.")
            rows = rows.slice(1)
        else:
            names = list(columns)
        if cut_off and ends_with_newline and rows.height:
            last = int(rows[LINE][-1])
            self._bad(
                f"{path}, line {last}, column '{names[-1]}': the file is cut off there, without the end of the line that every complete "
                "copy has; fetch the file again.",
                "row cut off",
                1,
            )
            rows = rows.slice(0, rows.height - 1)
        rows = self._check_widths(path, rows, names, separator, cut_off)
        fields = [pl.col("fields").list.get(index).alias(name) for index, name in enumerate(names)]
        return RawTable(path, rows.select(*fields, LINE))

    def _quoted_rows(self, path: Path, text: str, separator: str) -> pl.DataFrame:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines, fields, start = [], [], 1
        try:
            for row in reader:
                if row:
                    lines.append(start)
                    fields.append(row)
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}, line {start}: found a double quote that is not closed or stands inside a field ({error}); "
                "a quoted field starts and ends with a quote, and quotes in it are doubled."
            ) from error
        return pl.DataFrame({LINE: lines, "fields": fields}, schema={LINE: pl.Int64, "fields": pl.List(pl.String)})

    def _check_widths(self, path: Path, rows: pl.DataFrame, names: Sequence[str], separator: str, cut_off: bool) -> pl.DataFrame:
        wrong = rows.filter(pl.col("fields").list.len() != len(names))
        if wrong.height:
            line, found = int(wrong[LINE][0]), len(wrong["fields"][0])
            column = names[min(found, len(names) - 1)]
            separators = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "space"}
            advice = "the file is cut off there; fetch it again" if cut_off and line == rows[LINE][-1] else "correct the row"
            self._bad(
                f"{path}, line {line}, column '{column}': found {found} fields, allowed are {len(names)} "
                f"({', '.join(names)}) separated by {separators.get(separator, repr(separator))}; {advice}.",
                "wrong number of fields",
                wrong.height,
            )
        return rows.filter(pl.col("fields").list.len() == len(names))

    def check(self, table: RawTable, bad: pl.Expr, *, column: str, reason: str, allowed: str, found: pl.Expr | None = None) -> RawTable:
        """Stops at the first row where `bad` is true, or drops all of them.

        Args:
            table: the rows.
            bad: boolean expression over the table; null counts as false.
            column: which column is wrong, by our name.
            reason: a few words for the count of skipped rows, such as "rating out of range".
            allowed: what would be right, for the message.
            found: what to quote as found; the value of `column` if None.

        Raises:
            DataError: a row is bad and `on_bad_rows` is "error".
        """
        mask = table.frame.select(bad.fill_null(False)).to_series()
        count = int(mask.sum())
        if not count:
            return table
        if self.on_bad_rows == "error":
            first = table.frame.filter(mask).head(1).select(pl.col(LINE), (pl.col(column) if found is None else found).alias("found"))
            value = first["found"][0]
            shown = "nothing" if value in (None, "") else repr(value) if len(str(value)) <= 60 else repr(f"{str(value)[:57]}...")
            raise DataError(
                f"{table.place(first[LINE][0], column)}: found {shown}, allowed is {allowed}; "
                "correct the row, or leave such rows out with dataset.on_bad_rows = 'skip'."
            )
        self._bad("", reason, count)
        return replace(table, frame=table.frame.filter(~mask))

    def numbers(
        self, table: RawTable, column: str, *, scale: tuple[float, float] | None = None, optional: bool = False, of: str = ""
    ) -> RawTable:
        """Turns a column of text into Float64 after checking it.

        Args:
            table: the rows.
            column: by our name.
            scale: lowest and highest allowed value, or None for any finite number.
            optional: whether an empty field is allowed and becomes null.
            of: what the number is, for messages ("rating"); the column's name if empty.

        Raises:
            DataError: a value is no number or out of range, and `on_bad_rows` is "error".
        """
        text = pl.col(column).str.strip_chars()
        value = text.cast(pl.Float64, strict=False)
        allowed = "a number"
        if scale is not None:
            allowed = f"a number from {scale[0]:g} to {scale[1]:g}" if scale[1] < float("inf") else f"a number of at least {scale[0]:g}"
        of = of or column
        bad = value.is_null() | ~value.is_finite()
        if optional:
            bad &= text.fill_null("") != ""
        else:
            bad |= text.is_null()
        table = self.check(table, bad, column=column, reason=f"{of} is not a number", allowed=allowed)
        if scale is not None:
            outside = (value < scale[0]) | (value > scale[1])
            table = self.check(table, outside, column=column, reason=f"{of} out of range", allowed=allowed)
        return table.with_column(column, value)

    def timestamps(self, table: RawTable, column: str = "timestamp", *, per_second: int = 1, optional: bool = False) -> RawTable:
        """Turns a column of text into Int64 seconds since 1970 UTC after checking it.

        Args:
            table: the rows.
            column: by our name.
            per_second: ticks of the file's clock in a second: 1, 1000 for milliseconds, 1000000 for microseconds.
            optional: whether an empty field is allowed and becomes null.

        Raises:
            DataError: a value is no number, negative, or after the year 2100, and `on_bad_rows` is "error".
        """
        raw = pl.col(column)
        table = table.with_column("_raw", raw)
        table = self.numbers(table, column, optional=optional)
        seconds = raw / per_second
        outside = (seconds < 0) | (seconds >= LATEST_TIME)
        unit = {1: "seconds", 1000: "milliseconds"}.get(per_second, "microseconds")
        allowed = f"a time in {unit} since 1970, before the year 2100 (files in another unit need dataset.time_unit)"
        table = self.check(table, outside, column=column, reason="timestamp out of range", allowed=allowed, found=pl.col("_raw"))
        return replace(table, frame=table.frame.drop("_raw")).with_column(column, seconds.floor().cast(pl.Int64))

    def known(self, table: RawTable, column: str, ids: pl.Series, where: Path | str) -> RawTable:
        """Keeps rows whose `column` is one of `ids`.

        Raises:
            DataError: an id is not among them and `on_bad_rows` is "error".
        """
        what = column.removesuffix("_id")
        allowed = f"one of the {ids.len()} {what}s of {where}"
        return self.check(table, ~pl.col(column).is_in(ids.implode()), column=column, reason=f"unknown {what}", allowed=allowed)

    def filled(self, table: RawTable, column: str) -> RawTable:
        """Keeps rows whose `column` is not empty.

        Raises:
            DataError: a value is empty and `on_bad_rows` is "error".
        """
        empty = pl.col(column).fill_null("").str.strip_chars() == ""
        return self.check(table, empty, column=column, reason=f"empty {column}", allowed="an id")

    def unique(self, table: RawTable, by: Sequence[str], what: str) -> RawTable:
        """Keeps the first row of each combination of `by`.

        Raises:
            DataError: a combination comes twice and `on_bad_rows` is "error".
        """
        again = ~pl.struct(by).is_first_distinct()
        if self.on_bad_rows == "error":
            repeated = table.frame.filter(again)
            if repeated.height:
                second = repeated.row(0, named=True)
                same = pl.all_horizontal(pl.col(name) == second[name] for name in by)
                first = table.frame.filter(same)[LINE][0]
                values = " and ".join(f"{table.names.get(name, name)} '{second[name]}'" for name in by)
                raise DataError(
                    f"{table.place(second[LINE], by[-1])}: found {values} again (first in {table.unit} {first}), "
                    f"allowed is one row per {what}; remove one of them, or leave repeated rows out with dataset.on_bad_rows = 'skip'."
                )
        return self.check(table, again, column=by[-1], reason=f"repeated {what}", allowed=f"one row per {what}")

    def _bad(self, message: str, reason: str, count: int) -> None:
        if self.on_bad_rows == "error":
            raise DataError(message)
        self.skipped[reason] = self.skipped.get(reason, 0) + count


def find_file(folder: Path, names: Iterable[str], what: str) -> Path:
    """The first of `names` that exists in `folder`.

    Raises:
        DataError: the folder or all of the files are missing.
    """
    wanted = list(names)
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}' to read {what} from; allowed is a folder that holds {' or '.join(wanted)}.")
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    present = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise DataError(f"there is no file {' or '.join(wanted)} in '{folder}', which {what} needs; the folder holds {present}.")


def read_bytes(path: Path) -> bytes:
    """The contents of a file, unpacked if its name ends in ``.gz``.

    Raises:
        DataError: the file is missing, empty, unreadable, or a damaged archive.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file '{path}'; check the path, or fetch the data again.") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}; allowed is a readable file.") from error
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"'{path}' is not a complete gzip file ({error}); it was probably cut off, fetch it again.") from error
    if not raw.strip():
        raise DataError(f"'{path}' is empty; allowed is a file with at least one row, fetch it again.")
    return raw


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
    return text.replace("\r\n", "\n")

"""Reading of data files: every bad value is found, and named with file, line, column, what it is and what is allowed.

`Reader` turns a file into a `RawTable` of strings in which each row knows its line; its checks then either stop with a
`DataError` at the first bad row or, with ``on_bad_rows = "skip"``, drop the bad rows and count them by reason. Checks are
polars expressions over whole columns, so strictness costs little: a million rows take about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from environments.datasets.files import JSON, PARQUET, kind, parts
from environments.datasets.json_files import read_json
from environments.datasets.parquet_files import read_parquet
from environments.datasets.raw_table import LINE, RawTable, listed
from environments.datasets.text_files import TextFormat, holds_data, no_names, read_text
from environments.datasets.values import plain_ids
from simulator.errors import DataError

BadRows = Literal["error", "skip"]

SKIPPING = "correct the row, or leave such rows out with dataset.on_bad_rows = 'skip'"
"""What to do about a bad row, if nothing better is known."""

MANY = 0.03
"""Share of bad rows above which a setting is likelier wrong than the rows."""


class Reader:
    """Reads the files of one data set; holds what was skipped, and how the files were understood.

    Attributes:
        on_bad_rows: "error" stops at the first bad row, "skip" drops and counts.
        skipped: reason -> number of rows dropped so far.
        understood: what -> how it was understood, in words, for people.
        notes: sentences about what may be meant otherwise.
    """

    def __init__(self, on_bad_rows: BadRows = "error") -> None:
        self.on_bad_rows = on_bad_rows
        self.skipped: dict[str, int] = {}
        self.understood: dict[str, str] = {}
        self.notes: list[str] = []

    def tell(self, what: str, how: str) -> None:
        """Keeps how something was understood."""
        self.understood[what] = how

    def note(self, sentence: str) -> None:
        """Keeps a sentence about what may be meant otherwise, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def table(self, path: Path, form: TextFormat) -> RawTable:
        """A file of any kind, or a folder of its parts, by the endings of their names (`environments.datasets.files.TABLES`).

        Args:
            path: the file or folder. form: how it is written if it is text.

        Raises:
            DataError: it is missing, empty, damaged, or its parts are not parts of one table.
        """
        files = parts(path)
        read = [self._one(file, form) for file in files]
        return read[0] if files == [path] else _joined(path, read, form.prefix)

    def together(self, tables: Sequence[RawTable], prefix: str) -> RawTable:
        """Tables with the same columns as one, their rows one after another; `prefix` is that of their settings.

        Raises:
            DataError: their columns differ.
        """
        return _joined(tables[0].path, tables, prefix)

    def columns(self, path: Path, form: TextFormat) -> list[str]:
        """The names of the columns of a file or of the first of its parts, from its beginning.

        Raises:
            DataError: it is missing, empty or damaged.
        """
        first = parts(path)[0]
        ending = kind(first)
        if ending in PARQUET:
            return read_parquet(first).columns
        beginning = read_json(first, self._bad, head=True) if ending in JSON else read_text(first, form, self._bad, head=True)
        return beginning.columns

    def _one(self, path: Path, form: TextFormat) -> RawTable:
        ending = kind(path)
        if ending in PARQUET:
            return read_parquet(path)
        return read_json(path, self._bad) if ending in JSON else read_text(path, form, self._bad)

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
        """A text file of a known format, see `TextFormat`.

        Raises:
            DataError: the file is missing, empty, cut off, in another encoding, or a row has a wrong number of fields.
        """
        form = TextFormat(separator, columns, encoding, quoted, ends_with_newline)
        return read_text(path, form, self._bad)

    def json_table(self, path: Path) -> RawTable:
        """A file of JSON objects.

        Raises:
            DataError: the file is missing or empty, or a line holds no object.
        """
        return read_json(path, self._bad)

    def check(
        self,
        table: RawTable,
        bad: pl.Expr,
        *,
        column: str,
        reason: str,
        allowed: str,
        found: pl.Expr | None = None,
        advice: Callable[[str], str] | None = None,
    ) -> RawTable:
        """Stops at the first row where `bad` is true, or drops all of them.

        Args:
            table: the rows.
            bad: boolean expression over the table; null counts as false.
            column: which column is wrong, by our name.
            reason: a few words for the count of skipped rows, such as "rating out of range".
            allowed: what would be right, for the message.
            found: what to quote as found; the value of `column` if None.
            advice: what to do, given the value that was found; `SKIPPING` if None, unless so many rows are bad that the setting is
                likelier wrong.

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
            text = f"{value:g}" if isinstance(value, float) else str(value)
            shown = "nothing" if value in (None, "") else repr(text) if len(text) <= 60 else repr(f"{text[:57]}...")
            what = advice(text) if advice else _advice(count, table.frame.height)
            raise DataError(f"{table.place(first[LINE][0], column)}: found {shown}, allowed is {allowed}; {what}.")
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
        commas = table.frame.select((bad & text.str.contains(r"^-?\d+,\d+$")).any()).item()
        advice = (lambda _: "write numbers with a point in place of the comma") if commas else None
        table = self.check(table, bad, column=column, reason=f"{of} is not a number", allowed=allowed, advice=advice)
        if scale is not None:
            outside = (value < scale[0]) | (value > scale[1])
            table = self.check(table, outside, column=column, reason=f"{of} out of range", allowed=allowed)
        return table.with_column(column, value)

    def ids(self, table: RawTable, column: str) -> RawTable:
        """The table with ids in one spelling (`environments.datasets.values.plain_ids`), without rows whose id is empty.

        Raises:
            DataError: an id is empty or was rounded, and `on_bad_rows` is "error".
        """
        table = self.filled(table, column)
        plain = plain_ids(table.frame[column])
        if plain.were_floats:
            self.tell(f"{table.names.get(column, column)} of {table.path.name}", "whole numbers that were written as floats (1.0 is 1)")
        table = table.with_column(column, pl.lit(plain.ids))
        if plain.rounded is None:
            return table
        return self.check(
            table,
            pl.lit(plain.rounded),
            column=column,
            reason=f"rounded {column}",
            allowed="an id that no program has rounded",
            advice=lambda _: "several ids may have become this one: write the file again with its ids as text or as whole numbers",
        )

    def known(
        self,
        table: RawTable,
        column: str,
        ids: pl.Series,
        where: Path | str,
        *,
        likelier: Callable[[], str | None] = lambda: None,
        addable: bool = False,
    ) -> RawTable:
        """Keeps rows whose `column` is one of `ids`.

        Args:
            table: the rows. column: by our name. ids: the known ones. where: the file that lists them, for messages.
            likelier: asked, where more than `MANY` of the rows name unknown ids, for a sentence about a column that fits better.
            addable: whether the loader has the setting `unlisted`.

        Raises:
            DataError: an id is not among them and `on_bad_rows` is "error", or another column fits better.
        """
        what = column.removesuffix("_id")
        unknown = table.frame.select(~pl.col(column).is_in(ids.implode())).to_series()
        count, height = int(unknown.sum()), table.frame.height
        better = likelier() if count > MANY * height else None
        if better is not None:
            first = table.frame.filter(unknown).row(0, named=True)
            raise DataError(
                f"{table.place(first[LINE], column)}: found {first[column][:60]!r}, which is none of the {ids.len()} {what}s of {where}, "
                f"and so it is on {count:,} of {height:,} rows ({count / height:.0%}); {better}."
            )
        allowed = f"one of the {ids.len()} {what}s of {where}"
        add = f"; dataset.unlisted = 'add' takes such {what}s with nothing known" if addable else ""
        return self.check(
            table,
            pl.lit(unknown),
            column=column,
            reason=f"unknown {what}",
            allowed=allowed,
            advice=lambda _: f"{_advice(count, height)}{add}",
        )

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


def _advice(count: int, height: int) -> str:
    if count > 2 and count > MANY * height:
        return (
            f"it is so on {count:,} of {height:,} rows ({count / height:.0%}), so the column or a setting is likelier wrong than the rows: "
            "see what `usersim data describe` makes of the file before leaving them out (dataset.on_bad_rows = 'skip')"
        )
    return SKIPPING


def _joined(path: Path, read: Sequence[RawTable], prefix: str) -> RawTable:
    """Parts as one table whose lines count on."""
    first = read[0]
    starts, frames, before = [], [], 0
    for part in read:
        if part.columns != first.columns:
            if first.separator and holds_data(part.columns):
                raise no_names(part.path, part.columns, prefix)
            raise DataError(
                f"'{part.path}' has the columns {listed(part.columns)}, but {first.path.name} has {listed(first.columns)}; "
                "parts of one table have the same columns in the same order."
            )
        starts += [(before + lines, file) for lines, file in part.parts or ((0, part.path),)]
        frames.append(part.frame.with_columns(pl.col(LINE) + before))
        before += int(part.frame[LINE].max() or 0)  # type: ignore[arg-type]
    try:
        return replace(first, path=path, frame=pl.concat(frames, how="vertical_relaxed"), parts=tuple(starts))
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the parts in '{path}' have columns of different types ({str(error).splitlines()[0]}); write them alike."
        ) from error

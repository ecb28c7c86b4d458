"""A file as a table of text whose rows know their place, and the text of columns that came with a type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from simulator.errors import DataError, with_suggestion

LINE = "\0line"
"""Column of a `RawTable` with the number of the line in its file, from 1. No file can have a column of this name."""

EXACT_IDS = 2**53
"""Whole numbers from here on are not exact as floats."""

SHOWN = 200
"""Letters of a list of names in a message, at most."""


@dataclass(frozen=True)
class RawTable:
    """The rows of a file as text.

    Attributes:
        path: the file, for messages.
        frame: one column per field and `LINE`; fields of text files are String, those of typed files become so when they are picked.
        names: our column name -> the file's own name, where they differ; messages use the file's.
        unit: what `LINE` counts: "line" of a text file, "row" of a Parquet file.
        parts: (rows before it, file) of each part, where the table came in parts; `LINE` counts on over them.
        dates: picked columns whose text is the nanoseconds since 1970 of a date with a type.
        unreadable: columns of the file that could not be read -> why.
        separator: between the fields of a text file, "" for others.
    """

    path: Path
    frame: pl.DataFrame
    names: Mapping[str, str] = field(default_factory=dict)
    unit: str = "line"
    parts: tuple[tuple[int, Path], ...] = ()
    dates: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    separator: str = ""

    @property
    def columns(self) -> list[str]:
        """Names of the fields, in order of the file."""
        return [name for name in self.frame.columns if name != LINE] + list(self.unreadable)

    def pick(self, wanted: Mapping[str, str]) -> RawTable:
        """Only the columns ``wanted[ours] = file's name``, under our names and as text.

        Raises:
            DataError: the file lacks a column, or one has a type that cannot be what it is wanted for.
        """
        columns, dates = [], set()
        for ours, name in wanted.items():
            if name not in self.columns:
                raise DataError(f"{self.path}, line 1: there is no such column; {with_suggestion('column', name, self.columns)}")
            if name in self.unreadable:
                raise DataError(f"{self.path}, column '{name}': {self.unreadable[name]}; {_OTHER_COLUMN}")
            column = self.frame[name]
            if column.dtype.is_temporal() and ours == "timestamp":
                dates.add(ours)
            try:
                text = column if column.dtype == pl.String else as_text(column, ours)
            except ValueError as error:
                raise DataError(f"{self.path}, column '{name}': {error}; {_OTHER_COLUMN}") from error
            columns.append(text.alias(ours))
        return replace(self, frame=pl.DataFrame([*columns, self.frame[LINE]]), names=dict(wanted), dates=frozenset(dates), unreadable={})

    def with_column(self, column: str, values: pl.Expr) -> RawTable:
        """The table with one column added or replaced."""
        return replace(self, frame=self.frame.with_columns(values.alias(column)))

    def filter(self, kept: pl.Expr) -> RawTable:
        """The rows where `kept` is true."""
        return replace(self, frame=self.frame.filter(kept))

    def place(self, line: int, column: str) -> str:
        """ "FILE, line 3, column 'rating'"."""
        before, file = next((part for part in reversed(self.parts) if part[0] < line), (0, self.path))
        return f"{file}, {self.unit} {line - before}, column '{self.names.get(column, column)}'"


_OTHER_COLUMN = "name another column, or leave this one out"


def listed(names: list[str]) -> str:
    """Names for a message, shortened where they are long."""
    text = ", ".join(names)
    return text if len(text) <= SHOWN else f"{text[:SHOWN].rsplit(', ', 1)[0]} ... ({len(names)} in all)"


def as_text(column: pl.Series, ours: str) -> pl.Series:
    """A typed column as text, for what it is wanted for.

    Whole floats become whole numbers where they are ids; dates become nanoseconds since 1970 where they are times, else ISO 8601; lists
    become JSON where they are genres, else words; Booleans 1 and 0.

    Raises:
        ValueError: says why values of this type cannot be that.
    """
    dtype, is_id = column.dtype, ours.endswith("_id") or ours in ("id", "genre")
    if dtype in (pl.Categorical, pl.Enum, pl.Null) or dtype.is_integer() or dtype.is_decimal():
        return column.cast(pl.String)
    if dtype == pl.Boolean:
        return column.cast(pl.Int8).cast(pl.String)
    if dtype.is_float():
        return _whole(column.fill_nan(None)) if is_id else column.fill_nan(None).cast(pl.String)
    if dtype in (pl.Datetime, pl.Date):
        return (
            _nanoseconds(column) if ours == "timestamp" else column.dt.strftime("%Y-%m-%dT%H:%M:%S" if dtype == pl.Datetime else "%Y-%m-%d")
        )
    if dtype == pl.Binary:
        return _decoded(column)
    if dtype in (pl.List, pl.Array) and not is_id and ours not in ("rating", "timestamp", "weight", "label"):
        return _of_lists(column, _words if ours != "genres" else _json)
    raise ValueError(f"found values of the type {str(dtype).lower()}, which cannot be {'ids' if is_id else f'a {ours}'}")


def _whole(column: pl.Series) -> pl.Series:
    whole = (column == column.floor()) & (column.abs() < EXACT_IDS)
    wrong = column.filter(~whole.fill_null(True))
    if wrong.len():
        raise ValueError(
            f"found {wrong[0]!r} among its ids, which are floats; allowed are whole numbers below 2^53, which a float holds exactly "
            "(write the ids as integers or as text)"
        )
    return column.cast(pl.Int64).cast(pl.String)


def _nanoseconds(column: pl.Series) -> pl.Series:
    seconds = column.cast(pl.Datetime("us")).dt.epoch("s") if column.dtype == pl.Date else column.dt.epoch("s")
    outside = seconds.filter((seconds < -(2**33)) | (seconds >= 2**33))  # nanoseconds would not fit
    if outside.len():
        raise ValueError(f"found a date {outside[0]} seconds from 1970; allowed are dates from 1970 to 2099")
    fine = column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column
    return fine.dt.epoch("ns").cast(pl.String)


def _decoded(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise ValueError("found bytes that are no text in utf-8") from error


def _of_lists(column: pl.Series, text: Callable[[list[Any]], str]) -> pl.Series:
    values = column.to_list()
    return pl.Series([None if value is None else text(value) for value in values], dtype=pl.String)


def _words(parts: list[Any]) -> str:
    return " ".join(str(part) for part in parts if part is not None)


def _json(parts: list[Any]) -> str:
    return json.dumps([part for part in parts if part is not None], ensure_ascii=False, default=str)

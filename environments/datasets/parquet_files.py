"""Tables in Parquet; columns of any type are read, and one that cannot be matters only to those who want it."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from environments.datasets.files import check_size, read_bytes
from environments.datasets.raw_table import LINE, RawTable
from simulator.errors import DataError

_FAILS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def read_parquet(path: Path) -> RawTable:
    """A Parquet file; its columns keep their types until they are picked.

    Raises:
        DataError: the file is missing, empty or damaged.
    """
    raw = read_bytes(path)
    unreadable: dict[str, str] = {}
    check_size(path, _declared(raw), len(raw))
    try:
        frame = pl.read_parquet(raw)
    except _FAILS as error:
        frame, unreadable = _column_by_column(path, raw, error)
    if not frame.width:
        raise DataError(f"'{path}' has no column that can be read; allowed is a table.")
    numbers = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE)
    return RawTable(path, frame.with_columns(numbers), unit="row", unreadable=unreadable)


def _declared(raw: bytes) -> int:
    """Bytes that the table has in memory at least, by its own notes; 0 where they cannot be read."""
    try:
        table = pl.scan_parquet(io.BytesIO(raw))
        return 8 * len(table.collect_schema()) * int(table.select(pl.len()).collect().item())
    except _FAILS:
        return 0


def _column_by_column(path: Path, raw: bytes, error: BaseException) -> tuple[pl.DataFrame, dict[str, str]]:
    """The columns that can be read, and why the others cannot."""
    try:
        names = list(pl.read_parquet_schema(raw))
    except _FAILS:
        names = []
    columns, unreadable = [], {}
    for name in names:
        try:
            columns.append(pl.read_parquet(raw, columns=[name])[name])
        except _FAILS as reason:
            unreadable[name] = f"it cannot be read ({_first_line(reason)})"
    if not columns:
        raise DataError(
            f"'{path}' is not a whole Parquet file ({_first_line(error)}); it was probably cut off, write or fetch it again."
        ) from error
    return pl.DataFrame(columns), unreadable


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["nothing said"])[0]

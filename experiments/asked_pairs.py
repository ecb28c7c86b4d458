"""Users and items that are asked about, read from a table: which row means whom, and what cannot be meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from simulator.dataset import Dataset
from simulator.errors import DataError, with_suggestion
from simulator.files import read_table, reading
from simulator.records import UserProfile


@dataclass(frozen=True, eq=False)
class AskedPage:
    """Items in front of a user: the page's own name, None for an item alone; item codes in order of place."""

    user: str
    page: str | None
    items: np.ndarray


def read_pairs(file: Path) -> pl.DataFrame:
    """The table of a CSV or Parquet file, ids as text.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    if not file.is_file():
        raise DataError(f"there is no file {file}; give a CSV or Parquet file with the columns user and item.")
    if file.suffix.lower() == ".parquet":
        return read_table(file, "give another one", DataError)
    with reading(file, "the columns are user, item and perhaps page, separated by commas", DataError):
        return pl.read_csv(file.read_bytes(), infer_schema=False)


def pages_of(pairs: pl.DataFrame | Path, users: Mapping[str, UserProfile], train: Dataset) -> tuple[list[AskedPage], np.ndarray]:
    """The pages that a table asks about.

    Args:
        pairs: the table or its file: columns `user`, `item` and perhaps `page`; a row whose page is null is a page of its own.
        users: who can be asked, by id. train: the data, for ids of items.

    Returns:
        Pages in order of their first rows, and for each of their items, one page after another, the row of the table, shape (rows,).

    Raises:
        DataError: a column is missing, a user or an item is unknown, or an item is twice on a page; names the row, from 1.
    """
    where = f"{pairs}" if isinstance(pairs, Path) else "pairs"
    table = read_pairs(pairs) if isinstance(pairs, Path) else pairs
    for name in ("user", "item"):
        if name not in table.columns:
            raise DataError(f"{where} has no column '{name}'; it needs user and item, and page where rows belong to one page.")
    rows = table.select(pl.col(name).cast(pl.String) for name in ("user", "item", "page") if name in table.columns)
    codes = {str(item): code for code, item in enumerate(train.catalog.item_ids.tolist())}
    groups: dict[tuple[str, str] | int, list[tuple[int, int]]] = {}
    for number, (user, item, *rest) in enumerate(rows.iter_rows()):
        if user not in users:
            raise DataError(f"{where}, row {number + 1}: {_unknown('user', user, users)}")
        if item not in codes:
            raise DataError(f"{where}, row {number + 1}: {_unknown('item', item, codes)}")
        page = rest[0] if rest else None
        group = groups.setdefault(number if page is None else (user, page), [])
        if any(codes[item] == other for _, other in group):
            raise DataError(f"{where}, row {number + 1}: item '{item}' is twice on page '{page}' of user '{user}'; name it once.")
        group.append((number, codes[item]))
    found = []
    for key, members in groups.items():
        user = rows["user"][members[0][0]]
        found.append(AskedPage(user, None if isinstance(key, int) else key[1], np.array([item for _, item in members], dtype=np.int32)))
    order = np.array([number for members in groups.values() for number, _ in members], dtype=np.int64)
    return found, order


def _unknown(kind: str, given: str | None, known: Mapping[str, object]) -> str:
    if given is None:
        return f"there is no {kind}; each row names one."
    if len(known) <= 20:
        return with_suggestion(kind, given, list(known))
    return f"there is no {kind} '{given}' in the training part; ids are those of the data, for example {', '.join(list(known)[:4])}."

"""Memory records to rows of the table `MEMORIES` and back, without loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import polars as pl

from simulator.errors import RunError
from simulator.records import MemoryKind, MemoryRecord
from simulator.tables import MEMORIES


def to_rows(user_id: str, records: Sequence[MemoryRecord], item_ids: np.ndarray) -> dict[str, list[Any]]:
    """The columns of `MEMORIES` for one person.

    Args:
        user_id: the person's id in the log.
        records: what `Memory.records` returned.
        item_ids: the data set's own item ids by item code, as `Catalog.item_ids`.

    Returns:
        Column name -> list of values in order of `records`, one entry for every column of the table.
    """
    return {
        "user": [user_id] * len(records),
        "record": [record.record for record in records],
        "kind": [record.kind for record in records],
        "round": [record.round for record in records],
        "session": [record.session for record in records],
        "time": [record.time for record in records],
        "text": [record.text for record in records],
        "item": [item_ids[record.item] if record.item >= 0 else None for record in records],
        "importance": [record.importance for record in records],
        "references": [list(record.references) for record in records],
        "recalls": [record.recalls for record in records],
        "last_recall": [record.last_recall for record in records],
        "forgotten": [record.forgotten for record in records],
    }


def to_frame(people: Iterable[tuple[str, Sequence[MemoryRecord]]], item_ids: np.ndarray) -> pl.DataFrame:
    """The table `MEMORIES` of several people, sorted by its key.

    Args:
        people: (user id, records) of each person, every id once.
        item_ids: the data set's own item ids by item code.
    """
    columns: dict[str, list[Any]] = {column.name: [] for column in MEMORIES.columns}
    for user_id, records in people:
        for name, values in to_rows(user_id, records, item_ids).items():
            columns[name].extend(values)
    return pl.DataFrame(columns, schema=MEMORIES.schema(), strict=True).sort(MEMORIES.key)


def from_frame(frame: pl.DataFrame, item_code: Mapping[str, int]) -> dict[str, list[MemoryRecord]]:
    """The records of each person, ordered by number, as `Memory.restore` takes them.

    Args:
        frame: rows of `MEMORIES` in any order.
        item_code: item code of each of the data set's own item ids.

    Returns:
        User id -> records; people in order of id.

    Raises:
        RunError: a column is missing or has another type, a kind or an item is unknown, or a person's number occurs twice.
    """
    for name, dtype in MEMORIES.schema().items():
        if frame.schema.get(name) != dtype:
            found = frame.schema.get(name, "missing")
            raise RunError(f"the table of memories is damaged: column '{name}' is {found}, not {dtype}; run the simulation again.")
    frame = frame.sort(MEMORIES.key)
    repeated = frame.filter(frame.select(MEMORIES.key).is_duplicated())
    if repeated.height:
        raise RunError(f"the table of memories holds record {repeated['record'][0]} of user '{repeated['user'][0]}' twice.")
    _check_known("kind", frame["kind"], get_args(MemoryKind))
    _check_known("item", frame["item"].drop_nulls(), item_code)
    codes = [-1 if item is None else item_code[item] for item in frame["item"].to_list()]
    fields = [column.name for column in MEMORIES.columns if column.name not in ("user", "item", "references")]
    columns = [frame[name].to_list() for name in fields]
    people: dict[str, list[MemoryRecord]] = {}
    rows = zip(frame["user"].to_list(), codes, frame["references"].to_list(), *columns, strict=True)
    for user, item, references, *values in rows:
        record = MemoryRecord(item=item, references=tuple(references), **dict(zip(fields, values, strict=True)))
        people.setdefault(user, []).append(record)
    return people


def _check_known(column: str, values: pl.Series, known: Iterable[str]) -> None:
    allowed = set(known)
    unknown = sorted(value for value in values.unique().to_list() if value not in allowed)
    if unknown:
        raise RunError(
            f"the table of memories names {column} '{unknown[0]}', which does not exist; it belongs to another data set or version."
        )

"""Tables from the files of sequences that sequential recommenders are published with: one line a user, items in order of time.

`S3-Rec` and those that follow it publish ``user item item ...`` with titles and category paths in JSON, RecBole a table with a column of
lists. Neither holds times, so none are made up: the order within a user is lost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from environments.datasets.splits import SplitConfig, filtered
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.files import write_atomically
from simulator.seeds import Stream

TABLES: Final[tuple[str, str]] = ("interactions.csv", "items.csv")


def from_sequences(source: Path, target: Path) -> None:
    """Tables of a folder of S3-Rec's form.

    Args:
        source: holds ``titles_order.txt`` with ``title_maps.json`` and ``category_map.json``, or ``sequences.txt`` alone.
        target: folder of the tables, made anew.

    Raises:
        DataError: a file is missing or damaged.
    """
    named = source / "titles_order.txt"
    lines = _read(named if named.is_file() else source / "sequences.txt").split("\n")
    pairs = [(user, item) for line in lines if line.strip() for user, *items in [line.split()] for item in items]
    tables = [pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")]
    if named.is_file():
        titles, categories = (
            _object(source / file, key) for file, key in (("title_maps.json", "id2title"), ("category_map.json", "id2category"))
        )
        rows = [(item, title, "|".join(_path(categories.get(item)))) for item, title in titles.items()]
        tables.append(pl.DataFrame(rows, schema=["item_id", "title", "genres"], orient="row"))
    _write(target, tables)


def from_recbole(source: Path, target: Path) -> None:
    """Tables of a folder of RecBole's sequences: the last test row of a user holds all items but the last, and ``.text`` what items are."""
    name = next((file.name.partition(".")[0] for file in sorted(source.glob("*.test.inter"))), None)
    if name is None:
        raise DataError(f"there is no file *.test.inter in '{source}'.")
    pairs = []
    for line in _read(source / f"{name}.test.inter").split("\n")[1:]:
        if line.strip():
            user, history, last = line.split("\t")
            pairs += [(user, item) for item in [*history.split(), last.strip()]]
    numbers = dict(line.split("\t")[:2] for line in _read(source / f"{name}.item2index").split("\n") if line.strip())
    texts = []
    for line in _read(source / f"{name}.text").split("\n")[1:]:
        item, _, text = line.partition("\t")
        if item in numbers:
            texts.append((numbers[item].strip(), text.strip()))
    items = pl.DataFrame(texts, schema=["item_id", "title"], orient="row").unique("item_id", keep="first", maintain_order=True)
    _write(target, [pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row"), items])


def of_users(dataset: Dataset, count: int, seed: int) -> Dataset:
    """A random subsample of users, and the items that they met.

    Smaller subsamples of the same seed are part of larger ones, and whether somebody is drawn does not depend on the order of rows.

    Args:
        dataset: everybody. count: of users, >= 1. seed: of the experiment.

    Raises:
        DataError: the data has fewer users.
    """
    known = dataset.interactions.select("user").unique().join(dataset.users.select("user", "user_id"), on="user").sort("user_id")
    if not 1 <= count <= known.height:
        raise DataError(f"--users {count}: data set '{dataset.name}' has {known.height} users; give a number from 1 to {known.height}.")
    drawn = Stream(seed).child("shelf").child("subsample").generator().permutation(known.height)[:count]
    rows = dataset.interactions.filter(pl.col("user").is_in(known["user"].gather(drawn.tolist()).to_list()))
    return filtered(dataset.with_interactions(rows), SplitConfig(k_core=1))


def _path(found: Any) -> list[str]:
    """The category path of an item, without repetitions and what separates lists."""
    path = found[0] if found and isinstance(found[0], list) else found or []
    return list(dict.fromkeys(str(part).replace("|", "/") for part in path))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error


def _object(file: Path, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_read(file))[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} does not hold an object with the key '{key}'.") from error
    return found


def _write(target: Path, tables: list[pl.DataFrame]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file, table in zip(TABLES, tables, strict=False):
        write_atomically(target / file, table.write_csv().encode())

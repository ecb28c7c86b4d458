"""From checked text tables to a `Dataset`: codes, sorting, duplicates, and the parts of an item's text.

Every loader ends in `assemble`, so that all data sets are ordered and coded in the same way, whatever file they came from and however its
rows were sorted: codes follow the ids, interactions their times, and what happened at the same time, or at none, an order that nothing
can be read from (`_lot`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl

from environments.datasets.ratings import levels_in_words
from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.reading import MANY, Reader
from environments.datasets.times import EXACT
from environments.datasets.values import decoded, known, plain_ids
from simulator.dataset import HELD_OUT, INTERACTIONS_SCHEMA, ITEMS_SCHEMA, REVIEW, USERS_SCHEMA, Catalog, Dataset, Domain
from simulator.errors import DataError

ON_PURPOSE = ("earlier row of a repeated user and item", "without a rating", "weight below the least")
"""Reasons for which rows are left out that are no fault of theirs."""

Duplicates = Literal["error", "keep", "last"]
Unlisted = Literal["error", "add"]

_ARTICLES = "The|A|An|La|Le|Les|Il|Lo|El|Los|Las|Der|Die|Das|Det|Den|Un|Una|Une"
_YEAR = r"^(.*?)\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*(?:\((?:TV|V|mV)\))?\s*$"


@dataclass(frozen=True, slots=True)
class ItemText:
    """Expressions for the columns of the table of items, over the file's own table.

    Attributes:
        title: String. year: Int32. genres: List(String). description: String.
    """

    title: pl.Expr
    year: pl.Expr
    genres: pl.Expr
    description: pl.Expr


def film_title(title: pl.Expr) -> pl.Expr:
    """A film's title as people say it, without year: "Usual Suspects, The (1995)" becomes "The Usual Suspects"."""
    name = title.str.replace(_YEAR, "${1}").str.strip_chars()
    name = name.str.replace(rf"^([^(]+), ({_ARTICLES})( \(.*)?$", "${2} ${1}${3}")
    name = name.str.replace(r"^([^(]+), (L')( \(.*)?$", "${2}${1}${3}")
    name = name.str.replace_all(rf"\(([^()]+), ({_ARTICLES})\)", "(${2} ${1})")
    return name.str.replace_all(r"\(([^()]+), (L')\)", "(${2}${1})")


def film_year(title: pl.Expr) -> pl.Expr:
    """The year in brackets at the end of a film's title, the first of a range; null without one. Int32."""
    return title.str.extract(_YEAR, 2).cast(pl.Int32)


def year(text: pl.Expr) -> pl.Expr:
    """A year from a field that starts with four digits or holds such a number; null otherwise. Int32."""
    return text.str.extract(r"\b(1[5-9]\d\d|20\d\d)\b", 1).cast(pl.Int32)


def words(text: pl.Expr, separator: str) -> pl.Expr:
    """A list of the words of a field, empty ones left out. List(String)."""
    parts = text.fill_null("").str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def or_null(text: pl.Expr) -> pl.Expr:
    """The stripped text, null where it is empty."""
    stripped = text.str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def gender(text: pl.Expr) -> pl.Expr:
    """ "M" and "F" (any case) as "male" and "female"; other words in lower case; empty as null."""
    lower = or_null(text).str.to_lowercase()
    return lower.replace({"m": "male", "f": "female"})


def none(dtype: pl.DataType) -> pl.Expr:
    """A column of nulls."""
    return pl.lit(None, dtype=dtype)


def item_table(reader: Reader, table: RawTable, text: ItemText) -> tuple[RawTable, pl.DataFrame]:
    """The rows of a file of items that can be used, and the table of items made from them.

    Args:
        reader: for the checks.
        table: has a column `item_id`.
        text: how to read the other columns.

    Raises:
        DataError: an id is empty or comes twice.
    """
    table = reader.unique(reader.ids(table, "item_id"), ["item_id"], "item")
    frame = table.frame.select(
        "item_id",
        title=pl.coalesce(or_null(decoded(text.title)), "item_id"),
        year=text.year,
        genres=text.genres,
        description=or_null(decoded(text.description)),
    )
    return table, _coded(frame, "item", ITEMS_SCHEMA)


def user_table(reader: Reader, table: RawTable, *, age: pl.Expr, gender_word: pl.Expr, occupation: pl.Expr) -> pl.DataFrame:
    """The table of people from a file of people with a column `user_id`.

    Raises:
        DataError: an id is empty or comes twice.
    """
    table = reader.unique(reader.ids(table, "user_id"), ["user_id"], "user")
    frame = table.frame.select("user_id", age=age, gender=gender_word, occupation=occupation)
    return _coded(frame, "user", USERS_SCHEMA)


def items_from_ids(ids: pl.Series) -> pl.DataFrame:
    """A table of items for data without a file of items: the title is the id."""
    frame = pl.DataFrame({"item_id": ids.unique()}).with_columns(
        title=pl.col("item_id"), year=none(pl.Int32()), genres=pl.lit([], dtype=pl.List(pl.String)), description=none(pl.String())
    )
    return _coded(frame, "item", ITEMS_SCHEMA)


def users_from_ids(ids: pl.Series) -> pl.DataFrame:
    """A table of people for data without a file of people: all demographics are null."""
    frame = pl.DataFrame({"user_id": ids.unique()}).with_columns(
        age=none(pl.Int32()), gender=none(pl.String()), occupation=none(pl.String())
    )
    return _coded(frame, "user", USERS_SCHEMA)


def assemble(
    reader: Reader,
    name: str,
    table: RawTable,
    *,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
    domain: Domain,
    rating_scale: tuple[float, float] | None,
    duplicates: Duplicates = "error",
    unlisted: Unlisted = "error",
    items_from: str = "the file of items",
    users_from: str = "the file of people",
    files: Files | None = None,
) -> Dataset:
    """Codes and sorts the interactions and puts the data set together.

    Args:
        reader: for the checks and the counts of skipped rows.
        name: of the data set.
        table: checked interactions: `user_id`, `item_id` (String), `rating` (Float64 or null), `timestamp` (Int64 or null),
            `environments.datasets.times.EXACT` beside times, and perhaps `review` (String; empty ones become null) and `held_out`
            (Boolean).
        items: table from `item_table`; None makes one from the ids in the interactions.
        users: table from `user_table`; None makes one likewise.
        domain: the words for the items.
        rating_scale: lowest and highest possible rating; None takes those that occur.
        duplicates: what to do with a person's second row for the same item: stop, keep all, or keep the last (by time, then
            place in the file) and count the others as skipped.
        unlisted: what to do with ids that are not in `items` or `users`: stop, or add them with nothing but their id.
        items_from: where the table of items comes from, for messages.
        users_from: where the table of people comes from, for messages.
        files: the whole files, to find the column that ids were meant to come from; None where there is nothing to choose.

    Raises:
        DataError: an interaction names an unknown person or item, comes twice, or no interaction is left.
    """
    read = table.frame.height
    table = reader.ids(reader.ids(table, "user_id"), "item_id")
    if items is None:
        items = items_from_ids(table.frame["item_id"])
    if users is None:
        users = users_from_ids(table.frame["user_id"])
    if unlisted == "add":
        users = _with_unlisted(users, users_from_ids(table.frame["user_id"]), "user", USERS_SCHEMA)
        items = _with_unlisted(items, items_from_ids(table.frame["item_id"]), "item", ITEMS_SCHEMA)
    addable, files = files is not None, files or Files()
    for column, listed, where in (("user_id", users["user_id"], users_from), ("item_id", items["item_id"], items_from)):
        likelier = partial(files.likelier, table, column, listed)
        table = reader.known(table, column, listed, where, likelier=likelier, addable=addable)
    if duplicates == "error":
        table = reader.unique(table, ["user_id", "item_id"], "user and item")
    if table.frame.is_empty():
        raise DataError(f"{table.path}: found no usable interaction, allowed is at least one row; check the file.")
    exact = EXACT if EXACT in table.frame.columns else "timestamp"
    frame = (
        table.frame.sort(LINE)
        .join(users.select("user", "user_id"), on="user_id", how="left", maintain_order="left")
        .join(items.select("item", "item_id"), on="item_id", how="left", maintain_order="left")
    )
    # Of repeated rows at one time the last in the file is the last; where all are kept, nothing is made of their place in it.
    alike = [LINE] if duplicates == "last" else ["rating", *([REVIEW] if REVIEW in frame.columns else []), LINE]
    frame = frame.with_columns(lot=_lot(frame, users, items)).sort("user", exact, "lot", *alike, nulls_last=False)
    if duplicates == "last":
        last = frame.unique(["user", "item"], keep="last", maintain_order=True)
        if last.height < frame.height:
            reader.skipped["earlier row of a repeated user and item"] = frame.height - last.height
        frame = last
    reviews = [known(pl.col(REVIEW))] if REVIEW in frame.columns else []
    own_split = [pl.col(HELD_OUT)] if HELD_OUT in frame.columns else []
    interactions = frame.select(*(pl.col(column).cast(dtype) for column, dtype in INTERACTIONS_SCHEMA.items()), *reviews, *own_split)
    ratings = interactions["rating"].drop_nulls()
    if rating_scale is None and ratings.len() > 1 and ratings.n_unique() == 1:
        reader.note(
            f"{table.path}: every rating is {ratings[0]:g}, which says nothing about taste, so this is data without ratings; "
            "if other ratings were possible, set dataset.rating_scale = [lowest, highest]."
        )
        interactions = interactions.with_columns(rating=none(pl.Float32()))
        ratings = ratings.clear()
    if rating_scale is None and ratings.len():
        rating_scale = (float(ratings.min()), float(ratings.max()))  # type: ignore[arg-type]
    if rating_scale is not None and ratings.len():
        reader.tell("rating scale", f"{levels_in_words(ratings)}, on a scale from {rating_scale[0]:g} to {rating_scale[1]:g}")
    _tell_left_out(reader, read)
    return Dataset(
        name,
        Catalog(items, domain),
        users,
        interactions,
        rating_scale if ratings.len() else None,
        dict(reader.skipped),
        understood=dict(reader.understood),
        notes=tuple(reader.notes),
    )


@dataclass(frozen=True, slots=True)
class Files:
    """The whole files behind a data set, in which another column may fit the ids better.

    Attributes:
        log: of interactions. items, users: that list them. None where there is no such file, or nothing to choose in it.
    """

    log: RawTable | None = None
    items: RawTable | None = None
    users: RawTable | None = None

    def likelier(self, table: RawTable, column: str, listed: pl.Series) -> str | None:
        """What to set so that the ids of interactions and of the file that lists them fit better; None if no other column does.

        Args:
            table: picked interactions. column: "user_id" or "item_id". listed: the ids of the file that lists them.
        """
        what = column.removesuffix("_id")
        asked = table.frame[column]
        least = 0.5 + 0.5 * float(asked.is_in(listed.implode()).mean() or 0.0)  # type: ignore[arg-type]
        offers: list[tuple[float, str]] = []
        file = self.items if what == "item" else self.users
        if file is not None:
            for name, ids in _columns_of_ids(file, keys=True):
                share = float(asked.is_in(ids.implode()).mean() or 0.0)  # type: ignore[arg-type]
                key = f"dataset.{what}_key = '{name}'"
                offers.append((share, f"the column '{name}' of {file.path.name} lists {share:.0%} of them: set {key}"))
        if self.log is not None:
            for name, ids in _columns_of_ids(self.log, without=table.names.values()):
                share = float(ids.is_in(listed.implode()).mean() or 0.0)  # type: ignore[arg-type]
                setting = f"dataset.{what} = '{name}'"
                offers.append((share, f"of the column '{name}' of {self.log.path.name} {share:.0%} are listed there: set {setting}"))
        share, advice = max(offers, default=(0.0, ""))
        return advice if share > least else None


def _columns_of_ids(file: RawTable, *, keys: bool = False, without: Iterable[str] = ()) -> Iterator[tuple[str, pl.Series]]:
    """The columns of a file as ids; with `keys` only those in which every row has one of its own."""
    left_out = set(without)
    for name in (column for column in file.columns if column not in left_out):
        try:
            picked = file.pick({"id": name}).frame["id"]
        except DataError:
            continue
        if not keys or picked.n_unique() == picked.len():
            yield name, plain_ids(picked).ids


def _tell_left_out(reader: Reader, read: int) -> None:
    """Keeps what was left out; a note if it is so much that a setting may be wrong."""
    if not reader.skipped:
        return
    reader.tell("left out", ", ".join(f"{count:,} ({reason})" for reason, count in reader.skipped.items()))
    bad = {reason: count for reason, count in reader.skipped.items() if reason not in ON_PURPOSE}
    if sum(bad.values()) > MANY * read:
        reader.note(
            f"{sum(bad.values()):,} rows were left out ({', '.join(bad)}), beside {read:,} that were read in full; "
            "so many are likelier due to a setting than to the rows."
        )


def _lot(frame: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> pl.Series:
    """A number for each row that only the ids of its person and item decide, unsigned 64 bits.

    The place in a file tells something (a list sorted by item, a page that was sent at once), and so does the size of an id: what comes
    early is older and better known. Hashes tell nothing, and stay when other people or items are added.
    """
    people, things = (
        np.array([int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=kind).digest(), "little") for name in ids], np.uint64)
        for kind, ids in ((b"user", users["user_id"].to_list()), (b"item", items["item_id"].to_list()))
    )
    mixed = people[frame["user"].to_numpy()] ^ things[frame["item"].to_numpy()]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of SplitMix64 (Steele et al. 2014)
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return pl.Series("lot", mixed ^ (mixed >> np.uint64(31)))


def _coded(frame: pl.DataFrame, code: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The table in the order of its ids, by number if all are whole numbers, else by letter, with a code for each row."""
    ids = pl.col(f"{code}_id")
    numbers = frame[f"{code}_id"].cast(pl.Int64, strict=False)
    by = [ids] if numbers.null_count() else [ids.cast(pl.Int64, strict=False), ids]
    return frame.sort(by).with_row_index(code).select(pl.col(column).cast(dtype) for column, dtype in schema.items())


def _with_unlisted(listed: pl.DataFrame, found: pl.DataFrame, code: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    new = found.join(listed, on=f"{code}_id", how="anti", maintain_order="left")
    return _coded(pl.concat([listed.drop(code), new.drop(code)]), code, schema)

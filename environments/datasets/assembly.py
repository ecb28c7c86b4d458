"""From checked text tables to a `Dataset`: codes, sorting, duplicates, and the parts of an item's text.

Every loader ends in `assemble`, so that all data sets are ordered and coded in the same way, whatever file they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from environments.datasets.reading import LINE, RawTable, Reader
from simulator.dataset import INTERACTIONS_SCHEMA, ITEMS_SCHEMA, REVIEW, USERS_SCHEMA, Catalog, Dataset, Domain
from simulator.errors import DataError

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
    table = reader.unique(reader.filled(table, "item_id"), ["item_id"], "item")
    item_id = pl.col("item_id").str.strip_chars()
    title = or_null(text.title)
    frame = table.frame.select(
        item_id,
        title=pl.coalesce(title, item_id),
        year=text.year,
        genres=text.genres,
        description=or_null(text.description),
    )
    return table, _coded(frame, "item", ITEMS_SCHEMA)


def user_table(reader: Reader, table: RawTable, *, age: pl.Expr, gender_word: pl.Expr, occupation: pl.Expr) -> pl.DataFrame:
    """The table of people from a file of people with a column `user_id`.

    Raises:
        DataError: an id is empty or comes twice.
    """
    table = reader.unique(reader.filled(table, "user_id"), ["user_id"], "user")
    frame = table.frame.select(pl.col("user_id").str.strip_chars(), age=age, gender=gender_word, occupation=occupation)
    return _coded(frame, "user", USERS_SCHEMA)


def items_from_ids(ids: pl.Series) -> pl.DataFrame:
    """A table of items for data without a file of items: the title is the id."""
    frame = pl.DataFrame({"item_id": _natural_order(ids)}).with_columns(
        title=pl.col("item_id"), year=none(pl.Int32()), genres=pl.lit([], dtype=pl.List(pl.String)), description=none(pl.String())
    )
    return _coded(frame, "item", ITEMS_SCHEMA)


def users_from_ids(ids: pl.Series) -> pl.DataFrame:
    """A table of people for data without a file of people: all demographics are null."""
    frame = pl.DataFrame({"user_id": _natural_order(ids)}).with_columns(
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
) -> Dataset:
    """Codes and sorts the interactions and puts the data set together.

    Args:
        reader: for the checks and the counts of skipped rows.
        name: of the data set.
        table: checked interactions: `user_id`, `item_id` (String), `rating` (Float64 or null), `timestamp` (Int64 or null), and
            perhaps `review` (String; empty ones become null).
        items: table from `item_table`; None makes one from the ids in the interactions, in numerical order if all are
            numbers, else alphabetically.
        users: table from `user_table`; None makes one likewise.
        domain: the words for the items.
        rating_scale: lowest and highest possible rating; None takes those that occur.
        duplicates: what to do with a person's second row for the same item: stop, keep all, or keep the last (by time, then
            place in the file) and count the others as skipped.
        unlisted: what to do with ids that are not in `items` or `users`: stop, or add them with nothing but their id.
        items_from: where the table of items comes from, for messages.
        users_from: where the table of people comes from, for messages.

    Raises:
        DataError: an interaction names an unknown person or item, comes twice, or no interaction is left.
    """
    table = reader.filled(reader.filled(table, "user_id"), "item_id")
    table = replace(table, frame=table.frame.with_columns(pl.col("user_id", "item_id").str.strip_chars()))
    if items is None:
        items = items_from_ids(table.frame["item_id"])
    if users is None:
        users = users_from_ids(table.frame["user_id"])
    if unlisted == "add":
        users = _with_unlisted(users, users_from_ids(table.frame["user_id"]), "user", USERS_SCHEMA)
        items = _with_unlisted(items, items_from_ids(table.frame["item_id"]), "item", ITEMS_SCHEMA)
    table = reader.known(table, "user_id", users["user_id"], users_from)
    table = reader.known(table, "item_id", items["item_id"], items_from)
    if duplicates == "error":
        table = reader.unique(table, ["user_id", "item_id"], "user and item")
    if table.frame.is_empty():
        raise DataError(f"{table.path}: found no usable interaction, allowed is at least one row; check the file.")
    frame = (
        table.frame.sort(LINE)
        .join(users.select("user", "user_id"), on="user_id", how="left", maintain_order="left")
        .join(items.select("item", "item_id"), on="item_id", how="left", maintain_order="left")
        .sort("user", "timestamp", maintain_order=True, nulls_last=False)
    )
    if duplicates == "last":
        last = frame.unique(["user", "item"], keep="last", maintain_order=True)
        if last.height < frame.height:
            reader.skipped["earlier row of a repeated user and item"] = frame.height - last.height
        frame = last
    reviews = [or_null(pl.col(REVIEW))] if REVIEW in frame.columns else []
    interactions = frame.select(*(pl.col(column).cast(dtype) for column, dtype in INTERACTIONS_SCHEMA.items()), *reviews)
    ratings = interactions["rating"].drop_nulls()
    if rating_scale is None and ratings.len():
        rating_scale = (float(ratings.min()), float(ratings.max()))  # type: ignore[arg-type]
    return Dataset(name, Catalog(items, domain), users, interactions, rating_scale if ratings.len() else None, dict(reader.skipped))


def _coded(frame: pl.DataFrame, code: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return frame.with_row_index(code).select(pl.col(column).cast(dtype) for column, dtype in schema.items())


def _with_unlisted(listed: pl.DataFrame, found: pl.DataFrame, code: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    new = found.join(listed, on=f"{code}_id", how="anti", maintain_order="left")
    return _coded(pl.concat([listed.drop(code), new.drop(code)]), code, schema)


def _natural_order(ids: pl.Series) -> pl.Series:
    distinct = ids.unique()
    numbers = distinct.cast(pl.Int64, strict=False)
    if numbers.null_count():
        return distinct.sort()
    return pl.DataFrame({"id": distinct, "number": numbers}).sort("number", "id")["id"]

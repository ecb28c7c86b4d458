"""What a data set is once it has been read: items, people, interactions. No file is read here.

People and items have two names. Inside, they are dense integer *codes* 0..n-1 (columns `user` and `item`), which
index numpy arrays; outside, in files and logs, they have the data set's own *ids* (columns `user_id` and `item_id`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from simulator.errors import DataError

ITEMS_SCHEMA: Mapping[str, pl.DataType] = {
    "item": pl.Int32(),
    "item_id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    "genres": pl.List(pl.String()),
    "description": pl.String(),
}
"""`item` counts 0, 1, 2 ... in row order; `year` and `description` may be null, `genres` may be empty."""

USERS_SCHEMA: Mapping[str, pl.DataType] = {
    "user": pl.Int32(),
    "user_id": pl.String(),
    "age": pl.Int32(),
    "gender": pl.String(),
    "occupation": pl.String(),
}
"""`user` counts 0, 1, 2 ... in row order; age in years, gender a word such as "female"; all three may be null."""

INTERACTIONS_SCHEMA: Mapping[str, pl.DataType] = {
    "user": pl.Int32(),
    "item": pl.Int32(),
    "rating": pl.Float32(),
    "timestamp": pl.Int64(),
}
"""`rating` in the data's own units or null; `timestamp` in seconds since 1970 UTC or null."""

REVIEW = "review"
"""Column that the interactions may have besides: what the person wrote about the item, String, null where nothing was written."""


HELD_OUT = "held_out"
"""Column that the interactions may have besides: whether the data's own split holds a row out, Boolean; it is gone once they are split."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The words of a domain, for prompts: *watch a film*, *listen to an artist*, *buy a book*.

    Attributes:
        item, items: what is recommended, singular and plural.
        choose: the verb, present ("watch"); `chosen`: its past participle ("watched").
    """

    item: str = "item"
    items: str = "items"
    choose: str = "choose"
    chosen: str = "chosen"

    @property
    def rate(self) -> str:
        """What the share of shown items that are chosen is called, such as "watch rate"."""
        return f"{self.choose.split()[0]} rate" if self.choose.strip() else "choose rate"

    def told(self, text: str) -> str:
        """A text with these words in the place of ``{item}``, ``{items}``, ``{choose}``, ``{chosen}`` and ``{rate}``."""
        return text.format(item=self.item, items=self.items, choose=self.choose, chosen=self.chosen, rate=self.rate)


FILMS = Domain("film", "films", "watch", "watched")
MUSIC = Domain("artist", "artists", "listen to", "listened to")
PRODUCTS = Domain("product", "products", "buy", "bought")


def synthetic_id(number: int) -> str:
    """The id of the synthetic person of this number, counted from 0."""
    return f"synthetic-{number:04d}"


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items that can be recommended.

    Attributes:
        items: one row per item, `ITEMS_SCHEMA`.
        domain: the words for these items.
        user_ids: the data set's own ids of the people by code, objects of type str; a `Dataset` fills them in. A recommender that asks
            others names people by them.
    """

    items: pl.DataFrame
    domain: Domain = Domain()
    user_ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))

    def __post_init__(self) -> None:
        _check(self.items, ITEMS_SCHEMA, "items")
        _check_codes(self.items["item"], "item")

    def __len__(self) -> int:
        return self.items.height

    @cached_property
    def item_ids(self) -> np.ndarray:
        """The data set's own item ids by code, shape (n_items,), objects of type str."""
        return self.items["item_id"].to_numpy()

    @cached_property
    def titles(self) -> list[str]:
        """Titles by item code, without the year."""
        return self.items["title"].to_list()

    @cached_property
    def genre_names(self) -> list[str]:
        """All genres, sorted."""
        return sorted(set(self.items["genres"].explode().drop_nulls().to_list()))

    @cached_property
    def genre_matrix(self) -> np.ndarray:
        """0/1 float32 matrix, shape (n_items, n_genres), columns in the order of `genre_names`."""
        column = {genre: j for j, genre in enumerate(self.genre_names)}
        matrix = np.zeros((len(self), len(column)), dtype=np.float32)
        for row, genres in enumerate(self.items["genres"].to_list()):
            for genre in genres or ():
                matrix[row, column[genre]] = 1.0
        return matrix


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items, people and what they did, validated.

    Attributes:
        name: short name for tables and figures.
        catalog: the items.
        users: one row per person, `USERS_SCHEMA`.
        interactions: one row per interaction, `INTERACTIONS_SCHEMA` and perhaps `REVIEW` and `HELD_OUT`, sorted by user, then time. What
            has no time, or the same one, is in an order that only the ids decide and that says nothing.
        rating_scale: (lowest, highest) rating that the data can hold, or None if there are no ratings.
        skipped: reason -> number of bad rows that were left out on request (`on_bad_rows = "skip"`).
        kept_share: share of each person's interactions that a random split left here, in (0, 1]; 1 if sittings are whole.
        split_seed: seed of that split, with which what it took from sittings is drawn again; 0 where nothing was split at random.
        understood: what was read -> how it was understood, in words: columns, separators, times, ratings, genres, rows left out.
        notes: sentences about what may be meant otherwise.

    Raises:
        DataError: a table lacks a column, has a wrong type, or an interaction names an unknown person or item.
    """

    name: str
    catalog: Catalog
    users: pl.DataFrame
    interactions: pl.DataFrame
    rating_scale: tuple[float, float] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    kept_share: float = 1.0
    split_seed: int = 0
    understood: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.users, USERS_SCHEMA, "users")
        _check_codes(self.users["user"], "user")
        own = self.users["user_id"].to_numpy()
        if not np.array_equal(self.catalog.user_ids, own):
            object.__setattr__(self, "catalog", replace(self.catalog, user_ids=own))
        besides = {name: dtype for name, dtype in ((REVIEW, pl.String()), (HELD_OUT, pl.Boolean())) if name in self.interactions.columns}
        _check(self.interactions, {**INTERACTIONS_SCHEMA, **besides}, "interactions")
        for name, size in (("user", self.users.height), ("item", len(self.catalog))):
            codes = self.interactions[name]
            if codes.null_count() or (codes.len() and not (0 <= int(codes.min()) and int(codes.max()) < size)):  # type: ignore[arg-type]
                raise DataError(f"data set '{self.name}': an interaction names a {name} outside 0..{size - 1}.")

    @property
    def n_users(self) -> int:
        """Number of people."""
        return self.users.height

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.catalog)

    @cached_property
    def has_ratings(self) -> bool:
        """Whether every interaction has a rating."""
        return self.interactions.height > 0 and self.interactions["rating"].null_count() == 0

    @cached_property
    def has_times(self) -> bool:
        """Whether every interaction has a timestamp."""
        return self.interactions.height > 0 and self.interactions["timestamp"].null_count() == 0

    def with_interactions(self, interactions: pl.DataFrame) -> Dataset:
        """The same people and items with other interactions, such as one part of a split."""
        return replace(self, interactions=interactions)

    def fingerprint(self) -> str:
        """SHA-256 of the contents; equal data sets have equal fingerprints whatever file they were read from."""
        digest = hashlib.sha256()
        genres = self.catalog.items.with_columns(pl.col("genres").list.join("|"))
        for table in (genres, self.users, self.interactions):
            digest.update(table.write_csv().encode())
        return digest.hexdigest()


def require(dataset: Dataset, *, ratings: str | None = None, times: str | None = None) -> None:
    """Stops with a clear sentence if `dataset` lacks what the named feature needs.

    Args:
        dataset: any data set.
        ratings: what needs ratings ("the rating figure"), or None.
        times: what needs timestamps ("a temporal split"), or None.

    Raises:
        DataError: something that was asked for is not in the data.
    """
    if ratings and not dataset.has_ratings:
        raise DataError(f"{ratings} needs a rating on every interaction, and data set '{dataset.name}' has none or not on all rows.")
    if times and not dataset.has_times:
        raise DataError(
            f"{times} needs a timestamp on every interaction, and data set '{dataset.name}' has none or not on all rows; "
            "use dataset.split = 'random' for such data."
        )


def _check(table: pl.DataFrame, schema: Mapping[str, pl.DataType], name: str) -> None:
    for column, dtype in schema.items():
        if column not in table.columns:
            raise DataError(f"the table of {name} has no column '{column}'; it needs {', '.join(schema)}.")
        if table.schema[column] != dtype:
            raise DataError(f"column '{column}' of the table of {name} is {table.schema[column]}, not {dtype}.")


def _check_codes(codes: pl.Series, name: str) -> None:
    if not codes.equals(pl.Series(name, np.arange(codes.len(), dtype=np.int32))):
        raise DataError(f"the codes in column '{name}' must count 0, 1, 2 ... in row order.")

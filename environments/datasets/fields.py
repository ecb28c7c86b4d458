"""Which column of a file of unknown origin holds what, and the configuration that loaders of such files share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field, model_validator

from environments.datasets.assembly import ItemText, film_title, film_year, gender, none, or_null, words, year
from environments.datasets.reading import BadRows, RawTable, Reader
from simulator.dataset import FILMS, MUSIC, PRODUCTS, Domain
from simulator.errors import DataError
from simulator.plugins import ComponentConfig

DOMAINS: Mapping[str, Domain] = {"film": FILMS, "music": MUSIC, "product": PRODUCTS, "item": Domain()}
"""Ready-made words for a domain."""

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id", "userid", "user", "uid", "reviewerid", "customer_id", "visitorid"),
    "item": (
        *("item_id", "itemid", "item", "iid", "movie_id", "movieid", "artist_id", "artistid", "book_id", "product_id"),
        *("parent_asin", "asin", "track_id", "song_id", "business_id"),
    ),
    "rating": ("rating", "ratings", "stars", "overall", "rate"),
    "timestamp": ("timestamp", "time", "ts", "unixreviewtime"),
    "label": ("label",),
    "title": ("title", "movie_title", "name", "item_name", "movie_name", "artist_name", "track_name", "book_title", "song_title"),
    "year": ("year", "release_year", "publication_year", "original_publication_year", "release_date"),
    "genres": ("genres", "genre", "class", "categories", "category", "tags"),
    "description": ("description", "plot", "overview", "summary"),
    "age": ("age",),
    "gender": ("gender", "sex"),
    "occupation": ("occupation", "job"),
}
"""What a field is usually called (lower case), the likeliest name first."""

TICKS = {"s": 1, "ms": 1000, "us": 1_000_000}


class DomainWords(ComponentConfig):
    """One's own words for a domain, see `simulator.dataset.Domain`."""

    item: str
    items: str
    choose: str
    chosen: str


class FieldsConfig(ComponentConfig):
    """What loaders of any data set have in common.

    Each field key names a column of the file; None looks for the usual names (`USUAL_NAMES`, upper and lower case are the
    same), and an empty text leaves the field out.

    Attributes:
        name: of the data set; None takes the file's.
        domain: "film", "music", "product", "item", or one's own four words.
        rating_scale: lowest and highest allowed rating; None takes those that occur.
        time_unit: unit of the timestamps, counted since 1970 UTC.
        encoding: of the text files.
        duplicates: a person's further rows for the same item: "error", "keep" them, or keep only the "last" (the others are counted as
            skipped).
        unlisted: items or people that interact but are missing in their own file: "error", or "add" them with nothing known.
        on_bad_rows: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        user: column of the person's id. item: column of the item's id. rating, timestamp: columns of the interactions.
        title: column of the items; the id where there is none. year, genres, description: columns of the items.
        age: column of the people, in years; what is no number becomes null. gender, occupation: columns of the people.
    """

    name: str | None = None
    domain: Literal["film", "music", "product", "item"] | DomainWords = "item"
    rating_scale: tuple[float, float] | None = None
    time_unit: Literal["s", "ms", "us"] = "s"
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    duplicates: Literal["error", "keep", "last"] = "last"
    unlisted: Literal["error", "add"] = "error"
    on_bad_rows: BadRows = "error"
    user: str | None = Field(default=None, min_length=1)
    item: str | None = Field(default=None, min_length=1)
    rating: str | None = None
    timestamp: str | None = None
    title: str | None = None
    year: str | None = None
    genres: str | None = None
    description: str | None = None
    age: str | None = None
    gender: str | None = None
    occupation: str | None = None

    @model_validator(mode="after")
    def _scale_in_order(self) -> FieldsConfig:
        if self.rating_scale is not None and not self.rating_scale[0] < self.rating_scale[1]:
            raise ValueError(f"rating_scale must be [lowest, highest], not {list(self.rating_scale)}")
        return self

    @property
    def words(self) -> Domain:
        """The words of the domain."""
        if isinstance(self.domain, DomainWords):
            return Domain(self.domain.item, self.domain.items, self.domain.choose, self.domain.chosen)
        return DOMAINS[self.domain]


def find(table: RawTable, role: str, chosen: str | None, *, needed: bool = False, also: tuple[str, ...] = ()) -> dict[str, str]:
    """Which column of `table` has a role, as ``{our name: the file's name}``; empty if none has.

    Args:
        table: the file.
        role: a key of `USUAL_NAMES`; our name is the role, with "_id" for people and items.
        chosen: the column named in the configuration, None to look for the usual names, "" for none.
        needed: whether it is an error if no column has the role.
        also: further names to look for, lower case.

    Raises:
        DataError: the chosen column does not exist, or none was found and it is needed.
    """
    ours = f"{role}_id" if role in ("user", "item") else role
    if chosen:
        table.pick({ours: chosen})
        return {ours: chosen}
    if chosen is None:
        lower = {name.lower(): name for name in reversed(table.columns)}
        for name in (*USUAL_NAMES[role], *also):
            if name in lower:
                return {ours: lower[name]}
    if needed:
        raise DataError(
            f"{table.path}, line 1: found the columns {', '.join(table.columns)}, allowed is a column with the {role}'s id; "
            f"name it with dataset.{role}."
        )
    return {}


def item_text(config: FieldsConfig, columns: list[str], separator: str) -> ItemText:
    """How to read the text of an item from a table with some of the columns title, year, genres, description."""
    has_title = "title" in columns
    title = pl.col("title") if has_title else none(pl.String())
    in_title = film_year(title)
    given = year(pl.col("year")) if "year" in columns else none(pl.Int32())
    films = config.words == FILMS and has_title
    return ItemText(
        title=film_title(title) if films else title,
        year=pl.coalesce(given, in_title) if films else given,
        genres=words(pl.col("genres"), separator) if "genres" in columns else pl.lit([], dtype=pl.List(pl.String)),
        description=pl.col("description") if "description" in columns else none(pl.String()),
    )


def demographics(columns: list[str]) -> dict[str, pl.Expr]:
    """Arguments of `assembly.user_table` for a table with some of the columns age, gender, occupation."""
    age = pl.col("age").str.strip_chars().cast(pl.Float64, strict=False).cast(pl.Int32, strict=False)
    return {
        "age": age if "age" in columns else none(pl.Int32()),
        "gender_word": gender(pl.col("gender")) if "gender" in columns else none(pl.String()),
        "occupation": or_null(pl.col("occupation")) if "occupation" in columns else none(pl.String()),
    }


def ratings_and_times(reader: Reader, table: RawTable, config: FieldsConfig) -> RawTable:
    """Checks and converts the columns rating and timestamp of picked interactions; null columns where the data has none.

    Raises:
        DataError: a value is not allowed.
    """
    if "rating" in table.columns:
        table = reader.numbers(table, "rating", scale=config.rating_scale)
    else:
        table = table.with_column("rating", none(pl.Float64()))
    if "timestamp" in table.columns:
        return reader.timestamps(table, per_second=TICKS[config.time_unit])
    return table.with_column("timestamp", none(pl.Int64()))

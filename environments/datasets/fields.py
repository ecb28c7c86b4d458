"""Which column of a file of unknown origin holds what, and the configuration that loaders of such files share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from environments.datasets.assembly import ItemText, film_title, film_year, gender, none, year
from environments.datasets.ratings import LARGEST, read_ratings
from environments.datasets.raw_table import RawTable, listed
from environments.datasets.reading import BadRows, Reader
from environments.datasets.text_files import NAMES, holds_data, no_names
from environments.datasets.times import TimeUnit, checked_format, read_times
from environments.datasets.values import known, lists
from simulator.dataset import FILMS, MUSIC, PRODUCTS, REVIEW, Domain
from simulator.errors import DataError
from simulator.plugins import ComponentConfig

DOMAINS: Mapping[str, Domain] = {"film": FILMS, "music": MUSIC, "product": PRODUCTS, "item": Domain()}
"""Ready-made words for a domain."""

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (
        *("user_id", "userid", "user", "uid", "reviewer_id", "reviewerid", "customer_id", "customerid", "visitor_id", "visitorid"),
        *("member_id", "profile_id", "account_id", "person_id", "reader_id", "player_id", "client_id", "viewer_id", "steamid", "user_name"),
        *("username", "reviewer", "customer"),
    ),
    "item": (
        *("item_id", "itemid", "item", "iid", "movie_id", "movieid", "artist_id", "artistid", "book_id", "product_id"),
        *("parent_asin", "asin", "track_id", "song_id", "business_id"),
        *(
            "isbn",
            "film_id",
            "game_id",
            "app_id",
            "appid",
            "anime_id",
            "recipe_id",
            "article_id",
            "news_id",
            "video_id",
            "beer_id",
            "joke_id",
        ),
        *("bookid", "productid", "place_id", "venue_id", "course_id", "job_id"),
    ),
    "rating": ("rating", "ratings", "stars", "overall", "rate", "book_rating", "user_rating", "review_score", "star_rating", "score"),
    "timestamp": ("timestamp", "time", "ts", "unixreviewtime", "timestamps", "unix_timestamp", "unix_time"),
    "label": ("label",),
    "title": ("title", "movie_title", "name", "item_name", "movie_name", "artist_name", "track_name", "book_title", "song_title"),
    "year": ("year", "release_year", "publication_year", "original_publication_year", "release_date", "year_of_publication"),
    "genres": ("genres", "genre", "class", "categories", "category", "tags"),
    "description": ("description", "plot", "overview", "summary"),
    "age": ("age",),
    "gender": ("gender", "sex"),
    "occupation": ("occupation", "job"),
}
"""What a field is usually called (lower case, signs as underscores), the likeliest name first."""

HINTS: Mapping[str, tuple[str, ...]] = {
    "timestamp": ("date", "datetime", "day", "review_date", "review_time", "reviewtime", "created_at", "event_time", "date_added"),
    "weight": (
        "weight",
        "count",
        "plays",
        "play_count",
        "playcount",
        "listens",
        "hours",
        "playtime",
        "playtime_forever",
        "clicks",
        "quantity",
    ),
    REVIEW: ("review", "review_text", "reviewtext", "text", "comment"),
}
"""What is never taken by its name alone, since it changes what the data is, but named where nothing else was found: setting -> names."""


def _spelt_out(separator: str) -> str:
    """A separator as it is meant: a shell hands on a tab as the two letters ``\\t``."""
    meant = separator.replace("\\t", "\t")
    if "\n" in meant or "\r" in meant or '"' in meant:
        raise ValueError("must not hold an end of line or a double quote")
    return {name: sign for sign, name in NAMES.items()}.get(meant.lower(), meant)


def several(value: object) -> object:
    """One value as a list of one."""
    return (value,) if isinstance(value, int | float | str) else value


Separator = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(_spelt_out)]
"""One or more characters between fields; a tab may be written as the two letters ``\\t``."""

TimeFormat = Annotated[str, AfterValidator(checked_format)]
"""A format of dates, such as "%Y-%m-%d %H:%M:%S"."""

RatingBound = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]

ColumnName = Annotated[str, Field(min_length=1)]


Word = Annotated[str, Field(min_length=1, max_length=80)]

DatasetName = Annotated[str, Field(min_length=1, max_length=200)]


class DomainWords(ComponentConfig):
    """One's own words for a domain, see `simulator.dataset.Domain`."""

    item: Word
    items: Word
    choose: Word
    chosen: Word


class TimesConfig(ComponentConfig):
    """How the times of a data set are written.

    Attributes:
        time_unit: unit of times that are numbers, counted since 1970 UTC; a column of dates with a type has none.
        time_format: format of times that are dates in text, such as "%Y-%m-%d %H:%M:%S" (UTC, unless %z gives the offset); None for
            numbers.
    """

    time_unit: TimeUnit = "s"
    time_format: TimeFormat | None = None


class FieldsConfig(TimesConfig):
    """What loaders of any data set have in common.

    Each field key names a column of the file; None looks for the usual names (`USUAL_NAMES`, upper and lower case are the
    same), and an empty text leaves the field out.

    Attributes:
        name: of the data set; None takes the file's.
        domain: "film", "music", "product", "item", or one's own four words.
        rating_scale: lowest and highest allowed rating; None takes those that occur.
        unrated: values of the rating that mean that an interaction is not rated; empty fields do in any case.
        without_rating: interactions without a rating where others have one: "keep" them, or "leave-out".
        encoding: of the text files.
        duplicates: a person's further rows for the same item: "error", "keep" them, or keep only the "last" (the others are counted as
            skipped).
        unlisted: items or people that interact but are missing in their own file: "error", or "add" them with nothing known.
        on_bad_rows: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        user: column of the person's id. item: column of the item's id. rating, timestamp: columns of the interactions.
        title: column of the items; the id where there is none. year, genres, description: columns of the items.
        age: column of the people, in years; what is no number becomes null. gender, occupation: columns of the people.
    """

    name: DatasetName | None = None
    domain: Literal["film", "music", "product", "item"] | DomainWords = "item"
    rating_scale: tuple[RatingBound, RatingBound] | None = None
    unrated: Annotated[tuple[RatingBound | str, ...], BeforeValidator(several)] = ()
    without_rating: Literal["keep", "leave-out"] = "keep"
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    duplicates: Literal["error", "keep", "last"] = "last"
    unlisted: Literal["error", "add"] = "error"
    on_bad_rows: BadRows = "error"
    user: ColumnName | None = None
    item: ColumnName | None = None
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


def plain(name: str) -> str:
    """A column's name in lower case with underscores: "Book-Rating" as "book_rating"."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def usual(columns: Sequence[str], role: str, also: Sequence[str] = ()) -> str | None:
    """The column that is called as a role usually is (`USUAL_NAMES`), the likeliest name first."""
    by_name = {plain(name): name for name in reversed(columns)}
    return next((by_name[name] for name in (*USUAL_NAMES[role], *also) if name in by_name), None)


def find(
    table: RawTable, role: str, chosen: str | None, *, needed: bool = False, also: tuple[str, ...] = (), prefix: str = ""
) -> dict[str, str]:
    """Which column of `table` has a role, as ``{our name: the file's name}``; empty if none has.

    Args:
        table: the file.
        role: a key of `USUAL_NAMES`; our name is the role, with "_id" for people and items.
        chosen: the column named in the configuration, None to look for the usual names, "" for none.
        needed: whether it is an error if no column has the role.
        also: further names to look for, lower case.
        prefix: of the settings of this file, see `environments.datasets.text_files.TextFormat`.

    Raises:
        DataError: the chosen column does not exist, or none was found and it is needed.
    """
    ours = f"{role}_id" if role in ("user", "item") else role
    if chosen:
        return {ours: chosen}
    found = usual(table.columns, role, also) if chosen is None else None
    if found is not None:
        return {ours: found}
    if needed:
        if table.separator and holds_data(table.columns):
            raise no_names(table.path, table.columns, prefix)
        key = f"dataset.{role}_key" if prefix else f"dataset.{role}"
        near = _nearest(table.columns, USUAL_NAMES[role])
        only = len(table.columns) == 1 and table.separator
        raise DataError(
            f"{table.path}, line 1: found the columns {listed(table.columns)}, allowed is a column with the {role}'s id; "
            + (f"did you mean '{near}'? " if near else "")
            + f"name it with {key}"
            + (f", or the sign between the fields with dataset.{prefix}separator." if only else ".")
        )
    return {}


def _nearest(columns: Sequence[str], names: Sequence[str]) -> str | None:
    for column in columns:
        if len(plain(column)) >= 3 and difflib.get_close_matches(plain(column), names, n=1, cutoff=0.8):
            return column
    return None


def tell_columns(reader: Reader, table: RawTable, wanted: Mapping[str, str], roles: Sequence[str], ignored: Sequence[str] = ()) -> None:
    """Keeps what the columns of a file were taken for, and notes columns that are nearly called as one that was not found.

    Args:
        reader: keeps it. table: the whole file. wanted: what was picked from it.
        roles: that were looked for; ignored: those that the configuration leaves out.
    """
    used = ", ".join(f"{ours} = {name}" for ours, name in wanted.items())
    rest = [name for name in table.columns if name not in wanted.values()]
    reader.tell(f"columns of {table.path.name}", used + (f"; not used: {listed(rest)}" if rest else ""))
    if table.separator:
        reader.tell(f"separator of {table.path.name}", NAMES.get(table.separator, repr(table.separator)))
    missing = [role for role in roles if role not in wanted and role not in ignored]
    for role in missing:
        near = _nearest(rest, USUAL_NAMES.get(role, ()))
        hint = next((name for name in rest if plain(name) in HINTS.get(role, ())), None)
        if near is not None:
            reader.note(f"{table.path}: the column '{near}' is not used; did you mean {role}? Then set dataset.{role} = '{near}'.")
        elif hint is not None:
            also = " and dataset.time_format" if role == "timestamp" else ""
            reader.note(f"{table.path}: the column '{hint}' is not used; if it is the {role}, set dataset.{role} = '{hint}'{also}.")


def item_text(config: FieldsConfig, reader: Reader, table: RawTable, separator: str | None) -> tuple[RawTable, ItemText]:
    """A table with some of the columns title, year, genres, description, its genres as lists; and how to read the text of an item.

    Args:
        config: of the loader. reader: told how genres were understood. table: picked items.
        separator: between genres, None to find it (`environments.datasets.values.lists`).
    """
    columns = table.columns
    title = known(pl.col("title")) if "title" in columns else none(pl.String())
    in_title = film_year(title)
    given = year(pl.col("year")) if "year" in columns else none(pl.Int32())
    films = config.words == FILMS and "title" in columns
    if "genres" in columns:
        found = lists(table.frame["genres"], separator)
        table = table.with_column("genres", pl.lit(found.values))
        reader.tell("lists of genres", found.style)
    return table, ItemText(
        title=film_title(title) if films else title,
        year=pl.coalesce(given, in_title) if films else given,
        genres=pl.col("genres") if "genres" in columns else pl.lit([], dtype=pl.List(pl.String)),
        description=known(pl.col("description")) if "description" in columns else none(pl.String()),
    )


def demographics(columns: list[str]) -> dict[str, pl.Expr]:
    """Arguments of `assembly.user_table` for a table with some of the columns age, gender, occupation."""
    years = pl.col("age").str.strip_chars().cast(pl.Float64, strict=False)
    age = pl.when(years.is_between(0, 120)).then(years).cast(pl.Int32, strict=False)
    return {
        "age": age if "age" in columns else none(pl.Int32()),
        "gender_word": gender(known(pl.col("gender"))) if "gender" in columns else none(pl.String()),
        "occupation": known(pl.col("occupation")) if "occupation" in columns else none(pl.String()),
    }


def ratings_and_times(reader: Reader, table: RawTable, config: FieldsConfig) -> RawTable:
    """Checks and converts the columns rating and timestamp of picked interactions; null columns where the data has none.

    Raises:
        DataError: a value is not allowed.
    """
    if "rating" in table.columns:
        table = read_ratings(reader, table, scale=config.rating_scale, unrated=config.unrated)
        table = _some_unrated(reader, table, config)
    else:
        table = table.with_column("rating", none(pl.Float64()))
    if "timestamp" in table.columns:
        return read_times(reader, table, unit=config.time_unit, time_format=config.time_format)
    return table.with_column("timestamp", none(pl.Int64()))


def _some_unrated(reader: Reader, table: RawTable, config: FieldsConfig) -> RawTable:
    """Says that some interactions have no rating, or leaves them out if that is wanted."""
    height, without = table.frame.height, table.frame["rating"].null_count()
    if not 0 < without < height:
        return table
    if config.without_rating == "leave-out":
        reader.skipped["without a rating"] = without
        return table.filter(pl.col("rating").is_not_null())
    reader.note(
        f"{table.path}: {without:,} of {height:,} interactions ({without / height:.0%}) have no rating and count as interactions without "
        "one, so people choose and do not rate; dataset.without_rating = 'leave-out' keeps only what is rated."
    )
    return table

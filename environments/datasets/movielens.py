"""The MovieLens data sets of GroupLens: 100K, 1M, and the newer CSV editions.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. The files may be used for
research but not passed on, so none comes with this package; `usersim data get NAME` fetches them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from environments.datasets.assembly import (
    ItemText,
    assemble,
    film_title,
    film_year,
    gender,
    item_table,
    none,
    or_null,
    user_table,
    words,
)
from environments.datasets.fields import TimesConfig
from environments.datasets.files import find_file, read_bytes
from environments.datasets.ratings import read_ratings
from environments.datasets.raw_table import RawTable
from environments.datasets.reading import BadRows, Reader
from environments.datasets.times import read_times
from simulator.dataset import FILMS, Dataset
from simulator.errors import DataError
from simulator.paths import data_folder

_NO_OCCUPATION = ("other", "none")

OCCUPATIONS_1M = (
    "",
    "academic or educator",
    "artist",
    "clerical or administrative worker",
    "college or graduate student",
    "customer service worker",
    "doctor or health care worker",
    "executive or manager",
    "farmer",
    "homemaker",
    "school student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing worker",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)
"""Occupation by its number in ML-1M; 0 is "other or not specified" and becomes null."""

AGES_1M = {"1": 15, "18": 21, "25": 30, "35": 40, "45": 47, "50": 53, "56": 60}
"""ML-1M gives age bands by their lower end (1 is under 18, 56 is 56 and over); a person gets an age in the middle of the band."""


class MovieLensConfig(TimesConfig):
    """Configuration of the MovieLens loaders; their times are seconds unless a copy was written otherwise.

    Attributes:
        path: folder with the files; None takes the copy that `usersim data get` has put into the cache.
        on_bad_rows: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
    """

    path: Path | None = None
    on_bad_rows: BadRows = "error"


class MovieLens100K:
    """MovieLens 100K: 100,000 ratings 1-5 of 1,682 films by 943 people, 1997-1998, with times and demographics.

    Reads the original files (u.data, u.item, u.user, u.genre) or RecBole's copy of them (ml-100k.inter, .item, .user);
    both give the same data set. The occupations "other" and "none" and the genre "unknown" say nothing and become empty.
    """

    class Config(MovieLensConfig):
        """As all MovieLens loaders, and plots.

        Attributes:
            plots: JSON file with the plots of the films, a list of objects with "movielens_id" and "plot"; becomes the description.
        """

        plots: Path | None = None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        folder = _folder(self.config.path, "ml-100k")
        reader = Reader(self.config.on_bad_rows)
        source = find_file(folder, ("u.data", "ml-100k.inter"), "MovieLens 100K")
        plots = _plots(self.config.plots) if self.config.plots else {}
        description = pl.col("item_id").replace_strict(plots, default=None, return_dtype=pl.String) if plots else none(pl.String())
        ratings, items_table, users_table, text = (_original if source.name == "u.data" else _recbole)(reader, folder)
        _, items = item_table(reader, items_table, ItemText(film_title(text), film_year(text), _genres(pl.col("genres"), " "), description))
        users_table = reader.numbers(users_table, "age", scale=(1, 120), optional=True)
        occupation = or_null(pl.col("occupation"))
        users = user_table(
            reader,
            users_table,
            age=pl.col("age").cast(pl.Int32),
            gender_word=gender(pl.col("gender")),
            occupation=pl.when(~occupation.is_in(_NO_OCCUPATION)).then(occupation),
        )
        ratings = _rated(reader, ratings, self.config, (1, 5))
        return assemble(
            reader,
            "ml-100k",
            ratings,
            items=items,
            users=users,
            domain=FILMS,
            rating_scale=(1.0, 5.0),
            items_from=items_table.path.name,
            users_from=users_table.path.name,
        )


class MovieLens1M:
    """MovieLens 1M: 1,000,209 ratings 1-5 of 3,706 films (3,883 listed) by 6,040 people, 2000-2003, with demographics.

    Reads ``ratings.dat``, or where that is absent a CSV ``ratings_reconstructed.csv.gz`` with a header, in which some times
    may be missing (`Dataset.has_times` is then False).
    """

    Config = MovieLensConfig

    def __init__(self, config: MovieLensConfig | None = None) -> None:
        self.config = config or MovieLensConfig()

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        folder = _folder(self.config.path, "ml-1m")
        reader = Reader(self.config.on_bad_rows)
        films = reader.text_table(
            find_file(folder, ("movies.dat",), "MovieLens 1M"),
            separator="::",
            columns=("item_id", "title", "genres"),
            encoding="latin-1",
            ends_with_newline=True,
        )
        people = reader.text_table(
            find_file(folder, ("users.dat",), "MovieLens 1M"),
            separator="::",
            columns=("user_id", "gender", "age", "occupation", "zip"),
            encoding="latin-1",
            ends_with_newline=True,
        )
        title = pl.col("title")
        _, items = item_table(
            reader, films, ItemText(film_title(title), film_year(title), _genres(pl.col("genres"), "|"), none(pl.String()))
        )
        codes = [str(code) for code in range(len(OCCUPATIONS_1M))]
        people = reader.check(
            people, ~pl.col("age").is_in(list(AGES_1M)), column="age", reason="unknown age band", allowed=f"one of {', '.join(AGES_1M)}"
        )
        people = reader.check(
            people, ~pl.col("occupation").is_in(codes), column="occupation", reason="unknown occupation", allowed="a number from 0 to 20"
        )
        users = user_table(
            reader,
            people,
            age=pl.col("age").replace_strict(AGES_1M, return_dtype=pl.Int32),
            gender_word=gender(pl.col("gender")),
            occupation=or_null(pl.col("occupation").replace_strict(codes, list(OCCUPATIONS_1M), return_dtype=pl.String)),
        )
        source = find_file(folder, ("ratings.dat", "ratings_reconstructed.csv.gz"), "MovieLens 1M")
        if source.name == "ratings.dat":
            columns = ("user_id", "item_id", "rating", "timestamp")
            ratings = reader.text_table(source, separator="::", columns=columns, encoding="latin-1", ends_with_newline=True)
        else:
            wanted = {"user_id": "user_id", "item_id": "movie_id", "rating": "rating", "timestamp": "timestamp"}
            ratings = reader.text_table(source, separator=",", ends_with_newline=True).pick(wanted)
        ratings = _rated(reader, ratings, self.config, (1, 5), optional=source.name != "ratings.dat")
        return assemble(
            reader,
            "ml-1m",
            ratings,
            items=items,
            users=users,
            domain=FILMS,
            rating_scale=(1.0, 5.0),
            items_from=films.path.name,
            users_from=people.path.name,
        )


class MovieLensLatest:
    """The CSV editions (latest-small, latest, 10M+ in CSV): ratings 0.5-5, times, tags, no demographics.

    The most frequent tags of a film become its description ("tags: ..."). The data set is named after its folder.
    """

    class Config(MovieLensConfig):
        """As all MovieLens loaders, and tags.

        Attributes:
            tags: how many tags a description holds at most; 0 leaves them out.
        """

        tags: int = Field(default=5, ge=0, le=1_000)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        folder = _folder(self.config.path, "ml-latest-small")
        reader = Reader(self.config.on_bad_rows)
        films = _csv(reader, folder, "movies.csv", {"item_id": "movieId", "title": "title", "genres": "genres"})
        description = none(pl.String())
        if self.config.tags and (folder / "tags.csv").is_file():
            tags = _top_tags(_csv(reader, folder, "tags.csv", {"item_id": "movieId", "tag": "tag"}), self.config.tags)
            description = pl.col("item_id").replace_strict(tags["item_id"], tags["text"], default=None, return_dtype=pl.String)
        title = pl.col("title")
        _, items = item_table(reader, films, ItemText(film_title(title), film_year(title), _genres(pl.col("genres"), "|"), description))
        wanted = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "timestamp": "timestamp"}
        ratings = _csv(reader, folder, "ratings.csv", wanted)
        ratings = _rated(reader, ratings, self.config, (0.5, 5))
        return assemble(
            reader,
            folder.resolve().name,
            ratings,
            items=items,
            users=None,
            domain=FILMS,
            rating_scale=(0.5, 5.0),
            items_from=films.path.name,
        )


def _folder(path: Path | None, name: str) -> Path:
    if path is not None:
        return path.expanduser()
    folder = data_folder(name)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise DataError(f"data set '{name}' is not on this machine (looked in {folder}); fetch it with: usersim data get {name}")
    return folder


def _rated(reader: Reader, table: RawTable, config: MovieLensConfig, scale: tuple[float, float], *, optional: bool = False) -> RawTable:
    """Ratings with checked ratings and times; `optional` says whether times may be missing."""
    table = read_ratings(reader, table, scale=scale, strict=True)
    return read_times(reader, table, unit=config.time_unit, time_format=config.time_format, optional=optional)


def _genres(text: pl.Expr, separator: str) -> pl.Expr:
    return words(text.replace({"unknown": "", "(no genres listed)": ""}), separator)


def _csv(reader: Reader, folder: Path, name: str, wanted: Mapping[str, str]) -> RawTable:
    path = find_file(folder, (name,), "this MovieLens edition")
    return reader.text_table(path, separator=",", quoted=True, ends_with_newline=True).pick(wanted)


def _top_tags(table: RawTable, count: int) -> pl.DataFrame:
    counted = table.frame.select("item_id", tag=pl.col("tag").str.strip_chars().str.to_lowercase()).filter(pl.col("tag") != "")
    ranked = counted.group_by("item_id", "tag").len().sort(["item_id", "len", "tag"], descending=[False, True, False])
    best = ranked.group_by("item_id", maintain_order=True).head(count)
    return best.group_by("item_id", maintain_order=True).agg(text="tags: " + pl.col("tag").str.join(", "))


def _original(reader: Reader, folder: Path) -> tuple[RawTable, RawTable, RawTable, pl.Expr]:
    """Ratings, films, people of the original ML-100K files, and the expression of the title with its year."""
    genre_file = find_file(folder, ("u.genre",), "MovieLens 100K")
    genres = reader.text_table(genre_file, separator="|", columns=("genre", "number"), encoding="latin-1").frame["genre"].to_list()
    if not genres:
        raise DataError(f"{genre_file}: found no genre, allowed is one a line, 'name|number'; fetch the file again.")
    columns = ("item_id", "title", "released", "video", "address", *genres)
    item_file = find_file(folder, ("u.item",), "MovieLens 100K")
    films = reader.text_table(item_file, separator="|", columns=columns, encoding="latin-1", ends_with_newline=True)
    for genre in genres:
        films = reader.check(films, ~pl.col(genre).is_in(["0", "1"]), column=genre, reason="genre flag is not 0 or 1", allowed="0 or 1")
    names = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres]
    films = films.with_column("genres", pl.concat_str(names, separator=" ", ignore_nulls=True))
    user_file = find_file(folder, ("u.user",), "MovieLens 100K")
    user_columns = ("user_id", "age", "gender", "occupation", "zip")
    people = reader.text_table(user_file, separator="|", columns=user_columns, encoding="latin-1", ends_with_newline=True)
    columns = ("user_id", "item_id", "rating", "timestamp")
    ratings = reader.text_table(folder / "u.data", separator="\t", columns=columns, encoding="latin-1", ends_with_newline=True)
    return ratings, films, people, pl.col("title")


def _recbole(reader: Reader, folder: Path) -> tuple[RawTable, RawTable, RawTable, pl.Expr]:
    """The same from RecBole's copy. It cut the last bracket off each title as the year, also where that is no year."""

    def table(kind: str, wanted: Mapping[str, str]) -> RawTable:
        path = find_file(folder, (f"ml-100k.{kind}",), "MovieLens 100K in RecBole's format")
        return reader.text_table(path, separator="\t", ends_with_newline=True).pick(wanted)

    ids = {"user_id": "user_id:token", "item_id": "item_id:token"}
    ratings = table("inter", {**ids, "rating": "rating:float", "timestamp": "timestamp:float"})
    wanted = {"title": "movie_title:token_seq", "year": "release_year:token", "genres": "class:token_seq"}
    films = table("item", {"item_id": "item_id:token", **wanted})
    people = table("user", {"user_id": "user_id:token", "age": "age:token", "gender": "gender:token", "occupation": "occupation:token"})
    whole = pl.format("{} ({})", pl.col("title"), pl.col("year"))
    # The one film without a title or year is called "unknown" in the original and "unkonwn" in the copy.
    return ratings, films, people, pl.when(pl.col("year") == "unkonwn").then(pl.lit("unknown")).otherwise(whole)


def _plots(path: Path) -> dict[str, str]:
    try:
        rows: Any = json.loads(read_bytes(path))
        return {str(row["movielens_id"]): str(row["plot"]) for row in rows if row["plot"]}
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: found no list of plots ({error}), allowed is a JSON list of objects with movielens_id and plot."
        ) from error
    except KeyError as error:
        raise DataError(f"{path}: an object of the list has no key {error}, allowed are objects with movielens_id and plot.") from error

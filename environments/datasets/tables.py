"""Any interaction log in text, JSON or Parquet: which column is what stands in the configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import BeforeValidator, Field, field_validator, model_validator

from environments.datasets.assembly import Files, assemble, item_table, user_table
from environments.datasets.fields import (
    ColumnName,
    FieldsConfig,
    Separator,
    demographics,
    find,
    item_text,
    ratings_and_times,
    several,
    tell_columns,
)
from environments.datasets.folds import FOLD, by_fold, by_line
from environments.datasets.raw_table import LINE, RawTable, listed
from environments.datasets.reading import Reader
from environments.datasets.text_files import TextFormat
from environments.datasets.values import UNIT
from simulator.dataset import REVIEW, Dataset
from simulator.errors import DataError

Columns = Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=10_000)]

FoldNumber = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]

Kind = Literal["", "item_", "user_"]
"""Prefix of the settings of a file: of interactions, of items, of people."""


class InteractionTables:
    """Reads one table of interactions and, where there are, one of items and one of people.

    The kind of a file follows from its name: ``.parquet``; ``.json`` and ``.jsonl`` (objects, one a line or in one list); text with any
    other ending, ``.csv`` (commas, quotes allowed), ``.tsv`` (tabs), ``.dat``, ``.txt``, whose separator the first lines tell if the ending
    does not. Each may be packed (``.gz``, ``.bz2``, ``.xz``, a ``.zip`` of one file) or a folder of parts.
    """

    class Config(FieldsConfig):
        """Files and columns.

        Attributes:
            path: folder that the file names start from; None for the working folder.
            interactions: the file of interactions, or the folder of its parts. items, users: of items and people, or None.
            separator: between fields of the text files; None goes by the name and the first lines. item_separator, user_separator: of
                the items' and people's file, if another one.
            quoted: whether fields may stand in double quotes; None means where the separator is a comma or a semicolon, or the first line
                is quoted. item_quoted, user_quoted: likewise.
            columns: names of the columns of the interactions if that file has no header. item_columns, user_columns: likewise.
            item_key: column of the items' file with the item's id, if it has another name than in the interactions. user_key: likewise.
            list_separator: between the genres of an item; None finds it: "|", ";", or a comma where names hold none, and lists in brackets.
            item_genres: file of pairs of an item and a genre (or tag), for data that keeps genres apart; a pair may come often.
            item_genre_columns: names of its columns if it has no header.
            genre: its column with the genre. The item's column is `item`, or a usual name.
            genre_names: file from a genre's id (first column) to its name (second column), where `genre` holds ids.
            genre_ids: "id", or "row" where `item_genres` counts the rows of the items' and of the names' file from 1
                instead of using their ids, as the heterogeneous-network copies of some data sets do.
            max_genres: genres from `item_genres` that an item keeps: those first that it has most often, then the commonest ones.
            weight: column with a strength such as a play count; such data has no ratings. It is checked, used by `min_weight`,
                and not kept.
            min_weight: interactions with a lower weight are left out.
            review: column of the interactions with what the person wrote about the item; None for data without.
            held_out: file of the held-out interactions, written as `interactions` is, which then holds the others; None if the data has
                no split of its own. fold: column that says so instead (`environments.datasets.folds`). Both need ``split = "own"``.
            test_fold: the numbers that are held out where `fold` holds numbers; None takes the greatest.
        """

        path: Path | None = None
        interactions: Path
        items: Path | None = None
        users: Path | None = None
        separator: Separator | None = None
        item_separator: Separator | None = None
        user_separator: Separator | None = None
        quoted: bool | None = None
        item_quoted: bool | None = None
        user_quoted: bool | None = None
        columns: Columns | None = None
        item_columns: Columns | None = None
        user_columns: Columns | None = None
        item_key: ColumnName | None = None
        user_key: ColumnName | None = None
        list_separator: Separator | None = None
        item_genres: Path | None = None
        item_genre_columns: Columns | None = None
        genre: ColumnName = "genre"
        genre_names: Path | None = None
        genre_ids: Literal["id", "row"] = "id"
        max_genres: int = Field(default=5, ge=1, le=1_000)
        weight: ColumnName | None = None
        min_weight: float = Field(default=0.0, ge=0, le=1e18)
        review: ColumnName | None = None
        held_out: Path | None = None
        fold: ColumnName | None = None
        test_fold: Annotated[tuple[FoldNumber, ...] | None, BeforeValidator(several), Field(min_length=1)] = None

        @model_validator(mode="after")
        def _one_split(self) -> InteractionTables.Config:
            if self.fold is not None and self.held_out is not None:
                raise ValueError("held_out and fold both say what is held out; keep one of them")
            if self.test_fold is not None and self.fold is None:
                raise ValueError("test_fold names values of a column; name that with fold")
            return self

        @field_validator("columns", "item_columns", "user_columns", "item_genre_columns")
        @classmethod
        def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            if names is not None and len(set(names)) < len(names):
                raise ValueError("the names must differ")
            return names

    def __init__(self, config: Config) -> None:
        self.config = config

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        config = self.config
        reader = Reader(config.on_bad_rows)
        raw, table = self._interactions(reader)
        items_file = self._table(reader, config.items, "item_") if config.items else None
        users_file = self._table(reader, config.users, "user_") if config.users else None
        return assemble(
            reader,
            config.name or config.interactions.name.partition(".")[0],
            table,
            items=self._items(reader, items_file) if items_file is not None else None,
            users=self._users(reader, users_file) if users_file is not None else None,
            domain=config.words,
            rating_scale=config.rating_scale,
            duplicates=config.duplicates,
            unlisted=config.unlisted,
            items_from=str(config.items),
            users_from=str(config.users),
            files=Files(raw, items_file, users_file),
        )

    def items(self, reader: Reader) -> pl.DataFrame:
        """The items of `items` alone.

        Raises:
            DataError: there is no such file, or it holds something that is not allowed.
        """
        return self._items(reader, self._table(reader, self.config.items or Path(), "item_"))

    def users(self, reader: Reader) -> pl.DataFrame:
        """The people of `users` alone.

        Raises:
            DataError: there is no such file, or it holds something that is not allowed.
        """
        return self._users(reader, self._table(reader, self.config.users or Path(), "user_"))

    def _interactions(self, reader: Reader) -> tuple[RawTable, RawTable]:
        """The whole file, and its picked and checked rows."""
        config = self.config
        raw = self._table(reader, config.interactions, "")
        known = int(raw.frame[LINE].max() or 0)  # type: ignore[arg-type]
        if config.held_out is not None:
            raw = reader.together([raw, self._table(reader, config.held_out, "")], "")
        wanted = find(raw, "user", config.user, needed=True) | find(raw, "item", config.item, needed=True)
        wanted |= find(raw, "timestamp", config.timestamp)
        wanted |= {"weight": config.weight} if config.weight else find(raw, "rating", config.rating)
        wanted |= {REVIEW: config.review} if config.review else {}
        wanted |= {FOLD: config.fold} if config.fold else {}
        table = raw.pick(wanted)
        roles = ("timestamp", REVIEW) if config.weight else ("rating", "timestamp", "weight", REVIEW)
        tell_columns(reader, raw, wanted, roles, [role for role in ("rating", "timestamp") if getattr(config, role) == ""])
        if config.weight:
            table = reader.numbers(table, "weight", scale=(0, float("inf")))
            light = table.frame["weight"] < config.min_weight
            if light.any():
                reader.skipped["weight below the least"] = int(light.sum())
            table = replace(table, frame=table.frame.filter(~light).drop("weight"))
        if config.fold is not None:
            table = by_fold(reader, table, config.test_fold)
        elif config.held_out is not None:
            table = by_line(reader, table, known)
        return raw, ratings_and_times(reader, table, config)

    def _items(self, reader: Reader, raw: RawTable) -> pl.DataFrame:
        wanted = find(raw, "item", self.config.item_key or self._shared(raw, self.config.item), needed=True, also=("id",), prefix="item_")
        roles = ("title", "year", "genres", "description")
        for role in roles:
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        tell_columns(reader, raw, wanted, roles, [role for role in roles if getattr(self.config, role) == ""])
        separator = self.config.list_separator
        if self.config.item_genres is not None:
            genres = self._genres(reader, self.config.item_genres)
            frame = self._numbered(table.frame.drop("genres", strict=False), "item_id")
            joined = frame.join(genres, left_on="key", right_on="item_id", how="left", maintain_order="left")
            table = replace(table, frame=joined.drop("key"))
            separator = UNIT
        table, text = item_text(self.config, reader, table, separator)
        return item_table(reader, table, text)[1]

    def _genres(self, reader: Reader, file: Path) -> pl.DataFrame:
        """Columns item_id and genres (joined by the unit separator), one row per item."""
        raw = self._table(reader, file, "item_", columns=self.config.item_genre_columns)
        item = find(raw, "item", self._shared(raw, self.config.item), needed=True)
        pairs = raw.pick(item | {"genre": self.config.genre}).frame
        if self.config.genre_names is not None:
            named = self._table(reader, self.config.genre_names, "item_", columns=None)
            if len(named.columns) < 2:
                raise DataError(
                    f"{named.path}, line 1: found only the column {listed(named.columns)}, allowed are two: a genre's id and its name."
                )
            named = reader.unique(named.pick({"id": named.columns[0], "name": named.columns[1]}), ["id"], "genre")
            names = self._numbered(named.frame, "id").select(genre="key", name="name")
            pairs = pairs.join(names, on="genre").select("item_id", genre="name")
        counted = pairs.select("item_id", genre=pl.col("genre").str.strip_chars()).filter(pl.col("genre") != "")
        ranked = counted.group_by("item_id", "genre").agg(times=pl.len()).with_columns(items=pl.len().over("genre"))
        ranked = ranked.sort(["item_id", "times", "items", "genre"], descending=[False, True, True, False])
        best = ranked.group_by("item_id", maintain_order=True).head(self.config.max_genres)
        return best.group_by("item_id", maintain_order=True).agg(genres=pl.col("genre").str.join("\x1f"))

    def _numbered(self, frame: pl.DataFrame, column: str) -> pl.DataFrame:
        """With a column `key`: what `item_genres` calls the rows of this table."""
        by_row = pl.int_range(1, pl.len() + 1).cast(pl.String)
        return frame.with_columns(key=by_row if self.config.genre_ids == "row" else pl.col(column))

    def _users(self, reader: Reader, raw: RawTable) -> pl.DataFrame:
        wanted = find(raw, "user", self.config.user_key or self._shared(raw, self.config.user), needed=True, also=("id",), prefix="user_")
        roles = ("age", "gender", "occupation")
        for role in roles:
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        tell_columns(reader, raw, wanted, roles, [role for role in roles if getattr(self.config, role) == ""])
        return user_table(reader, table, **demographics(table.columns))

    @staticmethod
    def _shared(table: RawTable, column: str | None) -> str | None:
        """The id's column of the interactions, if this table has it too."""
        return column if column in table.columns else None

    def _table(self, reader: Reader, file: Path, prefix: Kind, **other: tuple[str, ...] | None) -> RawTable:
        """One of the files, read as its settings say; `other` replaces the names of its columns."""
        config = self.config
        form = TextFormat(
            separator=getattr(config, f"{prefix}separator") or config.separator,
            columns=other["columns"] if other else getattr(config, f"{prefix}columns"),
            encoding=config.encoding,
            quoted=config.quoted if (own := getattr(config, f"{prefix}quoted")) is None else own,
            prefix=prefix,
        )
        path = ((config.path or Path()) / file).expanduser()
        if form.quoted and form.separator and len(form.separator) > 1:
            raise DataError(f"dataset.{prefix}quoted = true needs a separator of one character, found {form.separator!r}.")
        return reader.table(path, form)

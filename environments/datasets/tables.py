"""Any interaction log in CSV, TSV or Parquet: which column is what stands in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from environments.datasets.assembly import assemble, item_table, user_table
from environments.datasets.fields import FieldsConfig, demographics, find, item_text, ratings_and_times
from environments.datasets.reading import LINE, RawTable, Reader, read_bytes
from simulator.dataset import REVIEW, Dataset
from simulator.errors import DataError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


class InteractionTables:
    """Reads one table of interactions and, where there are, one of items and one of people.

    The kind of a file follows from its name: ``.parquet``; ``.csv`` (commas, quotes allowed), ``.tsv`` (tabs), each also with ``.gz``;
    other names need `separator`.
    """

    class Config(FieldsConfig):
        """Files and columns.

        Attributes:
            path: folder that the file names start from; None for the working folder.
            interactions: the file of interactions. items, users: files of items and people, or None.
            separator: between fields of the text files; None goes by the name.
            quoted: whether fields may stand in double quotes; None means where the separator is a comma.
            columns: names of the columns of the interactions if that file has no header. item_columns, user_columns: likewise.
            item_key: column of the items' file with the item's id, if it has another name than in the interactions. user_key: likewise.
            list_separator: between the genres of an item.
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
            time_format: format of timestamps that are dates, such as "%Y-%m-%d %H:%M:%S" (UTC); None for numbers.
        """

        path: Path | None = None
        interactions: Path
        items: Path | None = None
        users: Path | None = None
        separator: str | None = None
        quoted: bool | None = None
        columns: tuple[str, ...] | None = None
        item_columns: tuple[str, ...] | None = None
        user_columns: tuple[str, ...] | None = None
        item_key: str | None = None
        user_key: str | None = None
        list_separator: str = "|"
        item_genres: Path | None = None
        item_genre_columns: tuple[str, ...] | None = None
        genre: str = "genre"
        genre_names: Path | None = None
        genre_ids: Literal["id", "row"] = "id"
        max_genres: int = Field(default=5, ge=1)
        weight: str | None = None
        min_weight: float = 0.0
        review: str | None = None
        time_format: str | None = None

    def __init__(self, config: Config) -> None:
        self.config = config

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        config = self.config
        reader = Reader(config.on_bad_rows)
        raw = self._table(reader, config.interactions, config.columns)
        wanted = find(raw, "user", config.user, needed=True) | find(raw, "item", config.item, needed=True)
        wanted |= find(raw, "timestamp", config.timestamp)
        wanted |= {"weight": config.weight} if config.weight else find(raw, "rating", config.rating)
        wanted |= {REVIEW: config.review} if config.review else {}
        table = raw.pick(wanted)
        if config.weight:
            table = reader.numbers(table, "weight", scale=(0, float("inf")))
            table = replace(table, frame=table.frame.filter(pl.col("weight") >= config.min_weight).drop("weight"))
        if config.time_format and "timestamp" in wanted:
            table = _dates(reader, table, config.time_format)
        table = ratings_and_times(reader, table, config)
        return assemble(
            reader,
            config.name or config.interactions.name.partition(".")[0],
            table,
            items=self._items(reader, config.items) if config.items else None,
            users=self._users(reader, config.users) if config.users else None,
            domain=config.words,
            rating_scale=config.rating_scale,
            duplicates=config.duplicates,
            unlisted=config.unlisted,
            items_from=str(config.items),
            users_from=str(config.users),
        )

    def _items(self, reader: Reader, file: Path) -> pl.DataFrame:
        raw = self._table(reader, file, self.config.item_columns)
        wanted = find(raw, "item", self.config.item_key or self._shared(raw, self.config.item), needed=True, also=("id",))
        for role in ("title", "year", "genres", "description"):
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        separator = self.config.list_separator
        if self.config.item_genres is not None:
            genres = self._genres(reader, self.config.item_genres)
            frame = self._numbered(table.frame.drop("genres", strict=False), "item_id")
            joined = frame.join(genres, left_on="key", right_on="item_id", how="left", maintain_order="left")
            table = replace(table, frame=joined.drop("key"))
            separator = "\x1f"
        return item_table(reader, table, item_text(self.config, table.columns, separator))[1]

    def _genres(self, reader: Reader, file: Path) -> pl.DataFrame:
        """Columns item_id and genres (joined by the unit separator), one row per item."""
        raw = self._table(reader, file, self.config.item_genre_columns)
        item = find(raw, "item", self._shared(raw, self.config.item), needed=True)
        pairs = raw.pick(item | {"genre": self.config.genre}).frame
        if self.config.genre_names is not None:
            named = self._table(reader, self.config.genre_names, None)
            if len(named.columns) < 2:
                raise DataError(
                    f"{named.path}, line 1: found only the column {named.columns[0]}, allowed are two: a genre's id and its name."
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

    def _users(self, reader: Reader, file: Path) -> pl.DataFrame:
        raw = self._table(reader, file, self.config.user_columns)
        wanted = find(raw, "user", self.config.user_key or self._shared(raw, self.config.user), needed=True, also=("id",))
        for role in ("age", "gender", "occupation"):
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        return user_table(reader, table, **demographics(table.columns))

    @staticmethod
    def _shared(table: RawTable, column: str | None) -> str | None:
        """The id's column of the interactions, if this table has it too."""
        return column if column in table.columns else None

    def _table(self, reader: Reader, file: Path, columns: Sequence[str] | None) -> RawTable:
        path = ((self.config.path or Path()) / file).expanduser()
        suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
        kind = suffixes[-1].lower() if suffixes else ""
        if kind == ".parquet":
            return _parquet(path, self.config.list_separator)
        separator = self.config.separator or _SEPARATORS.get(kind)
        if not separator:
            raise DataError(f"'{path}' has no ending that tells its format; allowed are .csv, .tsv and .parquet, or set dataset.separator.")
        quoted = self.config.quoted if self.config.quoted is not None else separator == ","
        if quoted and len(separator) > 1:
            raise DataError(f"dataset.quoted = true needs a separator of one character, found {separator!r}.")
        return reader.text_table(path, separator=separator, columns=columns, encoding=self.config.encoding, quoted=quoted)


def _parquet(path: Path, list_separator: str) -> RawTable:
    """A Parquet file as a table of text, so that the same checks apply; dates become seconds, lists joined words."""
    raw = read_bytes(path)
    try:
        frame = pl.read_parquet(raw)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"'{path}' is not a whole Parquet file ({reason}); it was probably cut off, write or fetch it again.") from error
    texts = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype == pl.List:
            column = column.cast(pl.List(pl.String)).list.join(list_separator, ignore_nulls=True)
        elif dtype.is_temporal():
            column = column.cast(pl.Datetime("us")).dt.epoch("s")
        elif dtype.is_float():
            column = column.fill_nan(None)
        texts.append(column.cast(pl.String))
    numbers = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE)
    return RawTable(path, frame.select(*texts, numbers), unit="row")


def _dates(reader: Reader, table: RawTable, time_format: str) -> RawTable:
    date = pl.col("timestamp").str.strip_chars().str.to_datetime(time_format, strict=False, time_unit="us")
    if "%z" not in time_format:
        date = date.dt.replace_time_zone("UTC")
    allowed = f"a date like {time_format!r}"
    table = reader.check(table, date.is_null(), column="timestamp", reason="timestamp is not a date", allowed=allowed)
    return table.with_column("timestamp", date.dt.epoch("s").cast(pl.String))

"""Any interaction log in CSV, TSV or Parquet: which column is what stands in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from pydantic import Field

from environments.datasets.assembly import assemble, item_table, user_table
from environments.datasets.fields import FieldsConfig, demographics, find, item_text, ratings_and_times
from environments.datasets.reading import LINE, RawTable, Reader, read_bytes
from simulator.dataset import Dataset
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
            item_genres: file with one row per item and genre (or tag), for data that keeps genres apart. Columns: the item's id, the genre.
            genre_names: file from a genre's id to its name, where `item_genres` holds ids. Columns: the id, the name.
            max_genres: genres from `item_genres` that an item keeps, those first that the most items have.
            item_genre_columns: names of the columns of `item_genres` if it has no header.
            weight: column with a strength such as a play count; such data has no ratings. It is checked, used by `min_weight`,
                and not kept.
            min_weight: interactions with a lower weight are left out.
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
        genre_names: Path | None = None
        max_genres: int = Field(default=5, ge=1)
        item_genre_columns: tuple[str, str] | None = None
        weight: str | None = None
        min_weight: float = 0.0
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
            table = replace(
                table, frame=table.frame.drop("genres", strict=False).join(genres, on="item_id", how="left", maintain_order="left")
            )
            separator = "\x1f"
        return item_table(reader, table, item_text(self.config, table.columns, separator))[1]

    def _genres(self, reader: Reader, file: Path) -> pl.DataFrame:
        """Columns item_id and genres (joined by the unit separator), one row per item."""
        raw = self._table(reader, file, self.config.item_genre_columns)
        pairs = raw.pick(dict(zip(("item_id", "genre"), _two(raw), strict=True))).frame
        if self.config.genre_names is not None:
            named = self._table(reader, self.config.genre_names, None)
            names = reader.unique(named.pick(dict(zip(("genre", "name"), _two(named), strict=True))), ["genre"], "genre").frame
            pairs = pairs.join(names.select("genre", "name"), on="genre").select("item_id", genre="name")
        genre = pl.col("genre").str.strip_chars()
        ranked = pairs.select("item_id", genre=genre).filter(pl.col("genre") != "").unique()
        ranked = ranked.with_columns(items=pl.len().over("genre")).sort(["item_id", "items", "genre"], descending=[False, True, False])
        best = ranked.group_by("item_id", maintain_order=True).head(self.config.max_genres)
        return best.group_by("item_id", maintain_order=True).agg(genres=pl.col("genre").str.join("\x1f"))

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


def _two(table: RawTable) -> list[str]:
    if len(table.columns) < 2:
        raise DataError(
            f"{table.path}, line 1: found the columns {', '.join(table.columns)}, allowed are two: an id and what belongs to it."
        )
    return table.columns[:2]


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

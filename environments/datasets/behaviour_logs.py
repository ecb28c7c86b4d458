"""Logs of what users did that somebody else made, in text, JSON or Parquet: interactions, or impressions with what was chosen of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from environments.datasets.fields import ColumnName, FieldsConfig, Separator, find, ratings_and_times
from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.reading import Reader
from environments.datasets.text_files import TextFormat
from simulator.errors import DataError

YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")
OF_PAGES = ("session", "page", "position", "chosen", "probability")
"""Columns that a log may have besides those of interactions; each is found under its own name."""


class BehaviourLog(FieldsConfig):
    """A log and its columns; `user`, `item`, `rating`, `timestamp` and how they are written as in `FieldsConfig`.

    Attributes:
        log: the file, or a folder of its parts. separator: between the fields of a text file; None goes by its name and first lines.
        session: column that tells sessions of a user apart. page: and pages of a session. position: place on the page, from 1.
        chosen: whether a shown item was chosen (true, false, 1, 0); without it every row is a choice. probability: with which it was.
            Each is None for a column of this name if there is one, "" for none.
    """

    log: Path
    separator: Separator | None = None
    session: ColumnName | None = None
    page: ColumnName | None = None
    position: ColumnName | None = None
    chosen: ColumnName | None = None
    probability: ColumnName | None = None


def read_log(config: BehaviourLog, reader: Reader) -> pl.DataFrame:
    """The rows of a log, in order of the file.

    Returns:
        `user`, `item` (ids as text), `rating` (Float64), `time` (seconds since 1970), `session`, `page` (text), `position` (Int32),
        `chosen` (Boolean), `probability` (Float64) and `line`; null where the log does not say it. Without a column of choices all rows
        are chosen.

    Raises:
        DataError: the file or a column is missing, or a value is not allowed; names file, line and column.
    """
    raw = reader.table(config.log.expanduser(), TextFormat(separator=config.separator, encoding=config.encoding))
    wanted = find(raw, "user", config.user, needed=True) | find(raw, "item", config.item, needed=True)
    for role in ("rating", "timestamp"):
        wanted |= find(raw, role, getattr(config, role))
    if config.rating is None and wanted.get("rating", "").lower() == "score":
        del wanted["rating"]  # of a recommender, here
    for role in OF_PAGES:
        name = getattr(config, role)
        if name or (name is None and role in raw.columns):
            wanted |= {role: name or role}
    table = raw.pick(wanted)
    for role in ("user_id", "item_id"):
        table = reader.ids(table, role)
    table = ratings_and_times(reader, table, config)
    table = _chosen(reader, table)
    for role, kind in (("position", pl.Int32()), ("probability", pl.Float64())):
        if role in table.columns:
            table = reader.numbers(table, role, scale=(1, 1e6) if role == "position" else (0, 1), optional=True)
            table = table.with_column(role, pl.col(role).cast(kind))
        else:
            table = table.with_column(role, pl.lit(None, dtype=kind))
    for role in ("session", "page"):
        if role not in table.columns:
            table = table.with_column(role, pl.lit(None, dtype=pl.String()))
    if table.frame.is_empty():
        raise DataError(f"{config.log} holds no rows; a log has a row for each interaction or each shown item.")
    return table.frame.select(
        pl.col("user_id").alias("user"),
        pl.col("item_id").alias("item"),
        pl.col("rating").cast(pl.Float64),
        pl.col("timestamp").cast(pl.Int64).alias("time"),
        *OF_PAGES,
        pl.col(LINE).alias("line"),
    )


def _chosen(reader: Reader, table: RawTable) -> RawTable:
    if "chosen" not in table.columns:
        return table.with_column("chosen", pl.lit(value=True))
    text = pl.col("chosen").fill_null("").str.strip_chars().str.to_lowercase()
    bad = ~text.is_in([*YES, *NO])
    table = reader.check(table, bad, column="chosen", reason="no truth value", allowed="true, false, 1 or 0")
    return table.with_column("chosen", text.is_in(list(YES)))

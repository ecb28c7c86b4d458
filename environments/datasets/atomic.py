"""Any data set in RecBole's atomic format.

Zhao et al., "RecBole: Towards a Unified, Comprehensive and Efficient Framework for Recommendation Algorithms", CIKM 2021:
tab-separated files whose header gives each field a type, ``user_id:token``, ``rating:float``, ``genre:token_seq``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from environments.datasets.assembly import Files, assemble, item_table, user_table
from environments.datasets.fields import ColumnName, FieldsConfig, Separator, demographics, find, item_text, ratings_and_times, tell_columns
from environments.datasets.raw_table import RawTable
from environments.datasets.reading import Reader
from environments.datasets.values import UNIT
from simulator.dataset import Dataset
from simulator.errors import DataError

_TYPES = ("token", "token_seq", "float", "float_seq")


class RecBoleAtomic:
    """Reads ``NAME.inter`` and, where they exist, ``NAME.item`` and ``NAME.user``.

    Without a rating field the data set has no ratings, without a time field no times. Where a field ``label`` (1 for a positive reaction,
    0 for none) stands in place of ratings, only the rows with 1 are interactions.
    """

    class Config(FieldsConfig):
        """Field names without their types.

        Attributes:
            path: folder with one ``.inter`` file, or that file.
            seq_separator: what stands between the entries of a ``token_seq`` field.
            label: field that marks positive reactions.
        """

        path: Path
        seq_separator: Separator = " "
        label: ColumnName | None = None

    def __init__(self, config: Config) -> None:
        self.config = config

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        config = self.config
        reader = Reader(config.on_bad_rows)
        source = _inter_file(config.path.expanduser())
        raw, _ = self._table(reader, source)
        wanted = find(raw, "user", config.user, needed=True) | find(raw, "item", config.item, needed=True)
        wanted |= find(raw, "rating", config.rating) | find(raw, "timestamp", config.timestamp)
        if "rating" not in wanted:
            wanted |= find(raw, "label", config.label)
        table = raw.pick(wanted)
        tell_columns(
            reader, raw, wanted, ("rating", "timestamp"), [role for role in ("rating", "timestamp") if getattr(config, role) == ""]
        )
        if "label" in wanted:
            table = reader.numbers(table, "label", scale=(0, 1))
            table = replace(table, frame=table.frame.filter(pl.col("label") > 0).drop("label"))
        table = ratings_and_times(reader, table, config)
        items_file, users_file = source.with_suffix(".item"), source.with_suffix(".user")
        return assemble(
            reader,
            config.name or source.stem,
            table,
            items=self._items(reader, items_file) if items_file.is_file() else None,
            users=self._users(reader, users_file) if users_file.is_file() else None,
            domain=config.words,
            rating_scale=config.rating_scale,
            duplicates=config.duplicates,
            unlisted=config.unlisted,
            items_from=items_file.name,
            users_from=users_file.name,
            files=Files(),
        )

    def _items(self, reader: Reader, path: Path) -> pl.DataFrame:
        raw, types = self._table(reader, path)
        wanted = find(raw, "item", self.config.item, needed=True)
        for role in ("title", "year", "genres", "description"):
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        tell_columns(reader, raw, wanted, ("title", "year", "genres", "description"))
        several = types.get(wanted.get("genres", "")) == "token_seq"
        separator = self.config.seq_separator if several else UNIT  # a token is one entry, whatever is in it
        table, text = item_text(self.config, reader, table, separator)
        return item_table(reader, table, text)[1]

    def _users(self, reader: Reader, path: Path) -> pl.DataFrame:
        raw, _ = self._table(reader, path)
        wanted = find(raw, "user", self.config.user, needed=True)
        for role in ("age", "gender", "occupation"):
            wanted |= find(raw, role, getattr(self.config, role))
        table = raw.pick(wanted)
        return user_table(reader, table, **demographics(table.columns))

    def _table(self, reader: Reader, path: Path) -> tuple[RawTable, dict[str, str]]:
        """The table with plain field names, and the type of each field."""
        table = reader.text_table(path, separator="\t", encoding=self.config.encoding)
        types = {}
        for header in table.columns:
            name, _, kind = header.rpartition(":")
            if not name or kind not in _TYPES:
                raise DataError(
                    f"{path}, line 1, column '{header}': found no field type, allowed is 'name:type' "
                    f"with one of the types {', '.join(_TYPES)}."
                )
            types[name] = kind
        frame = table.frame.rename({header: header.rpartition(":")[0] for header in table.columns})
        return replace(table, frame=frame), types


def _inter_file(path: Path) -> Path:
    if path.suffix == ".inter":
        return path
    if not path.is_dir():
        raise DataError(f"there is no folder '{path}'; allowed is a folder with a .inter file, or that file.")
    found = sorted(path.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"'{path}' must hold exactly one .inter file, found {names}; name the file itself with dataset.path.")
    return found[0]

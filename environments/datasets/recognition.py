"""Which loader reads a data set that is given by a name, a file or a folder, and with which options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from environments.datasets.amazon import is_amazon_folder
from environments.datasets.fields import usual
from environments.datasets.files import COMPRESSED, TABLES, kind
from environments.datasets.known import KnownDataset
from environments.datasets.reading import Reader
from environments.datasets.text_files import TextFormat
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.plugins import build

TABLES_LOADER = "environments.datasets.tables:InteractionTables"
ATOMIC_LOADER = "environments.datasets.atomic:RecBoleAtomic"
AMAZON_LOADER = "environments.datasets.amazon:AmazonReviews"

Holds = Literal["interactions", "items", "users"]

_FIRST_CHOICE = ("interactions", "ratings", "reviews", "events", "log", "train")
"""Names of files of interactions where a folder has several, the likeliest first."""


@dataclass(frozen=True)
class Recognised:
    """What reads a data set.

    Attributes:
        use: import path of the loader. options: of its configuration.
        holds: "interactions", or "items" or "users" for a file that only lists them.
    """

    use: str
    options: Mapping[str, Any]
    holds: Holds = "interactions"

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            ConfigError: an option is not allowed. DataError: a file is missing or holds something that is not allowed.
        """
        loaded: Dataset = build(self.use, self.options, where="dataset", methods=("load",)).load()
        return loaded


def recognise(name_or_path: str | Path, known: Mapping[str, KnownDataset], settings: Mapping[str, Any] | None = None) -> Recognised:
    """Which loader reads a known data set, a file or a folder.

    Args:
        name_or_path: a name of `known`, a file, or a folder of files.
        known: the data sets that can be fetched, by name.
        settings: options of the loader that go before what is found; `use` names another loader.

    Raises:
        DataError: nothing is there, or the format is not recognised. ConfigError: a setting is not allowed.
    """
    given, path = dict(settings or {}), Path(name_or_path).expanduser()
    if str(name_or_path) in known and not os.path.exists(path):
        dataset = known[str(name_or_path)]
        if not dataset.is_present:
            raise DataError(f"data set '{dataset.name}' is not on this machine; fetch it with: usersim data get {dataset.name}")
        return Recognised(dataset.loader, {"path": dataset.folder, **given})
    if not os.path.exists(path):
        raise DataError(
            f"'{name_or_path}' is neither a known data set ({', '.join(known)}) nor an existing file or folder; check the spelling."
        )
    if "use" in given:
        use = str(given.pop("use"))
        key = "interactions" if use == TABLES_LOADER else "path"
        return Recognised(use, {key: path, **given})
    if os.path.isfile(path):
        return _file(path, given)
    if not os.path.isdir(path):
        raise DataError(f"'{name_or_path}' is a device or a pipe; allowed is a file or a folder.")
    return _folder(path, given)


def _file(path: Path, given: Mapping[str, Any]) -> Recognised:
    if path.suffix == ".inter":
        return Recognised(ATOMIC_LOADER, {"path": path, **given})
    holds = _holds(path, given) or "interactions"
    # a file of items or people stands for interactions too, since that key is needed; only its own kind is read
    options = {"interactions": path, **given} if holds == "interactions" else {"interactions": path, holds: path, **given}
    return Recognised(TABLES_LOADER, options, holds)


def _folder(path: Path, given: Mapping[str, Any]) -> Recognised:
    names = {entry.name for entry in os.scandir(path)}
    loader = _of_known_files(names)
    if loader is not None:
        return Recognised(loader, {"path": path, **given})
    tables = sorted(name for name in names if _is_table(path / name))
    if not tables:
        raise DataError(
            f"the format of '{path}' is not recognised; allowed are folders of MovieLens, Amazon or RecBole files, a folder of parts of "
            f"one table, or one with a table of interactions and perhaps of items and of people ({', '.join(TABLES)}, also packed); other "
            f"data needs a [dataset] section with {TABLES_LOADER}."
        )
    if len(tables) == 1 and not os.path.isdir(path / tables[0]):
        return _file(path / tables[0], given)
    if len({re.sub(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27,}", "", name) for name in tables}) == 1 and not any(
        os.path.isdir(path / name) for name in tables
    ):
        return Recognised(TABLES_LOADER, {"interactions": path, **given}, _holds(path, given) or "interactions")
    return _several(path, tables, given)


def _of_known_files(names: set[str]) -> str | None:
    """The loader of a folder in a well-known format, by the names of its files."""
    kinds = (
        (bool(names & {"u.data", "ml-100k.inter"}), "environments.datasets.movielens:MovieLens100K"),
        (bool(names & {"ratings.dat", "ratings_reconstructed.csv.gz"}), "environments.datasets.movielens:MovieLens1M"),
        (names >= {"ratings.csv", "movies.csv"}, "environments.datasets.movielens:MovieLensLatest"),
        (is_amazon_folder(names), AMAZON_LOADER),
        (any(name.endswith(".inter") for name in names), ATOMIC_LOADER),
    )
    return next((loader for fits, loader in kinds if fits), None)


def _several(path: Path, tables: list[str], given: Mapping[str, Any]) -> Recognised:
    """A folder with tables of different kinds."""
    found: dict[Holds, list[str]] = {"interactions": [], "items": [], "users": []}
    for name in tables:
        try:
            kind_of = _holds(path / name, given)
        except DataError:
            continue  # not a table
        if kind_of is not None:
            found[kind_of].append(name)
    logs = found["interactions"]
    first = next((name for wanted in _FIRST_CHOICE for name in logs if name.lower().partition(".")[0] == wanted), None)
    log = logs[0] if len(logs) == 1 else first
    if log is None:
        count = f"{len(logs)} of them" if logs else "none of them"
        raise DataError(
            f"'{path}' holds {', '.join(tables[:8])}; {count} look like interactions (a column of users and one of items), allowed is one; "
            f"name the file, or write a [dataset] section with {TABLES_LOADER}."
        )
    options: dict[str, Any] = {"path": path, "interactions": log}
    for holds in ("items", "users"):
        if len(found[holds]) == 1:
            options[holds] = found[holds][0]
    return Recognised(TABLES_LOADER, {**options, **given})


def _is_table(path: Path) -> bool:
    try:
        return not path.name.startswith((".", "_")) and (path.suffix.lower() in (*TABLES, *COMPRESSED)) and kind(path) in TABLES
    except DataError:
        return False  # a zip of something else


def _holds(path: Path, given: Mapping[str, Any]) -> Holds | None:
    """What a table lists, by the names of its columns; None if they do not tell."""
    columns = Reader("skip").columns(path, _form(given))
    user = given.get("user") in columns or usual(columns, "user") is not None
    item = given.get("item") in columns or usual(columns, "item") is not None
    if user and not item and any(usual(columns, role) for role in ("age", "gender", "occupation")):
        return "users"
    if not user and (item or usual(columns, "item", ("id",))) and any(usual(columns, role) for role in ("title", "genres", "description")):
        return "items"
    return "interactions" if user and item else None


def _form(given: Mapping[str, Any]) -> TextFormat:
    """How the text of a table is written, as far as the settings say."""
    own = {key: given[key] for key in ("separator", "columns", "encoding", "quoted") if key in given}
    config = build(TABLES_LOADER, {"interactions": ".", **own}, where="dataset", methods=("load",)).config
    return TextFormat(config.separator, config.columns, config.encoding, config.quoted)

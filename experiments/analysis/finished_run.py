"""A finished run, opened for reading: its tables, and what the files beside them say about how it was made."""

from __future__ import annotations

import logging
import tomllib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from experiments.told import Told, read_told
from simulator.credentials import masked_settings, shown
from simulator.dataset import Domain
from simulator.files import reading
from simulator.run_directory import RunDirectory

_log = logging.getLogger("simulator.finished_run")


class FinishedRun:
    """Reads a run directory; each file is read once, when it is first asked for.

    Args:
        path: the run's folder.

    Raises:
        RunError: there is no run at `path`, or it is not complete. The tables raise it too, where a file is missing.
    """

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory.open(path, complete=True)
        self.path = path

    # --- how it was made ---

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, to be shown: secrets that an older version kept in it are masked.

        Settings that are not those the run was made with are told in a warning.
        """
        from experiments import config as configuration  # noqa: PLC0415 - slow, and not every reader needs the settings
        from experiments.stored_settings import changed_settings  # noqa: PLC0415
        from experiments.trust import UntrustedError  # noqa: PLC0415

        file = self.directory.config_path
        with reading(file, "restore it from a copy"):
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        configuration.check_shape(document, str(file))
        with suppress(UntrustedError):  # nothing that the run names is looked into
            for key, (then, now) in changed_settings(self.directory).items():
                told = f"{key} was {shown(key, then)} when the run was made, now it is {shown(key, now)}"
                _log.warning("%s: %s: what is told of the run may be wrong.", file, told)
        settings: dict[str, Any] = masked_settings(document)
        return settings

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, hashes, machine, seeds."""
        return self.directory.read_json("manifest")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Counts and speed."""
        return self.directory.read_json("summary")

    @cached_property
    def told(self) -> Told:
        """What is assumed of the people, and what could not be estimated as asked."""
        return read_told(self.path)

    @property
    def name(self) -> str:
        """Name of the experiment, else of the folder."""
        return str(self.config.get("name") or self.path.resolve().name)

    @property
    def data_name(self) -> str:
        """Name of the data set."""
        return str(self.manifest.get("data", {}).get("name", "the data"))

    @property
    def domain(self) -> Domain:
        """The words for the items; neutral words where the manifest has none (``data.domain``)."""
        words = self.manifest.get("data", {}).get("domain") or {}
        return Domain(**{key: str(words[key]) for key in ("item", "items", "choose", "chosen") if key in words})

    @property
    def seed(self) -> int:
        """The run's seed; names the random streams of the intervals, so that they come out the same each time."""
        return int(self.config.get("seed", 0))

    @cached_property
    def rating_scale(self) -> tuple[float, float] | None:
        """Lowest and highest rating of the data, None without ratings; read from the data where an older manifest does not say it."""
        if "rating_scale" not in self.manifest:
            from experiments.run_data import data_of_run  # noqa: PLC0415 - needed for older runs only

            return data_of_run(self.directory).train.rating_scale
        scale = self.manifest["rating_scale"]
        return None if scale is None else (float(scale[0]), float(scale[1]))

    # --- tables ---

    @cached_property
    def impressions(self) -> pl.DataFrame:
        """One row per shown item."""
        return self.directory.read_table("impressions")

    @cached_property
    def pages(self) -> pl.DataFrame:
        """One row per page turn."""
        return self.directory.read_table("pages")

    @cached_property
    def sessions(self) -> pl.DataFrame:
        """One row per session."""
        return self.directory.read_table("sessions")

    @cached_property
    def memories(self) -> pl.DataFrame:
        """One row per memory record."""
        return self.directory.read_table("memories")

    @cached_property
    def texts(self) -> pl.DataFrame:
        """One row per text written by the language model."""
        return self.directory.read_table("texts")

    @cached_property
    def people(self) -> pl.DataFrame:
        """One row per simulated person, with their traits."""
        return self.directory.read_table("people")

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row per item of the catalog, with its popularity in the training data."""
        return self.directory.read_table("items")

    @cached_property
    def real(self) -> pl.DataFrame:
        """Training interactions of those simulated people who are real."""
        return self.directory.read_table("real")

    @cached_property
    def chosen(self) -> pl.DataFrame:
        """The impressions that were chosen."""
        return self.impressions.filter(pl.col("chosen"))

    # --- what the data allows ---

    @property
    def has_ratings(self) -> bool:
        """Whether people could rate (the data has ratings)."""
        return "rating" in self.impressions.columns

    @property
    def has_times(self) -> bool:
        """Whether the real interactions have times, so that they fall into sessions."""
        return self.real.height > 0 and self.real["session"].null_count() < self.real.height

    @property
    def has_genres(self) -> bool:
        """Whether any item has a genre."""
        return bool((self.items["genres"].list.len() > 0).any())

"""One trained recommender per cell: fitted on the real interactions and what is added, tested on held-out ones, and kept.

::

    prepare (once a seed): what was shown and chosen, the people's fidelity, the lists of the evidence    -> seeds/7/*.parquet
    train and test (a cell): recommender x source x dose x seed -> NDCG of each person and stratum          -> cells/7/bpr/*.parquet

A file appears whole or not at all, and depends on nothing but the configuration, so an interrupted augmentation goes on where it was
and any number of processes leave the same files. **The held-out part is read by `Worker._test` and nowhere else.**
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from environments.datasets.splits import Split
from experiments import build
from experiments.augmentation import doses, strata, synthetic
from experiments.config import ExperimentConfig
from experiments.fidelity.storage import read_frame
from experiments.ranked_lists import histories_of, ranked_lists
from experiments.run_data import data_of
from experiments.sections import AugmentationSection
from simulator.files import read_table, write_table
from simulator.plugins import build as make
from simulator.protocols import Recommender
from simulator.seeds import Stream

REAL, DUPLICATED, ALONE = "real", "duplicated", "alone"
EVIDENCE, FIDELITY, SHOWN = "evidence", "fidelity", "shown"
AGAIN = "repeat the command, and it is made again"
EVIDENCE_ITEMS = 1_000
"""Items of the whole catalog that each person's evidence ranks."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A recommender to be trained and tested.

    Attributes:
        seed: of split, simulation and training. recommender: its name in the experiment.
        source: `REAL` (nothing is added), `DUPLICATED` (the size control), `ALONE` (synthetic only), or one of the section's sources.
        dose: added interactions as a share of the training interactions.
    """

    seed: int
    recommender: str
    source: str
    dose: float

    def file(self, folder: Path) -> Path:
        """Where its result is kept: columns user and the strata of items; ``added``, the number of added interactions, on each row."""
        return folder / "cells" / str(self.seed) / self.recommender / f"{self.source}-{self.dose:g}.parquet"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done once a seed before its cells: reading the log, fidelity, lists of the evidence."""

    seed: int


def cells_of(config: ExperimentConfig) -> list[Cell]:
    """All cells, seed by seed."""
    section = config.augmentation
    arms = [(REAL, 0.0), (ALONE, section.alone_dose)]
    arms += [(source, dose) for dose in section.doses for source in (DUPLICATED, *section.sources)]
    return [Cell(seed, name, source, dose) for seed in seeds_of(config) for name in section.recommenders for source, dose in arms]


def seeds_of(config: ExperimentConfig) -> range:
    """The experiment's seed and those after it."""
    return range(config.seed, config.seed + config.augmentation.seeds)


def of_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    """The experiment that is simulated for a seed; what is trained afterwards is no part of it."""
    return config.model_copy(update={"seed": seed, "augmentation": AugmentationSection()})


class Worker:
    """Does preparations and cells, one after another, with the data of one seed at a time.

    Args:
        config: the experiment. folder: of the augmentation. runs: seed -> folder of its complete run.
    """

    def __init__(self, config: ExperimentConfig, folder: Path, runs: dict[int, Path]) -> None:
        self._config, self._folder, self._runs = config, folder, runs
        self._seed: int | None = None
        self._parts: Split
        self._strata: strata.Strata
        self._tables: dict[str, pl.DataFrame] = {}

    def __call__(self, task: Cell | Preparation) -> Cell | Preparation:
        """Does it and returns it; its files are there afterwards."""
        self._read(task.seed)
        if isinstance(task, Preparation):
            self._prepare(task.seed)
        else:
            self._train_and_test(task)
        return task

    def close(self) -> None:
        """Nothing is held that must be freed."""

    def _read(self, seed: int) -> None:
        if self._seed != seed:
            self._parts = data_of(of_seed(self._config, seed), self._runs[seed])
            self._strata = strata.Strata.of(self._parts.train, self._config.augmentation)
            self._seed, self._tables = seed, {}

    def _prepare(self, seed: int) -> None:
        config, run, train = of_seed(self._config, seed), self._runs[seed], self._parts.train
        section, folder = self._config.augmentation, seed_folder(self._folder, seed)
        folder.mkdir(parents=True, exist_ok=True)
        # one row per tested person; who is cold is counted in the training part
        users = np.arange(train.n_users, dtype=np.int32)
        write_table(folder / "strata.parquet", pl.DataFrame({"user": users, "cold": self._strata.cold_users}))
        if FIDELITY in section.sources and not _whole(folder / f"{FIDELITY}.parquet"):
            write_table(folder / f"{FIDELITY}.parquet", synthetic.fidelity_of_people(config, run, train, folder))
        if EVIDENCE in section.sources and not _whole(folder / f"{EVIDENCE}.parquet"):
            lists = synthetic.evidence_lists(config, run, train, EVIDENCE_ITEMS)
            write_table(folder / f"{EVIDENCE}.parquet", lists if lists is not None else pl.DataFrame(schema={"user": pl.Int32}))
        if not _whole(folder / f"{SHOWN}.parquet"):
            write_table(folder / f"{SHOWN}.parquet", synthetic.shown(run, train))

    def _table(self, name: str) -> pl.DataFrame:
        if name not in self._tables:
            assert self._seed is not None
            self._tables[name] = read_table(seed_folder(self._folder, self._seed) / f"{name}.parquet", AGAIN)
        return self._tables[name]

    def training_rows(self, cell: Cell) -> tuple[pl.DataFrame, int]:
        """What the recommender of a cell is fitted on, and how many of these rows were added."""
        self._read(cell.seed)
        real = self._parts.train.interactions
        if cell.source == REAL:
            return real, 0
        total = round(cell.dose * real.height)
        # the seed of an order does not depend on the dose, so that a larger dose holds the smaller ones
        stream = Stream(cell.seed).child("augmentation", cell.source)
        if cell.source == DUPLICATED:
            users, counts = np.unique(real["user"].to_numpy(), return_counts=True)
            own = doses.quotas(np.full(len(counts), total), total, stream.child("quotas"))
            per_person = pl.DataFrame({"user": users, "count": own}, schema={"user": pl.Int32, "count": pl.Int64})
            drawn = self._table(SHOWN)["user"].max()
            assert isinstance(drawn, int)
            added = doses.shadows(real, per_person, max(self._parts.train.n_users, drawn + 1), stream.child("rows"))
            return pl.concat([real, added]), added.height
        if cell.source == EVIDENCE:
            ordered = self._table(EVIDENCE)
        else:
            source = "confidence" if cell.source == ALONE else cell.source
            ordered = doses.in_order(self._table(SHOWN), source, stream.child("order"))
            if cell.source == FIDELITY:
                good = self._table(FIDELITY).filter(pl.col("fidelity") >= self._config.augmentation.least_fidelity)
                ordered = ordered.join(good, on="user", how="semi", maintain_order="left")
        added = doses.as_interactions(doses.taken(ordered, total, stream.child("quotas")))
        if cell.source == ALONE:
            return added, added.height
        # diagonal: what is added has no review, where the data has them
        return pl.concat([real, added], how="diagonal"), added.height

    def _train_and_test(self, cell: Cell) -> None:
        rows, added = self.training_rows(cell)
        section = self._config.augmentation.recommenders[cell.recommender]
        where = f"augmentation.recommenders.{cell.recommender}"
        recommender: Recommender = make(section.use, section.options, where=where, methods=build.METHODS["recommender"])
        # the same stream for every source and dose: what differs is the data
        stream = Stream(cell.seed).child("augmentation", "recommender")
        recommender.fit(rows, self._parts.train.catalog, stream.child("fit"))
        found = self._test(recommender, stream.child("recommend")).with_columns(added=pl.lit(added, dtype=pl.Int64))
        close = getattr(recommender, "close", None)
        if callable(close):
            close()
        file = cell.file(self._folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_table(file, found)

    def _test(self, recommender: Recommender, stream: Stream) -> pl.DataFrame:
        """NDCG on the held-out part. People are served with their real training history; what was added is nobody's history."""
        train, k = self._parts.train.interactions, self._config.augmentation.k
        held_out = self._parts.test
        users = np.sort(held_out["user"].unique().to_numpy())
        histories = histories_of(train, users)
        ranked = ranked_lists(recommender, users, histories, k, stream)
        relevant = [np.setdiff1d(items, history) for items, history in zip(histories_of(held_out, users), histories, strict=True)]
        return strata.per_person(ranked, relevant, self._strata, k).insert_column(0, pl.Series("user", users, dtype=pl.Int32))


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the tables of a seed are."""
    return folder / "seeds" / str(seed)


def pending(config: ExperimentConfig, folder: Path) -> tuple[list[Preparation], list[Cell]]:
    """What is not there yet, or damaged."""
    needed = ["strata", SHOWN, *(name for name in (FIDELITY, EVIDENCE) if name in config.augmentation.sources)]
    preparations = [
        Preparation(seed) for seed in seeds_of(config) if not all(_whole(seed_folder(folder, seed) / f"{name}.parquet") for name in needed)
    ]
    return preparations, [cell for cell in cells_of(config) if not _whole(cell.file(folder))]


def _whole(file: Path) -> bool:
    """Whether a table is there; one that is damaged is dropped, with a warning."""
    return read_frame(file) is not None


def worker_factory(config: ExperimentConfig, folder: Path, runs: dict[int, Path]) -> partial[Worker]:
    """A picklable maker of workers."""
    return partial(Worker, config, folder, runs)


def missing_sources(config: ExperimentConfig, folder: Path) -> Sequence[str]:
    """Sources that this experiment cannot have: the evidence of people whose decision model cannot rank the catalog."""
    first = seed_folder(folder, config.seed) / f"{EVIDENCE}.parquet"
    return [EVIDENCE] if first.is_file() and "item" not in read_table(first, AGAIN).columns else []

"""The recommender of a round: what it learns from, what it goes on from, and where it is kept. The one place that fits it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from experiments import build
from experiments.config import ExperimentConfig
from simulator.dataset import Dataset
from simulator.one_thread import one_thread
from simulator.protocols import Recommender
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream


def fit_recommender(
    run: RunDirectory, config: ExperimentConfig, train: Dataset, round_number: int, simulated: pl.DataFrame, *, goes_on: bool = True
) -> None:
    """Fits the recommender of a round and saves it, unless it is there already and whole.

    Args:
        run: where recommenders are kept; with ``refit = "warm"`` that of the round before must be there.
        config: the experiment. train: the training part of its data.
        round_number: from 0. simulated: what people did in earlier rounds (`simulator.simulation.interactions_of`).
        goes_on: False begins anew in this round even with ``refit = "warm"``.

    Raises:
        RunError: it is damaged, and fitted again it is not what cohorts were simulated with.
    """
    before = run.recommender_folder(round_number - 1) if round_number > 0 and goes_on else None
    run.made_once(
        run.recommender_folder(round_number),
        lambda folder: fitted(config, train, round_number, simulated, before).save(folder),
        rest_on_it=run.has_shards(round_number),
    )


@one_thread()
def fitted(
    config: ExperimentConfig, train: Dataset, round_number: int, simulated: pl.DataFrame | None = None, before: Path | None = None
) -> Recommender:
    """A recommender fitted on the training part and what people did so far.

    Args:
        config, train, round_number, simulated: as in `fit_recommender`; None if nobody has done anything.
        before: folder of the recommender that it goes on from with ``refit = "warm"``, or None to begin anew.
    """
    recommender = build.recommender(config)
    if config.recommender.refit == "warm" and before is not None:
        build.restore(recommender, before)
    log = train.interactions
    if simulated is not None and simulated.height:
        log = pl.concat([log, simulated], how="diagonal")  # what people do here has no review, where the data has them
    recommender.fit(log, train.catalog, Stream(config.seed).child("recommender", round_number))
    return recommender


def loaded(config: ExperimentConfig, folder: Path) -> Recommender:
    """A fitted recommender from its folder.

    Raises:
        RunError: it is missing or damaged.
    """
    recommender = build.recommender(config)
    build.restore(recommender, folder)
    return recommender

"""The data of a run, read again: the one way to it, which checks that it is still the data that the run was made with."""

from __future__ import annotations

from pathlib import Path

from environments.datasets.splits import Split
from experiments import build
from experiments.config import ExperimentConfig
from experiments.manifest import check_data
from experiments.stored_settings import config_of
from simulator.run_directory import RunDirectory


def data_of(config: ExperimentConfig, run: RunDirectory | Path | None) -> Split:
    """The data of an experiment, split; of a run's if one is given.

    Args:
        config: the experiment; of the run, with other parts in it than its data at most.
        run: the run that something is said about, or None if there is none.

    Raises:
        DataError: a file is missing or damaged.
        RunError: it is not the data that the run was made with, be it what was held out.
    """
    parts = build.data(config)
    if run is not None:
        check_data(run if isinstance(run, RunDirectory) else RunDirectory(run), parts)
    return parts


def data_of_run(run: RunDirectory | Path) -> Split:
    """The data of a run, split.

    Raises:
        DataError, RunError: as `data_of`.
    """
    directory = run if isinstance(run, RunDirectory) else RunDirectory(run)
    return data_of(config_of(directory), directory)

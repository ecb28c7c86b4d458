"""Several experiments that are read side by side, each an ordinary run under one folder: ``arms/<name>/``.

Arms that are complete are found again and one that was interrupted is continued, so the same call after a crash ends with the same
bytes. What does not depend on the recommender, the fitted decision model and the tastes, is made once and copied
(`experiments.same_settings.take_over`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import manifest
from experiments import run as runs
from experiments.config import ExperimentConfig
from experiments.run_data import data_of
from experiments.same_settings import difference, made_by_others, settings
from experiments.stored_settings import config_of
from experiments.trust import own
from simulator.errors import ConfigError, RunError
from simulator.run_directory import RunDirectory
from simulator.simulation import CohortResult

ARMS = "arms"
"""Folder of the runs."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")
"""What an arm may be called: its name is the name of a folder."""


def run_arms(folder: Path, arms: Mapping[str, ExperimentConfig], workers: int, report: runs.Report) -> dict[str, Path]:
    """Runs every arm that is not complete yet, in order.

    Args:
        folder: where; arms of an earlier call with the same experiments are used again.
        arms: name -> experiment, checked. Names become folders, so they are short and plain (see `NAME`).
        workers: processes that simulate, >= 1; changes nothing but the speed.
        report: told of the progress, the arm's name before what is going on.

    Returns:
        Name -> folder of its complete run, in the order of `arms`.

    Raises:
        ConfigError: an arm's name cannot be a folder.
        RunError: an arm was run with other settings before.
        UsersimError: as `experiments.run.start`.
    """
    for name in arms:
        if not NAME.fullmatch(name):
            raise ConfigError(f"an arm cannot be called '{name}': letters, digits and _.+@- after a letter or digit.")
    folders = {name: folder / ARMS / name for name in arms}
    for name, config in arms.items():
        check_run(folders[name], config)
    _check_alike(arms, folders)
    for number, (name, config) in enumerate(arms.items(), start=1):

        def tell(
            what: str, done: int, total: int, result: CohortResult | None, prefix: str = f"{name} ({number} of {len(arms)}): "
        ) -> None:
            report(prefix + what, done, total, result)

        run_once(config, folders[name], workers, tell, [other for other in folders.values() if other != folders[name]])
    return folders


def _check_alike(arms: Mapping[str, ExperimentConfig], folders: Mapping[str, Path]) -> None:
    """Checks, before anything is run beside arms that are complete, that these were made as it would be.

    Raises:
        RunError: an arm that is there was made by other code, packages or another kind of machine, or of other data.
    """
    there = {name: RunDirectory(folder) for name, folder in folders.items() if RunDirectory(folder).is_complete}
    if not there or len(there) == len(arms):
        return
    for name, run in there.items():
        stored, now = run.read_json("manifest"), manifest.made_by(arms[name])
        if other := made_by_others(stored, now):
            raise RunError(
                f"{run.path} was made by other code or on another machine ({other}), and other arms are still to be run, which would be "
                f"compared with it; choose another folder (--output), or remove {run.path}."
            )
    first = next(iter(there))
    data_of(arms[first], there[first])


def run_once(config: ExperimentConfig, folder: Path, workers: int, report: runs.Report, prepared: Sequence[Path] = ()) -> Path:
    """One run in a known folder: made, continued, or found complete.

    Args:
        config: checked. folder: of the run. workers, report, prepared: as in `experiments.run.start`.

    Raises:
        RunError: the folder holds a run with other settings.
        UsersimError: as `experiments.run.start`.
    """
    check_run(folder, config)
    run = RunDirectory(folder)
    if run.config_path.is_file():
        if not run.is_complete:
            with own(config):
                runs.resume(folder, workers, report, prepared=prepared)
        return folder
    runs.start(config, folder, workers, report, prepared)
    return folder


def check_run(folder: Path, config: ExperimentConfig) -> None:
    """Checks that a run in this folder, if there is one, has the settings of `config` (but for how a server is reached).

    Raises:
        RunError: it has not.
    """
    file = RunDirectory(folder).config_path
    if not file.is_file():
        return
    with own(config):
        before = config_of(RunDirectory(folder))
    for key, (then, now) in difference(settings(before), settings(config)).items():
        raise RunError(
            f"{folder} was run with {key} = {then!r}, and now {now!r} is wanted; choose another folder (--output), or remove {folder}."
        )

"""The policy that is evaluated: the [recommender] section of an experiment file, fitted on what a run's own recommender saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from experiments import build
from experiments import config as configuration
from experiments.analysis.finished_run import FinishedRun
from experiments.config import ExperimentConfig
from experiments.ingredients import ingredients
from experiments.logged_pages import LoggedPages, fitted_rounds
from experiments.round_recommender import fit_recommender, loaded
from experiments.stored_settings import config_of
from simulator.errors import ConfigError, RunError
from simulator.files import read_document, remove, write_document
from simulator.plugins import portable
from simulator.protocols import Recommender
from simulator.run_directory import RunDirectory
from simulator.simulation import interactions_of
from simulator.tables import IMPRESSIONS

OFFLINE = "offline"
"""Folder of a run that holds what was said about other policies."""

MADE = "made_from.json"
"""File beside kept recommenders that says what they were made from."""

PAGE_KEYS = ("page_size", "max_pages", "repeat")
"""What a page is; a policy takes these from the run."""


def read_target(file: Path, overrides: Sequence[str], logged: ExperimentConfig) -> ExperimentConfig:
    """The experiment of a run with another policy's [recommender].

    Args:
        file: an experiment file with a section [recommender], or the name of one that comes with usersim.
        overrides: settings of the form ``section.key=value`` for this file.
        logged: the configuration of the run.

    Raises:
        ConfigError: the file is wrong, has no [recommender], or is about other data or other pages than the run.
    """
    found = configuration.find(file)
    document = configuration.document(found, overrides)
    if "recommender" not in document:
        raise ConfigError(f"{found} has no section [recommender], so it names no policy.")
    policy = configuration.check({"name": "policy", **document}, str(found))
    _same_data(found, document.get("dataset", {}), logged)
    feed = logged.recommender.feed_config()
    given: dict[str, Any] = document["recommender"]
    for key in PAGE_KEYS:
        if key in given and given[key] != getattr(feed, key):
            raise ConfigError(
                f"{found}: [recommender] {key} = {given[key]!r}, but the run's pages were made with {getattr(feed, key)!r}; a log "
                f"tells about pages like its own only. Leave {key} out, or make a run with it."
            )
    section = policy.recommender.model_dump() | {key: getattr(feed, key) for key in PAGE_KEYS}
    target = logged.model_copy(update={"recommender": type(policy.recommender).model_validate(section)})
    build.resolved(target)
    return target


def recommenders_of_run(log: LoggedPages) -> dict[int, Recommender] | None:
    """The recommenders that filled the logged pages, by fitted round; None if the run no longer has them."""
    folders = {int(number): log.run.directory.recommender_folder(int(number)) for number in set(log.fitted_rounds.tolist())}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    return {number: loaded(log.config, folder) for number, folder in folders.items()}


def on_target(log: LoggedPages, target: ExperimentConfig) -> LoggedPages:
    """The same pages, filled by the recommender of the round that the target policy would have been fitted in."""
    return replace(log, config=target, fitted_rounds=fitted_rounds(log.rounds, target))


def fitted_target(log: LoggedPages, target: ExperimentConfig) -> dict[int, Recommender]:
    """The target's recommenders by fitted round, fitted on the training part and what the log's people did in earlier rounds.

    They are kept in the run's folder with what they were made from, and fitted anew where that is no longer so; those of the run itself
    are taken where only the exposure differs.

    Args:
        log: the pages, see `on_target`.
        target: the experiment with the target's recommender.
    """
    own = config_of(log.run.directory)
    if _same_recommender(own, target) and (found := recommenders_of_run(log)) is not None:
        return found
    numbers = sorted(set(log.fitted_rounds.tolist()))
    kept = RunDirectory(policy_folder(log.run, target))
    _forget_others(kept, log, target)
    # What goes on from round to round is fitted in every round, also in those in which nobody came.
    for number in range(numbers[-1] + 1) if target.recommender.refit == "warm" else numbers:
        fit_recommender(kept, target, log.train, number, _interactions_before(log, number))
    return {number: loaded(target, kept.recommender_folder(number)) for number in numbers}


def _forget_others(kept: RunDirectory, log: LoggedPages, target: ExperimentConfig) -> None:
    """Removes recommenders that other code, data, files, libraries or another log made than those that would make them now."""
    now = {
        **ingredients(target, log.train, "experiments.target_policy", "experiments.round_recommender"),
        "log": log.run.summary.get("sha256"),
    }
    file = kept.path / MADE
    try:
        before = read_document(file, "it is made again")[0] if file.is_file() else None
    except RunError:
        before = None
    if before != now:
        remove(kept.path / "recommenders")
        kept.path.mkdir(parents=True, exist_ok=True)
        write_document(file, now)


def policy_folder(run: FinishedRun, target: ExperimentConfig) -> Path:
    """Where what is said about a policy on a run is kept."""
    return run.path / OFFLINE / policy_name(target, config_of(run.directory))


def policy_name(target: ExperimentConfig, logged: ExperimentConfig) -> str:
    """The policy's id, and how it learns from the rounds where that is not as in the run: it is another policy then."""
    name, refit = build.policy_id(target), target.recommender.refit
    return name if refit == logged.recommender.refit else f"{name}-{refit}"


def _same_recommender(one: ExperimentConfig, other: ExperimentConfig) -> bool:
    first, second = one.recommender, other.recommender
    feed = build.resolved(one)["recommender"].keys() & set(type(first.feed_config()).model_fields)
    options = [{key: value for key, value in build.resolved(each)["recommender"].items() if key not in feed} for each in (one, other)]
    return first.refit == second.refit and options[0] == options[1]


def _interactions_before(log: LoggedPages, number: int) -> pl.DataFrame:
    """What people did in earlier rounds of the log, in the order in which the run's own recommender learned it."""
    frame = log.impressions.with_columns(
        user_code=pl.Series([log.requests[page].user for page in log.page], dtype=pl.Int32),
        item_code=pl.Series(log.items).cast(pl.Int32),
    )
    return interactions_of(frame.sort(IMPRESSIONS.key).filter(pl.col("round") < number))


def _same_data(file: Path, given: dict[str, Any], logged: ExperimentConfig) -> None:
    own = {"use": logged.dataset.use, **logged.dataset.options}
    for key in ("use", "path"):
        if key in given and key in own and _same(given[key]) != _same(own[key]):
            raise ConfigError(
                f"{file}: [dataset] {key} = {given[key]!r}, but the run is about {own[key]!r}: a policy over other items cannot be "
                "evaluated on it. Leave [dataset] out; the policy is fitted on the run's own training part."
            )


def _same(value: Any) -> str:
    text = str(value)
    return portable(text) if ":" in text else str(Path(text).expanduser().resolve())

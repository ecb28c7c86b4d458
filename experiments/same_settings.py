"""When two experiments are the same, or the same up to the recommender; and what a run may then take over from another."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import build
from experiments import config as configuration
from experiments.config import ExperimentConfig
from experiments.stored_settings import CHANGEABLE, config_of, flat
from experiments.trust import own
from simulator.errors import UsersimError
from simulator.files import SUMS, write_atomically
from simulator.run_directory import PLACE, RunDirectory

NOT_PREPARED_FROM = ("name", "rounds", "round_days", "cohort_size", "tuning", "augmentation", "recommender", "anchor", "interventions")
"""Keys and sections that what is done before the first round does not depend on, but for the shape of pages in [recommender]."""


def settings(config: ExperimentConfig) -> dict[str, Any]:
    """Every setting with its default filled in, as ``section.key`` -> value, without those of `CHANGEABLE`."""
    document = tomllib.loads(configuration.dump(config, build.resolved(config)).decode())
    return {key: value for key, value in flat(document) if key not in CHANGEABLE}


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings (see `settings`) that differ -> both values, None where a setting is missing."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def take_over(run: RunDirectory, config: ExperimentConfig, prepared: Sequence[Path]) -> Path | None:
    """Copies the fitted decision model and the tastes from the first of other runs in which they would come out the same.

    They are made from the training part, its profiles, the people, the seed and a `simulator.protocols.DecisionContext`, and not from
    the recommender. So code, data, model and machine of the two manifests must be equal, and all settings that they are made from.

    Args:
        run: with its manifest; nothing is done if it has a decision model. config: its experiment.
        prepared: folders of other runs.

    Returns:
        Where they were taken from, or None.
    """
    if (run.path / "decisions").is_dir():
        return None
    source = next((other for other in prepared if prepared_alike(run, config, RunDirectory(other))), None)
    if source is None:
        return None
    if (source / "tastes.json").is_file() and not (run.path / "tastes.json").is_file():
        write_atomically(run.path / "tastes.json", (source / "tastes.json").read_bytes())
    with run.new_folder("decisions") as folder:
        shutil.copytree(source / "decisions", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PLACE, SUMS))
    return source


def made_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two manifests are of runs by the same code (but for the recommender's) and packages, on the same kind of processor, of the
    same data and files and with the same model."""
    names = ("usersim", "packages", "files", "data", "model")
    codes = [{**(manifest.get("code") or {}), "recommender": "", "anchor": ""} for manifest in (one, other)]
    machines = [manifest.get("machine") or {} for manifest in (one, other)]
    return (
        all(one.get(name) == other.get(name) for name in names)
        and codes[0] == codes[1]
        and all(machines[0].get(name) == machines[1].get(name) for name in ("processor", "blas"))
    )


def made_by_others(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first entry of two manifests that says that they are of runs by other code or packages, with other files, or on another kind of
    machine."""
    names = [("usersim",), ("code",), ("files",), ("packages",), ("machine", "processor"), ("machine", "blas")]
    for path in names:
        values: list[Any] = [one, other]
        for key in path:
            values = [(value or {}).get(key) for value in values]
        if values[0] is not None and values[0] != values[1]:
            return ".".join(path)
    return None


def prepared_alike(run: RunDirectory, config: ExperimentConfig, other: RunDirectory) -> bool:
    """Whether another run has a whole fitted decision model that would come out the same for a run with its manifest."""
    if not (other.config_path.is_file() and (other.path / "manifest.json").is_file()) or not (other.path / "decisions").is_dir():
        return False
    mine = run.read_json("manifest")
    try:
        if other.problem_of(other.path / "decisions"):
            return False
        with own(config):
            theirs, prepared_from = other.read_json("manifest"), _prepared_from(config_of(other))
    except UsersimError:  # damaged or edited; or it is not trusted, so that what it names is not looked into
        return False
    return made_alike(mine, theirs) and _prepared_from(config) == prepared_from


def _prepared_from(config: ExperimentConfig) -> dict[str, Any]:
    feed = config.recommender.feed_config()
    made = {key: value for key, value in settings(config).items() if key.partition(".")[0] not in NOT_PREPARED_FROM}
    return {**made, "page_size": feed.page_size, "max_pages": feed.max_pages}

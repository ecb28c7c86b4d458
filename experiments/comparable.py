"""Whether arms can be compared: the same people, data, seed, rounds and items; and what else than the recommender they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import build
from experiments.analysis.finished_run import FinishedRun
from experiments.anchoring import anchor_of, can_be_anchored
from experiments.config import ExperimentConfig
from experiments.same_settings import difference, settings
from experiments.stored_settings import config_of
from simulator.errors import ConfigError, RunError
from simulator.plugins import portable

NEEDED: Mapping[str, str] = {
    "seed": "draw with other seeds, so that nothing pairs their people's luck",
    "dataset": "are about other data",
    "population": "have other people",
    "rounds": "have another number of rounds",
    "round_days": "have rounds of another length",
}
"""Section or key in which arms must agree -> what is wrong if they do not."""

NO_MATTER = ("name", "tuning", "recommender")
ANCHOR = "pages on which decision.choose_rate is met"
PAGES = ("recommender.page_size", "recommender.max_pages", "recommender.repeat")


def check_experiments(arms: Mapping[str, ExperimentConfig]) -> list[str]:
    """Checks that experiments can be compared before any of them runs.

    Args:
        arms: name -> experiment; the first is what the others are held against.

    Returns:
        Warnings: what else than the recommender the arms differ in.

    Raises:
        ConfigError: two arms would not have the same people, data, seed or rounds.
    """
    first, *others = ((name, _comparable(config)) for name, config in arms.items())
    warnings = []
    for name, own in others:
        different = difference(first[1], own)
        for key, (here, there) in different.items():
            wrong = NEEDED.get(key.partition(".")[0])
            if wrong is not None:
                raise ConfigError(
                    f"the arms {first[0]} and {name} {wrong}: {key} = {_told(here)} and {_told(there)}; a comparison needs the same in "
                    "all arms, give it to each file, or to all with --set."
                )
        warnings += _warnings(first[0], name, different)
    return warnings


def check_runs(runs: Mapping[str, FinishedRun]) -> list[str]:
    """Checks that finished runs can be compared.

    Args:
        runs: name -> run; the first is what the others are held against.

    Returns:
        Warnings: what else than the recommender the runs differ in.

    Raises:
        RunError: two runs have other items, people, data, seeds or rounds.
    """
    (name, first), *others = runs.items()
    mine = _comparable(config_of(first.directory))
    warnings = []
    for other, run in others:
        here, there = f"{name} ({first.path})", f"{other} ({run.path})"
        _same_set(here, there, "items", first.items["item"].to_list(), run.items["item"].to_list(), "compare runs on the same data")
        _same_set(
            here,
            there,
            "people",
            first.people["user"].to_list(),
            run.people["user"].to_list(),
            "simulate one of them again with the other's [population], [dataset] and seed",
        )
        data = [(each.manifest.get("data") or {}).get("fingerprint") for each in (first, run)]
        if data[0] != data[1]:
            raise RunError(
                f"the runs {here} and {there} learned from other training interactions of the same people and items (fingerprints "
                f"{str(data[0])[:12]} and {str(data[1])[:12]}): give both the same [dataset] with the same split and seed."
            )
        different = difference(mine, _comparable(config_of(run.directory)))
        for key in ("seed", "rounds", "round_days"):
            if key in different:
                raise RunError(
                    f"the runs {here} and {there} {NEEDED[key]}: {key} = {different[key][0]} and {different[key][1]}; simulate one of them "
                    f"again with the other's {key}."
                )
        versions = [(each.manifest.get("usersim"), (each.manifest.get("code") or {}).get("run")) for each in (first, run)]
        if versions[0] != versions[1]:
            warnings.append(f"{name} and {other} were made by other versions of usersim.")
        if first.manifest.get("model") != run.manifest.get("model"):
            warnings.append(
                f"{name} and {other} have other language models (see model in manifest.json), so neither are their people the same."
            )
        told = ("population.sessions", "population.taste")
        matters = {
            key: values for key, values in different.items() if key.partition(".")[0] not in ("dataset", "population") or key in told
        }
        warnings += _warnings(name, other, matters)
    return warnings


def _warnings(one: str, other: str, different: Mapping[str, Sequence[Any]]) -> list[str]:
    recommenders_differ = any(key.startswith("recommender.") for key in different)
    found = [] if recommenders_differ else [f"{one} and {other} have the same recommender."]
    extra = [key for key in different if key.partition(".")[0] not in NO_MATTER or key in PAGES]
    if extra:
        told = "; ".join(f"{key} = {_told(different[key][0])} and {_told(different[key][1])}" for key in extra[:4])
        more = f" and {len(extra) - 4} more" if len(extra) > 4 else ""
        found.append(f"{one} and {other} differ not only in the recommender, so neither does what is found: {told}{more}.")
    return found


def _comparable(config: ExperimentConfig) -> dict[str, Any]:
    found = settings(config)
    if "dataset.path" in found:
        found["dataset.path"] = str(Path(str(found["dataset.path"])).expanduser().resolve())
    found = {key: value for key, value in found.items() if key not in ("name", "cohort_size") and not key.startswith("anchor.")}
    if can_be_anchored(config) and not config.decision.options.get("exposures"):
        found[ANCHOR] = build.policy_id(anchor_of(config))
    return {key: portable(value) if key.endswith(".use") else value for key, value in found.items()}


def _same_set(here: str, there: str, what: str, mine: Sequence[str], theirs: Sequence[str], remedy: str) -> None:
    if set(mine) != set(theirs):
        both = len(set(mine) & set(theirs))
        raise RunError(
            f"the runs {here} and {there} have other {what}: {len(mine):,} and {len(theirs):,}, of which {both:,} are in both; {remedy}."
        )


def _told(value: Any) -> str:
    return "nothing" if value is None else repr(value)

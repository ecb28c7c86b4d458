"""The report of one simulation: all parts, one after another, each kept as soon as it is done."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments.datasets.splits import future_known
from experiments.analysis.figure_style import measurement
from experiments.config import ExperimentConfig
from experiments.fidelity import choices, distributions, given, ratings, realism, slots
from experiments.fidelity.context import FidelityContext, Report, make_context
from experiments.fidelity.headline import headline, summary
from experiments.fidelity.models import COMPARED, WITHOUT
from experiments.fidelity.scores import settings
from experiments.fidelity.storage import read_part, write_part
from simulator.errors import ConfigError, UsersimError, with_suggestion
from simulator.files import read_json, write_atomically
from simulator.llm import adapters
from simulator.run_directory import RunDirectory

PARTS = ("choose", "ratings", "satisfaction", "distributions", "given", "realism", "probes", "notes", "ranking", "traits", "one_moment")
"""Everything that can be measured, in order."""

OF_A_LOG = ("distributions", "given", "realism")
"""Parts that compare the log of a run."""

ELSEWHERE = ("satisfaction", "probes", "notes", "ranking", "traits", "one_moment")
"""Parts that are modules beside this one, imported when they are asked for."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured, on how many people, how precisely.

    Attributes:
        people: held-out people at most, >= 1. parts: of `PARTS`. bootstrap: resamples of people. seed: of the report, or None for the
            experiment's.
    """

    people: int = 300
    parts: Sequence[str] = PARTS
    bootstrap: int = 1_000
    seed: int | None = None


def parts_named(text: str | None) -> tuple[str, ...]:
    """The parts of a comma-separated list, in the order of `PARTS`; None is all.

    Raises:
        ConfigError: there is no such part.
    """
    if text is None:
        return PARTS
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise ConfigError(f"--parts {text}: {with_suggestion('part', name, PARTS)}")
    if not names:
        raise ConfigError(f"--parts is empty; name some of {', '.join(PARTS)}, or leave it out for all.")
    return tuple(name for name in PARTS if name in names)


def measure(config: ExperimentConfig, folder: Path, run: Path | None, options: Options, report: Report) -> dict[str, Any]:
    """Measures all parts and writes ``fidelity.json``.

    Args:
        config: the experiment. folder: of the report; what was finished there with the same settings is used again.
        run: a complete run of the experiment, or None; then what needs a log is not measured.
        options: what and how. report: told of the progress.

    Returns:
        The document that was written.

    Raises:
        UsersimError: the data or the experiment cannot be used at all. What only one part lacks is noted in the document.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = make_context(config, folder, run=run, people=options.people, bootstrap=options.bootstrap, seed=options.seed, report=report)
    try:
        parts = {name: _part(context, name) for name in options.parts}
        names, main = context.models.names, context.models.main
        tuned = _tuning(config)
    finally:
        context.models.close()
    missing = {name: found["not_measured"] for name, found in parts.items() if found.get("not_measured")}
    measured: Mapping[str, Mapping[str, Any]] = {
        name: found for name, found in parts.items() if not isinstance(found.get("not_measured"), str)
    }
    document: dict[str, Any] = {
        "experiment": config.name,
        "data": context.train.name,
        "split": config.dataset.split_config().model_dump(mode="json"),
        "model": main,
        "run": None if run is None else run.name,
        "people": len(context.people),
        "seed": context.stream.seed,
        "bootstrap": options.bootstrap,
        "headline": headline({**measured, "tuning": tuned}, main, names),
        "warnings": [
            *_silent(context),
            *choices.worse_than_chance(measured.get("choose", {})),
            *measured.get("choose", {}).get("beside", {}).get("warnings", []),
        ],
        "not_measured": missing,
        "parts": parts,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "fidelity.json", (text + "\n").encode())
    again: dict[str, Any] = json.loads(text)
    return again


def _silent(context: FidelityContext) -> list[str]:
    """What the data cannot say, which leaves a part of the report without figures, and what the training part should not know."""
    found, config = [], context.config
    if not context.train.has_ratings:
        found.append(f"data set '{context.train.name}' has no ratings on all rows: nothing is measured of ratings")
    known = future_known(context.split, config.dataset.split)
    if known is not None:
        found.append(known.removesuffix("."))
    if not context.train.has_times:
        found.append(f"data set '{context.train.name}' has no times on all rows: nothing is measured of sessions, gaps and what comes next")
    return found


def add_to_benchmark(document: Mapping[str, Any], file: Path) -> None:
    """Puts the figures into a list with one object per data set and split.

    What is not measured this time stays as it was, so that parts of a report can be measured one by one, and with other models;
    ``measured_with`` says of each figure with which decision model, on how many people and with which seed, and of a time on what;
    ``measurements`` holds a hash of each part, which stands in the pictures that were drawn from it too (`figure_style.measurement`).

    Raises:
        ConfigError: the file holds something else.
    """
    entry = summary(document)
    of = {"model": entry["model"], "people": entry["people"], "seed": entry["seed"]}
    known_parts = {name: found for name, found in document["parts"].items() if not isinstance(found.get("not_measured"), str)}
    entry["measurements"] = {name: measurement(found) for name, found in known_parts.items()}
    told = {key: line for key, line in document["headline"].items() if line["value"] is not None}
    entry["measured_with"] = {key: {**of, "device": line["device"]} if line.get("device") else of for key, line in told.items()}
    known = read_json(file, "move it away", ConfigError, kind=list) if file.exists() else []
    if not all(isinstance(other, dict) for other in known):
        raise ConfigError(f"{file} does not hold a list of results; move it away.")
    is_same = [(other.get("data"), other.get("split")) == (entry["data"], entry["split"]) for other in known]
    for other, same in zip(known, is_same, strict=True):
        if same:
            _complete(entry, other, document["parts"])
    place = is_same.index(True) if any(is_same) else len(known)
    kept = [other for other, same in zip(known, is_same, strict=True) if not same]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps([*kept[:place], entry, *kept[place:]], indent=1, ensure_ascii=False) + "\n").encode())


def _complete(entry: dict[str, Any], older: Mapping[str, Any], measured: Collection[str]) -> None:
    """Takes over from an older entry what the new one has not measured; `measured` names the parts that were asked for now."""
    for part, hashed in older.get("measurements", {}).items():
        entry["measurements"].setdefault(part, hashed)
    for part, reason in older.get("not_measured", {}).items():
        if part not in measured:
            entry["not_measured"].setdefault(part, reason)
    for key in older.get("measured_with", {}):
        if key in entry["measured_with"]:
            continue
        entry[key] = older[key]
        if key == "llm_lift":
            entry["llm_lift_low"] = older.get("llm_lift_low")
        for table in ("measured_with", "intervals", "controls", "floors", "targets"):
            if key in older.get(table, {}):
                entry[table][key] = older[table][key]


def _part(context: FidelityContext, name: str) -> dict[str, Any]:
    """One part, from the folder if it was finished before; a part that cannot be measured says why and is tried again next time."""
    about = {**settings(context), "bootstrap": context.bootstrap, "run": _log_of(context)}
    stored = read_part(context.parts, name, about)
    if stored is not None:
        context.report(f"{name} (kept)", 1, 1)
        return stored
    started = time.perf_counter()
    context.report(name, 0, 0)
    try:
        result = measured_part(context, name)
    except UsersimError as error:
        return {"not_measured": str(error)}
    result = {**result, "seconds": round(time.perf_counter() - started, 1)}
    if _may_change(result):
        again: dict[str, Any] = json.loads(json.dumps(result, allow_nan=False))
        return again
    return write_part(context.parts, name, about, result)


def _may_change(result: Mapping[str, Any]) -> bool:
    """Whether a decision model failed, so that the part is tried again next time: a server may be back, a package installed."""
    reasons = result.get("not_measured", {})
    return any(reasons.get(name, WITHOUT) != WITHOUT for name in (*COMPARED, "experiment"))


def measured_part(context: FidelityContext, name: str) -> dict[str, Any]:
    """One part of `PARTS`, measured now."""
    if name == "choose":
        return {**choices.measure(context), "slots": slots.measure(context)}
    if name in ELSEWHERE:
        found: dict[str, Any] = importlib.import_module(f"experiments.fidelity.{name}").measure(context)
        return found
    module = {"ratings": ratings, "distributions": distributions, "given": given, "realism": realism}[name]
    result: dict[str, Any] = module.measure(context)
    return result


def _tuning(config: ExperimentConfig) -> dict[str, Any]:
    """How long the language model's adapter was tuned on its data, from its card, and what it began with; empty without one."""
    name = config.language_model.options.get("adapter") if config.language_model else None
    cards = adapters.descent(adapters.card(adapters.find(str(name)))) if name else []
    if not cards or "seconds" not in cards[0].get("tuning", {}):
        return {}
    seconds: dict[str, float] = {}
    for card in cards:
        data = str(card.get("data", {}).get("name", "unknown data"))
        seconds[data] = seconds.get(data, 0.0) + card["tuning"]["seconds"]
    own, *others = seconds
    began = "".join(f", after {seconds[other] / 60:.0f} minutes on {other}" for other in others)
    return {"minutes": {"value": seconds[own] / 60, "device": cards[0]["tuning"].get("device", "") + began}}


def _log_of(context: FidelityContext) -> Any:
    """What tells one log from another: the hashes of the run's tables."""
    if context.run is None:
        return None
    return RunDirectory(context.run).read_json("summary").get("sha256")

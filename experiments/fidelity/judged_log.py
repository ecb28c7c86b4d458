"""The report of a log of somebody else's simulated users: every part that needs no decision model, and what cannot be judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from experiments.config import ExperimentConfig
from experiments.fidelity import report, shown
from experiments.fidelity.context import FidelityContext, Report, make_context
from experiments.fidelity.foreign import OF_A_HISTORY, ForeignLog, Matching, read_foreign
from experiments.fidelity.headline import headline
from simulator.errors import UsersimError
from simulator.files import write_atomically
from simulator.seeds import Stream

FILE: Final[str] = "fidelity.json"
NEED_PAGES: Final[tuple[str, ...]] = ("given",)
NO_MODEL: Final[str] = "asks a decision model, and there is only its log"
MODEL: Final[str] = "log"

UNMATCHED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "distributions": (("distributions", "novelty"), ("distributions", "repeat_share")),
    "realism": (("between_person_variance", "novelty"), ("classifier",), ("positivity", "good_share_shift")),
}
"""What depends on what a user did before: of each part."""


def judge(
    log: Path,
    config: ExperimentConfig,
    *,
    columns: Mapping[str, Any] | None = None,
    users: Path | Matching = "id",
    days: float | None = None,
    skip: bool = False,
    folder: Path | None = None,
    people: int = 300,
    bootstrap: int = 1_000,
    seed: int | None = None,
    tell: Report | None = None,
) -> dict[str, Any]:
    """Judges a log of simulated users against held-out real ones.

    Args:
        log, columns, users, days, skip: as in `experiments.fidelity.foreign.read_foreign`. config: of the data and its split.
        folder: the report is written to, as ``fidelity.json``; None writes nothing.
        people, bootstrap, seed: as in `experiments.fidelity.report.Options`. tell: of the progress.

    Returns:
        A document as of `experiments.fidelity.report.measure`, with `log` in place of a run: how its users were found, what was left out.

    Raises:
        UsersimError: the log or the data cannot be used at all.
    """
    where = folder or Path()
    context = make_context(config, where, run=None, people=people, bootstrap=bootstrap, seed=seed, **({"report": tell} if tell else {}))
    read = read_foreign(
        log, context.split, columns=columns or {}, users=users, days=days, skip=skip, stream=Stream(config.seed).child("foreign log")
    )
    context = replace(context, config=read.settings(config), split=read.as_far_as_told(context.split), log=read)
    parts = {name: _part(context, read, name) for name in (*report.OF_A_LOG, "shown")}
    missing: dict[str, Any] = {name: NO_MODEL for name in report.PARTS if name not in parts}
    missing |= {name: found["not_measured"] for name, found in parts.items() if found.get("not_measured")}
    measured: dict[str, Mapping[str, Any]] = {name: one for name, one in parts.items() if not isinstance(one.get("not_measured"), str)}
    document = {
        "experiment": config.name,
        "data": context.train.name,
        "split": config.dataset.split_config().model_dump(mode="json"),
        "model": MODEL,
        "log": _about(read),
        "people": read.people.height,
        "seed": context.stream.seed,
        "bootstrap": bootstrap,
        "headline": headline(measured, MODEL, ()),
        "warnings": _warnings(read),
        "not_measured": missing,
        "parts": parts,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FILE, (text + "\n").encode())
    again: dict[str, Any] = json.loads(text)
    return again


def _part(context: FidelityContext, log: ForeignLog, name: str) -> dict[str, Any]:
    if name in NEED_PAGES and not log.has_pages:
        return {"not_measured": "the log does not tell what was shown and not chosen"}
    if name in NEED_PAGES and log.matching == "none":
        return {"not_measured": OF_A_HISTORY}
    try:
        found = shown.measure(context) if name == "shown" else report.measured_part(context, name)
    except UsersimError as error:
        return {"not_measured": str(error)}
    found = json.loads(json.dumps(found, allow_nan=False))
    if log.matching == "none":
        found = _without_histories(found, name)
    return _told(found, log)


def _without_histories(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The part without what depends on what a user did before."""
    for path in UNMATCHED.get(name, ()):
        place: Any = found
        for step in path[:-1]:
            place = place.get(step, {})
        if place.pop(path[-1], None) is not None:
            found.setdefault("not_measured", {})[path[-1]] = OF_A_HISTORY
    if name == "distributions":
        from experiments.fidelity.distances import worst  # noqa: PLC0415

        largest = worst(found["distributions"])
        found["worst"] = None if largest is None else {"distribution": largest[0], "distance": largest[1], **largest[2]}
    return found


def _told(found: dict[str, Any], log: ForeignLog) -> dict[str, Any]:
    """The part, where what is missing in the log is not said of the data."""
    reasons = found.get("not_measured")
    lacking = {"no times": not log.has_times, "no ratings": not log.has_ratings}
    if isinstance(reasons, dict):
        for name, reason in reasons.items():
            for what, lacks in lacking.items():
                if lacks and f"the data has {what}" in reason:
                    reasons[name] = reason.replace(f"the data has {what}", f"the log has {what}, or not in all rows")
    return found


def _about(log: ForeignLog) -> dict[str, Any]:
    return {
        "name": log.name,
        "users": log.people.height,
        "users_matched_by": log.matching,
        "choices": log.chosen.height,
        "impressions": log.impressions.height if log.has_pages else None,
        "days": log.days,
        "left_out": dict(log.left_out),
    }


def _warnings(log: ForeignLog) -> list[str]:
    found = [f"{count:,} rows were left out: {why}" for why, count in log.left_out.items()]
    if log.matching == "none":
        found.append("nobody knows who the users are: each stands in the place of some user of the data, and only distributions are judged")
    if not log.has_pages:
        found.append("the log does not tell what was shown, so what the recommender did and what the users did cannot be told apart")
    return found

"""Several recommenders before the same people: nine metrics by round, paired differences, tests for many, verdicts, people needed.

::

    comparable? -> every metric of every arm, per person -> differences from the baseline, the same resamples of people in all arms
    -> Holm over all of them -> one verdict per arm -> comparison.json, figures, report.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.analysis.compared_metrics import Metric, Part, available, measure
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.intervals import LEVEL, RESAMPLES
from experiments.analysis.paired import POWER, Difference, Measured, difference, holm
from experiments.analysis.reactions import no_verdict
from experiments.comparable import check_runs
from experiments.console import finite
from experiments.fidelity.resampling import resample
from experiments.verdicts import verdict
from simulator.seeds import Stream

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and of how much."""


def compare(arms: Mapping[str, Sequence[FinishedRun]], baseline: str, margin: float, report: Report) -> dict[str, Any]:
    """Compares finished runs.

    Args:
        arms: name -> its run for each seed, the same seeds in every arm.
        baseline: the arm that the others are held against.
        margin: the largest loss that still counts as "no less", as a share of the baseline's value.
        report: told of the progress.

    Returns:
        The contents of ``comparison.json``: arms, metrics, values (over all rounds), by_round, differences, verdicts, notes. Nothing in it
        depends on when or where it was made.

    Raises:
        RunError: the runs cannot be compared, see `experiments.comparable.check_runs`.
    """
    order = [baseline, *(name for name in arms if name != baseline)]
    seeds = [int(run.seed) for run in arms[baseline]]
    warnings = [warning for place in range(len(seeds)) for warning in check_runs({name: arms[name][place] for name in order})]
    first = arms[baseline][0]
    people = sorted({user for run in arms[baseline] for user in run.people["user"]})
    weights = resample(len(people), RESAMPLES, Stream(first.seed).child("comparison", "people"))
    metrics, missing = available(first)
    rounds = sorted(first.sessions["round"].unique().to_list())
    total = len(arms) * len(metrics)

    values: dict[tuple[str, str], Measured] = {}
    by_seed: dict[tuple[str, str], list[float]] = {}
    by_round = []
    wholes = {name: [Part(run) for run in arms[name]] for name in arms}
    for number, name in enumerate(arms):
        turns = {turn: [Part(run, turn) for run in arms[name]] for turn in rounds}
        for place, metric in enumerate(metrics):
            report("comparing", number * len(metrics) + place, total)
            values[name, metric.key] = measure(metric, wholes[name], people, weights)
            by_seed[name, metric.key] = [measure(metric, [part], people, weights[:1]).value for part in wholes[name]]
            for turn, parts in turns.items():
                by_round.append({"arm": name, "metric": metric.key, "round": turn, **_value(measure(metric, parts, people, weights))})
    found: dict[tuple[str, str], Difference] = {}
    silent: dict[tuple[str, str], str | None] = {}
    for name in order[1:]:
        for metric in metrics:
            both = [(each, values[each, metric.key], wholes[each]) for each in (name, baseline)]
            found[name, metric.key] = difference(both[0][1], both[1][1])
            silent[name, metric.key] = no_verdict(metric, found[name, metric.key], *both)
    p = [float("nan") if silent[pair] else each.p for pair, each in found.items()]
    adjusted = dict(zip(found, holm(np.array(p)).tolist(), strict=True))
    spreads = {
        (name, key): [own - other for own, other in zip(by_seed[name, key], by_seed[baseline, key], strict=True)] for name, key in found
    }
    rows = [
        _row(name, metric, found[name, metric.key], adjusted[name, metric.key], values[baseline, metric.key].value, margin)
        | {"no_verdict": silent[name, metric.key], "by_seed": spreads[name, metric.key]}
        for name in order[1:]
        for metric in metrics
    ]
    words = {metric.key: metric.in_words(first.domain) for metric in metrics}
    document = {
        "data": first.data_name,
        "baseline": baseline,
        "seeds": seeds,
        "people": len(people),
        "rounds": len(rounds),
        "level": LEVEL,
        "margin": margin,
        "power": POWER,
        "comparisons": sum(reason is None for reason in silent.values()),
        "arms": {
            name: {"policy": runs[0].manifest.get("policy"), "counts": _counts(runs), **_level(runs[0])} for name, runs in arms.items()
        },
        "metrics": [
            {
                "key": metric.key,
                "name": words[metric.key][0],
                "unit": words[metric.key][1],
                "kind": metric.kind,
                "better": metric.better,
                "percent": metric.percent,
            }
            for metric in metrics
        ],
        "missing": missing,
        "values": [{"arm": name, "metric": key, **_value(measured)} for (name, key), measured in values.items()],
        "by_round": by_round,
        "differences": rows,
        "warnings": list(dict.fromkeys(warnings)),
    }
    plain: dict[str, Any] = finite(document)
    plain["verdicts"] = verdicts_of(plain, first.domain.chosen)
    return plain


def verdicts_of(document: Mapping[str, Any], chosen: str) -> list[dict[str, Any]]:
    """One verdict per arm; claims of "no less" are corrected for the number of arms (Holm).

    Args:
        document: see `compare`. chosen: the domain's word for what was chosen, such as "watched".
    """
    metrics = {entry["key"]: entry for entry in document["metrics"]}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in document["differences"]:
        rows.setdefault(row["arm"], []).append(row)
    # All pleasures that can be lost must be kept, so the largest p-value of an arm decides (an intersection-union test), and arms are
    # corrected for. A pleasure that one arm has nothing of leaves the question open; one that nothing moves is no part of it.
    pleasures = [[row for row in own if metrics[row["metric"]]["kind"] == "pleasure"] for own in rows.values()]
    losses = [[row["p_loss"] for row in own if row.get("no_verdict") is None or row["value"] is None] for own in pleasures]
    joint = holm(np.array([max(own) if own and None not in own else float("nan") for own in losses], dtype=np.float64))
    return [
        verdict(name, document["baseline"], own, metrics, bool(p <= (1 - document["level"]) / 2), document["margin"], chosen)
        for (name, own), p in zip(rows.items(), joint.tolist(), strict=True)
    ]


def _value(measured: Measured) -> dict[str, float]:
    low, high = measured.interval
    return {"value": measured.value, "low": low, "high": high}


def _row(name: str, metric: Metric, found: Difference, adjusted: float, base: float, margin: float) -> dict[str, Any]:
    of_people = metric.sums is not None
    return {
        "arm": name,
        "metric": metric.key,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "relative": found.value / abs(base) if base else None,
        "relative_low": found.low / abs(base) if base else None,
        "relative_high": found.high / abs(base) if base else None,
        "standard_error": found.error,
        "unpaired_standard_error": found.unpaired_error,
        "p": found.p,
        "p_holm": adjusted,
        "p_loss": found.p_of_a_loss(margin * abs(base), metric.better),
        "pairing_gain": found.gain,
        "detectable": found.detectable,
        "people_needed": found.people_needed if of_people else None,
        "people_needed_unpaired": found.people_needed_unpaired if of_people else None,
    }


def _level(run: FinishedRun) -> dict[str, Any]:
    """How often people were to choose, on whose pages, and how often they did; nothing where it is not moved."""
    return {"choose_rate": run.summary["choose_rate"]} if "choose_rate" in run.summary else {}


def _counts(runs: Sequence[FinishedRun]) -> dict[str, int]:
    keys = ("sessions", "pages", "impressions", "interactions", "ratings")
    return {key: sum(int(run.summary.get(key, 0)) for run in runs) for key in keys}

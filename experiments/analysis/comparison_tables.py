"""The numbers of a comparison as texts: the same rows for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from experiments.anchor import sentence

Document = Mapping[str, Any]


def rows_of(document: Document, arm: str, *, short: bool = False) -> list[dict[str, str]]:
    """One row per metric of an arm: both values, the difference with its interval, corrected p-value, gain of pairing, people needed.

    Args:
        document: see `experiments.comparison.compare`. arm: not the baseline. short: leaves out what a narrow terminal has no room for.
    """
    values = {(row["arm"], row["metric"]): row["value"] for row in document["values"]}
    differences = {row["metric"]: row for row in document["differences"] if row["arm"] == arm}
    rows = []
    for metric in document["metrics"]:
        row = differences[metric["key"]]
        cells = {
            "metric": metric["name"],
            document["baseline"]: number(values[document["baseline"], metric["key"]], metric),
            arm: number(values[arm, metric["key"]], metric),
            "difference [95 %]": _with_interval(row, metric),
            "of the value": "–" if row["relative"] is None or row.get("no_verdict") is not None else f"{row['relative']:+.1%}",
            "p (Holm)": _p(row["p_holm"]),
            "pairing": "–" if row["pairing_gain"] is None else f"×{row['pairing_gain']:.1f}",
            "people needed" if not short else "people": _people(row, "people_needed"),
            "unpaired": _people(row, "people_needed_unpaired"),
        }
        left_out = ("of the value", "pairing", "unpaired") if short else ()
        rows.append({name: cell for name, cell in cells.items() if name not in left_out})
    return rows


def values_of(document: Document) -> list[dict[str, str]]:
    """One row per metric: every arm's value with its interval."""
    values = {(row["arm"], row["metric"]): row for row in document["values"]}
    return [
        {"metric": metric["name"], **{arm: _value(values[arm, metric["key"]], metric) for arm in document["arms"]}, "unit": metric["unit"]}
        for metric in document["metrics"]
    ]


def notes(document: Document) -> list[str]:
    """What a reader must know before believing a comparison."""
    others, seeds, people = len(document["arms"]) - 1, document["seeds"], document["people"]
    found = [
        f"Every arm was met by the same {people:,} simulated people. The same person in front of the same item on the same page draws "
        "the same number in every arm, so that differences are paired. An unpaired comparison would need so many times as many people "
        f"(its variance over the paired one's, median over arms): {_gains(document)}. Differences of shares are in percentage points.",
        "Intervals of people's metrics resample people (the same resamples in all arms). Coverage and exposure Gini are of the whole "
        "system: their intervals leave out one person at a time (jackknife), since a resample repeats people, who then show nothing new.",
        f"p-values are corrected by Holm's method for all {document['comparisons']} comparisons ({others} "
        f"{'arm' if others == 1 else 'arms'} by {len(document['metrics'])} metrics). 'No less' rules out a loss of "
        f"{document['margin']:.0%} of the baseline's value in every metric of pleasure at once (one-sided, 2.5 %, corrected for the "
        "number of arms).",
        f"'People (needed)' is how many would show a difference of the size found with a probability of {document['power']:.0%} in one "
        "two-sided test at 5 %, the same people in both arms ('unpaired': so many in each, if each had people of its own). Metrics of the "
        "whole system have no such number, since they change with the number of people.",
        "Intervals hold the recommender as it was fitted, the language model and "
        + ("the seed" if len(seeds) == 1 else "the seeds")
        + " fixed; where a recommender learns from what people do, people also depend a little on each other.",
    ]
    if len(seeds) == 1:
        found.append("One seed was run; --seeds 3 shows how much the differences move from seed to seed.")
    levels = {name: arm["choose_rate"] for name, arm in document["arms"].items() if "choose_rate" in arm}
    found += [f"How often people choose, {name}: {sentence(level)}." for name, level in levels.items()]
    found += [f"{key}: not compared, because {reason}." for key, reason in document["missing"].items()]
    found += silences(document)
    return found + [f"Warning: {warning}" for warning in document["warnings"]]


def silences(document: Document) -> list[str]:
    """Which differences ground no verdict, one sentence per reason."""
    names = {metric["key"]: metric["name"] for metric in document["metrics"]}
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in document["differences"]:
        if row.get("no_verdict") is not None:
            reasons.setdefault(row.get("no_verdict"), {}).setdefault(row["arm"], []).append(names[row["metric"]])
    told = {reason: "; ".join(f"{', '.join(keys)} of {arm}" for arm, keys in arms.items()) for reason, arms in reasons.items()}
    return [f"Not measured, because {reason}: {what}." for reason, what in told.items()]


def _gains(document: Document) -> str:
    gains: dict[str, list[float]] = {metric["key"]: [] for metric in document["metrics"]}
    for row in document["differences"]:
        if row["pairing_gain"] is not None:
            gains[row["metric"]].append(row["pairing_gain"])
    names = {metric["key"]: metric["name"] for metric in document["metrics"]}
    return ", ".join(f"{names[key]} ×{median(found):.1f}" for key, found in gains.items() if found) or "unknown"


def number(value: float | None, metric: Mapping[str, Any]) -> str:
    """A value in its metric's form."""
    if value is None:
        return "–"
    return f"{value:.1%}" if metric["percent"] else f"{value:.2f}"


def _value(row: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    if row["value"] is None or row["low"] is None:
        return number(row["value"], metric)
    return f"{number(row['value'], metric)} [{number(row['low'], metric)}, {number(row['high'], metric)}]"


def _with_interval(row: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    if row.get("no_verdict") is not None:
        return "not measured"
    if row["value"] is None:
        return "–"
    scale, digits = (100, 1) if metric["percent"] else (1, 2)
    low, high = row["low"], row["high"]
    interval = "" if low is None else f" [{low * scale:+.{digits}f}, {high * scale:+.{digits}f}]"
    return f"{row['value'] * scale:+.{digits}f}{interval}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0") if value < 1 else "1"


def _people(row: Mapping[str, Any], key: str) -> str:
    return "–" if row[key] is None else f"{row[key]:,}"

"""What a reader of a run asks first: numbers with intervals, the real counterpart, and what must be known before believing them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.analysis import metrics
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.intervals import Estimate
from experiments.analysis.reactions import constant
from experiments.anchor import sentence
from simulator.seeds import Stream

UNMOVED = "tells nothing: everybody draws it from the same chances, whatever is shown"
"""Remark on what could not have come out otherwise."""


@dataclass(frozen=True, slots=True)
class KeyNumber:
    """One row of the table of key numbers: what, its value and interval as text, and the real counterpart or a remark."""

    name: str
    value: str
    interval: str = ""
    remark: str = ""


def key_numbers(run: FinishedRun) -> list[KeyNumber]:
    """What a reader asks first, with 95 % intervals that resample people, and the real counterpart where there is one."""
    stream = Stream(run.seed).child("report")
    impressions, sessions, items = run.impressions, run.sessions, run.items
    rows = [
        _row(f"Share of shown {run.domain.items} {run.domain.chosen}", metrics.watch_rate(impressions, stream), percent=True),
        _row("Pages per session", metrics.pages_per_session(sessions, stream)),
    ]
    real = _known(metrics.real_interactions_per_session(run.real, stream)) if run.has_times else ""
    remark = f"real: {real} (at least 1 by construction)" if real else ""
    rows.append(_row("Interactions per session", metrics.interactions_per_session(sessions, stream), remark=remark))
    if run.has_ratings:
        own = _known(metrics.mean_rating(run.real, stream.child("real")))
        remark = "; ".join([f"real: {own}"] * bool(own) + [UNMOVED] * constant(impressions, "rating_expected"))
        rows.append(_row("Mean rating", metrics.mean_rating(impressions, stream), remark=remark))
        histograms = metrics.rating_histograms(run.real["rating"], run.chosen["rating"])
        if all(table.height for table in histograms):
            distance = metrics.total_variation(*histograms, on="rating")
            rows.append(KeyNumber("Ratings, total variation distance from real", f"{distance:.3f}", remark="0 is equal, 1 is disjoint"))
    if "satisfaction" in sessions.columns:
        remark = UNMOVED if constant(sessions, "satisfaction_expected") else ""
        rows.append(_row("Satisfaction with a session (1–10)", metrics.satisfaction(sessions, stream), remark=remark))
    for name, table in (("shown", impressions), (f"{run.domain.chosen}", run.chosen)):
        real = _known(metrics.average_popularity(run.real, items, stream.child("real")), percent=True)
        estimate = metrics.average_popularity(table, items, stream.child(name))
        rows.append(
            _row(f"Mean popularity percentile of {run.domain.items} {name}", estimate, percent=True, remark=f"real: {real}" if real else "")
        )
    if run.has_genres and run.chosen.height and run.real.height:
        shares = metrics.genre_shares(run.real, impressions, items)
        distance = metrics.total_variation(shares.select("genre", share="real"), shares.select("genre", share="chosen"), on="genre")
        rows.append(KeyNumber("Genres, total variation distance from real", f"{distance:.3f}", remark="0 is equal, 1 is disjoint"))
    rows.append(KeyNumber("Share of the catalog shown", number(metrics.coverage(impressions, items), percent=True)))
    share = metrics.fallback_share(run.pages, sessions)
    rows.append(KeyNumber("Replies that could not be used", number(share, percent=True), remark="answered by the documented fallback"))
    return rows


def notes(run: FinishedRun) -> list[str]:
    """What a reader must know before believing any of it: who decided, what failed, what the data cannot tell."""
    model, decision = run.manifest.get("model"), str(run.config.get("decision", {}).get("use", "unknown"))
    who = f"with the language model {model['name']}" if model else "without a language model"
    found = [f"Decisions were made by {decision} {who}. The people are simulated; nothing here was observed of anybody."]
    found += run.told.sentences
    if "choose_rate" in run.summary:
        found.append(f"How often people choose: {sentence(run.summary['choose_rate'])}.")
    share = metrics.fallback_share(run.pages, run.sessions)
    if share > 0:
        found.append(
            f"{share:.2%} of the replies about pages and sessions could not be used and were answered by the fallback; tables pages and "
            "sessions hold the replies (column reply)."
        )
    synthetic = int(run.people["synthetic"].sum())
    if synthetic:
        found.append(
            f"{synthetic:,} of the {run.people.height:,} people are synthetic: drawn from the traits of real ones, marked in the log."
        )
    found.append(
        "Intervals resample people and hold the recommender, the model and the seed fixed; they say nothing about other seeds or "
        "models. Comparisons with real behaviour use training data, which profiles were fitted on; they are a description, not a test "
        "on held-out data."
    )
    found.append(f"The real data holds reactions, not what was shown: {run.domain.rate}, positions and pages have no real counterpart.")
    name = run.data_name.lower()
    if run.has_times and (name.startswith("ml-") or "movielens" in name):
        found.append(
            f"Real sessions in MovieLens are sittings in which people rated {run.domain.items} they had seen before, not visits; "
            "their length is no target for a simulated session."
        )
    elif run.has_times:
        found.append("Real sessions are runs of interactions less than 30 minutes apart; the data does not record visits.")
    else:
        found.append("The data has no times: real sessions are unknown, and the rhythm of people is a default.")
    if not run.has_ratings:
        found.append("The data has no ratings: nobody rates, and conformity and pickiness are unknown.")
    skipped = run.manifest.get("data", {}).get("skipped") or {}
    found += [f"{count:,} rows of the data were left out: {reason}." for reason, count in skipped.items()]
    return found


def _row(name: str, estimate: Estimate, *, percent: bool = False, remark: str = "") -> KeyNumber:
    interval = "" if np.isnan(estimate.low) else f"{number(estimate.low, percent=percent)} to {number(estimate.high, percent=percent)}"
    return KeyNumber(name, number(estimate.value, percent=percent), interval, remark)


def _known(estimate: Estimate, *, percent: bool = False) -> str:
    return "" if np.isnan(estimate.value) else number(estimate.value, percent=percent)


def number(value: float, *, percent: bool = False) -> str:
    """A number with two decimals, or as a percentage with one; a dash if it is not known."""
    if np.isnan(value):
        return "–"
    return f"{value:.1%}" if percent else f"{value:.2f}"

"""Whether satisfaction says anything: beside the ratings of a run, and beside what real held-out users did next.

Keys of `of_run` and `of_held_out` together are flat and those of ``results/benchmarks/language_model.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import rankdata

from agents.exposures import people_split
from agents.satisfaction import Satisfaction, fit_satisfaction, real_sessions, returns
from environments.datasets.splits import Split
from experiments.analysis.intervals import Estimate
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.resampling import estimate, person_index, resample
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

OF_A_RUN: Final[tuple[str, ...]] = ("satisfaction_rho_rating", "satisfaction_nothing_chosen_rank")
ENDS: Final[tuple[str, ...]] = ("", "_low", "_high", "_users")
"""Of the keys of a figure: its value, its 95 % interval, and the number of users behind it."""

GROUPS = 4
"""Sessions with a choice are divided into so many groups of mean rating, by quantiles."""

RESAMPLES = 1_000


def measure(context: FidelityContext) -> dict[str, Any]:
    """The part ``satisfaction`` of a report: real held-out users, and the sessions of the run if there is one."""
    stream = context.stream.child("satisfaction")
    found = of_held_out(context.split, stream, context.bootstrap)
    if context.run is None:
        return found | {"not_measured": dict.fromkeys(OF_A_RUN, "there is no run")}
    return found | of_run(RunDirectory(context.run).read_table("sessions"), stream, context.bootstrap)


def of_run(sessions: pl.DataFrame, stream: Stream, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Figures of a run.

    Args:
        sessions: the run's table, with the columns user, satisfaction, interactions and mean_rating. stream: of the resamples of users.

    Returns:
        ``satisfaction_rho_rating``: Spearman correlation of satisfaction with the session's mean rating, None below three sessions with
        one. ``satisfaction_nothing_chosen_rank``: rank of the mean satisfaction of sessions in which nothing was chosen among it and
        `GROUPS` groups of the others by mean rating, 1 is least; None where there are none. Both with ``_low``, ``_high`` (95 % over users)
        and ``_users``. ``satisfaction_by_group``: these means.
    """
    if "satisfaction" not in sessions.columns or "mean_rating" not in sessions.columns:
        return {f"{name}{end}": None for name in OF_A_RUN for end in ENDS} | {"satisfaction_by_group": {}}
    known = sessions.filter(pl.col("satisfaction").is_not_null())
    rated = known.filter(pl.col("mean_rating").is_not_null())
    given, glad = (rated[name].to_numpy().astype(np.float64) for name in ("mean_rating", "satisfaction"))
    correlation = Estimate(float("nan"), float("nan"), float("nan"), 0)
    if rated.height > 2:
        person, people = person_index(rated["user"].to_numpy())
        correlation = _correlation(given, glad, person, people, resample(people, resamples, stream.child("run")))
    means, rank = _groups(known, stream.child("groups"), resamples)
    return (
        _flat("satisfaction_rho_rating", correlation) | _flat("satisfaction_nothing_chosen_rank", rank) | {"satisfaction_by_group": means}
    )


def _groups(known: pl.DataFrame, stream: Stream, resamples: int) -> tuple[dict[str, float], Estimate]:
    """Means of the sessions in which nothing was chosen and of `GROUPS` groups of the rated ones, and the rank of the first among all."""
    rating = known["mean_rating"].to_numpy().astype(np.float64)
    nothing, rated = (known["interactions"] == 0).to_numpy(), np.isfinite(rating)
    names, groups = (["nothing chosen"], [nothing]) if nothing.any() else ([], [])
    if rated.any():
        group = np.digitize(rating, np.quantile(rating[rated], np.arange(1, GROUPS) / GROUPS), right=True)
        for number in np.unique(group[rated]).tolist():
            names.append(f"ratings {number + 1} of {GROUPS}")
            groups.append(rated & (group == number))
    glad = known["satisfaction"].to_numpy().astype(np.float64)
    means = {name: float(glad[own].mean()) for name, own in zip(names, groups, strict=True)}
    if not nothing.any() or not rated.any():
        return means, Estimate(float("nan"), float("nan"), float("nan"), 0)
    person, people = person_index(known["user"].to_numpy())
    weights = resample(people, resamples, stream)
    sums = np.stack([np.bincount(person, weights=glad * own, minlength=people) for own in groups], axis=1)
    counts = np.stack([np.bincount(person, weights=own.astype(np.float64), minlength=people) for own in groups], axis=1)
    drawn, rows = weights @ sums, weights @ counts
    mean = np.divide(drawn, rows, out=np.full(rows.shape, np.nan), where=rows > 0)
    ranks = np.where(np.isfinite(mean[:, 0]), 1.0 + (mean[:, 1:] < mean[:, :1]).sum(axis=1), np.nan)
    return means, estimate(1.0 + sum(mean < means[names[0]] for mean in means.values()), ranks, people)


def of_held_out(split: Split, stream: Stream, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The satisfaction model on real sessions of held-out users, beside the outcome that followed.

    The model is fitted on the training part of the other users; a user's level is that of their earlier sessions, so that nothing of
    the outcome enters. The outcome that the model was given nowhere is the mean rating of the next session.

    Args:
        split: of data with times and ratings; the held-out interactions are used as outcomes. stream: of the resamples of users.

    Returns:
        ``satisfaction_rho_outcome`` with `ENDS` (95 %): Spearman correlation with the next session's mean rating;
        ``satisfaction_outcomes``: the same for each outcome and for the controls (the session's mean rating alone, and the user's level
        before it), each value, low, high; ``satisfaction_sessions``, ``satisfaction_users``: counts; ``satisfaction_model``: the report of
        the fit. All but the last are None where the data has no times or ratings.
    """
    train = split.train
    roles = people_split(train)
    model = fit_satisfaction(train, np.concatenate([roles.fit, roles.validation]))
    rows = pl.concat([train.interactions, split.test.select(train.interactions.columns)])
    rows = rows.filter(pl.col("user").is_in(roles.held_out.tolist()) & pl.col("rating").is_not_null() & pl.col("timestamp").is_not_null())
    found: dict[str, Any] = {f"satisfaction_rho_outcome{end}": None for end in ENDS}
    found |= {"satisfaction_outcomes": None, "satisfaction_sessions": None, "satisfaction_users": None}
    if rows.height:
        found |= _outcomes(model, rows.sort("user", "timestamp", "item"), stream, resamples)
    return found | {"satisfaction_model": dict(model.report)}


def _outcomes(model: Satisfaction, rows: pl.DataFrame, stream: Stream, resamples: int) -> dict[str, Any]:
    sessions, facts = real_sessions(rows, model)
    followed, soon = returns(sessions)
    if len(followed) < 3:
        return {}
    person, people = person_index(sessions.people[followed])
    weights = resample(people, resamples, stream.child("satisfaction"))
    predictors = {"satisfaction": model.of(facts.columns), "mean rating": facts.mean, "level before": facts.level}
    outcomes = {
        "next session's mean rating": facts.mean[followed + 1],
        "next session's length": sessions.sizes[followed + 1].astype(np.float64),
        "return within a week": soon.astype(np.float64),
    }
    table = {
        outcome: {name: _plain(_correlation(values[followed], after, person, people, weights)) for name, values in predictors.items()}
        for outcome, after in outcomes.items()
    }
    value, low, high = table["next session's mean rating"]["satisfaction"]
    return {
        "satisfaction_rho_outcome": value,
        "satisfaction_rho_outcome_low": low,
        "satisfaction_rho_outcome_high": high,
        "satisfaction_rho_outcome_users": people,
        "satisfaction_outcomes": table,
        "satisfaction_sessions": len(followed),
        "satisfaction_users": people,
    }


def _correlation(one: np.ndarray, other: np.ndarray, person: np.ndarray, people: int, weights: np.ndarray) -> Estimate:
    """Spearman correlation with an interval over users; in the resamples, ranks stay those of all sessions."""
    first, second = rankdata(one), rankdata(other)
    first, second = first - first.mean(), second - second.mean()
    columns = np.stack([np.ones(len(first)), first, second, first * second, first**2, second**2])
    sums = weights @ np.stack([np.bincount(person, weights=column, minlength=people) for column in columns], axis=1)
    n, a, b, ab, aa, bb = sums.T
    scale = np.sqrt(np.maximum(aa / n - (a / n) ** 2, 0.0) * np.maximum(bb / n - (b / n) ** 2, 0.0))
    resampled = np.divide(ab / n - a * b / n**2, scale, out=np.full(len(n), np.nan), where=scale > 0)
    return estimate(_spearman(one, other), resampled, people)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation, NaN where one of them never changes."""
    first, second = rankdata(one), rankdata(other)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _plain(found: Estimate) -> list[float | None]:
    return [float(number) if np.isfinite(number) else None for number in (found.value, found.low, found.high)]


def _flat(name: str, found: Estimate) -> dict[str, float | int | None]:
    """A figure under four keys (`ENDS`); a value without a resampled spread has no interval."""
    value, low, high = _plain(found)
    return dict(zip((f"{name}{end}" for end in ENDS), (value, low, high, found.people), strict=True))


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The figures in words; empty where the part was not measured."""
    told = []
    if found.get("satisfaction_rho_outcome") is not None:
        outcomes = found["satisfaction_outcomes"]["next session's mean rating"]
        told.append(
            "satisfaction by what happened and the next session's mean rating: rank correlation "
            f"{_shown(found, 'satisfaction_rho_outcome')} on {found['satisfaction_sessions']:,} real sessions of "
            f"{found['satisfaction_users']:,} held-out users (the session's mean rating alone: {outcomes['mean rating'][0]:.2f}, the level "
            f"before it: {outcomes['level before'][0]:.2f})"
        )
    if found.get("satisfaction_rho_rating") is not None:
        told.append(
            f"satisfaction in the run and the session's mean rating: rank correlation {_shown(found, 'satisfaction_rho_rating')} of "
            f"{found['satisfaction_rho_rating_users']:,} users"
        )
    if found.get("satisfaction_nothing_chosen_rank") is not None:
        means = found["satisfaction_by_group"]
        rank = int(found["satisfaction_nothing_chosen_rank"])
        place = "the lowest" if rank == 1 else f"number {rank} from below"
        told.append(f"sessions with nothing chosen have mean satisfaction {means['nothing chosen']:.1f}, {place} of {len(means)} groups")
    return told


def _shown(found: Mapping[str, Any], name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return f"{found[name]:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")

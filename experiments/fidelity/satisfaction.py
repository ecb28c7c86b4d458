"""Whether satisfaction says anything: beside the ratings of a run, and beside what real held-out users did next.

Keys of `of_run` and `of_held_out` together are flat and those of ``results/benchmarks/language_model.json``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from agents.exposures import people_split
from agents.satisfaction import Satisfaction, fit_satisfaction, real_sessions, returns
from environments.datasets.splits import Split
from experiments.analysis.intervals import Estimate
from experiments.fidelity.resampling import estimate, person_index, resample
from simulator.seeds import Stream

GROUPS = 4
"""Sessions with a choice are divided into so many groups of mean rating, by quantiles."""

RESAMPLES = 1_000


def of_run(sessions: pl.DataFrame) -> dict[str, Any]:
    """Figures of a run.

    Args:
        sessions: the run's table, with the columns user, satisfaction, interactions and mean_rating.

    Returns:
        ``satisfaction_rho_rating``: Spearman correlation of satisfaction with the session's mean rating, None below three sessions with
        one. ``satisfaction_nothing_chosen_rank``: rank of the mean satisfaction of sessions in which nothing was chosen among it and
        `GROUPS` groups of the others by mean rating, 1 is least; None where there are none. ``satisfaction_by_group``: these means.
    """
    known = sessions.filter(pl.col("satisfaction").is_not_null())
    rated, nothing = known.filter(pl.col("mean_rating").is_not_null()), known.filter(pl.col("interactions") == 0)
    given, glad = (rated[name].to_numpy().astype(np.float64) for name in ("mean_rating", "satisfaction"))
    means: dict[str, float] = {}
    if nothing.height:
        means["nothing chosen"] = float(nothing["satisfaction"].to_numpy().mean())
    if rated.height:
        group = np.digitize(given, np.quantile(given, np.arange(1, GROUPS) / GROUPS), right=True)
        means |= {f"ratings {number + 1} of {GROUPS}": float(glad[group == number].mean()) for number in np.unique(group).tolist()}
    rank = 1 + sum(mean < means["nothing chosen"] for mean in means.values()) if nothing.height and rated.height else None
    rho = _spearman(given, glad) if rated.height > 2 else float("nan")
    return {
        "satisfaction_rho_rating": rho if np.isfinite(rho) else None,
        "satisfaction_nothing_chosen_rank": rank,
        "satisfaction_by_group": means,
    }


def of_held_out(split: Split, stream: Stream, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The satisfaction model on real sessions of held-out users, beside the outcome that followed.

    The model is fitted on the training part of the other users; a user's level is that of their earlier sessions, so that nothing of
    the outcome enters. The outcome that the model was given nowhere is the mean rating of the next session.

    Args:
        split: of data with times and ratings; the held-out interactions are used as outcomes. stream: of the resamples of users.

    Returns:
        ``satisfaction_rho_outcome`` with ``_low`` and ``_high`` (95 %): Spearman correlation with the next session's mean rating;
        ``satisfaction_outcomes``: the same for each outcome and for the controls (the session's mean rating alone, and the user's level
        before it), each value, low, high; ``satisfaction_sessions``, ``satisfaction_users``: counts; ``satisfaction_model``: the report of
        the fit. All but the last are None where the data has no times or ratings.
    """
    train = split.train
    roles = people_split(train)
    model = fit_satisfaction(train, np.concatenate([roles.fit, roles.validation]))
    rows = pl.concat([train.interactions, split.test.select(train.interactions.columns)])
    rows = rows.filter(pl.col("user").is_in(roles.held_out.tolist()) & pl.col("rating").is_not_null() & pl.col("timestamp").is_not_null())
    found: dict[str, Any] = {f"satisfaction_rho_outcome{end}": None for end in ("", "_low", "_high")}
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

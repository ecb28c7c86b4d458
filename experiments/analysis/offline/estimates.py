"""What an off-policy estimator returns, and the intervals around it.

Every estimator here is a sum of ratios of means over the rows of a log, ``value = sum_t mean(N_t) / mean(D_t)``: inverse
propensity scoring has one term with ``D = 1``, its self-normalised form one with ``D = w``, the self-normalised doubly
robust one two terms. So the delta method and the bootstrap are written once, for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from experiments.analysis.intervals import LEVEL
from simulator.errors import DataError
from simulator.seeds import Stream

RESAMPLES = 1000
"""Bootstrap resamples; the Monte Carlo error of a 95 % limit is then about a thirtieth of the interval's width."""

MAX_GROUPS = 2000
"""People beyond so many are resampled in random groups; the standard error then has an error of its own of about 2 %."""


@dataclass(frozen=True, slots=True)
class OfflineEstimate:
    """The value of a policy, estimated from a log of n rows.

    Attributes:
        value: mean reward of a row under the target policy; 0 where the denominator of an estimator is 0, which the effective
            sample size then shows.
        contributions: per row, shape (n,); their mean is the value.
        effective_sample_size: ``(sum w)^2 / sum w^2`` of the weights used (Kish, *Survey sampling*, 1965), between 0 and n.
        largest_weight: the largest weight used.
        unsupported: share of the target's actions that the logging policy never takes, in [0, 1].
        numerators, denominators: the terms, shape (t, n).
    """

    value: float
    contributions: np.ndarray
    effective_sample_size: float
    largest_weight: float
    unsupported: float
    numerators: np.ndarray
    denominators: np.ndarray


@dataclass(frozen=True, slots=True)
class Interval:
    """Limits of a 95 % confidence interval, and the standard error behind them, in the unit of the reward."""

    low: float
    high: float
    standard_error: float


def estimate(
    terms: Sequence[tuple[np.ndarray, np.ndarray | None]], weights: np.ndarray, raw_weights: np.ndarray, unsupported: np.ndarray | None
) -> OfflineEstimate:
    """Puts an estimate together.

    Args:
        terms: numerators and denominators per row, each of shape (n,); None is a denominator of 1.
        weights: the weights that the estimator used.
        raw_weights: importance weights before any clipping.
        unsupported: per row, the target's probability of actions that the logging policy never takes. Without it their share
            is estimated by how far the mean importance weight falls short of 1, its expectation under full support.

    Raises:
        DataError: there are no rows.
    """
    n = len(weights)
    if n == 0:
        raise DataError("the log has no rows, so there is nothing to estimate a value from.")
    numerators = np.stack([np.asarray(numerator, dtype=np.float64) for numerator, _ in terms])
    denominators = np.stack([np.ones(n) if below is None else np.asarray(below, dtype=np.float64) for _, below in terms])
    means = denominators.mean(axis=1)
    scale = np.divide(1.0, means, out=np.zeros_like(means), where=means > 0)
    contributions = scale @ numerators
    squares = float(weights @ weights)
    missing = max(0.0, 1.0 - float(raw_weights.mean())) if unsupported is None else float(unsupported.mean())
    return OfflineEstimate(
        value=float(contributions.mean()),
        contributions=contributions,
        effective_sample_size=float(weights.sum()) ** 2 / squares if squares > 0 else 0.0,
        largest_weight=float(weights.max()),
        unsupported=missing,
        numerators=numerators,
        denominators=denominators,
    )


def asymptotic(found: OfflineEstimate, clusters: np.ndarray) -> Interval:
    """The normal interval, with rows of a person kept together; for self-normalised estimators by the delta method.

    The influence of a row is ``sum_t (N_t - (mean N_t / mean D_t) D_t) / mean D_t``. The variance of the value is the sum over
    people of their squared total influence, over n squared, times G / (G - 1) for G people (Liang and Zeger, "Longitudinal
    data analysis using generalized linear models", Biometrika 73, 1986, on a mean); the quantile is Student's with G - 1 degrees.

    Args:
        found: an estimate from n rows.
        clusters: whose row it is, codes from 0, shape (n,).

    Returns:
        The interval; unlimited if there is only one person.
    """
    sums = _sums(found, clusters)
    n, groups = len(clusters), len(sums)
    if groups < 2:
        return Interval(-np.inf, np.inf, np.inf)
    terms = len(found.numerators)
    above, below = sums[:, :terms], sums[:, terms:]
    totals = below.sum(axis=0)
    scale = np.divide(1.0, totals, out=np.zeros(terms), where=totals > 0)
    influence = (above - (above.sum(axis=0) * scale) * below) @ (scale * n)
    error = float(np.sqrt(groups / (groups - 1) * (influence @ influence))) / n
    half = float(student.ppf((1 + LEVEL) / 2, groups - 1)) * error
    return Interval(found.value - half, found.value + half, error)


def bootstrap(found: Mapping[str, OfflineEstimate], clusters: np.ndarray, stream: Stream) -> dict[str, Interval]:
    """Percentile intervals of several estimates of one log, resampling people with all their rows.

    A resample weighs each person by a Poisson number of mean 1 (Chamandy et al., "Estimating uncertainty for massive data
    streams", 2012), the same for every estimate, so that differences between estimators are not noise of the resampling. More
    than `MAX_GROUPS` people are first put together, at random, into so many groups, which are resampled instead.

    Args:
        found: name -> estimate, all from the same n rows.
        clusters: whose row it is, codes from 0, shape (n,).
        stream: randomness of the resampling.
    """
    rng = stream.generator()
    groups = int(clusters.max(initial=0)) + 1
    if groups > MAX_GROUPS:
        clusters, groups = rng.integers(0, MAX_GROUPS, size=groups)[clusters], MAX_GROUPS
    joined = np.concatenate([_sums(one, clusters) for one in found.values()], axis=1)
    totals = rng.poisson(1.0, size=(RESAMPLES, len(joined))).astype(np.float64) @ joined
    intervals, place = {}, 0
    for name, one in found.items():
        terms = len(one.numerators)
        above, below = totals[:, place : place + terms], totals[:, place + terms : place + 2 * terms]
        place += 2 * terms
        values = np.divide(above, below, out=np.zeros_like(above), where=below > 0).sum(axis=1)
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        intervals[name] = Interval(float(low), float(high), float(values.std(ddof=1)))
    return intervals


def _sums(found: OfflineEstimate, clusters: np.ndarray) -> np.ndarray:
    """Numerators and denominators summed over each cluster, shape (clusters, 2 t); clusters without rows are left out."""
    present = np.bincount(clusters) > 0
    parts = [np.bincount(clusters, weights=row)[present] for row in (*found.numerators, *found.denominators)]
    return np.stack(parts, axis=1)

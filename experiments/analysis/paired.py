"""Two arms that the same people met: differences, their intervals and tests, many of them at once, and how many people it takes.

Everything rests on *influences*, one number per person: how far the person moves the value, scaled so that the standard error of the
value is ``sd(influence) / sqrt(people)``. Of a difference it is the difference of the influences, which is what pairing gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from experiments.analysis.intervals import LEVEL

POWER = 0.8
"""Wanted probability of seeing a difference that is there."""

_CELLS = 4_000_000
"""Counts of items held in memory at once."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of one arm.

    Attributes:
        value: NaN where there is nothing to measure.
        influence: per person, float64, shape (people,); see above.
        resampled: the value in each resample of people, shape (resamples,), the same resamples in every arm; None for a metric of the
            whole system.
    """

    value: float
    influence: np.ndarray
    resampled: np.ndarray | None

    @property
    def error(self) -> float:
        """Standard error over people."""
        return standard_error(self.influence)

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the value."""
        return _interval(self.value, self.influence, self.resampled)


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one arm less that of the baseline, people paired.

    Attributes:
        value: in the metric's unit. low, high: 95 % interval. error: standard error. p: two-sided, that there is no difference. Where
            the error is 0, because everybody differs by the same or not at all, there is no interval (NaN) and no p-value but 1 for no
            difference: nothing varies that could be held against it.
        unpaired_error: standard error if other people had met the other arm.
        people: how many.
    """

    value: float
    low: float
    high: float
    error: float
    p: float
    unpaired_error: float
    people: int

    @property
    def gain(self) -> float:
        """How many times as many people an unpaired comparison needs: unpaired over paired variance; NaN without any."""
        return (self.unpaired_error / self.error) ** 2 if self.error > 0 else float("nan")

    @property
    def detectable(self) -> float:
        """The smallest difference that these people show with a probability of 80 % (two-sided test at 5 %); NaN without a spread."""
        if not self.error > 0:
            return float("nan")
        return (_z(1 - (1 - LEVEL) / 2) + _z(POWER)) * self.error

    @property
    def people_needed(self) -> int | None:
        """People who show a difference of this size with a probability of 80 %; None if it is 0 or unknown."""
        return people_needed(self.value, self.error * math.sqrt(self.people))

    @property
    def people_needed_unpaired(self) -> int | None:
        """The same if each arm has people of its own: so many in each."""
        return people_needed(self.value, self.unpaired_error * math.sqrt(self.people))

    def p_of_a_loss(self, margin: float, better: int) -> float:
        """One-sided p-value of the hypothesis that the arm is worse by `margin` or more; small means "no worse"; NaN without a spread.

        Args:
            margin: in the metric's unit, >= 0. better: 1 if more of it is better, -1 if less.
        """
        return _tail((better * self.value + margin), self.error, self.people)


def ratio(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> Measured:
    """A ratio of sums over people, ``sum(a) / sum(b)``; influence ``(a_i - R b_i) / mean(b)`` (the delta method).

    Args:
        a, b: one number per person, shape (people,), 0 for people without a row.
        weights: how often each person is in each resample (`experiments.fidelity.resampling.resample`), shape (resamples, people); the
            same for all arms, so that they are paired.
    """
    below = weights @ b
    resampled = np.divide(weights @ a, below, out=np.full(len(weights), np.nan), where=below > 0)
    if b.sum() <= 0:
        return Measured(float("nan"), np.full(len(a), np.nan), resampled)
    value = float(a.sum() / b.sum())
    return Measured(value, (a - value * b) / b.mean(), resampled)


def coverage(shown: sparse.csr_array) -> Measured:
    """Share of the items that were shown to anybody, with each person left out in turn.

    Args:
        shown: how often each person was shown each item, shape (people, items).
    """
    n, items = shown.shape
    counts = np.asarray((shown > 0).sum(axis=0)).ravel()
    alone = np.asarray((shown > 0).astype(np.int64) @ (counts == 1).astype(np.int64)).ravel()
    value = float((counts > 0).sum() / items) if items else float("nan")
    return Measured(value, (n - 1) * alone / max(items, 1), None)


def gini(shown: sparse.csr_array) -> Measured:
    """Gini coefficient of how often items were shown (`experiments.analysis.metrics.gini`), with each person left out in turn.

    Args:
        shown: as in `coverage`.
    """
    n, items = shown.shape
    total = np.asarray(shown.sum(axis=0), dtype=np.float64).ravel()
    value = float(_gini(total[None, :])[0]) if n else float("nan")
    step = max(1, _CELLS // max(items, 1))
    without = [_gini(total - shown[start : start + step].toarray()) for start in range(0, n, step)]
    return Measured(value, (n - 1) * (value - np.concatenate([*without, np.zeros(0)])), None)


def mean_of(parts: list[Measured]) -> Measured:
    """The mean of a metric of the whole system over seeds, the same people in each."""
    if len(parts) == 1:
        return parts[0]
    return Measured(float(np.mean([part.value for part in parts])), np.mean([part.influence for part in parts], axis=0), None)


def difference(arm: Measured, baseline: Measured) -> Difference:
    """The arm less the baseline.

    The interval is the percentile interval of the paired resamples of people (Efron and Tibshirani 1993, chapter 13). Metrics of the whole
    system have ``value -+ t * standard error`` of the paired jackknife instead (Efron and Stein, "The jackknife estimate of variance",
    Annals of Statistics 9, 1981): a resample repeats people, and a person who is repeated shows no new item, so that a bootstrap
    interval of coverage or of Gini's coefficient is far too narrow. Where no single person moves them, nothing is claimed. The p-value
    is that of ``t = value / standard error``.
    """
    influence = arm.influence - baseline.influence
    resampled = None if arm.resampled is None or baseline.resampled is None else arm.resampled - baseline.resampled
    value, n = arm.value - baseline.value, len(influence)
    error = standard_error(influence)
    if resampled is None and error == 0 and value != 0:
        error = float("nan")  # no single person moves either value: that is too few to leave out, not certainty
    # An interval without width would be taken for certainty, where in truth nothing was there to vary.
    low, high = _interval(value, influence, resampled) if error > 0 else (float("nan"), float("nan"))
    p = 1.0 if value == 0 and error == 0 else 2 * _tail(abs(value), error, n)
    return Difference(value, low, high, error, p, math.hypot(arm.error, baseline.error), n)


def standard_error(influence: np.ndarray) -> float:
    """``sd / sqrt(people)``; NaN for fewer than two people."""
    n = len(influence)
    if n < 2 or not np.isfinite(influence).all():
        return float("nan")
    spread = float(influence.std(ddof=1))
    # What rounding leaves of influences that are equal is not a spread.
    return spread / math.sqrt(n) if spread > 1e-12 * max(1.0, float(np.abs(influence).max())) else 0.0


def holm(p: np.ndarray) -> np.ndarray:
    """P-values adjusted for being many, so that the chance of any false claim is kept.

    ``p'_(k) = max_{j <= k} min(1, (m - j + 1) p_(j))`` over the m p-values in ascending order (Holm, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979). NaNs stay and are not counted.

    Args:
        p: shape (m,).
    """
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p[order]))
    return adjusted


def people_needed(value: float, spread: float) -> int | None:
    """People who show a difference with a probability of 80 % in a two-sided test at 5 %.

    ``n = ((z_.975 + z_.8) * spread / value)^2`` (normal approximation).

    Args:
        value: the difference. spread: standard deviation of one person's influence on it.

    Returns:
        None if the difference or the spread is 0 or unknown; at least 2.
    """
    if not (math.isfinite(value) and math.isfinite(spread) and spread > 0) or value == 0:
        return None
    return max(2, math.ceil(((_z(1 - (1 - LEVEL) / 2) + _z(POWER)) * spread / value) ** 2))


def _interval(value: float, influence: np.ndarray, resampled: np.ndarray | None) -> tuple[float, float]:
    if not math.isfinite(value) or len(influence) < 2:
        return float("nan"), float("nan")
    if resampled is not None:
        known = resampled[np.isfinite(resampled)]
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)
    half = float(stats.t.ppf((1 + LEVEL) / 2, max(1, len(influence) - 1))) * standard_error(influence)
    return value - half, value + half


def _tail(distance: float, error: float, people: int) -> float:
    """One-sided p-value of a distance above 0; NaN where it is unknown or nothing varies."""
    if not (math.isfinite(distance) and math.isfinite(error) and error > 0):
        return float("nan")
    return float(stats.t.sf(distance / error, max(1, people - 1)))


def _gini(counts: np.ndarray) -> np.ndarray:
    x = np.sort(counts, axis=1)
    total, n = x.sum(axis=1), x.shape[1]
    weighted = ((2 * np.arange(1, n + 1) - n - 1) * x).sum(axis=1)
    return np.asarray(np.divide(weighted, n * total, out=np.full(len(x), np.nan), where=total > 0))


def _z(probability: float) -> float:
    return float(stats.norm.ppf(probability))

"""Confidence intervals: Wilson's for shares of independent trials, and a bootstrap over people for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm

from simulator.seeds import Stream

LEVEL = 0.95
"""Coverage of every interval in reports and figures."""

RESAMPLES = 2000
"""Bootstrap resamples; the Monte Carlo error of a 95 % limit is then about a fiftieth of the interval's width."""

_CHUNK = 2_000_000
"""Resampled weights held in memory at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its confidence interval.

    Attributes:
        value: the estimate; NaN where there is nothing to estimate it from.
        low, high: limits of the interval, same unit.
        people: number of people that it rests on.
    """

    value: float
    low: float
    high: float
    people: int


def bootstrap_ratio(numerators: np.ndarray, denominators: np.ndarray, stream: Stream) -> Estimate:
    """A ratio of sums over people, sum(a_i) / sum(b_i), with a percentile bootstrap interval that resamples people.

    People are resampled, not rows, because the rows of one person depend on each other. A mean over rows is the ratio
    of a person's sum of values to a person's number of rows; a mean over people has denominators of 1.

    Args:
        numerators, denominators: one number per person, shape (people,).
        stream: randomness of the resampling.

    Returns:
        The estimate; limits equal the value for one person, and everything is NaN if the denominators sum to 0.

    Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13.
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    people = int(np.count_nonzero(b))
    if people == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    n, rng = a.size, stream.generator()
    ratios = []
    for start in range(0, RESAMPLES, max(1, _CHUNK // n)):
        count = min(max(1, _CHUNK // n), RESAMPLES - start)
        weights = rng.multinomial(n, np.full(n, 1.0 / n), size=count)
        below = weights @ b
        # A resample that holds nobody with a row says nothing about the ratio.
        ratios.append((weights @ a)[below > 0] / below[below > 0])
    low, high = np.quantile(np.concatenate(ratios), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(a.sum() / b.sum()), float(low), float(high), people)


def bootstrap_crossed(values: np.ndarray, stream: Stream) -> Estimate:
    """A mean over people and seeds with a percentile interval that resamples both: people by row, seeds by column, each on its own.

    All people of one seed share its split, its simulated log and its training, and all seeds of one person share the person, so
    neither the cells nor the means over seeds are independent. The pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1 (2007)) draws rows and columns independently; it is conservative, most so for few seeds.

    Args:
        values: shape (people, seeds), such as paired differences; NaN where a person is not in a seed's test.
        stream: randomness of the resampling; the same stream and shape give the same resamples.

    Returns:
        The mean over all known cells; `people` counts rows with one. With one seed this is the bootstrap over people.
    """
    known = ~np.isnan(values)
    rows = known.any(axis=1)
    cells, there = np.where(known, values, 0.0)[rows], known[rows].astype(np.float64)
    people, seeds = cells.shape
    if people == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    of_people, of_seeds = _crossed_draws(stream, people, seeds)
    means = []
    for start in range(0, RESAMPLES, max(1, _CHUNK // people)):
        part = slice(start, start + max(1, _CHUNK // people))
        drawn = of_people[part].astype(np.float64)
        below = ((drawn @ there) * of_seeds[part]).sum(axis=1)
        means.append(((drawn @ cells) * of_seeds[part]).sum(axis=1)[below > 0] / below[below > 0])
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(cells.sum() / there.sum()), float(low), float(high), people)


@lru_cache(maxsize=2)
def _crossed_draws(stream: Stream, people: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each person and each seed is drawn in every resample, int16, shapes (RESAMPLES, people) and (RESAMPLES, seeds)."""
    rng = stream.generator()
    counts = [rng.multinomial(size, np.full(size, 1.0 / size), size=RESAMPLES).astype(np.int16) for size in (people, seeds)]
    return counts[0], counts[1]


def wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a binomial share.

    ``(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`` with p = successes / trials. It takes the trials for
    independent; the impressions of one person are not quite, so it is a little too narrow.

    Args:
        successes, trials: counts, equal shapes.

    Returns:
        Lower and upper limits in [0, 1]; (0, 1) where there were no trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    z2 = float(norm.ppf((1 + LEVEL) / 2)) ** 2
    safe = np.where(n > 0, n, 1.0)
    p = k / safe
    centre = (p + z2 / (2 * safe)) / (1 + z2 / safe)
    half = np.sqrt(z2 * (p * (1 - p) / safe + z2 / (4 * safe**2))) / (1 + z2 / safe)
    # Without rounding, the limits are exact where nothing or everything is a success.
    lower = np.where((n > 0) & (k > 0), np.clip(centre - half, 0.0, 1.0), 0.0)
    return lower, np.where((n > 0) & (k < n), np.clip(centre + half, 0.0, 1.0), 1.0)

"""Ratings by a cumulative logit model around each person's own way of giving stars.

Source: McCullagh, "Regression models for ordinal data", JRSS B 42 (1980). The cut points are not the same for everybody:
each is moved by where the person's own histogram (shrunk to the population) has it, so that people who only give fives or
never do stay so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from agents.optimising import smallest
from simulator.spread import spreads

GRADES = 5
TINY = 1e-3
OWN = 0.5
"""What the person's own histogram weighs where nothing says otherwise."""

PER_STAR = 3.0
"""Standard deviation of a prior: log-odds that a column may easily move the grades by per star. On MovieLens-100K weights are 1 to 4."""

LEVELS = 2
"""The first columns: how high the person and the item stand above others."""


@dataclass(frozen=True, eq=False)
class Ordinal:
    """``logit P(stars <= k) = cut_k + own * (h_uk - mean_k) - x . weights``, with h the log-odds of the person's own histogram.

    Attributes:
        names: of the columns. cuts: ascending, shape (4,). means: of h over the rows fitted on, shape (4,).
        own: weight of the person's own histogram, >= 0. weights, errors: of the columns, shape (p,); errors are standard errors.
        log_likelihood: at the estimates. n: ratings. trouble: what could not be fitted, empty if nothing.
    """

    names: tuple[str, ...]
    cuts: np.ndarray
    means: np.ndarray
    own: float
    weights: np.ndarray
    errors: np.ndarray
    log_likelihood: float
    n: int
    trouble: str = ""

    def cumulative(self, columns: np.ndarray, histograms: np.ndarray) -> np.ndarray:
        """Log-odds of at most 1, 2, 3, 4 stars, shape (n, 4), ascending in each row.

        Args:
            columns: shape (n, p). histograms: each row's person's probability of 1..5 stars, shape (n, 5).
        """
        moved = self.cuts + self.own * (own_log_odds(histograms) - self.means)
        found = moved - np.einsum("ij,j->i", columns, self.weights)[:, None]
        return np.asarray(np.maximum.accumulate(found, axis=1))


def own_log_odds(histograms: np.ndarray) -> np.ndarray:
    """Log-odds of at most 1, 2, 3, 4 stars in each histogram, kept within those of 0.001 and 0.999; shape (n, 4)."""
    return np.asarray(logit(np.clip(np.cumsum(histograms, axis=1)[:, : GRADES - 1], TINY, 1.0 - TINY)))


def probabilities(cumulative: np.ndarray) -> np.ndarray:
    """Probability of 1..5 stars from the log-odds of `Ordinal.cumulative`, shape (n, 5); rows sum to 1."""
    padded = np.pad(expit(cumulative), ((0, 0), (1, 1)), constant_values=((0.0, 0.0), (0.0, 1.0)))
    return np.diff(padded, axis=1)


def fit_ordinal(
    columns: np.ndarray, histograms: np.ndarray, stars: np.ndarray, names: Sequence[str], l2: float = 1.0, unit: float = 1.0
) -> Ordinal:
    """Maximum posterior: normal priors on everything, centred where the population and the people's own histograms alone would be.

    A weight has two priors, one per standard deviation of its column (`l2`) and one per star (`PER_STAR`): in a small log a column may
    hardly vary, and what it would have to weigh to matter says nothing. A column that is constant but for rounding has no weight. Where no
    start converges, the fit is done without the columns after the first two (levels of person and item), and then without any.

    Args:
        columns: shape (n, p). histograms: shape (n, 5). stars: 1..5, shape (n,). names: of the columns. l2: of the ridge.
        unit: of the ratings that the columns were computed from, in the data's units, > 0.

    Returns:
        Estimates and standard errors from the inverse information (of the log-likelihood's outer products of scores).
    """
    n, p = columns.shape
    if n == 0:
        cuts = logit(np.arange(1, GRADES) / GRADES)
        return Ordinal(tuple(names), cuts, cuts, 1.0, np.zeros(p), np.full(p, np.inf), 0.0, 0)
    spread = spreads(columns, min(1.0, unit))
    varying = np.flatnonzero(spread > 0)
    tried: list[str] = []
    for kept in dict.fromkeys((tuple(varying.tolist()), tuple(varying[varying < LEVELS].tolist()), ())):
        model = _fit(columns[:, list(kept)], histograms, stars, spread[list(kept)], l2, unit)
        if model is not None or not kept:
            break
        tried.append(", ".join(names[k] for k in kept))
    trouble = f"no weights of {' nor of '.join(tried)} could be found" if tried else ""
    weights, errors = np.zeros(p), np.zeros(p)
    if model is None:
        cuts = _cuts(_start(stars, 0))
        return Ordinal(tuple(names), cuts, own_log_odds(histograms).mean(axis=0), OWN, weights, errors, 0.0, n, f"{trouble or 'no cuts'}")
    weights[list(kept)], errors[list(kept)] = model.weights, model.errors
    return replace(model, names=tuple(names), weights=weights, errors=errors, trouble=trouble)


def _start(stars: np.ndarray, p: int) -> np.ndarray:
    """Cuts at the shares of the grades (with one more of each), as a first one and logs of the steps, so that they stay in order."""
    shares = (np.bincount(stars.astype(np.int64) - 1, minlength=GRADES) + 1.0) / (len(stars) + GRADES)
    cuts = logit(np.cumsum(shares)[:-1])
    return np.concatenate([[cuts[0]], np.log(np.diff(cuts).clip(min=TINY)), [OWN], np.zeros(p)])


def _cuts(theta: np.ndarray) -> np.ndarray:
    return np.asarray(theta[0] + np.concatenate([[0.0], np.cumsum(np.exp(theta[1 : GRADES - 1]))]))


def _fit(columns: np.ndarray, histograms: np.ndarray, stars: np.ndarray, spread: np.ndarray, l2: float, unit: float) -> Ordinal | None:
    """The model of columns that vary, or None if no start converges."""
    n, p = columns.shape
    own = own_log_odds(histograms)
    means = own.mean(axis=0)
    # Weights are counted in standard deviations of their priors, so that they are all of one size.
    scale = 1.0 / np.sqrt(l2 * spread**2 + (unit / PER_STAR) ** 2)
    scaled, moved = columns * scale, own - means
    rows, grade = np.arange(n), stars.astype(np.int64) - 1
    start = _start(stars, p)

    def scores(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        upper = np.full((n, GRADES + 1), np.inf)
        upper[:, 0] = -np.inf
        upper[:, 1:GRADES] = _cuts(theta) + theta[GRADES - 1] * moved - np.einsum("ij,j->i", scaled, theta[GRADES:])[:, None]
        high, low = upper[rows, grade + 1], upper[rows, grade]
        chance = np.maximum(expit(high) - expit(low), 1e-12)
        up, down = expit(high) * expit(-high) / chance, expit(low) * expit(-low) / chance
        by_cut = np.zeros((n, GRADES + 1))
        by_cut[rows, grade + 1] += up
        by_cut[rows, grade] -= down
        by_cut = by_cut[:, 1:GRADES]
        steps = np.exp(theta[1 : GRADES - 1])
        later = np.cumsum(by_cut[:, ::-1], axis=1)[:, ::-1][:, 1:] * steps
        parts = [by_cut.sum(axis=1)[:, None], later, (by_cut * moved).sum(axis=1)[:, None], -by_cut.sum(axis=1)[:, None] * scaled]
        return np.log(chance), np.concatenate(parts, axis=1)

    ridge = np.concatenate([np.full(GRADES, l2), np.ones(p)])

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logs, slopes = scores(theta)
        away = theta - start
        return float(-logs.sum() + 0.5 * (ridge * away**2).sum()), -slopes.sum(axis=0) + ridge * away

    bounds = [(-20.0, 20.0), *[(-10.0, 5.0)] * (GRADES - 2), (0.0, 3.0), *[(-50.0, 50.0)] * p]
    elsewhere = start.copy()
    elsewhere[GRADES - 1 :] = [1.0, *[0.1] * p]
    found = smallest(objective, [start, elsewhere], bounds)
    if not found.converged:
        return None
    logs, slopes = scores(found.point)
    information = np.einsum("ni,nj->ij", slopes, slopes) + np.diag(ridge)
    errors = np.sqrt(np.diag(np.linalg.inv(information)).clip(min=0.0))[GRADES:] * scale
    weights = found.point[GRADES:] * scale
    return Ordinal((), _cuts(found.point), means, float(found.point[GRADES - 1]), weights, errors, float(logs.sum()), n)


def fit_shift(cumulative: np.ndarray, stars: np.ndarray, extra: np.ndarray, l2: float = 1.0) -> tuple[float, float]:
    """How fixed log-odds should be moved altogether and by one more column: ``cumulative + shift - weight * extra``.

    Args:
        cumulative: of `Ordinal.cumulative`, shape (n, 4). stars: 1..5, shape (n,). extra: shape (n,). l2: ridge on both.

    Returns:
        Shift and weight; (0, 0) without ratings, or if none can be found.
    """
    if not len(stars):
        return 0.0, 0.0
    rows, grade = np.arange(len(stars)), stars.astype(np.int64) - 1

    padded = np.pad(cumulative, ((0, 0), (1, 1)), constant_values=((0.0, 0.0), (-np.inf, np.inf)))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        moved = padded + theta[0] - theta[1] * extra[:, None]
        high, low = expit(moved[rows, grade + 1]), expit(moved[rows, grade])
        chance = np.maximum(high - low, 1e-12)
        # Of each rating's log-probability by the shift.
        slope = (high * (1.0 - high) - low * (1.0 - low)) / chance
        value = -np.log(chance).sum() + 0.5 * l2 * (theta**2).sum()
        return float(value), np.array([-slope.sum(), (slope * extra).sum()]) + l2 * theta

    found = smallest(objective, [np.zeros(2), np.full(2, 0.5)], [(-5.0, 5.0)] * 2)
    return (float(found.point[0]), float(found.point[1])) if found.converged else (0.0, 0.0)

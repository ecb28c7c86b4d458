"""Ratings by a cumulative logit model around each person's own way of giving stars.

Source: McCullagh, "Regression models for ordinal data", JRSS B 42 (1980). The cut points are not the same for everybody:
each is moved by where the person's own histogram (shrunk to the population) has it, so that people who only give fives or
never do stay so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

GRADES = 5
TINY = 1e-3


@dataclass(frozen=True, eq=False)
class Ordinal:
    """``logit P(stars <= k) = cut_k + own * (h_uk - mean_k) - x . weights``, with h the log-odds of the person's own histogram.

    Attributes:
        names: of the columns. cuts: ascending, shape (4,). means: of h over the rows fitted on, shape (4,).
        own: weight of the person's own histogram, >= 0. weights, errors: of the columns, shape (p,); errors are standard errors.
        log_likelihood: at the estimates. n: ratings.
    """

    names: tuple[str, ...]
    cuts: np.ndarray
    means: np.ndarray
    own: float
    weights: np.ndarray
    errors: np.ndarray
    log_likelihood: float
    n: int

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


def fit_ordinal(columns: np.ndarray, histograms: np.ndarray, stars: np.ndarray, names: Sequence[str], l2: float = 1.0) -> Ordinal:
    """Maximum likelihood with a small ridge on the weights.

    Args:
        columns: shape (n, p). histograms: shape (n, 5). stars: 1..5, shape (n,). names: of the columns. l2: of the ridge.

    Returns:
        Estimates and standard errors from the inverse information (of the log-likelihood's outer products of scores).
    """
    n, p = columns.shape
    own = own_log_odds(histograms)
    if n == 0:
        cuts = logit(np.arange(1, GRADES) / GRADES)
        return Ordinal(tuple(names), cuts, cuts, 1.0, np.zeros(p), np.full(p, np.inf), 0.0, 0)
    means = own.mean(axis=0)
    spread = np.where(columns.std(axis=0) > 0, columns.std(axis=0), 1.0)
    scaled, moved = columns / spread, own - means
    rows, grade = np.arange(n), stars.astype(np.int64) - 1
    shares = (np.bincount(grade, minlength=GRADES) + 1.0) / (n + GRADES)
    start_cuts = logit(np.cumsum(shares)[:-1])
    # Cuts as a first one and logs of the steps, so that they stay in order.
    start = np.concatenate([[start_cuts[0]], np.log(np.diff(start_cuts).clip(min=TINY)), [0.5], np.zeros(p)])

    def pieces(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        cuts = theta[0] + np.concatenate([[0.0], np.cumsum(np.exp(theta[1 : GRADES - 1]))])
        upper = np.full((n, GRADES + 1), np.inf)
        upper[:, 0] = -np.inf
        upper[:, 1:GRADES] = cuts + theta[GRADES - 1] * moved - (scaled @ theta[GRADES:])[:, None]
        high, low = upper[rows, grade + 1], upper[rows, grade]
        return cuts, high, low, np.maximum(expit(high) - expit(low), 1e-12)

    def scores(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, high, low, chance = pieces(theta)
        up, down = expit(high) * expit(-high) / chance, expit(low) * expit(-low) / chance
        by_cut = np.zeros((n, GRADES + 1))
        by_cut[rows, grade + 1] += up
        by_cut[rows, grade] -= down
        by_cut = by_cut[:, 1:GRADES]
        steps = np.exp(theta[1 : GRADES - 1])
        later = np.cumsum(by_cut[:, ::-1], axis=1)[:, ::-1][:, 1:] * steps
        parts = [by_cut.sum(axis=1)[:, None], later, (by_cut * moved).sum(axis=1)[:, None], -by_cut.sum(axis=1)[:, None] * scaled]
        return np.log(chance), np.concatenate(parts, axis=1)

    ridge = np.concatenate([np.zeros(GRADES), np.full(p, l2)])

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logs, slopes = scores(theta)
        return float(-logs.sum() + 0.5 * (ridge * theta**2).sum()), -slopes.sum(axis=0) + ridge * theta

    bounds = [(-20.0, 20.0), *[(-10.0, 5.0)] * (GRADES - 2), (0.0, 3.0), *[(-50.0, 50.0)] * p]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    logs, slopes = scores(found.x)
    information = slopes.T @ slopes + np.diag(ridge + 1e-9)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))[GRADES:] / spread
    cuts = pieces(found.x)[0]
    return Ordinal(tuple(names), cuts, means, float(found.x[GRADES - 1]), found.x[GRADES:] / spread, errors, float(logs.sum()), n)


def fit_shift(cumulative: np.ndarray, stars: np.ndarray, extra: np.ndarray, l2: float = 1.0) -> tuple[float, float]:
    """How fixed log-odds should be moved altogether and by one more column: ``cumulative + shift - weight * extra``.

    Args:
        cumulative: of `Ordinal.cumulative`, shape (n, 4). stars: 1..5, shape (n,). extra: shape (n,). l2: ridge on both.

    Returns:
        Shift and weight; (0, 0) without ratings.
    """
    if not len(stars):
        return 0.0, 0.0
    rows, grade = np.arange(len(stars)), stars.astype(np.int64) - 1

    def objective(theta: np.ndarray) -> float:
        chance = probabilities(cumulative + theta[0] - theta[1] * extra[:, None])[rows, grade]
        return float(-np.log(np.maximum(chance, 1e-12)).sum() + 0.5 * l2 * (theta**2).sum())

    found = minimize(objective, np.zeros(2), method="L-BFGS-B", bounds=[(-5.0, 5.0)] * 2)
    return float(found.x[0]), float(found.x[1])

"""From an expected rating to a distribution on the values that the data has: halves, 1 to 10, 0 and 1, or a continuous scale.

People use a scale in their own way: some never give halves, some nearly only fives. So a person's own histogram, completed by everybody's,
is tilted until its mean is the expected rating (exponential tilting, the least change in the sense of Kullback & Leibler: Csiszar,
"I-divergence geometry of probability distributions", Annals of Probability 1975), and narrowed around it, since what is known of the item
makes the ratings of one item vary less than those of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

MOST_VALUES, BINS = 25, 20
"""A scale with more different ratings is taken for continuous and cut into so many equally full bins."""

WITHIN = 50
"""Ratings kept of each bin, evenly spaced in their order, of which a draw takes one."""

INSIDE = 0.004
"""An expected rating is kept this share of the range inside its ends, where no tilted histogram could have it."""

PSEUDO_COUNTS = (1.0, 3.0, 10.0, 30.0)
MOST_NARROW = 2.0
NEWTON_STEPS, CLOSE = 100, 1e-9


@dataclass(frozen=True, eq=False)
class OwnValues:
    """The values of a data set's ratings.

    Attributes:
        values: ascending, shape (v,): the ratings that occur, or means of bins.
        upper: upper bounds of all bins but the last, shape (v - 1,): between two values, or quantiles.
        within: ratings that a draw of each value may give, ascending, shape (v, 1) or (v, `WITHIN`).
    """

    values: np.ndarray
    upper: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, ratings: np.ndarray) -> OwnValues:
        """Reads the values off some ratings, at least one."""
        distinct = np.unique(ratings.astype(np.float64))
        if len(distinct) <= MOST_VALUES:
            return cls(distinct, (distinct[1:] + distinct[:-1]) / 2, distinct[:, None])
        ordered = np.sort(ratings.astype(np.float64))
        upper = np.unique(np.quantile(ordered, np.arange(1, BINS) / BINS))
        upper = upper[upper < ordered[-1]]
        bins = np.split(ordered, np.searchsorted(ordered, upper, side="right"))
        within = np.stack([part[np.linspace(0, len(part) - 1, WITHIN).round().astype(np.int64)] for part in bins])
        return cls(np.array([part.mean() for part in bins]), upper, within)

    def codes(self, ratings: np.ndarray) -> np.ndarray:
        """Which value each rating is, or the nearest one to it; int64 in 0..v - 1, same shape."""
        return np.searchsorted(self.upper, ratings, side="left")

    def counts(self, users: np.ndarray, codes: np.ndarray, n_users: int) -> np.ndarray:
        """How often each person gave each value, float64, shape (n_users, v)."""
        v = len(self.values)
        return np.bincount(users * v + codes, minlength=n_users * v).reshape(n_users, v).astype(np.float64)

    def drawn(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Ratings for values that were drawn: the value itself, or one of its bin's ratings by a uniform number in [0, 1)."""
        return np.asarray(self.within[codes, (uniforms * self.within.shape[1]).astype(np.int64)])


@dataclass(frozen=True, eq=False)
class Shape:
    """How ratings lie around what is expected.

    ``p(v) ~ h_u(v) exp(-kappa (v - m)^2 / (2 s^2) + theta v)`` with ``h_u = (own counts + c * everybody's shares) / (n_u + c)`` and theta
    such that the mean is m.

    Attributes:
        values: shape (v,). shares: of everybody, all > 0, sum to 1, shape (v,). spread: s > 0, standard deviation of ratings around
            what is expected of them. pseudo_counts: c > 0. narrow: kappa >= 0.
    """

    values: np.ndarray
    shares: np.ndarray
    spread: float
    pseudo_counts: float
    narrow: float

    @classmethod
    def fit(cls, values: np.ndarray, shares: np.ndarray, expected: np.ndarray, counts: np.ndarray, codes: np.ndarray) -> Shape:
        """The c and kappa with the least log loss.

        Args:
            values, shares: see above. expected: of each rating, without having seen it, shape (n,). counts: of its person's other
                ratings, shape (n, v). codes: which value it was, shape (n,).
        """
        shares = shares.clip(min=1e-9) / shares.clip(min=1e-9).sum()
        spread = max(float(np.sqrt(np.mean((values[codes] - expected) ** 2))), 1e-3 * float(np.ptp(values)), 1e-9)
        best: tuple[float, Shape] | None = None
        for pseudo in PSEUDO_COUNTS:
            found = minimize_scalar(
                lambda narrow, pseudo=pseudo: cls(values, shares, spread, pseudo, float(narrow)).log_loss(expected, counts, codes),
                bounds=(0.0, MOST_NARROW),
                method="bounded",
                options={"xatol": 0.01},
            )
            if best is None or found.fun < best[0]:
                best = (float(found.fun), cls(values, shares, spread, pseudo, float(found.x)))
        assert best is not None
        return best[1]

    def log_loss(self, expected: np.ndarray, counts: np.ndarray, codes: np.ndarray) -> float:
        """Mean negative log-probability of values that were given; arguments as in `fit`."""
        shares = self.probabilities(expected, counts)
        return float(-np.mean(np.log(shares[np.arange(len(codes)), codes].clip(min=1e-12))))

    def probabilities(self, expected: np.ndarray, counts: np.ndarray, also_known: float = 0.0) -> np.ndarray:
        """Probability of each value, shape (n, v); rows sum to 1.

        Args:
            expected: shape (n,), any numbers. counts: of the person's ratings, shape (n, v).
            also_known: share of the variance around `expected` that is already in it, in [0, 1): the rest is narrower.
        """
        v = self.values
        if len(v) < 2:
            return np.ones((len(expected), len(v)))
        own = (counts + self.pseudo_counts * self.shares) / (counts.sum(axis=1, keepdims=True) + self.pseudo_counts)
        edge = INSIDE * (v[-1] - v[0])
        mean = np.clip(expected, v[0] + edge, v[-1] - edge)
        narrow = self.narrow + also_known / (1.0 - also_known)
        away = (v - mean[:, None]) / self.spread
        return tilted(np.log(own) - 0.5 * narrow * away**2, v, mean)


def tilted(logs: np.ndarray, values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Distributions ``~ exp(logs + theta * values)`` with given means, by Newton's method between bounds that close in.

    Args:
        logs: finite, shape (n, v). values: ascending, shape (v,). mean: strictly between the ends of `values`, shape (n,).

    Returns:
        Shape (n, v), rows sum to 1.
    """
    unit = float(values[-1] - values[0])
    x, wanted = (values - values[0]) / unit, (mean - values[0]) / unit
    theta, lower, upper = np.zeros(len(mean)), np.full(len(mean), -np.inf), np.full(len(mean), np.inf)
    found = np.empty_like(logs)
    todo = np.arange(len(mean))
    for _ in range(NEWTON_STEPS):
        index = logs[todo] + theta[todo, None] * x
        shares = np.exp(index - index.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        found[todo] = shares
        off = np.einsum("nv,v->n", shares, x) - wanted[todo]
        slope = np.einsum("nv,v->n", shares, x**2) - (off + wanted[todo]) ** 2
        lower[todo], upper[todo] = np.where(off < 0, theta[todo], lower[todo]), np.where(off > 0, theta[todo], upper[todo])
        step = theta[todo] - off / np.maximum(slope, 1e-12)
        # At most 10 further out, and halfway where a step would leave the bounds.
        step = np.clip(step, theta[todo] - 10.0 - np.abs(theta[todo]), theta[todo] + 10.0 + np.abs(theta[todo]))
        out = (step <= lower[todo]) | (step >= upper[todo])
        with np.errstate(invalid="ignore"):
            middle = (lower[todo] + upper[todo]) / 2
        theta[todo] = np.where(out & np.isfinite(middle), middle, step)
        todo = todo[np.abs(off) > CLOSE]
        if not len(todo):
            break
    return found

"""Semi-synthetic logs in which people pick what they like: real factors, made-up picks, and so a truth about items that nobody picked.

The truth is one posterior sample of the factors of a real log plus noise of each person's variance, rounded to the scale's steps. Everybody
picks as many items as in the log, without replacement and with log-odds ``POPULARITY * log popularity + beta * rating`` (by adding Gumbel
noise and taking the best: Yellott, "The relationship between Luce's choice axiom, Thurstone's theory of comparative judgment, and the
double exponential distribution", Journal of Mathematical Psychology 1977).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.rating_factors import RatingFactors, Sizes
from agents.rating_model import RatingModel, Ratings
from simulator.seeds import Stream

POPULARITY = 0.9
SWEEPS = 60
JUDGED = 100_000
"""Unpicked pairs of a person and an item that errors are means over."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Ratings of everything by everybody, shape (n_users, n_items), and of each pair how many ratings it has in the real log."""

    ratings: np.ndarray
    counts: np.ndarray
    popularity: np.ndarray

    @classmethod
    def of(cls, log: Ratings, rng: Stream, step: float = 1.0) -> Truth:
        """Draws a world from a log; step: of the scale."""
        found = RatingFactors.fit(log.users, log.items, log.given, log.shape, rng.child("truth"), _sizes(log))
        people, items = found.users[-1].astype(np.float64), found.items[-1].astype(np.float64)
        liking = people[:, :-1] @ items[:, :-1].T + people[:, -1:] + items[:, -1]
        noise = np.sqrt(found.user_noise)[:, None] * rng.child("noise").generator().standard_normal(log.shape)
        ratings = np.round((found.centre + found.scale * liking + noise) / step) * step
        clipped = np.clip(ratings, log.given.min(), log.given.max())
        return cls(clipped, np.bincount(log.users, minlength=log.shape[0]), np.bincount(log.items, minlength=log.shape[1]))

    def log(self, beta: float, rng: Stream) -> Ratings:
        """What people pick if the log-odds rise by beta per unit of rating."""
        noise = rng.child("picks").generator().gumbel(size=self.ratings.shape)
        order = np.argsort(-(POPULARITY * np.log(np.maximum(self.popularity, 0.5)) + beta * self.ratings + noise), axis=1)
        users = np.repeat(np.arange(len(self.counts)), self.counts)
        items = np.concatenate([row[:count] for row, count in zip(order, self.counts.tolist(), strict=True)])
        return Ratings.of(users, items, self.ratings[users, items], self.ratings.shape)


def _sizes(log: Ratings) -> Sizes:
    usual = Sizes.of(len(log), log.shape)
    return Sizes(usual.factors, usual.features, min(usual.sweeps, SWEEPS))


def judged(truth: Truth, beta: float, foreseen: float, rng: Stream) -> dict[str, Any]:
    """Errors on items that nobody picked, of the model with and without its shift, and of biases.

    Args:
        truth: the world. beta: of the picks. foreseen: phi that the model assumes. rng: of picks and fit.
    """
    log = truth.log(beta, rng)
    model = RatingModel.fit(log, rng.child("fit"), foreseen=foreseen)
    free = np.ones(truth.ratings.shape, dtype=bool)
    free[log.users, log.items] = False
    users, items = np.nonzero(free)
    some = rng.child("judged").generator().permutation(len(users))[:JUDGED]
    users, items = users[some], items[some]
    real = truth.ratings[users, items]
    plain = model.expected(users, items)
    told = {
        "biases": model.biases.expected(users, items),
        "unshifted": plain,
        "shifted": np.clip(plain + model.selection.assigned(0.0), *model.ends),
    }
    errors = {
        name: {"bias": float(np.mean(what - real)), "rmse": float(np.sqrt(np.mean((what - real) ** 2)))} for name, what in told.items()
    }
    return {"beta": beta, "found": model.selection.strength, "error": model.selection.error, "gap": model.selection.gap, **errors}

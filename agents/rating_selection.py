"""Ratings of what people did not pick: how much kinder a log is than people are to items that are put before them.

People pick what they think they will like. If the log-odds of being picked rise by beta per unit of rating, the ratings of a log are the
true ones tilted by ``exp(beta * rating)``: their mean lies beta times the variance of what is not predicted too high, and neither their
distribution nor propensities show it (Marlin & Zemel, "Collaborative prediction and ranking with non-random missing data", RecSys 2009, on
the phenomenon; Schnabel et al., "Recommendations as treatments", ICML 2016, on propensities). The log does show beta for what is
predictable, by comparing picked with random items. It does not show phi, the share of the unpredicted variance that people foresee when
they pick: that is an assumption, which random ratings (of items that were assigned, not picked) replace.

The liking of an item by a person is ``m - gap (1 - Q) + a`` with a normal of variance ``phi s^2`` that they foresee and the log cannot
predict; a enters choice with weight beta and rating with weight 1. With ``gap = beta phi s^2``, what is picked with probability P from
what is shown has mean a of about ``gap (1 - P)``. Q is the P of what people usually pick, so that these have the level of the log, m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.choice_model import fit_logit

MOST_SHIFT = 0.5
"""The shift is at most so many standard deviations of what is not predicted."""

SURE = 2.5
COLUMNS = ("popularity", "taste")


@dataclass(frozen=True)
class Selection:
    """What picking says about ratings.

    Attributes:
        strength: beta, log-odds of being picked per unit of predicted rating, >= 0. error: its standard error.
        foreseen: phi, in [0, 1]; assumed. residual: s, standard deviation of ratings around what is expected, the data's units.
        measured: how much less random items were liked than expected, in place of all that, or None. measured_error: its standard error.
        rows: ratings that `strength`, or `measured`, is read off.
    """

    strength: float
    error: float
    foreseen: float
    residual: float
    measured: float | None = None
    measured_error: float = 0.0
    rows: int = 0

    @property
    def uncapped(self) -> float:
        """beta phi s^2, the data's units."""
        return self.strength * self.foreseen * self.residual**2

    @property
    def gap(self) -> float:
        """How much less an item that is not picked is liked than the log says, the data's units; at most `MOST_SHIFT` s if not measured."""
        return self.measured if self.measured is not None else min(self.uncapped, MOST_SHIFT * self.residual)

    def picked(self, probability: np.ndarray, usual: float) -> np.ndarray:
        """What is added to the expected ratings of items that were picked from what was shown.

        Args:
            probability: with which each was picked, in [0, 1]. usual: Q, the same of what is usually picked, in [0, 1).
        """
        return np.asarray(-self.assigned(usual) / (1.0 - usual) * (usual - probability))

    def assigned(self, usual: float) -> float:
        """What is added to the expected rating of an item that somebody has to rate without having picked it."""
        return -self.measured if self.measured is not None else -self.gap * (1.0 - usual)

    def told(self) -> dict[str, float | int | bool | None]:
        """Everything of it, for reports."""
        return {
            "strength": self.strength,
            "error": self.error,
            "foreseen": self.foreseen if self.measured is None else None,
            "residual": self.residual,
            "gap": self.gap,
            "capped": self.measured is None and self.uncapped > MOST_SHIFT * self.residual,
            "measured": self.measured is not None,
            "measured_error": self.measured_error if self.measured is not None else None,
            "rows": self.rows,
        }

    def sentence(self) -> str:
        """What is assumed, in words."""
        if self.measured is not None:
            return (
                f"items that nobody picked are liked {self.measured:.2f} less than the log says, by {self.rows:,} ratings of random items "
                f"(standard error {self.measured_error:.2f})."
            )
        return (
            f"items that nobody picked are liked {self.gap:.2f} less than the log says: it is assumed that people foresee "
            f"{self.foreseen:.0%} of what is not predictable of their ratings when they pick (decision.foreseen), which no log can show."
        )


def strength_of_selection(people: np.ndarray, popularity: np.ndarray, taste: np.ndarray, picked: np.ndarray) -> tuple[float, float]:
    """beta: log-odds of being picked per unit of predicted taste, at equal popularity.

    Args:
        people: who, codes, shape (n,). popularity: times that others picked the item, shape (n,). taste: expected rating less the levels
            of the person and the item, without this rating and from the values of ratings alone: who rated what predicts picks whether or
            not they are liked; shape (n,). picked: 1, or 0 for random other items of the same people, shape (n,).

    Returns:
        beta, 0 if it is less than `SURE` standard errors above 0, and its standard error; (0, 0) where the data cannot say.
    """
    if not len(picked) or picked.min() == picked.max() or float(np.std(taste)) < 1e-6:
        return 0.0, 0.0
    found = fit_logit(np.column_stack([np.log1p(popularity), taste]), picked, people, COLUMNS)
    if found.trouble or not np.isfinite(found.errors[2]):
        return 0.0, 0.0
    beta, error = float(found.weights[2]), float(found.errors[2])
    return (beta if beta > SURE * error else 0.0), error


def unpicked(users: np.ndarray, items: np.ndarray, of: np.ndarray, n_items: int, generator: np.random.Generator) -> np.ndarray:
    """A random item for each person of a list that they did not pick, or -1 after ten vain tries; int64, shape (len(of),).

    Args:
        users, items: everything that was picked. of: codes of people. n_items: in the catalog.
    """
    taken = np.unique(users.astype(np.int64) * n_items + items)
    found = np.full(len(of), -1, dtype=np.int64)
    for _ in range(10):
        todo = np.flatnonzero(found < 0)
        tried = generator.integers(0, n_items, len(todo))
        keys = of[todo].astype(np.int64) * n_items + tried
        place = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        found[todo] = np.where(taken[place] == keys, -1, tried)
    return found

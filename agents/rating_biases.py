"""Biases of people and items in ratings, with variances that the data tells: the rating model to fall back to.

``r_ui = mean + b_u + b_i + noise`` with normal b_u, b_i and noise; the three variances are found by expectation and maximisation,
alternating between people and items (Searle, Casella & McCulloch, "Variance Components", 1992, chapter 8). A fixed shrinkage does harm
where people or items are nearly alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALTERNATIONS = 60
LEAST = 1e-6
"""Least variance, as a share of that of all ratings."""


@dataclass(frozen=True, eq=False)
class Biases:
    """Levels of people and items.

    Attributes:
        mean: of all ratings. of_user, of_item: the data's units, shape (n_users,), (n_items,); 0 for whoever has no rating.
        noise, user_variance, item_variance: variances, > 0 unless all ratings are equal.
    """

    mean: float
    of_user: np.ndarray
    of_item: np.ndarray
    noise: float
    user_variance: float
    item_variance: float

    @classmethod
    def fit(cls, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, shape: tuple[int, int]) -> Biases:
        """Estimates levels and variances.

        Args:
            users, items, ratings: one entry per rating, at least one. shape: (n_users, n_items).
        """
        mean = float(ratings.mean())
        centred = ratings - mean
        total = max(float(np.mean(centred**2)), 1e-12)
        counts = [np.bincount(codes, minlength=n).astype(np.float64) for codes, n in zip((users, items), shape, strict=True)]
        codes, levels = (users, items), [np.zeros(n) for n in shape]
        variances, noise, lost = [0.1 * total, 0.1 * total], 0.8 * total, [0.0, 0.0]
        for _ in range(ALTERNATIONS):
            for side, other in ((1, 0), (0, 1)):
                left = centred - levels[other][codes[other]]
                sure = 1.0 / (counts[side] / noise + 1.0 / variances[side])
                levels[side] = np.bincount(codes[side], weights=left, minlength=shape[side]) / noise * sure
                known = counts[side] > 0
                variances[side] = max(float(np.mean(levels[side][known] ** 2 + sure[known])), LEAST * total)
                # What the uncertainty of the levels adds to the squared residuals.
                lost[side] = float((counts[side] * sure).sum())
            left = centred - levels[0][users] - levels[1][items]
            noise = max(float((np.sum(left**2) + lost[0] + lost[1]) / len(left)), LEAST * total)
        return cls(mean, levels[0], levels[1], noise, variances[0], variances[1])

    def expected(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Mean plus both levels, the data's units, shape (n,)."""
        return np.asarray(self.mean + self.of_user[users] + self.of_item[items])

    def of_history(self, items: np.ndarray, ratings: np.ndarray) -> float:
        """Level of somebody who gave these items these ratings, in the fit or not; the data's units."""
        left = float(np.sum(ratings - self.mean - self.of_item[items]))
        return left / (len(items) + self.noise / self.user_variance)

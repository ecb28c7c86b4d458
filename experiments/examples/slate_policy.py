"""A small policy that learns to fill pages: a linear score of every candidate, a page drawn by Plackett-Luce, REINFORCE.

Nothing here knows simulated people: it reads observations of `experiments.reinforcement` and answers with actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.reinforcement.features import ItemFeatures

RECENT = 10
"""Newest items of a history that count as recent."""

NAMES = (
    "score of the recommender",
    "popularity",
    "mean rating",
    "year",
    "like the history",
    "like recent items",
    "like this session's choices",
    "like this session's skips",
    "genres of the history",
    "genres of this session's choices",
)
"""What a candidate is scored by; each is standardised among the candidates of its page."""


def page_features(observations: Mapping[str, np.ndarray], items: ItemFeatures) -> np.ndarray:
    """What the policy looks at, float64, shape (people, candidates, len(NAMES)); 0 for places without a candidate.

    "Like" is the dot product of item factors with the mean factors of some items, "genres" that of genre vectors.

    Args:
        observations: a batch with candidates (`experiments.reinforcement.observations.Observer`).
        items: features of all items.
    """
    table = np.vstack([items.values, np.zeros((1, items.values.shape[1]), dtype=np.float32)])  # the last row is "no item"
    n = len(items.values)
    offered = observations["candidates"]
    there = offered < n
    factors, column = table[:, items.factors], {name: j for j, name in enumerate(items.names)}
    genres = table[:, [j for j, name in enumerate(items.names) if name.startswith("genre: ")]]
    history, shown, chosen = observations["history"], observations["shown"], observations["chosen"] == 1
    chosen_items, skipped_items = np.where(chosen, shown, n), np.where(chosen, n, shown)
    columns = [
        observations["candidate_features"][:, :, -1],
        *(table[offered][:, :, column[name]] for name in ("popularity", "mean rating", "year")),
        *(_likeness(factors, offered, some) for some in (history, history[:, -RECENT:], chosen_items, skipped_items)),
        _likeness(genres, offered, history),
        _likeness(genres, offered, chosen_items),
    ]
    features = np.stack(columns, axis=2).astype(np.float64)
    count = np.maximum(there.sum(axis=1), 1)[:, None, None]
    features -= (features * there[:, :, None]).sum(axis=1, keepdims=True) / count
    features *= there[:, :, None]
    spread = np.sqrt((features**2).sum(axis=1, keepdims=True) / count)
    return features / np.where(spread > 1e-9, spread, 1.0)


def _likeness(vectors: np.ndarray, offered: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Dot products of candidates with the mean vector of other items ("no item" aside), shape (people, candidates)."""
    known = np.maximum((some < len(vectors) - 1).sum(axis=1), 1)[:, None]
    means = vectors[some].sum(axis=1) / known
    likeness: np.ndarray = np.einsum("pkd,pd->pk", vectors[offered], means)
    return likeness


@dataclass(eq=False)
class SlatePolicy:
    """Scores ``theta . features``; a page is drawn place by place with probability proportional to exp(score).

    The gradient of the log-probability of a page is the sum over its places of the features of the item there minus their mean
    under the probabilities among the items that are left (Plackett, "The analysis of permutations", 1975); `update` is REINFORCE
    (Williams, Machine Learning 8, 1992) with Adam (Kingma and Ba, ICLR 2015).

    Attributes:
        theta: one weight per feature, shape (len(NAMES),).
    """

    theta: np.ndarray
    rate: float = 0.05
    _mean: np.ndarray | None = None
    _square: np.ndarray | None = None
    _steps: int = 0

    @classmethod
    def untrained(cls, rate: float) -> SlatePolicy:
        """Knows nothing: every page is as likely as any other."""
        return cls(np.zeros(len(NAMES)), rate)

    def best(self, features: np.ndarray, there: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """The pages of highest score, places among the candidates, shape (people, size); chance decides between equal scores."""
        scores = np.where(there, features @ self.theta, -np.inf)
        return np.lexsort((rng.random(scores.shape), -scores), axis=1)[:, :size]

    def draw(self, features: np.ndarray, there: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Pages, and the gradients of their log-probabilities.

        Args:
            features: shape (people, candidates, len(NAMES)). there: which places have a candidate, shape (people, candidates).
            size: places of a page. rng: of the draws.

        Returns:
            Places among the candidates, shape (people, size), and gradients, shape (people, len(NAMES)).
        """
        scores = np.where(there, features @ self.theta, -np.inf)
        # Adding Gumbel noise and sorting draws from Plackett-Luce (Yellott, 1977).
        pages = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)[:, :size]
        rows, gradients, left = np.arange(len(pages)), np.zeros((len(pages), len(self.theta))), scores.copy()
        for place in range(size):
            top = left.max(axis=1, keepdims=True)
            weights = np.exp(left - np.where(np.isfinite(top), top, 0.0))
            chances = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
            here = pages[:, place]
            taken = np.isfinite(left[rows, here])
            gradients += np.where(taken[:, None], features[rows, here] - np.einsum("pk,pkd->pd", chances, features), 0.0)
            left[rows, here] = -np.inf
        return pages, gradients

    def update(self, gradient: np.ndarray) -> None:
        """A step of Adam uphill."""
        self._steps += 1
        mean = 0.1 * gradient + 0.9 * (np.zeros_like(gradient) if self._mean is None else self._mean)
        square = 0.01 * gradient**2 + 0.99 * (np.zeros_like(gradient) if self._square is None else self._square)
        self._mean, self._square = mean, square
        step = mean / (1 - 0.9**self._steps) / (np.sqrt(square / (1 - 0.99**self._steps)) + 1e-8)
        self.theta = self.theta + self.rate * step

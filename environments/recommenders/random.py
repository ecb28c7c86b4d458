"""Random recommendation: the control that knows nothing, and the ideal logging policy for offline evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import load_arrays, not_fitted, save_arrays
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class RandomConfig(ComponentConfig):
    """Options of `Random`.

    Attributes:
        popularity: items are drawn in proportion to this power of one plus the number of people who interacted with them: 0 treats
            all alike, 1 shows what is popular as much more often as it is more popular.
        uniform: share of the draws' weight that all items have alike, whatever their popularity, in [0, 1).
    """

    popularity: float = Field(default=0.0, ge=0, le=3)
    uniform: float = Field(default=0.0, ge=0, lt=1)


class Random:
    """Unseen items in random order, with exact propensities: uniform, or like a site on which popular items are found more easily.

    The k-th item (from 0) of a slate is drawn from those that remain in proportion to their weights w, so its propensity is
    ``w_i / sum of the remaining w`` (Plackett, "The analysis of permutations", Applied Statistics 24, 1975): 1 / (m - k) of m unseen
    items where all weigh alike. It prefers nothing for one person: all scores are 0.
    """

    Config = RandomConfig

    def __init__(self, config: RandomConfig | None = None) -> None:
        self.config = config or RandomConfig()
        self._weights: np.ndarray | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Counts the people of every item."""
        self._weights = np.ones(len(catalog))
        if self.config.popularity:
            people = interactions.select("user", "item").unique()["item"].to_numpy()
            by_popularity = (1.0 + np.bincount(people, minlength=len(catalog))) ** self.config.popularity
            self._weights = (1.0 - self.config.uniform) * by_popularity / by_popularity.mean() + self.config.uniform

    def recommend(
        self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream, exclude: Sequence[np.ndarray] | None = None
    ) -> list[Slate]:
        """n unseen items in random order for each person (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._weights is None:
            not_fitted(self)
        slates = []
        for row, (user, history) in enumerate(zip(user_ids, histories, strict=True)):
            allowed = np.ones(len(self._weights), dtype=bool)
            allowed[history] = False
            if exclude is not None:
                allowed[exclude[row]] = False
            unseen = np.flatnonzero(allowed).astype(np.int32)
            size = min(n, len(unseen))
            generator = rng.child(int(user)).generator()
            if not self.config.popularity:
                items = generator.choice(unseen, size=size, replace=False)
                slates.append(Slate(items, np.zeros(size), 1.0 / (len(unseen) - np.arange(size))))
                continue
            weights = self._weights[unseen]
            # The first arrivals of an exponential race are such a draw without replacement.
            arrivals = generator.standard_exponential(len(unseen)) / weights
            first = np.argpartition(arrivals, size - 1)[:size] if size else np.empty(0, dtype=np.int64)
            first = first[np.argsort(arrivals[first], kind="stable")]
            drawn = weights[first]
            left = weights.sum() - np.concatenate([[0.0], np.cumsum(drawn)[:-1]]) if size else drawn
            slates.append(Slate(unseen[first], np.zeros(size), np.minimum(drawn / left, 1.0)))
        return slates

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._weights is None:
            not_fitted(self)
        save_arrays(folder, weights=self._weights)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (self._weights,) = load_arrays(folder, "weights")

"""Random recommendation: the control that knows nothing, and the ideal logging policy for offline evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from environments.recommenders.ranking import load_arrays, not_fitted, save_arrays
from simulator.dataset import Catalog
from simulator.records import Slate
from simulator.seeds import Stream


class Random:
    """Unseen items in uniformly random order, with exact propensities; it has no options.

    The k-th item (from 0) of a slate is drawn uniformly from the m - k items that remain of the m unseen ones, so its
    propensity is 1 / (m - k). It prefers nothing: all scores are 0.
    """

    def __init__(self) -> None:
        self._n_items: int | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Learns the size of the catalog and nothing else."""
        self._n_items = len(catalog)

    def recommend(
        self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream, exclude: Sequence[np.ndarray] | None = None
    ) -> list[Slate]:
        """n unseen items in random order for each person (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._n_items is None:
            not_fitted(self)
        slates = []
        for row, (user, history) in enumerate(zip(user_ids, histories, strict=True)):
            allowed = np.ones(self._n_items, dtype=bool)
            allowed[history] = False
            if exclude is not None:
                allowed[exclude[row]] = False
            unseen = np.flatnonzero(allowed).astype(np.int32)
            size = min(n, len(unseen))
            items = rng.child(int(user)).generator().choice(unseen, size=size, replace=False)
            slates.append(Slate(items, np.zeros(size), 1.0 / (len(unseen) - np.arange(size))))
        return slates

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._n_items is None:
            not_fitted(self)
        save_arrays(folder, n_items=np.array(self._n_items))

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (n_items,) = load_arrays(folder, "n_items")
        self._n_items = int(n_items)

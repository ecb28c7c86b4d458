"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field
from scipy import linalg

from environments.recommenders.ranking import (
    BACKSTOP,
    history_matrix,
    interaction_matrix,
    load_arrays,
    not_fitted,
    popularity_share,
    save_arrays,
    top_unseen,
)
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class EASEConfig(ComponentConfig):
    """Options of `EASE`.

    Attributes:
        l2: regularisation, in interactions; larger trusts rare items less.
        max_items: a larger catalog is refused, since the fit holds two dense n x n matrices of 8-byte numbers.
    """

    l2: float = Field(default=300.0, gt=0)
    max_items: int = Field(default=20_000, ge=1)


class EASE:
    """Scores are ``x B`` for a history x (0/1), with B the item-item matrix that best reconstructs all histories.

    B minimises ``|X - X B|^2 + l2 |B|^2`` with a diagonal of zeros: with ``P = (X'X + l2 I)^-1`` it is
    ``B_ij = -P_ij / P_jj`` off the diagonal (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019,
    eq. 8). It knows people by the history given at `recommend` only, so new people and grown histories need nothing
    special. A millionth of the item's popularity share is added, which orders items for an empty history.
    """

    Config = EASEConfig

    def __init__(self, config: EASEConfig | None = None) -> None:
        self.config = config or EASEConfig()
        self._weights: np.ndarray | None = None
        self._backstop = np.empty(0, dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Solves for B; cubic in the number of items.

        Raises:
            RecommenderError: the catalog has more than `max_items` items.
        """
        n = len(catalog)
        if n > self.config.max_items:
            raise RecommenderError(
                f"EASE on {n} items needs {16e-9 * n * n:.1f} GB of memory, and max_items = {self.config.max_items}; "
                "raise max_items, make the catalog smaller (a k-core), or use ItemKNN."
            )
        matrix = interaction_matrix(interactions, n).astype(np.float64)
        gram = (matrix.T @ matrix).toarray()
        gram[np.diag_indices(n)] += self.config.l2
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self._weights = weights.astype(np.float32, order="C")  # rows are what recommend adds up
        self._backstop = np.float32(BACKSTOP) * popularity_share(interactions, n)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._weights is None:
            not_fitted(self)
        # A sparse product sums each row on its own in a fixed order; a dense one would depend on the size of the batch.
        scores = history_matrix(histories, len(self._weights)) @ self._weights
        return top_unseen(scores + self._backstop, histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._weights is None:
            not_fitted(self)
        save_arrays(folder, weights=self._weights, backstop=self._backstop)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        self._weights, self._backstop = load_arrays(folder, "weights", "backstop")

"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field
from scipy import linalg, sparse

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import interaction_matrix, share_of_people, sums_of_rows
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream


class EASEConfig(ComponentConfig):
    """Options of `EASE`.

    Attributes:
        l2: regularisation, in interactions; larger trusts rare items less.
        max_items: a larger catalog is refused, since the fit holds two dense n x n matrices of 8-byte numbers.
    """

    l2: float = Field(default=300.0, gt=0, le=1e12)
    max_items: int = Field(default=20_000, ge=1, le=1_000_000)


class EASE(ArrayRecommender):
    """Scores are ``x B`` for a history x (0/1), with B the item-item matrix that best reconstructs all histories.

    B minimises ``|X - X B|^2 + l2 |B|^2`` with a diagonal of zeros: with ``P = (X'X + l2 I)^-1`` it is
    ``B_ij = -P_ij / P_jj`` off the diagonal (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019,
    eq. 8). It knows people by the history given at `recommend` only, so new people and grown histories need nothing
    special. A millionth of the item's popularity share is added, which orders items for an empty history.
    """

    Config = EASEConfig
    names = ("weights",)

    def __init__(self, config: EASEConfig | None = None) -> None:
        super().__init__()
        self.config = config or EASEConfig()
        self._weights = np.empty((0, 0), dtype=np.float32)

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses a large catalog (see `simulator.protocols.DataChecker`).

        Raises:
            RecommenderError: the catalog has more than `max_items` items.
        """
        n = len(catalog)
        if n > self.config.max_items:
            raise RecommenderError(
                f"EASE on {n} items needs {16e-9 * n * n:.1f} GB of memory, and max_items = {self.config.max_items}; "
                "raise max_items, make the catalog smaller (a k-core), or use ItemKNN."
            )

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Solves for B; cubic in the number of items.

        Raises:
            RecommenderError: the catalog has more than `max_items` items.
        """
        self.check_data(interactions, catalog)
        n = len(catalog)
        matrix = interaction_matrix(interactions, n).astype(np.float64)
        gram = (matrix.T @ matrix).toarray()
        gram[np.diag_indices(n)] += self.config.l2
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self._learned(share_of_people(matrix), weights.astype(np.float32, order="C"))  # rows are what recommend adds up

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return (self._weights,)

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        (self._weights,) = arrays

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        return sums_of_rows(owned, self._weights)

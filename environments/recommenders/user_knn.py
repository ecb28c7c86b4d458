"""UserKNN: what similar people chose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.ranking import (
    BACKSTOP,
    best_of_rows,
    history_matrix,
    interaction_matrix,
    load_arrays,
    not_fitted,
    popularity_share,
    save_arrays,
    top_unseen,
)
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class UserKNNConfig(ComponentConfig):
    """Options of `UserKNN`.

    Attributes:
        similarity: "cosine" or "jaccard", between the item sets of two people.
        neighbours: similar people that are asked.
        shrinkage: added to the denominator, in items; larger trusts short histories less.
    """

    similarity: Literal["cosine", "jaccard"] = "cosine"
    neighbours: int = Field(default=100, ge=1)
    shrinkage: float = Field(default=10.0, ge=0)


class UserKNN:
    """The score of an item is the summed similarity of those of the most similar people who have it.

    With ``c_uv`` items that two people share and ``c_u`` items of person u, cosine is ``c_uv / (sqrt(c_u c_v) +
    shrinkage)`` and jaccard ``c_uv / (c_u + c_v - c_uv + shrinkage)`` (Herlocker et al., "An algorithmic framework for
    performing collaborative filtering", SIGIR 1999; sets in place of ratings and shrinkage as in Dacrema et al., "Are we
    really making much progress?", RecSys 2019). Neighbours are found among the people of the log for the history given
    at `recommend`, so new people and grown histories need nothing special; nobody is their own neighbour, and of equally
    similar people those with the lower code come first. A millionth of the item's popularity share is added, which orders
    items that no neighbour has.
    """

    Config = UserKNNConfig

    def __init__(self, config: UserKNNConfig | None = None) -> None:
        self.config = config or UserKNNConfig()
        self._people: sparse.csr_array | None = None
        self._sizes = np.empty(0)
        self._backstop = np.empty(0, dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Remembers who has what."""
        self._use(interaction_matrix(interactions, len(catalog)), np.float32(BACKSTOP) * popularity_share(interactions, len(catalog)))

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._people is None:
            not_fitted(self)
        owned = history_matrix(histories, self._people.shape[1])
        scores = (self._neighbours(self._people, owned, user_ids) @ self._people).toarray()
        return top_unseen(scores + self._backstop, histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._people is None:
            not_fitted(self)
        save_arrays(folder, indices=self._people.indices, indptr=self._people.indptr, backstop=self._backstop)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        indices, indptr, backstop = load_arrays(folder, "indices", "indptr", "backstop")
        shape = (len(indptr) - 1, len(backstop))
        self._use(sparse.csr_array((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=shape), backstop)

    def _use(self, people: sparse.csr_array, backstop: np.ndarray) -> None:
        self._people, self._backstop = people, backstop
        self._sizes = np.diff(people.indptr).astype(np.float64)

    def _neighbours(self, people: sparse.csr_array, owned: sparse.csr_array, user_ids: np.ndarray) -> sparse.csr_array:
        """Similarities to the nearest people, zero to all others, float32, shape (b, n_users)."""
        b, n_users = owned.shape[0], people.shape[0]
        if n_users == 0:
            return sparse.csr_array(np.empty((b, 0), dtype=np.float32))
        shared = (people @ np.ascontiguousarray(owned.T.toarray())).T.astype(np.float64)  # whole numbers, exact in any order
        own = np.diff(owned.indptr).astype(np.float64)[:, None]
        size = np.sqrt(own * self._sizes) if self.config.similarity == "cosine" else own + self._sizes - shared
        bottom = size + self.config.shrinkage
        similarity = np.divide(shared, bottom, out=np.zeros_like(shared), where=bottom > 0)
        known = np.flatnonzero(user_ids < n_users)
        similarity[known, user_ids[known]] = 0.0
        similarity[similarity <= 0] = -np.inf
        rows, columns, values, _ = best_of_rows(similarity, self.config.neighbours)
        return sparse.csr_array((values.astype(np.float32), (rows, columns)), shape=(b, n_users))

"""ItemKNN: items similar to those of the history."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import interaction_matrix, share_of_people
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream

_BLOCK = 2_048
"""Items whose similarities are computed at once, which bounds the memory of a fit."""

_SPARSE_COST = 32
"""Measured cost of a multiplication in a sparse-sparse product, in multiplications of a sparse-dense one."""


class ItemKNNConfig(ComponentConfig):
    """Options of `ItemKNN`.

    Attributes:
        similarity: "cosine" or "jaccard", between the sets of people of two items.
        neighbours: similar items that each item keeps.
        shrinkage: added to the denominator, in people; larger trusts rare items less.
    """

    similarity: Literal["cosine", "jaccard"] = "cosine"
    neighbours: int = Field(default=100, ge=1, le=10_000_000)
    shrinkage: float = Field(default=10.0, ge=0, le=1e12)


class ItemKNN(ArrayRecommender):
    """The score of an item is the sum of its similarities to those items of the history that are among its neighbours.

    With ``c_ij`` people who have both items and ``c_i`` who have item i, cosine is ``c_ij / (sqrt(c_i c_j) + shrinkage)``
    and jaccard ``c_ij / (c_i + c_j - c_ij + shrinkage)`` (Deshpande and Karypis, "Item-based top-N recommendation
    algorithms", TOIS 2004; shrinkage as in Dacrema et al., "Are we really making much progress?", RecSys 2019). It
    knows people by the history given at `recommend` only, so new people and grown histories need nothing special. A
    millionth of the item's popularity share is added, which orders items without a neighbour in the history.
    """

    Config = ItemKNNConfig
    names = ("data", "indices", "indptr")

    def __init__(self, config: ItemKNNConfig | None = None) -> None:
        super().__init__()
        self.config = config or ItemKNNConfig()
        self._similarities = sparse.csr_array((0, 0), dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Finds the neighbours of every item."""
        n = len(catalog)
        matrix = interaction_matrix(interactions, n)
        transposed = matrix.T.tocsr()
        counts = np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
        blocks = [self._neighbours(transposed[start : start + _BLOCK] @ matrix, counts, start) for start in range(0, n, _BLOCK)]
        # rows were the items that look for neighbours; at recommend time the rows are the items of the history
        similarities = sparse.vstack(blocks, format="csr").T.tocsr()
        similarities.sort_indices()
        self._learned(share_of_people(matrix), similarities.data, similarities.indices, similarities.indptr)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self._similarities.data, self._similarities.indices, self._similarities.indptr

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        self._similarities = sparse.csr_array(arrays, shape=(n_items, n_items))

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        """Summed similarities. Either way adds the same numbers in the same order; one is faster."""
        similarities = self._similarities
        multiplications = int(np.diff(similarities.indptr)[owned.indices].sum())
        if similarities.nnz * owned.shape[0] > _SPARSE_COST * multiplications:
            return np.asarray((owned @ similarities).toarray())
        return np.ascontiguousarray((similarities.T @ owned.T.toarray()).T)

    def _neighbours(self, together: sparse.csr_array, counts: np.ndarray, start: int) -> sparse.csr_array:
        """The most similar items of a block of items, from the numbers of people that they share.

        Args:
            together: c_ij, shape (block, n_items).
            counts: c_i, shape (n_items,).
            start: item code of the block's first row.
        """
        pairs = together.tocoo()
        rows, columns, shared = pairs.row, pairs.col, pairs.data.astype(np.float64)
        own, other = counts[rows + start], counts[columns]
        size = np.sqrt(own * other) if self.config.similarity == "cosine" else own + other - shared
        values = np.where(rows + start == columns, 0.0, shared / (size + self.config.shrinkage))
        order = np.lexsort((columns, -values, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        first = np.searchsorted(rows, rows, side="left")
        keep = (np.arange(len(rows)) - first < self.config.neighbours) & (values > 0)
        return sparse.csr_array((values[keep].astype(np.float32), (rows[keep], columns[keep])), shape=together.shape)

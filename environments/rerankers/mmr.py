"""Maximal marginal relevance: good items that are unlike each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field
from scipy.sparse.linalg import svds

from environments.recommenders.ranking import interaction_matrix
from environments.rerankers.wrapping import Reranker, RerankerConfig
from simulator.dataset import Catalog
from simulator.errors import DataError


class MMRConfig(RerankerConfig):
    """Options of `MMR`, besides those of all rerankers (`RerankerConfig`).

    Attributes:
        diversity: weight of unlikeness in [0, 1]; 0 keeps the base's order.
        similarity: "genres" is the cosine of the items' genres, "people" that of the people who have them, reduced to `directions`.
        directions: singular directions of the interaction matrix that "people" keeps.
    """

    diversity: float = Field(default=0.3, ge=0, le=1)
    similarity: Literal["genres", "people"] = "genres"
    directions: int = Field(default=64, ge=1, le=65_536)


class MMR(Reranker[MMRConfig]):
    """Fills place after place with the item of the largest ``(1 - d) score - d max similarity to an item above it``.

    Scores are scaled to [0, 1] within the pool (Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998).
    Similarities below 0 count as 0, so the value of an item can only fall as the list grows,
    and the values at choice never increase; they are the slate's scores.
    """

    Config = MMRConfig
    names = ("vectors",)

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data without genres where they tell similarity, and what the base refuses.

        Raises:
            DataError: no item has a genre.
        """
        if self.config.similarity == "genres" and not catalog.genre_names:
            raise DataError("MMR with similarity = 'genres' needs genres, and no item of the data has one; use similarity = 'people'.")
        super().check_data(interactions, catalog)

    def learn(self, interactions: pl.DataFrame, catalog: Catalog) -> dict[str, np.ndarray]:
        """Unit vectors of the items, float32, shape (n_items, length); 0 for an item about which nothing is known."""
        if self.config.similarity == "genres":
            vectors = catalog.genre_matrix
        else:
            vectors = _directions(interactions, len(catalog), self.config.directions)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return {"vectors": np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-9).astype(np.float32)}

    def order(
        self, items: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], n: int, arrays: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """One greedy choice per place, for all people of the batch at once (see `Reranker.order`)."""
        d, rows = self.config.diversity, np.arange(len(items))
        vectors = arrays["vectors"][items]
        nearest = np.zeros_like(scores)
        taken = np.zeros(items.shape, dtype=bool)
        places, values = np.empty((len(items), n), dtype=np.int64), np.empty((len(items), n))
        for place in range(n):
            value = np.where(taken, -np.inf, (1 - d) * scores - d * nearest)
            best = value.argmax(axis=1)
            places[:, place], values[:, place] = best, value[rows, best]
            taken[rows, best] = True
            similar = np.einsum("bpd,bd->bp", vectors, vectors[rows, best]).astype(np.float64)
            nearest = np.maximum(nearest, similar)
        return places, values


def _directions(interactions: pl.DataFrame, n_items: int, directions: int) -> np.ndarray:
    """Item vectors whose products approximate how many people two items share, float64, shape (n_items, at most `directions`)."""
    matrix = interaction_matrix(interactions, n_items).astype(np.float64)
    k = min(directions, min(matrix.shape) - 1)
    if k < 1:
        return np.zeros((n_items, 1))
    # a fixed start makes the iteration repeatable; the signs of the directions cancel in every product
    _, strengths, vectors = svds(matrix, k=k, v0=np.ones(min(matrix.shape)))
    return np.asarray(vectors.T * strengths)

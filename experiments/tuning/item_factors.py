"""What a recommender knows of the items, for vectors that a language model learns to read."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from agents.affinity import Factors
from simulator.dataset import Dataset


def item_factors(train: Dataset, people: np.ndarray, rank: int) -> np.ndarray:
    """Factors of the items from what some people did: a truncated singular value decomposition (`agents.affinity.Factors`).

    The right singular vectors ``v_i``, each shortened to ``v_i / (|v_i| + m)`` with m their median length and scaled by the root of
    the rank: the direction says what the item goes with, the length, below that root, how much is known of it.

    Args:
        train: the training part. people: user codes of those whose interactions count; all other rows change nothing.
        rank: numbers per item.

    Returns:
        float32, shape (n_items + 1, rank); zeros for items that none of the people has, and in the last row.
    """
    matrix = who_has_what(train, people)
    found = Factors.fit(matrix, rank)
    counts = np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1.0)
    right = found.out * counts[:, None] ** -0.25
    lengths = np.linalg.norm(right, axis=1, keepdims=True)
    typical = float(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 1.0
    values = np.zeros((train.n_items + 1, rank), np.float32)
    values[:-1, : right.shape[1]] = right / (lengths + typical) * np.sqrt(rank)
    return values


def who_has_what(train: Dataset, people: np.ndarray) -> sparse.csr_matrix:
    """The interactions of some people as 0 and 1, shape (people, n_items)."""
    users, items = train.interactions["user"].to_numpy(), train.interactions["item"].to_numpy()
    matrix = sparse.csr_matrix((np.ones(len(items)), (users, items)), shape=(train.n_users, train.n_items))[np.asarray(people)]
    matrix.data[:] = 1.0
    return matrix

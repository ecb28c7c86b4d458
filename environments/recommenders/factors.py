"""Recommenders whose score is a dot product of factors: serving and folding in, with numpy alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import sparse

from environments.recommenders.ranking import (
    history_matrix,
    load_arrays,
    load_prefixed,
    not_fitted,
    product_by_row,
    save_arrays,
    top_unseen,
)
from environments.recommenders.side_by_side import in_parts
from simulator.records import Slate
from simulator.seeds import Stream


class FoldIn:
    """Gives factors to people whose history is new or has grown.

    A ridge regression over all people of the fit maps histories to factors: ``p_u ~ f(h) = [sum of q_i over h /
    sqrt(|h|), 1] W``. A person's factors are ``p_u + f(history now) - f(history at the fit)``: exactly the trained ones
    while nothing has changed, moving with every new item, and ``f(history)`` for somebody new. An empty history is
    ranked for the average newcomer.
    """

    def __init__(self, items: np.ndarray, fold: np.ndarray, residuals: np.ndarray) -> None:
        """Takes what was fitted.

        Args:
            items: q, shape (n_items, k).
            fold: the map W, shape (k + 1, d).
            residuals: p_u - f(history at the fit), shape (n_users, d).
        """
        self.items, self.fold, self.residuals = items, fold, residuals

    @classmethod
    def fit(cls, matrix: sparse.csr_array, users: np.ndarray, items: np.ndarray, l2: float) -> FoldIn:
        """Solves for the map.

        Args:
            matrix: who has what at the fit, shape (n_users, n_items).
            users: trained factors of the people, shape (n_users, d).
            items: trained factors of the items, shape (n_items, k).
            l2: ridge, in people.
        """
        known = np.flatnonzero(np.diff(matrix.indptr))
        features = _features(matrix[known], items).astype(np.float64)
        gram = features.T @ features + l2 * np.eye(features.shape[1])
        fold = np.linalg.solve(gram, features.T @ users[known]).astype(np.float32)
        folding = cls(items, fold, np.zeros_like(users))
        folding.residuals[known] = users[known] - folding._folded(matrix[known])
        return folding

    def users(self, user_ids: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Factors of people now, float32, shape (b, d); those of a person do not depend on the batch."""
        users = self._folded(history_matrix(histories, len(self.items)))
        known = np.flatnonzero(user_ids < len(self.residuals))
        users[known] += self.residuals[user_ids[known]]
        return users

    def _folded(self, histories: sparse.csr_array) -> np.ndarray:
        """f(h) for each row of a binary matrix, float32, shape (b, d)."""
        return product_by_row(_features(histories, self.items), self.fold)


def _features(histories: sparse.csr_array, items: np.ndarray) -> np.ndarray:
    """Summed item factors over the root of their number, and a constant; float32, shape (b, k + 1)."""
    lengths = np.diff(histories.indptr).astype(np.float32)
    sums = (histories @ np.ascontiguousarray(items)) / np.sqrt(np.maximum(lengths, 1.0))[:, None]
    return np.hstack((sums, np.ones((len(lengths), 1), dtype=np.float32)))


class FoldedRecommender(ABC):
    """Base of recommenders that score items from a person's folded-in factors: `fit` of a subclass ends with `_serve`.

    A subclass keeps in `_weights` what it needs for a warm start (see `training_config`).

    Attributes:
        names: of the arrays that are kept besides the weights and those of `FoldIn`, in the order in which `_arrays` gives and
            `_restore` takes them.
    """

    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._folding: FoldIn | None = None
        self._weights: dict[str, np.ndarray] = {}

    @abstractmethod
    def _scores(self, people: np.ndarray) -> np.ndarray:
        """A new array of scores, shape (b, n_items), from people's factors, shape (b, d); a row does not depend on the others."""

    @abstractmethod
    def _arrays(self) -> tuple[np.ndarray, ...]:
        """What `names` names."""

    @abstractmethod
    def _restore(self, fold: np.ndarray, residuals: np.ndarray, *arrays: np.ndarray) -> None:
        """Serves what was saved: the arrays of `FoldIn` and those of `names`; `_weights` are there already."""

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._folding is None:
            not_fitted(self)
        folding = self._folding

        def answer(people: np.ndarray, owned: Sequence[np.ndarray]) -> list[Slate]:
            return top_unseen(self._scores(folding.users(people, owned)), owned, n)

        return in_parts(answer, user_ids, histories)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._folding is None:
            not_fitted(self)
        arrays = {"fold": self._folding.fold, "residuals": self._folding.residuals, **dict(zip(self.names, self._arrays(), strict=True))}
        save_arrays(folder, **arrays, **{f"weights.{name}": values for name, values in self._weights.items()})

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        fold, residuals, *arrays = load_arrays(folder, "fold", "residuals", *self.names)
        self._weights = load_prefixed(folder, "weights.")
        self._restore(fold, residuals, *arrays)

    def _earlier(self, n_items: int, warm_start: bool) -> dict[str, np.ndarray] | None:
        """The weights to continue from, or None to start from scratch."""
        same = self._folding is not None and len(self._folding.items) == n_items
        return self._weights if warm_start and same and self._weights else None


class FactorRecommender(FoldedRecommender):
    """Base of recommenders with ``score = p_u . q_i + b_i``: `fit` of a subclass calls `_use`, the rest is here."""

    names = ("items", "biases")

    def __init__(self) -> None:
        super().__init__()
        self._columns = np.empty((0, 0), dtype=np.float32)  # (dimension, n_items): the transposed item factors
        self._biases = np.empty(0, dtype=np.float32)

    def _use(self, matrix: sparse.csr_array, users: np.ndarray, items: np.ndarray, biases: np.ndarray | None, l2: float) -> None:
        """Serves these factors from now on.

        Args:
            matrix: who has what in the log, shape (n_users, n_items).
            users, items: factors, shapes (n_users, d) and (n_items, d).
            biases: of the items, shape (n_items,), or None.
            l2: see `FoldIn.fit`.
        """
        self._serve(FoldIn.fit(matrix, users, items, l2), np.zeros(len(items), dtype=np.float32) if biases is None else biases)

    def _serve(self, folding: FoldIn, biases: np.ndarray) -> None:
        self._folding, self._biases = folding, biases
        self._columns = np.ascontiguousarray(folding.items.T)

    def _scores(self, people: np.ndarray) -> np.ndarray:
        return product_by_row(people, self._columns) + self._biases

    def _arrays(self) -> tuple[np.ndarray, ...]:
        assert self._folding is not None
        return self._folding.items, self._biases

    def _restore(self, fold: np.ndarray, residuals: np.ndarray, *arrays: np.ndarray) -> None:
        items, biases = arrays
        self._serve(FoldIn(items, fold, residuals), biases)

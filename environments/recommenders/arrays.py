"""What recommenders share that score all items from a few arrays and the history given at `recommend`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import sparse

from environments.recommenders.ranking import BACKSTOP, history_matrix, load_arrays, not_fitted, save_arrays, top_unseen
from environments.recommenders.side_by_side import in_parts
from simulator.records import Slate
from simulator.seeds import Stream


class ArrayRecommender(ABC):
    """Base: `fit` of a subclass ends with `_learned`; recommending, saving and loading are here.

    A millionth of the item's popularity share is added to the scores, which orders items for an empty history.

    Attributes:
        names: of the arrays that are kept, in the order in which `_arrays` gives and `_use` takes them.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._backstop: np.ndarray | None = None  # float32, shape (n_items,)

    @abstractmethod
    def _arrays(self) -> tuple[np.ndarray, ...]:
        """The fitted state."""

    @abstractmethod
    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        """Scores by this state from now on."""

    @abstractmethod
    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        """A new array of scores, shape (b, n_items), of which a row does not depend on the others.

        Args:
            user_ids: user codes, shape (b,).
            owned: the histories, binary, shape (b, n_items).
        """

    def _learned(self, popularity: np.ndarray, *arrays: np.ndarray) -> None:
        """Scores by `arrays` from now on, and by the items' popularity shares, shape (n_items,), where these say nothing."""
        self._use(len(popularity), *arrays)
        self._backstop = np.float32(BACKSTOP) * popularity

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._backstop is None:
            not_fitted(self)
        backstop = self._backstop

        def answer(people: np.ndarray, owned: Sequence[np.ndarray]) -> list[Slate]:
            scores = self._scores(people, history_matrix(owned, len(backstop)))
            scores += backstop
            return top_unseen(scores, owned, n)

        return in_parts(answer, user_ids, histories)

    def scores(self, owned: sparse.csr_array) -> np.ndarray:
        """Scores of the whole catalog for users of whom a history is known and no code, higher is better; shape (b, n_items).

        Args:
            owned: the histories, binary, shape (b, n_items).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._backstop is None:
            not_fitted(self)
        return np.asarray(self._scores(np.full(owned.shape[0], -1), owned) + self._backstop)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._backstop is None:
            not_fitted(self)
        save_arrays(folder, backstop=self._backstop, **dict(zip(self.names, self._arrays(), strict=True)))

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        backstop, *arrays = load_arrays(folder, "backstop", *self.names)
        self._use(len(backstop), *arrays)
        self._backstop = backstop

"""UserKNN: what similar people chose."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import best_of_rows, interaction_matrix, share_of_people
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream

REMEMBERED = 4096
"""People whose neighbours are kept until their history grows."""

_Near = tuple[bytes, np.ndarray, np.ndarray]  # a history; its nearest people, increasing; their similarities


class UserKNNConfig(ComponentConfig):
    """Options of `UserKNN`.

    Attributes:
        similarity: "cosine" or "jaccard", between the item sets of two people.
        neighbours: similar people that are asked.
        shrinkage: added to the denominator, in items; larger trusts short histories less.
    """

    similarity: Literal["cosine", "jaccard"] = "cosine"
    neighbours: int = Field(default=100, ge=1, le=10_000_000)
    shrinkage: float = Field(default=10.0, ge=0, le=1e12)


class UserKNN(ArrayRecommender):
    """The score of an item is the summed similarity of those of the most similar people who have it.

    With ``c_uv`` items that two people share and ``c_u`` items of person u, cosine is ``c_uv / (sqrt(c_u c_v) +
    shrinkage)`` and jaccard ``c_uv / (c_u + c_v - c_uv + shrinkage)`` (Herlocker et al., "An algorithmic framework for
    performing collaborative filtering", SIGIR 1999; sets in place of ratings and shrinkage as in Dacrema et al., "Are we
    really making much progress?", RecSys 2019). Neighbours are found among the people of the log for the history given
    at `recommend`, so new people and grown histories need nothing special; they are remembered until the history grows, since to
    find them is more than half of the work. Nobody is their own neighbour, and of equally similar people those with the lower code
    come first. A millionth of the item's popularity share is added, which orders items that no neighbour has.
    """

    Config = UserKNNConfig
    names = ("indices", "indptr")

    def __init__(self, config: UserKNNConfig | None = None) -> None:
        super().__init__()
        self.config = config or UserKNNConfig()
        self._people = sparse.csr_array((0, 0), dtype=np.float32)
        self._marks: Any = sparse.csr_array((0, 0), dtype=np.int16)  # the same in short whole numbers, which are counted twice as fast
        self._sizes = np.empty(0)
        self._remembered: OrderedDict[int, _Near] = OrderedDict()

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Remembers who has what."""
        people = interaction_matrix(interactions, len(catalog))
        self._learned(share_of_people(people), people.indices, people.indptr)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self._people.indices, self._people.indptr

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        indices, indptr = arrays
        shape = (len(indptr) - 1, n_items)
        self._people = sparse.csr_array((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=shape)
        short = np.int16 if n_items < 2**15 else np.int32
        self._marks = sparse.csr_array((np.ones(len(indices), dtype=short), indices, indptr), shape=shape)
        self._sizes = np.diff(indptr).astype(np.float64)
        self._remembered = OrderedDict()

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        histories = [part.tobytes() for part in np.split(owned.indices, owned.indptr[1:-1])]
        near = [self._remembered.get(user) for user in user_ids.tolist()]
        new = [row for row, (kept, history) in enumerate(zip(near, histories, strict=True)) if kept is None or kept[0] != history]
        if new:
            found = self._neighbours(user_ids[new], owned[new])
            for number, row in enumerate(new):
                part = slice(found.indptr[number], found.indptr[number + 1])
                near[row] = kept = (histories[row], found.indices[part], found.data[part])
                self._remember(int(user_ids[row]), kept)
        known = [kept for kept in near if kept is not None]
        ends = np.cumsum([0, *(len(people) for _, people, _ in known)])
        people, values = (np.concatenate([kept[part] for kept in known]) for part in (1, 2))
        return np.asarray((sparse.csr_array((values, people, ends), shape=(len(known), self._people.shape[0])) @ self._people).toarray())

    def _remember(self, user: int, near: _Near) -> None:
        """Keeps somebody's neighbours; who came first is forgotten first. Each of these steps is safe beside other threads."""
        self._remembered[user] = near
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _neighbours(self, user_ids: np.ndarray, owned: sparse.csr_array) -> sparse.csr_array:
        """Similarities to the nearest people, zero to all others, float32, shape (b, n_users)."""
        b, n_users = owned.shape[0], self._people.shape[0]
        if n_users == 0:
            return sparse.csr_array(np.empty((b, 0), dtype=np.float32))
        wanted = np.ascontiguousarray(owned.toarray().T.astype(self._marks.dtype))
        shared = np.ascontiguousarray(np.asarray(self._marks @ wanted).T)
        own = np.diff(owned.indptr).astype(np.float64)
        if self.config.similarity == "cosine":
            similarity = np.multiply.outer(np.sqrt(own), np.sqrt(self._sizes))
        else:
            similarity = own[:, None] + self._sizes - shared
        similarity += self.config.shrinkage
        np.divide(shared, similarity, out=similarity, where=similarity > 0)
        known = np.flatnonzero(user_ids < n_users)
        similarity[known, user_ids[known]] = 0.0
        rows, columns, values, _ = best_of_rows(similarity, self.config.neighbours)
        near = values > 0
        return sparse.csr_array((values[near].astype(np.float32), (rows[near], columns[near])), shape=(b, n_users))

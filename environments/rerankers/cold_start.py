"""Cold starts by hiding: a recommender that does not know the past of some people, nor some items.

The people keep their tastes and their pasts, so what changes is what the recommender knows of them, and a cold arm is paired with a
warm one person by person.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from environments.recommenders.ranking import load_arrays, not_fitted, save_arrays
from environments.rerankers.wrapping import METHODS, check_bases, complete_base
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig, build
from simulator.protocols import Recommender
from simulator.records import Slate
from simulator.seeds import Stream


class ColdStartConfig(ComponentConfig):
    """Options of `ColdStart`.

    Attributes:
        base: the recommender: `use` and its own options.
        people: share of the people whose past is hidden from it, in [0, 1]. keep: how many of their first interactions it knows.
        items: share of the items whose interactions are hidden from it, in [0, 1].
    """

    base: Annotated[dict[str, Any], AfterValidator(complete_base)]
    people: float = Field(default=0.2, ge=0, le=1)
    keep: int = Field(default=0, ge=0, le=1_000_000)
    items: float = Field(default=0.0, ge=0, le=1)


class ColdStart:
    """A recommender that meets some people, and some items, for the first time.

    Who and what is cold is a stable hash of user and item codes under the stream that `fit` is given, so that every base has the same
    cold people and items. What people choose later is known to the base, as part of their history at serving. Use it with
    ``refit = "never"``: a new fit would hide what has been chosen since, too. Slates stay free of what people already have.
    """

    Config = ColdStartConfig

    def __init__(self, config: ColdStartConfig) -> None:
        self.config = config
        options = {key: value for key, value in config.base.items() if key != "use"}
        self.base: Recommender = build(config.base["use"], options, where="recommender.base", methods=METHODS)
        self._cold: np.ndarray | None = None
        self._counts = np.empty(0, dtype=np.int64)
        self._items = np.empty(0, dtype=np.int64)

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses what the base refuses (see `simulator.protocols.DataChecker`).

        Raises:
            UsersimError: the base cannot be fitted to the data.
        """
        check_bases((self.base,), interactions, catalog)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Draws who and what is cold, and fits the base on the rest."""
        hashed = rng.child("cold start")
        counts = dict(interactions.group_by("user").len().sort("user").iter_rows())
        cold = [user for user in counts if _uniform(hashed.child("person", int(user))) < self.config.people]
        items = [item for item in range(len(catalog)) if _uniform(hashed.child("item", item)) < self.config.items]
        self._cold, self._items = np.array(cold, dtype=np.int64), np.array(items, dtype=np.int64)
        self._counts = np.array([counts[user] for user in cold], dtype=np.int64)
        is_early = pl.int_range(pl.len()).over("user") < self.config.keep
        known = interactions.filter(is_early | ~pl.col("user").is_in(cold)).filter(~pl.col("item").is_in(items))
        self.base.fit(known, catalog, rng)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The base's list for what it knows of each person, without what the person already has (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted, or the base draws its lists at random.
        """
        if self._cold is None:
            not_fitted(self)
        known, hidden = zip(*(self._parted(int(user), own) for user, own in zip(user_ids, histories, strict=True)), strict=True)
        slates = self.base.recommend(user_ids, list(known), n + max(map(len, hidden)), rng)
        if any(slate.propensities is not None for slate in slates):
            raise RecommenderError(
                f"ColdStart takes items out of the lists of {type(self.base).__name__}, which draws them at random, so their "
                "propensities would be wrong; use a deterministic base, and explore on top by recommender.exploration."
            )
        kept = [~np.isin(slate.items, own) for slate, own in zip(slates, hidden, strict=True)]
        return [Slate(slate.items[keep][:n], slate.scores[keep][:n]) for slate, keep in zip(slates, kept, strict=True)]

    def save(self, folder: Path) -> None:
        """Writes who and what is cold, and the base in a folder ``base``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._cold is None:
            not_fitted(self)
        save_arrays(folder, cold=self._cold, counts=self._counts, items=self._items)
        (folder / "base").mkdir()
        self.base.save(folder / "base")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        self._cold, self._counts, self._items = load_arrays(folder, "cold", "counts", "items")
        self.base.load(folder / "base")

    def _parted(self, user: int, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the base knows of a history, and the rest."""
        assert self._cold is not None
        place = int(np.searchsorted(self._cold, user))
        if place == len(self._cold) or self._cold[place] != user:
            return history, history[:0]
        keep, count = self.config.keep, max(int(self._counts[place]), self.config.keep)
        return np.concatenate([history[:keep], history[count:]]), history[keep:count]


def cold_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the cold people and items of a saved `ColdStart`, ascending.

    Raises:
        RecommenderError: the folder does not hold one.
    """
    cold, items = load_arrays(folder, "cold", "items")
    return cold, items


def _uniform(stream: Stream) -> float:
    return (stream.key() >> 75) / 2**53

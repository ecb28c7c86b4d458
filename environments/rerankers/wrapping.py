"""What rerankers share: a recommender inside a recommender, and a pool of its best items to reorder.

A reranker is itself a recommender whose option `base` holds another one, with `use` and its options, so rerankers nest::

    [recommender]
    use = "environments.rerankers.mmr:MMR"
    pool = 100
    base = {use = "environments.recommenders.ease:EASE", l2 = 500.0}

It reorders the `pool` best items of the base and leaves the rest behind them in the base's order, so that a list starts
the same however long it is. **Propensities.** A reranker is deterministic, so over a deterministic base every propensity
is 1, and what the feed explores on top of it (`environments.exposure`) stays exact. Over a base that draws its list at
random the probability of a place after reordering is a sum over all lists of the base: there is no closed form, and a
reranker refuses rather than log a guess. Explore last, by the feed's `exploration`, not first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from environments.recommenders.ranking import load_arrays, not_fitted, save_arrays
from simulator.dataset import Catalog
from simulator.errors import ConfigError, RecommenderError
from simulator.plugins import ComponentConfig, build, resolve
from simulator.protocols import DataChecker, Recommender
from simulator.records import Slate
from simulator.seeds import Stream

METHODS = ("fit", "recommend", "save", "load")
"""What a base must define."""


def complete_base(base: dict[str, Any]) -> dict[str, Any]:
    """Checks the base's own section and fills in its defaults, so that the stored configuration is complete."""
    use = base.get("use")
    if not isinstance(use, str):
        raise ConfigError('[recommender] base.use is missing; write base = {use = "package.module:Class", ...}.')
    module, colon, name = use.partition(":")
    if module.endswith(".py"):
        use = f"{Path(module).expanduser().resolve()}{colon}{name}"
    options = {key: value for key, value in base.items() if key != "use"}
    return {"use": use, **resolve(use, options, where="recommender.base", methods=METHODS)}


def check_bases(bases: Iterable[Recommender], interactions: pl.DataFrame, catalog: Catalog) -> None:
    """Asks the bases of a recommender whether they can be fitted to data, those that know it before (`DataChecker`).

    Raises:
        UsersimError: one cannot.
    """
    for base in bases:
        if isinstance(base, DataChecker):
            base.check_data(interactions, catalog)


class RerankerConfig(ComponentConfig):
    """Options that all rerankers have.

    Attributes:
        base: the recommender whose list is reordered: `use` and its own options.
        pool: how many of its best items are reordered.
    """

    base: Annotated[dict[str, Any], AfterValidator(complete_base)]
    pool: int = Field(default=100, ge=1, le=1_000_000)


C = TypeVar("C", bound=RerankerConfig)


class Reranker(ABC, Generic[C]):
    """Fits and asks the base, and leaves to a subclass what to learn for itself and how to reorder a batch of pools."""

    def __init__(self, config: C) -> None:
        self.config = config
        options = {key: value for key, value in config.base.items() if key != "use"}
        self.base: Recommender = build(config.base["use"], options, where="recommender.base", methods=METHODS)
        self._arrays: dict[str, np.ndarray] | None = None

    @abstractmethod
    def learn(self, interactions: pl.DataFrame, catalog: Catalog) -> dict[str, np.ndarray]:
        """The arrays that `order` needs, by name; they are what is saved beside the base.

        Raises:
            DataError: the data lacks what this reranker needs.
        """

    @abstractmethod
    def order(
        self, items: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], n: int, arrays: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reorders pools of equal size.

        Args:
            items: item codes, best first, shape (b, pool).
            scores: the base's scores scaled to [0, 1] within each pool, same shape.
            histories: b arrays of item codes.
            n: places wanted, at most the pool's size.
            arrays: see `learn`.

        Returns:
            Places in the pool of the n chosen ones, shape (b, n), and their scores, not increasing, same shape.
        """

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data that the reranker or its base cannot be fitted to (see `simulator.protocols.DataChecker`).

        Raises:
            UsersimError: says what is missing.
        """
        check_bases((self.base,), interactions, catalog)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Fits the base, then what the reranker needs for itself.

        Raises:
            DataError: the data lacks what the reranker needs.
        """
        self.check_data(interactions, catalog)
        self._arrays = self.learn(interactions, catalog)
        self.base.fit(interactions, catalog, rng)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The base's list, reordered (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted, or the base draws its lists at random.
        """
        if self._arrays is None:
            not_fitted(self)
        slates = self.base.recommend(user_ids, histories, max(n, self.config.pool), rng)
        if any(slate.propensities is not None for slate in slates):
            raise RecommenderError(
                f"{type(self).__name__} reorders the lists of {type(self.base).__name__}, which draws them at random, so there is no "
                "closed form for its propensities; use a deterministic base, and explore on top by recommender.exploration."
            )
        answer: list[Slate | None] = [None] * len(slates)
        sizes = np.array([min(len(slate.items), self.config.pool) for slate in slates])
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size).tolist()
            if size == 0:
                for row in rows:
                    answer[row] = slates[row]
                continue
            items = np.stack([slates[row].items[:size] for row in rows])
            scores = _scaled(np.stack([slates[row].scores[:size] for row in rows]))
            places, values = self.order(items, scores, [histories[row] for row in rows], min(n, int(size)), self._arrays)
            for row, place, value in zip(rows, places, values, strict=True):
                answer[row] = _joined(slates[row], place, value, int(size), n)
        return [slate for slate in answer if slate is not None]

    @property
    def repairs(self) -> Mapping[str, int]:
        """What had to be repaired in the base's answers -> how often."""
        return getattr(self.base, "repairs", {})

    def save(self, folder: Path) -> None:
        """Writes its own state, and that of the base in a folder ``base``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._arrays is None:
            not_fitted(self)
        save_arrays(folder, **self._arrays)
        (folder / "base").mkdir()
        self.base.save(folder / "base")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        self._arrays = dict(zip(self.names, load_arrays(folder, *self.names), strict=True))
        self.base.load(folder / "base")

    names: tuple[str, ...] = ()
    """Names of the arrays of `learn`."""


def _scaled(scores: np.ndarray) -> np.ndarray:
    """Scores between 0 (the last of a pool) and 1 (the first), shape (b, pool); all 0 where they are equal."""
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    spread = high - low
    return np.asarray(np.divide(scores - low, spread, out=np.zeros_like(scores), where=spread > 0))


def _joined(slate: Slate, places: np.ndarray, values: np.ndarray, size: int, n: int) -> Slate:
    """The reordered head, then the rest of the base's list, whose scores fall from the head's last by the same differences."""
    rest = slate.scores[size : max(n, size)]
    below = values[-1] - (slate.scores[size - 1] - rest) if len(rest) and n > size else np.empty(0)
    items = np.concatenate((slate.items[places], slate.items[size:n]))
    return Slate(items.astype(np.int32), np.concatenate((values, below)))

"""Several recommenders in turn: their lists interleaved into one, so that people see what different methods would show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from environments.recommenders.ranking import not_fitted
from environments.rerankers.wrapping import METHODS, check_bases, complete_base
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig, build
from simulator.protocols import Recommender
from simulator.records import Slate
from simulator.seeds import Stream


class InterleavedConfig(ComponentConfig):
    """Options of `Interleaved`.

    Attributes:
        bases: the recommenders, each a table with `use` and its own options, in the order of their turns.
    """

    bases: list[Annotated[dict[str, Any], AfterValidator(complete_base)]] = Field(min_length=1)


class Interleaved:
    """Round-robin interleaving: each recommender in turn adds its best item that is not in the list yet.

    As balanced interleaving (Joachims, "Evaluating retrieval performance using clickthrough data", 2003) of any number of lists,
    but the order of turns is that of the file and not drawn, so that the list is deterministic. A score is minus the place, from 0.
    """

    Config = InterleavedConfig

    def __init__(self, config: InterleavedConfig) -> None:
        self.config = config
        self.bases: list[Recommender] = [
            build(base["use"], {key: value for key, value in base.items() if key != "use"}, where="recommender.bases", methods=METHODS)
            for base in config.bases
        ]
        self._fitted = False

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses what a base refuses (see `simulator.protocols.DataChecker`).

        Raises:
            UsersimError: a base cannot be fitted to the data.
        """
        check_bases(self.bases, interactions, catalog)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Fits all of them."""
        for number, base in enumerate(self.bases):
            base.fit(interactions, catalog, rng.child("base", number))
        self._fitted = True

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The interleaved lists (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted, or a base draws its lists at random.
        """
        if not self._fitted:
            not_fitted(self)
        lists = [base.recommend(user_ids, histories, n, rng) for base in self.bases]
        for base, slates in zip(self.bases, lists, strict=True):
            if any(slate.propensities is not None for slate in slates):
                raise RecommenderError(
                    f"Interleaved takes turns with {type(base).__name__}, which draws its lists at random, so there is no closed form for "
                    "the propensities; use deterministic bases, and explore on top by recommender.exploration."
                )
        return [_in_turn([slates[row].items for slates in lists], n) for row in range(len(user_ids))]

    @property
    def repairs(self) -> Mapping[str, int]:
        """What had to be repaired in the answers of all bases -> how often."""
        counts: dict[str, int] = {}
        for base in self.bases:
            for kind, count in getattr(base, "repairs", {}).items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def save(self, folder: Path) -> None:
        """Writes each base into a folder of its own.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._fitted:
            not_fitted(self)
        for number, base in enumerate(self.bases):
            (folder / f"base-{number}").mkdir()
            base.save(folder / f"base-{number}")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        for number, base in enumerate(self.bases):
            base.load(folder / f"base-{number}")
        self._fitted = True


def _in_turn(lists: Sequence[np.ndarray], n: int) -> Slate:
    """The first n different items of the lists, taken in turns."""
    taken: dict[int, None] = {}
    ahead = [iter(items.tolist()) for items in lists]
    while ahead and len(taken) < n:
        for own in list(ahead):
            item = next((item for item in own if item not in taken), None)
            if item is None:
                ahead.remove(own)
            elif len(taken) < n:
                taken[item] = None
    items = np.fromiter(taken, dtype=np.int32, count=len(taken))
    return Slate(items, -np.arange(len(items), dtype=np.float64))

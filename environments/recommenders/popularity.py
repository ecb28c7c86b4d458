"""Popularity: the same list for everybody, and a baseline that is often hard to beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import load_arrays, not_fitted, save_arrays, top_unseen_of_order
from simulator.dataset import Catalog
from simulator.errors import DataError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class PopularityConfig(ComponentConfig):
    """Options of `Popularity`.

    Attributes:
        half_life_days: days after which an interaction counts half; None counts all of them alike.
    """

    half_life_days: float | None = Field(default=None, gt=0, le=1e6)


class Popularity:
    """Unseen items by how many people interacted with them.

    The score of item i is ``sum over people u of 0.5 ** (age_ui / half_life)``, where the age is the time from the
    person's last interaction with the item to the newest interaction of the log; without a half-life every person
    counts 1. A person counts once per item however often they came back.
    """

    Config = PopularityConfig

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()
        self._scores: np.ndarray | None = None
        self._order = np.empty(0, dtype=np.int32)

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data without times where a half-life is wanted (see `simulator.protocols.DataChecker`).

        Raises:
            DataError: an interaction has no time.
        """
        missing = interactions["timestamp"].null_count()
        if self.config.half_life_days is not None and missing:
            raise DataError(
                "Popularity with half_life_days needs a timestamp on every interaction, and "
                f"{missing} of {interactions.height} have none; leave half_life_days out for such data."
            )

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Counts.

        Raises:
            DataError: a half-life is wanted and an interaction has no time.
        """
        self.check_data(interactions, catalog)
        last = interactions.group_by("user", "item").agg(pl.col("timestamp").max()).sort("user", "item")
        weights = np.ones(last.height)
        if self.config.half_life_days is not None:
            ages = last.select(pl.col("timestamp").max() - pl.col("timestamp")).to_series().to_numpy()
            weights = 0.5 ** (ages / (86_400.0 * self.config.half_life_days))
        self._remember(np.bincount(last["item"].to_numpy(), weights=weights, minlength=len(catalog)))

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n most popular unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._scores is None:
            not_fitted(self)
        return top_unseen_of_order(self._order, self._scores, histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._scores is None:
            not_fitted(self)
        save_arrays(folder, scores=self._scores)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (scores,) = load_arrays(folder, "scores")
        self._remember(scores)

    def _remember(self, scores: np.ndarray) -> None:
        self._scores = scores
        self._order = np.argsort(-scores, kind="stable").astype(np.int32)

"""Biases: the mean rating, and how far each person and each item is from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import BACKSTOP, load_arrays, not_fitted, popularity_share, save_arrays, top_unseen
from simulator.dataset import Catalog
from simulator.errors import DataError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class BiasesConfig(ComponentConfig):
    """Options of `Biases`.

    Attributes:
        items: whether items have a bias. people: whether people have one. With neither, everything is rated the mean.
        item_damping, people_damping: ratings at the mean that everybody is given besides their own.
    """

    items: bool = True
    people: bool = True
    item_damping: float = Field(default=10.0, ge=0, le=1e12)
    people_damping: float = Field(default=5.0, ge=0, le=1e12)


class Biases:
    """The expected rating is ``mean + b_i + b_u``: the control that every model of ratings has to beat.

    ``b_i = sum (r - mean) / (n_i + damping)`` and then ``b_u = sum (r - mean - b_i) / (n_u + damping)`` (Koren, "Factor in the
    neighbors", TKDD 2010). Everybody's list is the same but for what they know; items alike in rating come by
    popularity. People and items that nobody rated have the bias 0.
    """

    Config = BiasesConfig

    def __init__(self, config: BiasesConfig | None = None) -> None:
        self.config = config or BiasesConfig()
        self._means: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # mean, lowest and highest; b_u; b_i
        self._backstop = np.empty(0, dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Computes the means.

        Raises:
            DataError: no interaction has a rating.
        """
        rated = rated_rows(interactions, self)
        users, items, ratings = (rated[column].to_numpy() for column in ("user", "item", "rating"))
        config, n_users = self.config, int(interactions["user"].max()) + 1  # type: ignore[arg-type]
        mean, of_people, of_items = damped_means(
            users, items, ratings, (n_users, len(catalog)), (config.people_damping, config.item_damping), (config.people, config.items)
        )
        self._means = np.array([mean, ratings.min(), ratings.max()], dtype=np.float64), of_people, of_items
        self._backstop = np.float32(BACKSTOP) * popularity_share(interactions, len(catalog))

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data without ratings (see `simulator.protocols.DataChecker`).

        Raises:
            DataError: there are none.
        """
        rated_rows(interactions, self)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._means is None:
            not_fitted(self)
        whole, of_people, of_items = self._means
        own = of_known(of_people, user_ids)
        return top_unseen((whole[0] + own)[:, None] + (of_items + self._backstop), histories, n)

    def predict_ratings(self, user_ids: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The expected ratings (see `simulator.protocols.RatingPredictor`), inside the range of those that were fitted.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._means is None:
            not_fitted(self)
        whole, of_people, of_items = self._means
        ratings: np.ndarray = np.clip(whole[0] + of_known(of_people, user_ids) + of_items[items], whole[1], whole[2])
        return ratings

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._means is None:
            not_fitted(self)
        whole, of_people, of_items = self._means
        save_arrays(folder, whole=whole, people=of_people, items=of_items, backstop=self._backstop)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        whole, of_people, of_items, self._backstop = load_arrays(folder, "whole", "people", "items", "backstop")
        self._means = whole, of_people, of_items


def damped_means(
    users: np.ndarray,
    items: np.ndarray,
    ratings: np.ndarray,
    shape: tuple[int, int],
    damping: tuple[float, float],
    wanted: tuple[bool, bool] = (True, True),
) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean rating and the biases of people and items, see `Biases`.

    Args:
        users, items, ratings: of each rating, shape (n,).
        shape: numbers of people and of items.
        damping: of people and of items.
        wanted: whether people and items have biases; those without have 0.

    Returns:
        The mean; b_u, float64, shape (n_users,); b_i, float64, shape (n_items,).
    """
    mean = float(np.mean(ratings, dtype=np.float64))
    left = ratings.astype(np.float64) - mean
    biases = [np.zeros(size) for size in shape]
    for side, codes in ((1, items), (0, users)):
        if wanted[side]:
            counts = np.bincount(codes, minlength=shape[side]) + damping[side]
            sums = np.bincount(codes, weights=left, minlength=shape[side])
            biases[side] = np.divide(sums, counts, out=np.zeros(shape[side]), where=counts > 0)
            left = left - biases[side][codes]
    return mean, biases[0], biases[1]


def of_known(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The values of some codes, 0 for codes beyond the values."""
    known = codes < len(values)
    picked = values[np.where(known, codes, 0)] if len(values) else np.zeros(len(codes))
    return np.where(known, picked, 0.0)


def rated_rows(interactions: pl.DataFrame, recommender: object) -> pl.DataFrame:
    """The interactions with a rating.

    Raises:
        DataError: there are none.
    """
    rated = interactions.filter(pl.col("rating").is_not_null())
    if rated.is_empty():
        _no(recommender, "predicts ratings, and no interaction has one; use data with ratings, or a recommender of choices such as BPR.")
    return rated


def _no(recommender: object, what: str) -> NoReturn:
    raise DataError(f"{type(recommender).__name__} {what}")

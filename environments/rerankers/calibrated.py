"""Calibrated recommendations: a list whose genres are spread as those of the person's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import history_matrix
from environments.rerankers.wrapping import Reranker, RerankerConfig
from simulator.dataset import Catalog
from simulator.errors import DataError


class CalibratedConfig(RerankerConfig):
    """Options of `Calibrated`, besides those of all rerankers (`RerankerConfig`).

    Attributes:
        calibration: weight of the divergence in [0, 1]; 0 keeps the base's order.
        smoothing: share of the history's genres that is mixed into the list's, which keeps the divergence finite.
    """

    calibration: float = Field(default=0.5, ge=0, le=1)
    smoothing: float = Field(default=0.01, gt=0, lt=1)


class Calibrated(Reranker[CalibratedConfig]):
    """Fills place after place so that ``(1 - c) sum of scores - c KL(p | q)`` of the list so far is largest.

    p is the share of each genre in the person's history, q that in the list, smoothed; an item's weight is divided evenly over
    its genres (Steck, "Calibrated recommendations", RecSys 2018, eq. 2 to 7). Scores are scaled to [0, 1] within the pool. A
    person without a history, or without a genre in it, keeps the base's order. The slate's scores are the gains of that sum,
    lowered where needed so that they do not increase.
    """

    Config = CalibratedConfig
    names = ("genres",)

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data without genres, and what the base refuses.

        Raises:
            DataError: no item has a genre.
        """
        if not catalog.genre_names:
            raise DataError("Calibrated needs genres, and no item of the data has one; use another reranker for such data.")
        super().check_data(interactions, catalog)

    def learn(self, interactions: pl.DataFrame, catalog: Catalog) -> dict[str, np.ndarray]:
        """Each item's weight divided over its genres, float64, shape (n_items, n_genres)."""
        genres = catalog.genre_matrix.astype(np.float64)
        return {"genres": genres / np.maximum(genres.sum(axis=1, keepdims=True), 1.0)}

    def order(
        self, items: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], n: int, arrays: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """One greedy choice per place, for all people of the batch at once (see `Reranker.order`)."""
        genres, rows, smoothing = arrays["genres"], np.arange(len(items)), self.config.smoothing
        wanted = np.asarray(history_matrix(histories, len(genres)) @ genres)
        totals = wanted.sum(axis=1, keepdims=True)
        wanted = np.divide(wanted, totals, out=np.zeros_like(wanted), where=totals > 0)
        weight = np.where(totals > 0, self.config.calibration, 0.0)
        offered = genres[items]
        so_far = np.zeros_like(wanted)
        before = weight[:, 0] * _divergence(wanted[:, None], so_far[:, None], smoothing)[:, 0]
        taken = np.zeros(items.shape, dtype=bool)
        places, gains = np.empty((len(items), n), dtype=np.int64), np.empty((len(items), n))
        for place in range(n):
            after = weight * _divergence(wanted[:, None], so_far[:, None] + offered, smoothing)
            gain = np.where(taken, -np.inf, (1 - weight) * scores - after + before[:, None])
            best = gain.argmax(axis=1)
            places[:, place], gains[:, place] = best, gain[rows, best]
            before = after[rows, best]
            taken[rows, best] = True
            so_far += offered[rows, best]
        return places, np.minimum.accumulate(gains, axis=1)


def _divergence(wanted: np.ndarray, sums: np.ndarray, smoothing: float) -> np.ndarray:
    """KL of p from smoothed q, nats, over the last axis; `sums` are not yet divided by their total."""
    totals = sums.sum(axis=-1, keepdims=True)
    q = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    mixed = (1 - smoothing) * q + smoothing * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(mixed), where=wanted > 0)
    return np.asarray((wanted * np.log(ratio)).sum(axis=-1))

"""What genres and years say of items for a user; items without interactions have them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from agents.affinity import standardised
from agents.shrinkage import normal_strength
from simulator.dataset import Dataset

SMOOTHING: Final[float] = 5.0
"""Interactions added to observed and expected counts before a ratio of them is taken."""

COLUMNS: Final[tuple[str, ...]] = ("genres", "period", "novelty", "own year")


@dataclass(frozen=True, eq=False)
class Content:
    """Genres, five-year periods and years of items; `agents.behaviour.Behaviour` says what the columns are.

    Attributes:
        genres: of items, rows sum to the number of genres, shape (n_items, n_genres). genre_shares: of all interactions.
        period: five-year period of each item, -1 where unknown. period_shares: of all interactions with a known one.
        year: of items, standardised over interactions, 0 where unknown. year_strength: pseudo-observations of a user's mean.
    """

    genres: np.ndarray
    genre_shares: np.ndarray
    period: np.ndarray
    period_shares: np.ndarray
    year: np.ndarray
    year_strength: float

    @classmethod
    def fit(cls, train: Dataset) -> Content:
        """Counts genres and periods over the interactions."""
        rows = train.interactions
        users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
        counts = np.bincount(items, minlength=train.n_items).astype(np.float64)
        genres = train.catalog.genre_matrix.astype(np.float64)
        genre_counts = counts @ genres
        years = train.catalog.items["year"]
        known = years.is_not_null().to_numpy()
        period = np.where(known, (years.fill_null(0).to_numpy() - 1900) // 5, -1).astype(np.int64)
        period = np.where(known, period.clip(min=0), -1)
        period_counts = np.bincount(period[known], weights=counts[known], minlength=int(period.max(initial=-1)) + 1)
        year = standardised(years.cast(pl.Float64).fill_null(np.nan).to_numpy(), items)
        return cls(
            genres=genres,
            genre_shares=genre_counts / max(1.0, genre_counts.sum()),
            period=period,
            period_shares=period_counts / max(1.0, period_counts.sum()),
            year=year,
            year_strength=float(normal_strength(users, year[items], train.n_users)),
        )

    def columns(self, met: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Columns `COLUMNS` of items for a history of different item codes, shape (len(items), 4)."""
        genres = self.genres[met].sum(axis=0)
        lift = np.log((genres + SMOOTHING) / (genres.sum() * self.genre_shares + SMOOTHING))
        mine = self.genres[items]
        wide = np.maximum(mine.sum(axis=1), 1.0)
        found = np.zeros((len(items), len(COLUMNS)))
        found[:, 0] = mine @ lift / wide
        found[:, 1] = lift_of(self.period, self.period_shares, met, items)
        found[:, 2] = mine @ (1.0 / (1.0 + genres)) / wide
        found[:, 3] = self.year[met].sum() / (len(met) + self.year_strength) * self.year[items]
        return found


def lift_of(kind: np.ndarray, shares: np.ndarray, met: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Log of observed over expected counts of the kind of some items in what was met; 0 where the kind is unknown, -1."""
    mine = kind[met]
    mine = mine[mine >= 0]
    if not len(shares):
        return np.zeros(len(items))
    counts = np.bincount(mine, minlength=len(shares))
    lift = np.log((counts + SMOOTHING) / (len(mine) * shares + SMOOTHING))
    return np.where(kind[items] >= 0, lift[kind[items]], 0.0)

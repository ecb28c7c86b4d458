"""What a recommender ranks for many people, and what they know already: in batches, as matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.analysis import ranking_metrics as metrics
from simulator.errors import RecommenderError
from simulator.protocols import Recommender
from simulator.seeds import Stream

BATCH = 512
"""People asked for at once."""


def histories_of(interactions: pl.DataFrame, users: np.ndarray) -> list[np.ndarray]:
    """The item codes of each of `users`, in the log's order, int32."""
    grouped = interactions.group_by("user", maintain_order=True).agg(pl.col("item"))
    by_user = dict(zip(grouped["user"].to_list(), grouped["item"].to_list(), strict=True))
    return [np.array(by_user.get(user, []), dtype=np.int32) for user in users.tolist()]


def ranked_lists(recommender: Recommender, users: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> np.ndarray:
    """The first n items for each person, int64, shape (people, n), -1 where a list is shorter."""
    rows = []
    for start in range(0, len(users), BATCH):
        part = slice(start, start + BATCH)
        slates = recommender.recommend(users[part].astype(np.int32), histories[part], n, rng)
        if len(slates) != len(users[part]):
            raise RecommenderError(f"{type(recommender).__name__}.recommend returned {len(slates)} slates for {len(users[part])} people.")
        rows.append(metrics.padded([slate.items for slate in slates], n))
    return np.concatenate(rows) if rows else np.empty((0, n), dtype=np.int64)

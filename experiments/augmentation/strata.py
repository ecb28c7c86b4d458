"""Whom and what a gain is looked for: everybody, people with few interactions, items of the head and of the tail, and cold items.

All strata are counted in the training part. Strata of items keep the lists as they are and count only held-out items of the stratum as
relevant; somebody without one is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from experiments.analysis import ranking_metrics as metrics
from experiments.analysis.list_metrics import tail_items
from experiments.sections import AugmentationSection
from simulator.dataset import Dataset

EVERYBODY, COLD_USERS, HEAD, TAIL, COLD_ITEMS = "all", "cold_users", "head_items", "tail_items", "cold_items"
STRATA = (EVERYBODY, COLD_USERS, HEAD, TAIL, COLD_ITEMS)
OF_ITEMS = (EVERYBODY, HEAD, TAIL, COLD_ITEMS)
"""Strata that need lists of their own; cold users are rows of "all"."""


@dataclass(frozen=True, eq=False)
class Strata:
    """Masks.

    Attributes:
        cold_users: bool by user code. few: the largest number of training interactions of a cold user.
        items: stratum of `OF_ITEMS` -> bool by item code.
    """

    cold_users: np.ndarray
    few: int
    items: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, train: Dataset, section: AugmentationSection) -> Strata:
        """Counts the training part; people without training interactions are not cold users, they are not tested."""
        pairs = train.interactions.select("user", "item").unique()
        of_user = np.bincount(pairs["user"].to_numpy(), minlength=train.n_users)
        of_item = np.bincount(pairs["item"].to_numpy(), minlength=train.n_items)
        few = int(np.quantile(of_user[of_user > 0], section.cold_users, method="lower"))
        tail = tail_items(of_item.astype(np.float64), 1.0 - section.head, "interactions")
        items = {EVERYBODY: np.ones(train.n_items, dtype=bool), HEAD: ~tail, TAIL: tail, COLD_ITEMS: of_item <= section.cold_items}
        return cls((of_user > 0) & (of_user <= few), few, items)


def per_person(ranked: np.ndarray, relevant: Sequence[np.ndarray], strata: Strata, k: int) -> pl.DataFrame:
    """NDCG of each person in each stratum of items, NaN where nothing of it is held out.

    Args:
        ranked: item codes, shape (people, k). relevant: held-out items of each. strata: which. k: cutoff.
    """
    found = {}
    for name, mask in strata.items.items():
        wanted = [items[mask[items]] for items in relevant]
        counts = np.array([len(items) for items in wanted])
        found[name] = metrics.ndcg(metrics.hit_matrix(ranked, wanted), metrics.ones_below(counts), k)
    return pl.DataFrame(found)

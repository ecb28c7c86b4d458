"""A penalty on popularity: the same items, the well-known ones further down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import Field

from environments.rerankers.wrapping import Reranker, RerankerConfig
from simulator.dataset import Catalog


class PopularityPenaltyConfig(RerankerConfig):
    """Options of `PopularityPenalty`, besides those of all rerankers (`RerankerConfig`).

    Attributes:
        penalty: score, in units of the pool's range, that the most popular item of the catalog loses against one that nobody has.
    """

    penalty: float = Field(default=0.3, ge=0, le=1e6)


class PopularityPenalty(Reranker[PopularityPenaltyConfig]):
    """Sorts the pool by ``score - penalty * log(1 + c_i) / log(1 + max c)``, with c_i the people who have the item.

    Scores are scaled to [0, 1] within the pool. The logarithm keeps the few best-known items from deciding alone (the value-aware
    regularisation of Abdollahpouri et al., RecSys 2017, moved behind the model as in their FLAIRS 2019 reranking).
    """

    Config = PopularityPenaltyConfig
    names = ("popularity",)

    def learn(self, interactions: pl.DataFrame, catalog: Catalog) -> dict[str, np.ndarray]:
        """Logarithmic popularity in [0, 1], shape (n_items,)."""
        pairs = interactions.select("user", "item").unique()
        counts = np.log1p(np.bincount(pairs["item"].to_numpy(), minlength=len(catalog)))
        return {"popularity": counts / max(counts.max(initial=0.0), 1e-12)}

    def order(
        self, items: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], n: int, arrays: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sorts; ties keep the base's order (see `Reranker.order`)."""
        values = scores - self.config.penalty * arrays["popularity"][items]
        places = np.argsort(-values, axis=1, kind="stable")[:, :n]
        return places, np.take_along_axis(values, places, axis=1)

"""LightGCN: matrix factorisation whose factors are smoothed over the graph of people and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl
from pydantic import Field

from environments.recommenders.factors import FactorRecommender
from environments.recommenders.ranking import interaction_matrix
from environments.recommenders.training_config import GraphConfig, Progress
from simulator.dataset import Catalog
from simulator.seeds import Stream

if TYPE_CHECKING:
    from torch import Tensor


class LightGCNConfig(GraphConfig):
    """Options of `LightGCN`: those of `GraphConfig` and `TrainingConfig`."""

    learning_rate: float = Field(default=0.002, gt=0)


class LightGCN(FactorRecommender):
    """The score is ``e_u . e_i`` with ``e = mean over k = 0..layers of A^k e_0``, A the normalised graph (`graphs.adjacency`).

    The trained factors e_0 minimise BPR's loss plus an L2 term (He et al., "LightGCN: simplifying and powering graph
    convolution network for recommendation", SIGIR 2020, eq. 3-8 and 15; see `graphs.train`). People are folded in as in
    `factors.FoldIn`. Training needs torch; recommending needs numpy alone.
    """

    Config = LightGCNConfig

    def __init__(self, config: LightGCNConfig | None = None) -> None:
        super().__init__()
        self.config = config or LightGCNConfig()
        self.progress: Progress | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal factors on the same machine's CPU.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        import torch  # noqa: PLC0415 - only a fit needs it

        from environments.recommenders import graphs  # noqa: PLC0415

        matrix = interaction_matrix(interactions, len(catalog))
        sizes = dict(zip(("users", "items"), matrix.shape, strict=True))

        def initial() -> dict[str, Tensor]:
            return {name: 0.1 * torch.randn(size, self.config.dimension) for name, size in sizes.items()}

        def smoothed(weights: Mapping[str, Tensor], graph: Tensor, training: bool) -> Tensor:
            layer = torch.cat((weights["users"], weights["items"]))
            total = layer
            for _ in range(self.config.layers):
                layer = graphs.propagate(graph, layer)
                total = total + layer
            return total / (self.config.layers + 1)

        earlier = self._earlier(len(catalog), self.config.warm_start)
        self._weights, users, items = graphs.train(matrix, self.config, rng, initial, smoothed, earlier, self.progress)
        self._use(matrix, users, items, None, self.config.fold_in_l2)

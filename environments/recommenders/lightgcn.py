"""LightGCN: matrix factorisation whose factors are smoothed over the graph of people and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from environments.recommenders.graph_factors import GraphRecommender
from environments.recommenders.training_config import GraphConfig

if TYPE_CHECKING:
    from torch import Tensor


class LightGCNConfig(GraphConfig):
    """Options of `LightGCN`: those of `GraphConfig` and `TrainingConfig`."""

    learning_rate: float = Field(default=0.002, gt=0, le=100)


class LightGCN(GraphRecommender):
    """The score is ``e_u . e_i`` with ``e = mean over k = 0..layers of A^k e_0``, A the normalised graph (`graphs.adjacency`).

    The trained factors e_0 minimise BPR's loss plus an L2 term (He et al., "LightGCN: simplifying and powering graph
    convolution network for recommendation", SIGIR 2020, eq. 3-8 and 15; see `graphs.train`). People are folded in as in
    `factors.FoldIn`. Training needs torch; recommending needs numpy alone.
    """

    Config = LightGCNConfig

    def __init__(self, config: LightGCNConfig | None = None) -> None:
        super().__init__()
        self.config: LightGCNConfig = config or LightGCNConfig()

    def initial(self, n_users: int, n_items: int) -> dict[str, Tensor]:
        """See `GraphRecommender.initial`."""
        import torch  # noqa: PLC0415 - only a fit needs it

        return {name: 0.1 * torch.randn(size, self.config.dimension) for name, size in (("users", n_users), ("items", n_items))}

    def smoothed(self, weights: Mapping[str, Tensor], graph: Tensor, training: bool) -> Tensor:
        """See `GraphRecommender.smoothed`."""
        import torch  # noqa: PLC0415

        from environments.recommenders.graphs import propagate  # noqa: PLC0415

        layer = torch.cat((weights["users"], weights["items"]))
        total = layer
        for _ in range(self.config.layers):
            layer = propagate(graph, layer)
            total = total + layer
        return total / (self.config.layers + 1)

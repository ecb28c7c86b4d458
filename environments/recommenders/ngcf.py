"""NGCF: factors that are transformed and mixed along the graph of people and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from environments.recommenders.graph_factors import GraphRecommender
from environments.recommenders.training_config import GraphConfig

if TYPE_CHECKING:
    from torch import Tensor


class NGCFConfig(GraphConfig):
    """Options of `NGCF`, besides those of `GraphConfig` and `TrainingConfig`.

    Attributes:
        dropout: share of the entries of each layer's messages that are set to 0 while training.
    """

    learning_rate: float = Field(default=0.0005, gt=0, le=100)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class NGCF(GraphRecommender):
    """The score is ``e_u . e_i``, where e joins the layers ``e_0 | e_1 | .. | e_layers``.

    ``e_k+1 = normalised(leaky_relu((A + I) e_k W1 + (A e_k * e_k) W2))`` with A the normalised graph (`graphs.adjacency`),
    ``*`` by element and biases in both products; trained by BPR's loss with message dropout (Wang et al., "Neural graph
    collaborative filtering", SIGIR 2019, eq. 3-11; normalised layers as in their code). People are folded in as in
    `factors.FoldIn`. Training needs torch; recommending needs numpy alone.
    """

    Config = NGCFConfig

    def __init__(self, config: NGCFConfig | None = None) -> None:
        super().__init__()
        self.config: NGCFConfig = config or NGCFConfig()

    def initial(self, n_users: int, n_items: int) -> dict[str, Tensor]:
        """See `GraphRecommender.initial`."""
        import torch  # noqa: PLC0415 - only a fit needs it
        from torch.nn.init import xavier_normal_  # noqa: PLC0415

        d = self.config.dimension
        weights = {name: xavier_normal_(torch.empty(size, d)) for name, size in (("users", n_users), ("items", n_items))}
        for layer in range(self.config.layers):
            for kind in ("sum", "product"):
                weights[f"{kind}{layer}"] = xavier_normal_(torch.empty(d, d))
                weights[f"{kind} bias{layer}"] = torch.zeros(d)
        return weights

    def smoothed(self, weights: Mapping[str, Tensor], graph: Tensor, training: bool) -> Tensor:
        """See `GraphRecommender.smoothed`."""
        import torch  # noqa: PLC0415
        from torch.nn import functional  # noqa: PLC0415

        from environments.recommenders.graphs import propagate  # noqa: PLC0415

        node = torch.cat((weights["users"], weights["items"]))
        joined = [node]
        for layer in range(self.config.layers):
            around = propagate(graph, node)
            total = functional.linear(around + node, weights[f"sum{layer}"], weights[f"sum bias{layer}"])
            product = functional.linear(around * node, weights[f"product{layer}"], weights[f"product bias{layer}"])
            node = functional.dropout(functional.leaky_relu(total + product, 0.2), self.config.dropout, training)
            node = functional.normalize(node, dim=1)
            joined.append(node)
        return torch.cat(joined, dim=1)

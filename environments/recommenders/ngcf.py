"""NGCF: factors that are transformed and mixed along the graph of people and items."""

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


class NGCFConfig(GraphConfig):
    """Options of `NGCF`, besides those of `GraphConfig` and `TrainingConfig`.

    Attributes:
        dropout: share of the entries of each layer's messages that are set to 0 while training.
    """

    learning_rate: float = Field(default=0.0005, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class NGCF(FactorRecommender):
    """The score is ``e_u . e_i``, where e joins the layers ``e_0 | e_1 | .. | e_layers``.

    ``e_k+1 = normalised(leaky_relu((A + I) e_k W1 + (A e_k * e_k) W2))`` with A the normalised graph (`graphs.adjacency`),
    ``*`` by element and biases in both products; trained by BPR's loss with message dropout (Wang et al., "Neural graph
    collaborative filtering", SIGIR 2019, eq. 3-11; normalised layers as in their code). People are folded in as in
    `factors.FoldIn`. Training needs torch; recommending needs numpy alone.
    """

    Config = NGCFConfig

    def __init__(self, config: NGCFConfig | None = None) -> None:
        super().__init__()
        self.config = config or NGCFConfig()
        self.progress: Progress | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal factors on the same machine's CPU.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        import torch  # noqa: PLC0415 - only a fit needs it
        from torch.nn import functional, init  # noqa: PLC0415

        from environments.recommenders import graphs  # noqa: PLC0415

        matrix = interaction_matrix(interactions, len(catalog))
        sizes = dict(zip(("users", "items"), matrix.shape, strict=True))
        d, layers = self.config.dimension, range(self.config.layers)

        def initial() -> dict[str, Tensor]:
            weights = {name: init.xavier_normal_(torch.empty(size, d)) for name, size in sizes.items()}
            for layer in layers:
                for kind in ("sum", "product"):
                    weights[f"{kind}{layer}"] = init.xavier_normal_(torch.empty(d, d))
                    weights[f"{kind} bias{layer}"] = torch.zeros(d)
            return weights

        def smoothed(weights: Mapping[str, Tensor], graph: Tensor, training: bool) -> Tensor:
            node = torch.cat((weights["users"], weights["items"]))
            joined = [node]
            for layer in layers:
                around = graphs.propagate(graph, node)
                total = functional.linear(around + node, weights[f"sum{layer}"], weights[f"sum bias{layer}"])
                product = functional.linear(around * node, weights[f"product{layer}"], weights[f"product bias{layer}"])
                node = functional.dropout(functional.leaky_relu(total + product, 0.2), self.config.dropout, training)
                node = functional.normalize(node, dim=1)
                joined.append(node)
            return torch.cat(joined, dim=1)

        earlier = self._earlier(len(catalog), self.config.warm_start)
        self._weights, users, items = graphs.train(matrix, self.config, rng, initial, smoothed, earlier, self.progress)
        self._use(matrix, users, items, None, self.config.fold_in_l2)

"""GRU4Rec: a recurrent network over the items in order. This file wraps torch."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from environments.recommenders.sequential import (
    Dropout,
    SequentialConfig,
    SequentialNetwork,
    SequentialRecommender,
    last_of,
    next_item_entropy,
)


class GRU4RecConfig(SequentialConfig):
    """Options of `GRU4Rec`, besides those of `SequentialConfig` and `TrainingConfig`.

    Attributes:
        hidden: width of the recurrent layers.
        layers: recurrent layers.
    """

    hidden: int = Field(default=128, ge=1, le=65_536)
    layers: int = Field(default=1, ge=1, le=64)


class GRU4Rec(SequentialRecommender):
    """Gated recurrent units read the items; each state predicts the next item by the softmax over all items.

    After Hidasi et al., "Session-based recommendations with recurrent neural networks" (ICLR 2016), with the full softmax in
    place of its sampled losses and with the input vectors of the items as output vectors, as is usual since.
    """

    Config = GRU4RecConfig

    def __init__(self, config: GRU4RecConfig | None = None) -> None:
        super().__init__()
        self.config: GRU4RecConfig = config or GRU4RecConfig()

    def network(self, n_items: int, counts: np.ndarray) -> SequentialNetwork:
        """See `SequentialRecommender.network`."""
        return _Network(n_items, self.config)


class _Network(SequentialNetwork):
    def __init__(self, n_items: int, config: GRU4RecConfig) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, config.dimension, padding_idx=n_items)
        nn.init.normal_(self.items.weight[:n_items].data, std=0.1)
        self.dropout = Dropout(config.dropout)
        self.recurrent = nn.GRU(config.dimension, config.hidden, config.layers, batch_first=True)
        self.output = nn.Linear(config.hidden, config.dimension)

    def loss(self, windows: Tensor, lengths: Tensor) -> Tensor:
        return next_item_entropy(self._read(windows[:, :-1]), windows, lengths, self.items.weight[: self.n_items])

    def states(self, windows: Tensor, lengths: Tensor) -> Tensor:
        return last_of(self._read(windows), lengths)

    def _read(self, windows: Tensor) -> Tensor:
        states: Tensor = self.output(self.dropout(self.recurrent(self.dropout(self.items(windows)))[0]))
        return states

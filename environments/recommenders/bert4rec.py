"""BERT4Rec: a transformer that fills in hidden items. This file wraps torch."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from environments.recommenders.sequential import Dropout, SequentialNetwork, SequentialRecommender
from environments.recommenders.transformer import TransformerConfig, TransformerLayer


class BERT4RecConfig(TransformerConfig):
    """Options of `BERT4Rec`, besides those of `TransformerConfig`, `SequentialConfig` and `TrainingConfig`.

    Attributes:
        hidden_share: chance that an item of a window is hidden while training.
        last_share: chance that the last item of a window is hidden besides, which is what recommending asks for.
        validation_share: see `SequentialConfig`; by default nothing is held back, since the falling rate ends the training.
    """

    hidden_share: float = Field(default=0.1, gt=0, lt=1)
    last_share: float = Field(default=1.0, ge=0, le=1)
    max_length: int = Field(default=30, ge=2, le=100_000)
    cut_share: float = Field(default=0.9, ge=0, le=1)
    batch_size: int = Field(default=96, ge=1, le=100_000_000)
    epochs: int = Field(default=150, ge=1, le=1_000_000)
    learning_rate: float = Field(default=0.002, gt=0, le=100)
    warm_up: int = Field(default=4, ge=0, le=1_000_000)
    last_rate: float = Field(default=0.01, gt=0, le=1)
    validation_share: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> BERT4RecConfig:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} cannot be shared by {self.heads} heads; it must be a multiple")
        return self


class BERT4Rec(SequentialRecommender):
    """Hidden items are predicted from both sides by the softmax over all items; to recommend, a hidden one is appended.

    Sun et al., "BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer" (CIKM
    2019, sections 3.2-3.7), with layers normalised before, positions counted back from the newest item, and the mask in the place
    of every hidden item. It needs many epochs (Petrov and Macdonald, "A systematic review and replicability study of BERT4Rec",
    RecSys 2022); windows that end anew at random places in each (`cut_share`) and whose last item is always hidden make them fewer.
    """

    Config = BERT4RecConfig

    def __init__(self, config: BERT4RecConfig | None = None) -> None:
        super().__init__()
        self.config: BERT4RecConfig = config or BERT4RecConfig()

    def network(self, n_items: int, counts: np.ndarray) -> SequentialNetwork:
        """See `SequentialRecommender.network`."""
        return _Network(n_items, self.config)


class _Network(SequentialNetwork):
    def __init__(self, n_items: int, config: BERT4RecConfig) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.mask, padding = n_items, n_items + 1
        self.items = nn.Embedding(n_items + 2, config.dimension, padding_idx=padding)
        self.positions = nn.Embedding(config.max_length + 1, config.dimension)  # counted back from the newest
        self.biases = nn.Parameter(torch.zeros(n_items))
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.head = nn.Sequential(
            nn.LayerNorm(config.dimension), nn.Linear(config.dimension, config.dimension), nn.GELU(), nn.LayerNorm(config.dimension)
        )
        nn.init.normal_(self.items.weight[:padding].data, std=config.dimension**-0.5)
        nn.init.normal_(self.positions.weight.data, std=config.dimension**-0.5)

    def loss(self, windows: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(windows.shape[1], device=windows.device)
        hidden = (torch.rand(windows.shape, device=windows.device) < self.config.hidden_share) & (places < lengths[:, None])
        too = (torch.rand(len(windows), device=windows.device) < self.config.last_share) | ~hidden.any(1)
        hidden |= too[:, None] & (places == (lengths - 1)[:, None])
        states = self._read(windows.masked_fill(hidden, self.mask), lengths, hidden)
        return cross_entropy(self.logits(states, self.n_items), windows[hidden])

    def states(self, windows: Tensor, lengths: Tensor) -> Tensor:
        extended = torch.cat((windows, torch.full_like(windows[:, :1], self.n_items + 1)), dim=1)
        extended.scatter_(1, lengths[:, None], self.mask)
        return self._read(extended, lengths + 1, extended == self.mask)

    def _read(self, windows: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
        """What is expected at the places that are wanted, shape (number of them, dimension)."""
        age = lengths[:, None] - 1 - torch.arange(windows.shape[1], device=windows.device)
        x = self.dropout(self.items(windows) + self.positions(age.clamp(min=0)))
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, age >= 0, wanted if number == len(self.layers) else None)
        states: Tensor = self.head(x)
        return states

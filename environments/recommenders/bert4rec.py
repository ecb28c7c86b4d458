"""BERT4Rec: a transformer that fills in hidden items. This file wraps torch."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from environments.recommenders.sequential import SequentialNetwork, SequentialRecommender, last_of
from environments.recommenders.transformer import TransformerConfig, TransformerLayer


class BERT4RecConfig(TransformerConfig):
    """Options of `BERT4Rec`, besides those of `TransformerConfig`, `SequentialConfig` and `TrainingConfig`.

    Attributes:
        hidden_share: chance that an item of a window is hidden while training.
        last_share: share of the windows of which only the last item is hidden, which is what recommending asks for.
        cut_share: chance that a window ends early, at a random place, so that what follows shorter histories is learned too.
    """

    hidden_share: float = Field(default=0.15, gt=0, lt=1)
    last_share: float = Field(default=0.1, ge=0, le=1)
    cut_share: float = Field(default=0.0, ge=0, le=1)
    batch_size: int = Field(default=64, ge=1)
    epochs: int = Field(default=400, ge=1)
    patience: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> BERT4RecConfig:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} cannot be shared by {self.heads} heads; it must be a multiple")
        return self


class BERT4Rec(SequentialRecommender):
    """Hidden items are predicted from both sides by the softmax over all items; to recommend, a hidden one is appended.

    Sun et al., "BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer" (CIKM
    2019, sections 3.2-3.7), with layers normalised before. A hidden item is always replaced by the mask.
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
        self.positions = nn.Embedding(config.max_length + 1, config.dimension)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.head = nn.Sequential(
            nn.LayerNorm(config.dimension), nn.Linear(config.dimension, config.dimension), nn.GELU(), nn.LayerNorm(config.dimension)
        )
        nn.init.normal_(self.items.weight[:padding].data, std=config.dimension**-0.5)
        nn.init.normal_(self.positions.weight.data, std=config.dimension**-0.5)

    def loss(self, windows: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(windows.shape[1], device=windows.device)
        if self.config.cut_share:
            shorter = (2 + torch.rand(lengths.shape, device=lengths.device) * (lengths - 1)).long().clamp(max=lengths)
            lengths = torch.where(torch.rand(lengths.shape, device=lengths.device) < self.config.cut_share, shorter, lengths)
            windows = windows.masked_fill(places >= lengths[:, None], self.n_items + 1)
        last = places == (lengths - 1)[:, None]
        hidden = (torch.rand(windows.shape, device=windows.device) < self.config.hidden_share) & (places < lengths[:, None])
        only_last = torch.rand(len(windows), device=windows.device) < self.config.last_share
        only_last |= ~hidden.any(1)
        hidden = torch.where(only_last[:, None], last, hidden)
        states = self._read(windows.masked_fill(hidden, self.mask), lengths)
        return cross_entropy(self.head(states[hidden]) @ self.items.weight[: self.n_items].T, windows[hidden])

    def states(self, windows: Tensor, lengths: Tensor) -> Tensor:
        extended = torch.cat((windows, torch.full_like(windows[:, :1], self.n_items + 1)), dim=1)
        extended.scatter_(1, lengths[:, None], self.mask)
        states: Tensor = self.head(last_of(self._read(extended, lengths + 1), lengths + 1))
        return states

    def _read(self, windows: Tensor, lengths: Tensor) -> Tensor:
        x = self.dropout(self.items(windows) + self.positions.weight[: windows.shape[1]])
        real = torch.arange(windows.shape[1], device=windows.device) < lengths[:, None]
        for layer in self.layers:
            x = layer(x, real)
        return x

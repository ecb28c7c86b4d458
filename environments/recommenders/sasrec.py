"""SASRec: a transformer that predicts each next item. This file wraps torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from environments.recommenders.sequential import Dropout, SequentialNetwork, SequentialRecommender, last_of, next_item_entropy
from environments.recommenders.transformer import TransformerConfig, TransformerLayer


class SASRecConfig(TransformerConfig):
    """Options of `SASRec`, besides those of `TransformerConfig`, `SequentialConfig` and `TrainingConfig`.

    Attributes:
        loss: "softmax" over all items, or "gbce" over drawn items.
        negatives: for gbce, items drawn for each window.
        calibration: t of gbce in [0, 1]. With 1 negative and 0 it is the binary cross-entropy of the first SASRec.
    """

    loss: Literal["softmax", "gbce"] = "softmax"
    negatives: int = Field(default=256, ge=1, le=1_000_000)
    calibration: float = Field(default=0.75, ge=0, le=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> SASRecConfig:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} cannot be shared by {self.heads} heads; it must be a multiple")
        return self


class SASRec(SequentialRecommender):
    """Each position attends to what came before it and predicts the next item (Kang and McAuley, "Self-attentive
    sequential recommendation", ICDM 2018), with layers normalised before.

    The loss is the softmax over all items, or gBCE (Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential
    recommendation trained with negative sampling", RecSys 2023, eq. 6-9): ``-(beta log sigmoid(s+) + sum over k negatives of
    log(1 - sigmoid(s-))) / (k + 1)`` with ``beta = a (t (1 - 1 / a) + 1 / a)`` and ``a = k / (n_items - 1)``. The negatives
    are uniform over the items and are shared by the positions of a window.
    """

    Config = SASRecConfig

    def __init__(self, config: SASRecConfig | None = None) -> None:
        super().__init__()
        self.config: SASRecConfig = config or SASRecConfig()

    def network(self, n_items: int, counts: np.ndarray) -> SequentialNetwork:
        """See `SequentialRecommender.network`."""
        return _Network(n_items, self.config)


class _Network(SequentialNetwork):
    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.items = nn.Embedding(n_items + 1, config.dimension, padding_idx=n_items)
        self.positions = nn.Embedding(config.max_length, config.dimension)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.after = nn.LayerNorm(config.dimension)
        nn.init.normal_(self.items.weight[:n_items].data, std=config.dimension**-0.5)
        nn.init.normal_(self.positions.weight.data, std=config.dimension**-0.5)

    def loss(self, windows: Tensor, lengths: Tensor) -> Tensor:
        states = self._read(windows[:, :-1])
        if self.config.loss == "softmax":
            return next_item_entropy(states, windows, lengths, self.items.weight[: self.n_items])
        return self._gbce(states, windows[:, 1:], lengths)

    def states(self, windows: Tensor, lengths: Tensor) -> Tensor:
        return last_of(self._read(windows), lengths)

    def _read(self, windows: Tensor) -> Tensor:
        x = self.dropout(self.items(windows) + self.positions.weight[: windows.shape[1]])
        for layer in self.layers:
            x = layer(x, None)  # padding comes after all items, so that looking back never meets it
        states: Tensor = self.after(x)
        return states

    def _gbce(self, states: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        k, t = self.config.negatives, self.config.calibration
        share = k / max(self.n_items - 1, 1)
        beta = share * (t * (1.0 - 1.0 / share) + 1.0 / share)
        drawn = torch.randint(self.n_items, (len(targets), k), device=targets.device)
        right = (states * self.items(targets)).sum(2)
        wrong = states @ self.items(drawn).transpose(1, 2)
        wrong = wrong.masked_fill(drawn[:, None, :] == targets[:, :, None], -torch.inf)
        losses = (softplus(wrong).sum(2) - beta * logsigmoid(right)) / (k + 1)
        real = torch.arange(targets.shape[1], device=targets.device) < (lengths - 1)[:, None]
        return losses[real].mean()

"""Vectors that are learned while the model stays as it is: a soft prompt, and a projector from factors of items.

What they are, and what inference makes of them, stands in `simulator.llm.vectors`; here they are a layer of torch in place of the
model's input layer. Their numbers are learned in units of the standard deviation of the model's own embeddings, so that a learning rate
means the same for every model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.tuning.settings import TrainingConfig
from simulator.llm.vectors import FIRST

NAME = "vectors"
"""Before the names of the arrays of vectors among the updates of a tuning."""


class LearnedVectors(nn.Module):  # type: ignore[misc]
    """An input layer with more rows than the vocabulary: numbers from `FIRST` on are looked up among what is learned.

    Args:
        inner: the model's own input layer, frozen.
        config: how many vectors.
        factors: of items, the last row for unknown ones, float32, shape (items + 1, r); None without vectors of items.
        start: tokens whose embeddings the soft prompt starts from, at least one (Lester et al. 2021, section 3.2).
    """

    def __init__(self, inner: nn.Embedding, config: TrainingConfig, factors: np.ndarray | None, start: np.ndarray) -> None:
        super().__init__()
        self.inner = inner
        weights = inner.weight.detach().float()
        self.unit = float(weights.std())
        if config.soft:
            chosen = torch.from_numpy(np.resize(start, config.soft).astype(np.int64)).to(weights.device)
            self.soft = nn.Parameter(weights[chosen] / self.unit)
        if factors is not None:
            self.register_buffer("factors", torch.from_numpy(np.asarray(factors, np.float32)), persistent=False)
            self.first = nn.Linear(factors.shape[1], config.hidden)
            self.second = nn.Linear(config.hidden, weights.shape[1])
            # In the beginning an item's vector is a typical embedding with a little of the item.
            with torch.no_grad():
                self.second.bias.copy_(weights.mean(dim=0) / self.unit)

    def learned(self) -> list[nn.Parameter]:
        """What is learned."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("inner.")]

    def table(self) -> torch.Tensor:
        """All vectors in the order of their numbers, shape (vectors, d)."""
        rows = [self.soft] if hasattr(self, "soft") else []
        if hasattr(self, "factors"):
            rows.append(self.second(torch.tanh(self.first(self.factors))))
        return self.unit * torch.cat(rows)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors, shape (b, t, d), of numbers, shape (b, t)."""
        learned = tokens >= FIRST
        plain: torch.Tensor = self.inner(tokens.masked_fill(learned, 0))
        rows = self.table()[(tokens - FIRST).clamp(min=0)]
        return torch.where(learned[..., None], rows.to(plain.dtype), plain)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `simulator.llm.vectors.write` stores, names with `NAME` before them."""
        found: dict[str, Any] = {}
        if hasattr(self, "soft"):
            found["soft"] = self.unit * self.soft
        if hasattr(self, "factors"):
            found |= {"factors": self.factors, "w1": self.first.weight, "b1": self.first.bias}
            found |= {"w2": self.unit * self.second.weight, "b2": self.unit * self.second.bias}
        return {f"{NAME}.{name}": values.detach().float().cpu().numpy() for name, values in found.items()}

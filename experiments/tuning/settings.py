"""How a language model is tuned: plain values, readable on a machine without the rest of this project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

FACTORS = "factors.npz"
"""File of a prepared folder: ``factors`` of the items and, in their order, the ``items``' ids."""

START = "start.npz"
"""File of a prepared folder: the updates that learning begins with, as ``updates.npz`` has them."""

Method = Literal["lora", "soft-prompt", "collaborative", "collaborative-lora"]
"""What is learned: low-rank updates of the weights; vectors in front of every prompt; a map from factors of items to vectors beside
their titles; or the last together with updates."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is tuned.

    Attributes:
        method: what is learned. All methods have the same examples, probes, loss and schedule.
        start: adapter whose updates learning begins with, a name or a folder, such as one of another log or of a shorter tuning; None:
            updates that are zero.
        rank: of the updates, and of those that they begin with. alpha: their scale is alpha / rank.
        soft_tokens: vectors of a soft prompt. item_factors: factors of an item that are projected; hidden: width of the projector.
        soft_rate, projector_rate: highest learning rates of a soft prompt and of a projector, whose results are in units of the
            embeddings' deviation; the first is high as in Lester et al. (2021, section 3.2).
        learning_rate: highest; it rises over the first `warmup` share of the steps and then falls as a cosine to a tenth.
        batch_tokens: tokens of one optimiser step, about; None is 4,096 on a CPU and 16,384 on a GPU.
        micro_tokens: places of one forward pass, padding included (one row always fits); None is 1,024 on a CPU and 4,096 on a GPU. It
            bounds memory and changes what is learned by no more than rounding.
        passes: how often all examples are gone through.
        minutes: when to be done, from the beginning of `usersim tune` on (None: no limit): reading, examples, loading, and measuring before
            and after are in it. At least one step is taken. The schedule follows whichever ends first.
        weights: weight of each kind of probe in the loss, by name of the action; 0 or absent leaves it alone.
        language_loss: weight of the next-token loss on the text about the person.
        decay: weight decay. seed: of the updates' start, of the order of rows, and of which validation people are measured.
        evaluations: how often the validation people are measured after the beginning; fewer where `minutes` would be spent on it.
            patience: stop after so many without improvement.
        device: "auto", "cpu" or "cuda". dtype: of the frozen weights, "bfloat16" or "float32".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    method: Method = "lora"
    start: str | None = None
    soft_tokens: int = 16
    item_factors: int = 32
    hidden: int = 64
    soft_rate: float = 0.1
    projector_rate: float = 1e-2
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 6e-4
    warmup: float = 0.05
    batch_tokens: int | None = None
    micro_tokens: int | None = None
    passes: int = 2
    minutes: float | None = None
    weights: dict[str, float] = field(default_factory=lambda: {"choose": 1.0, "rate": 0.5})
    language_loss: float = 0.05
    decay: float = 0.01
    seed: int = 0
    evaluations: int = 10
    patience: int = 4
    device: str = "auto"
    dtype: str = "bfloat16"

    @property
    def updates(self) -> bool:
        """Whether low-rank updates are learned."""
        return self.method in ("lora", "collaborative-lora")

    @property
    def items(self) -> bool:
        """Whether vectors of items are learned."""
        return self.method in ("collaborative", "collaborative-lora")

    @property
    def vector_rate(self) -> float:
        """Highest learning rate of the vectors that are learned."""
        return self.soft_rate if self.soft else self.projector_rate

    @property
    def soft(self) -> int:
        """Vectors of the soft prompt that is learned."""
        return self.soft_tokens if self.method == "soft-prompt" else 0


@dataclass(frozen=True)
class Progress:
    """How far a tuning is.

    Attributes:
        step, steps: optimiser steps done and expected. seconds_left: estimate.
        loss: mean training loss since the last measurement. best: lowest validation loss so far, or None.
    """

    step: int
    steps: int
    seconds_left: float
    loss: float
    best: float | None

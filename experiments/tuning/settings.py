"""How a language model is tuned: plain values, readable on a machine without the rest of this project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is tuned.

    Attributes:
        rank: of the updates. alpha: their scale is alpha / rank.
        learning_rate: highest; it rises over the first `warmup` share of the steps and then falls as a cosine to a tenth.
        batch_tokens: tokens of one optimiser step. micro_tokens: places of one forward pass, padding included.
        passes: how often all examples are gone through. minutes: stop after this time (None: no limit); the schedule follows
            whichever ends first.
        weights: weight of each kind of probe in the loss, by name of the action; 0 or absent leaves it alone.
        language_loss: weight of the next-token loss on the text about the person.
        decay: weight decay. seed: of the updates' start and of the order of rows.
        evaluations: how often the validation people are measured during tuning. patience: stop after so many without improvement.
        device: "auto", "cpu" or "cuda". dtype: of the frozen weights, "bfloat16" or "float32".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 6e-4
    warmup: float = 0.05
    batch_tokens: int = 16_384
    micro_tokens: int = 4_096
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

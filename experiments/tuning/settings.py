"""How a language model is tuned: plain values, readable on a machine without the rest of this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from agents.actions import ACTIONS
from simulator.errors import with_suggestion

FACTORS = "factors.npz"
"""File of a prepared folder: ``factors`` of the items and, in their order, the ``items``' ids."""

START = "start.npz"
"""File of a prepared folder: the updates that learning begins with, as ``updates.npz`` has them."""

Method = Literal["lora", "soft-prompt", "collaborative", "collaborative-lora"]
"""What is learned: low-rank updates of the weights; vectors in front of every prompt; a map from factors of items to vectors beside
their titles; or the last together with updates."""


def _of_actions(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Weights whose names are those of actions, not all of them 0."""
    names = [action.name for action in ACTIONS]
    for name in weights:
        if name not in names:
            raise ValueError(with_suggestion("action", name, names).removesuffix("."))
    if not any(weights.values()):
        raise ValueError("at least one kind of probe needs a weight above 0, or nothing is learned")
    return weights


Rate = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1_000)]
Tokens = Annotated[int, Field(ge=16, le=1 << 24)]


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
        learning_rate: highest; it falls as a cosine to a tenth. warmup: share of the steps over which it rises first.
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
        device: "auto", "cpu", "cuda", or one of several as "cuda:1". dtype: of the frozen weights, "bfloat16" or "float32".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    method: Method = "lora"
    start: Annotated[str, Field(min_length=1)] | None = None
    soft_tokens: Annotated[int, Field(ge=1, le=1_024)] = 16
    item_factors: Annotated[int, Field(ge=1, le=1_024)] = 32
    hidden: Annotated[int, Field(ge=1, le=65_536)] = 64
    soft_rate: Rate = 0.1
    projector_rate: Rate = 1e-2
    rank: Annotated[int, Field(ge=1, le=1_024)] = 8
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0
    learning_rate: Rate = 6e-4
    warmup: Share = 0.05
    batch_tokens: Tokens | None = None
    micro_tokens: Tokens | None = None
    passes: Annotated[int, Field(ge=1, le=1_000)] = 2
    minutes: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    weights: Annotated[dict[str, Weight], AfterValidator(_of_actions)] = field(default_factory=lambda: {"choose": 1.0, "rate": 0.5})
    language_loss: Weight = 0.05
    decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    evaluations: Annotated[int, Field(ge=1, le=10_000)] = 10
    patience: Annotated[int, Field(ge=1, le=10_000)] = 4
    device: Annotated[str, Field(pattern=r"^(?:auto|cpu|cuda(?::\d{1,2})?)$")] = "auto"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"

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

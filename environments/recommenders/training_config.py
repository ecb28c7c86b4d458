"""What all recommenders trained by gradient descent have in common, without importing torch.

**Warm start.** A recommender whose `Config` has the key ``warm_start`` can continue from earlier weights. With it on,
`fit` after an earlier `fit` or after `load` starts from those weights, and trains at most `warm_epochs` epochs; people who
are new get fresh weights. With it off, or if the catalog has another number of items, `fit` starts from scratch. What
`save` writes is enough to continue, so a run that was interrupted continues with the same numbers.

**Progress.** Each has an attribute `progress`, None or a function that gets an `EpochReport` after every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from simulator.plugins import ComponentConfig


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How an epoch went.

    Attributes:
        epoch: from 1; 0 is the state before a warm start. epochs: at most so many.
        loss: mean over the mini-batches; nan for epoch 0.
        validation: NDCG@10 on the part held back (minus the RMSE where ratings are predicted), or None without one.
    """

    epoch: int
    epochs: int
    loss: float
    validation: float | None


Progress = Callable[[EpochReport], None]


class EpochsConfig(ComponentConfig):
    """Options of every recommender that is trained by gradient descent (Adam).

    Attributes:
        epochs: passes over the data at most.
        batch_size: examples per step.
        learning_rate: of Adam.
        validation_share: share of the log held back to decide when to stop; with 0 all epochs are run.
        patience: epochs without a better NDCG@10 (or RMSE, where ratings are predicted) on the part held back after which training
            stops; the best weights are kept.
        warm_start: whether a further fit continues from the weights of the one before.
        warm_epochs: epochs at most after a warm start.
    """

    epochs: int = Field(default=100, ge=1, le=1_000_000)
    batch_size: int = Field(default=4_096, ge=1, le=100_000_000)
    learning_rate: float = Field(default=0.001, gt=0, le=100)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    patience: int = Field(default=10, ge=1, le=1_000_000)
    warm_start: bool = False
    warm_epochs: int = Field(default=10, ge=1, le=1_000_000)


class TrainingConfig(EpochsConfig):
    """Options of recommenders that torch trains, besides those of `EpochsConfig`.

    Attributes:
        device: where it trains; "auto" takes CUDA where there is one. Training on a CPU is repeatable to the bit, on CUDA it is
            not. Recommending happens on the CPU always.
        threads: of the CPU. Another number may round differently.
        warm_up: epochs in which the learning rate rises to its height in equal steps.
        last_rate: share of the learning rate that is left in the last epoch, to which it falls by as much in every epoch; 1 does
            not fall. A warm start goes through the last `warm_epochs` of the fall only.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=1_024)
    warm_up: int = Field(default=0, ge=0, le=1_000_000)
    last_rate: float = Field(default=1.0, gt=0, le=1)

    def rate(self, number: int, last: int) -> float:
        """The learning rate of an epoch, given its number from 1 and that of the last one."""
        done = 1.0 - (last - number) / max(self.epochs - 1, 1)
        rising = min(number / (self.warm_up + 1), 1.0) if last == self.epochs else 1.0
        return self.learning_rate * rising * (1.0 - (1.0 - self.last_rate) * max(done, 0.0))


class GraphConfig(TrainingConfig):
    """Options of recommenders that propagate factors over the graph of people and items, besides those of `TrainingConfig`.

    Attributes:
        dimension: length of the factors.
        layers: steps of propagation.
        l2: weight of half the mean squared length of the factors of each batch before propagation.
        fold_in_l2: ridge of the map from a history to a person's factors, in people.
    """

    dimension: int = Field(default=64, ge=1, le=65_536)
    layers: int = Field(default=3, ge=0, le=64)
    epochs: int = Field(default=300, ge=1, le=1_000_000)
    batch_size: int = Field(default=2_048, ge=1, le=100_000_000)
    l2: float = Field(default=1e-4, ge=0, le=1e12)
    fold_in_l2: float = Field(default=10.0, gt=0, le=1e12)

"""Epochs, early stopping and progress: the loop around every fit by gradient descent, whatever computes the gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

from environments.recommenders.training_config import EpochReport, EpochsConfig, Progress
from simulator.errors import RecommenderError


class Enough(Exception):
    """Raised by a progress function to end the training after this epoch, with the best weights so far."""


def run_epochs(
    config: EpochsConfig,
    epoch: Callable[[int, int], float],
    keep: Callable[[], Callable[[], None]],
    *,
    warm: bool = False,
    validate: Callable[[], float] | None = None,
    progress: Progress | None = None,
) -> None:
    """Runs epochs until they are over or get no better, and leaves the weights with the best validation.

    Args:
        config: options.
        epoch: trains one, given its number from 1 and that of the last one, and returns the mean loss.
        keep: copies the weights, and returns what puts the copies back.
        warm: whether the weights come from an earlier fit: then they themselves count in the comparison.
        validate: how good the weights are now, larger is better; without it all epochs are run.
        progress: gets a report after every epoch.

    Raises:
        RecommenderError: the loss is not a number any more.
    """
    last = config.warm_epochs if warm else config.epochs
    best, best_epoch, put_back = -math.inf, 0, keep() if validate is not None else None
    if warm and validate is not None:
        best = validate()
        if progress:
            progress(EpochReport(0, last, math.nan, best))
    for number in range(1, last + 1):
        loss = epoch(number, last)
        if not math.isfinite(loss):
            raise RecommenderError(
                f"training diverged: the loss is {loss} in epoch {number}; lower learning_rate (now {config.learning_rate})."
            )
        value = validate() if validate is not None else None
        if value is not None and value > best:
            best, best_epoch, put_back = value, number, keep()
        try:
            if progress:
                progress(EpochReport(number, last, loss, value))
        except Enough:
            break
        if value is not None and number - best_epoch >= config.patience:
            break
    if put_back is not None:
        put_back()

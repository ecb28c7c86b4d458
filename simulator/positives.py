"""When a rating is a positive one: relative to the scale, and to whoever gave it where their usual rating is known."""

from __future__ import annotations

from typing import overload

import numpy as np

UP = 0.75
"""Of a stranger a rating of at least so much of the scale is positive: 4 of 1 to 5."""


@overload
def least_positive(scale: tuple[float, float]) -> float: ...
@overload
def least_positive(scale: tuple[float, float], usual: np.ndarray) -> np.ndarray: ...
def least_positive(scale: tuple[float, float], usual: np.ndarray | None = None) -> float | np.ndarray:
    """The least rating that says that somebody liked an item.

    Args:
        scale: (lowest, highest) rating of the data. usual: mean rating of each person, the same unit, any shape; None of a stranger.

    Returns:
        `UP` of the scale for a stranger; else the usual rating, but at least the middle of the scale: somebody who gives fives to
        everything likes fives only, and nobody likes what they rate in the lower half. Shape of `usual`.
    """
    low, high = scale
    if usual is None:
        return low + UP * (high - low)
    return np.asarray(np.clip(usual, (low + high) / 2, high))

"""Between the rating units of a data set and the 1 to 5 stars that people think in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

STARS = np.arange(1, 6, dtype=np.float64)
"""The five grades, shape (5,)."""


def _counts_stars(scale: tuple[float, float]) -> bool:
    lowest, highest = scale
    return highest == 5.0 and lowest >= 0.0


def stars(ratings: ArrayLike, scale: tuple[float, float]) -> np.ndarray:
    """Ratings of the data set as whole stars.

    A scale that ends at 5 (and does not start below 0) already counts stars: a rating goes to the nearest whole star,
    halves up, at least 1. Any other scale is mapped linearly, its lowest rating to 1 and its highest to 5, and then rounded likewise.

    Args:
        ratings: in the data's units, any shape.
        scale: (lowest, highest) rating that the data can hold.

    Returns:
        Whole stars 1..5, int64, same shape.
    """
    values = np.asarray(ratings, dtype=np.float64)
    if not _counts_stars(scale):
        lowest, highest = scale
        values = 1.0 + 4.0 * (values - lowest) / (highest - lowest)
    return np.clip(np.floor(values + 0.5), 1, 5).astype(np.int64)


def to_scale(values: ArrayLike, scale: tuple[float, float]) -> np.ndarray:
    """Stars as ratings of the data set; undoes `stars` up to its rounding.

    Args:
        values: stars in [1, 5], any shape; fractions (a mean, an expected value) are fine.
        scale: (lowest, highest) rating that the data can hold.

    Returns:
        Ratings in the data's units, float64, same shape: the stars themselves where the scale ends at 5, otherwise
        ``lowest + (stars - 1) / 4 * (highest - lowest)``.
    """
    grades = np.asarray(values, dtype=np.float64)
    if _counts_stars(scale):
        return grades.copy()
    lowest, highest = scale
    return lowest + (grades - 1.0) / 4.0 * (highest - lowest)

"""How far numbers lie apart, told from rounding: what is constant but for rounding has no spread that anything could be divided by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-9
"""Share of a column's size below which its spread is taken for rounding: sums of millions of doubles are exact to about 1e-13."""


def spreads(values: ArrayLike, unit: float = 1.0) -> np.ndarray:
    """Standard deviation along the first axis, 0 where values differ by no more than rounding.

    Args:
        values: finite, shape (n,) or (n, p); n may be 0. unit: size of the quantities that the values were computed from, > 0. What is left
            of such quantities after they cancel out is rounding however small it is.

    Returns:
        Shape () or (p,).
    """
    given = np.asarray(values, dtype=np.float64)
    if not len(given):
        return np.zeros(given.shape[1:])
    found = given.std(axis=0)
    return np.where(found > ROUNDING * np.maximum(np.abs(given).max(axis=0), unit), found, 0.0)


def standard(values: ArrayLike, unit: float = 1.0) -> np.ndarray:
    """Values less their mean in units of their spread, along the first axis; 0 where there is none."""
    given = np.asarray(values, dtype=np.float64)
    spread = spreads(given, unit)
    centred = given - (given.mean(axis=0) if len(given) else 0.0)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=np.broadcast_to(spread > 0, centred.shape)))

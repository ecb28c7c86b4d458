"""The smallest value of a smooth function, with a look at whether it was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

ITERATIONS = (500, 5_000)
"""Iterations of the first and of every further attempt."""

FLAT = 1e-4
"""Slope, relative to the function's value, at which a point that an optimiser gave up at is as good as found."""

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From a point, shape (p,), to the value there and its gradient, shape (p,)."""


@dataclass(frozen=True, eq=False)
class Found:
    """Where an optimiser ended.

    Attributes:
        point: shape (p,). value: there. converged: whether it is a minimum within the bounds, as far as its slope tells.
        attempts: how many starts it took, >= 1.
    """

    point: np.ndarray
    value: float
    converged: bool
    attempts: int


def smallest(function: Function, starts: Sequence[np.ndarray], bounds: Sequence[tuple[float, float]]) -> Found:
    """Minimises by L-BFGS-B from one start after another until an attempt converges.

    An attempt that stopped early is continued with more iterations before the next start is taken.

    Args:
        function: finite within the bounds. starts: points, the best guess first. bounds: lowest and highest value of each coordinate.

    Returns:
        The first attempt that converged, else the one with the lowest value.
    """
    best: Found | None = None
    attempts = 0
    for start in starts:
        point = np.asarray(start, dtype=np.float64)
        for most in ITERATIONS:
            attempts += 1
            ended = minimize(
                function, point, jac=True, method="L-BFGS-B", bounds=list(bounds), options={"maxiter": most, "maxfun": 2 * most}
            )
            found = Found(ended.x, float(ended.fun), _is_minimum(function, ended.x, bounds, bool(ended.success)), attempts)
            if found.converged:
                return found
            if np.isfinite(found.value) and np.isfinite(found.point).all():
                point = found.point
                best = found if best is None or found.value < best.value else best
    nowhere = Found(np.asarray(starts[0], dtype=np.float64), float("inf"), False, attempts)
    return nowhere if best is None else replace(best, attempts=attempts)


def _is_minimum(function: Function, point: np.ndarray, bounds: Sequence[tuple[float, float]], said: bool) -> bool:
    """Whether the slope is flat wherever the bounds leave room; what an optimiser says of itself does not suffice."""
    value, slope = function(point)
    if not (np.isfinite(value) and np.isfinite(slope).all()):
        return False
    low, high = np.array(bounds, dtype=np.float64).T
    blocked = ((point <= low) & (slope > 0)) | ((point >= high) & (slope < 0))
    steepest = float(np.abs(np.where(blocked, 0.0, slope)).max(initial=0.0))
    return steepest <= FLAT * (1.0 + abs(value)) * (10.0 if said else 1.0)

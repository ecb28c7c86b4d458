"""Conditional independence in rows that belong to people, and the skeleton that the PC algorithm finds from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import norm

from simulator.spread import spreads


@dataclass(frozen=True, slots=True)
class Edge:
    """A pair of variables that no set of others was found to part.

    Attributes:
        cause, effect: the earlier and the later by the given order. p: the largest p-value over all sets that were tried.
    """

    cause: str
    effect: str
    p: float


@dataclass(frozen=True, slots=True)
class Parted:
    """A pair of variables that are independent given `given` (p-value of the test)."""

    cause: str
    effect: str
    given: tuple[str, ...]
    p: float


def slope(x: np.ndarray, y: np.ndarray, others: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """The coefficient of x in a linear regression of y on x and `others`, and its standard error with people as clusters.

    By Frisch, Waugh and Lovell it is ``sum(r_x r_y) / sum(r_x^2)`` with r the residuals on `others` and an intercept; the sandwich of Liang
    and Zeger (Biometrika 73, 1986) sums ``r_x e`` within each person.

    Args:
        x, y: shape (n,). others: shape (n, k). people: who each row belongs to, integers, shape (n,).

    Returns:
        (0, infinity) where x does not vary beyond `others`.
    """
    design = np.column_stack([np.ones(len(x)), others])
    rx, ry = (values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (x, y))
    square = float(rx @ rx)
    if square <= 1e-9 * max(1.0, float(((x - x.mean()) ** 2).sum())):
        return 0.0, float("inf")
    found = float(rx @ ry) / square
    scores = np.bincount(np.unique(people, return_inverse=True)[1], weights=rx * (ry - found * rx))
    return found, float(np.sqrt((scores**2).sum()) / square)


def p_value(x: np.ndarray, y: np.ndarray, others: np.ndarray, people: np.ndarray) -> float:
    """Two-sided p-value of no linear dependence of y on x given `others`; arguments as in `slope`. 1 where x does not vary."""
    found, error = slope(x, y, others, people)
    if not np.isfinite(error):
        return 1.0
    return float(2 * norm.sf(abs(found) / error)) if error > 0 else float(found == 0)


def skeleton(
    data: dict[str, np.ndarray], people: np.ndarray, order: Sequence[Sequence[str]], alpha: float, largest: int
) -> tuple[list[Edge], list[Parted]]:
    """The skeleton of the PC algorithm, its edges directed by a known order in time.

    For sets of growing size, every pair that is still joined is tested given every set of so many neighbours of either that are not later
    than the later of the two; the first set that makes them independent parts them (Spirtes, Glymour and Scheines, "Causation,
    prediction, and search", 2000, section 5.4.2, in its order-independent form: neighbours are those at the start of the size, Colombo
    and Maathuis, JMLR 15, 2014). Edges go from the earlier to the later tier; within a tier they have no direction and are given in
    the order of the names. The test is linear, so that a dependence whose slope is 0 is not seen.

    Args:
        data: variable -> values, shape (n,). people: as in `slope`. order: tiers of variables, earliest first.
        alpha: level of the tests, in (0, 1). largest: size of the largest set.
    """
    tier = {name: place for place, names in enumerate(order) for name in names}
    names = [name for part in order for name in part if spreads(data[name]) > 0]
    joined = dict.fromkeys(combinations(names, 2), 0.0)
    parted: list[Parted] = []
    for size in range(largest + 1):
        before = list(joined)
        for cause, effect in before:
            near = {
                other
                for one, two in before
                for end, other in ((one, two), (two, one))
                if end in (cause, effect) and other not in (cause, effect) and tier[other] <= tier[effect]
            }
            for given in combinations(sorted(near, key=names.index), size):
                others = np.column_stack([data[name] for name in given]) if given else np.zeros((len(people), 0))
                p = p_value(data[cause], data[effect], others, people)
                joined[cause, effect] = max(joined[cause, effect], p)
                if p > alpha:
                    del joined[cause, effect]
                    parted.append(Parted(cause, effect, given, p))
                    break
    return [Edge(cause, effect, p) for (cause, effect), p in joined.items()], parted

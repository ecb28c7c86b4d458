"""The joint of a page: how many of its items are chosen, which given how many, and every set."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def number_chosen(chances: np.ndarray) -> np.ndarray:
    """Probability of each number of chosen items, 0 to n, shape (n + 1,).

    Args:
        chances: of choosing each item, given the visit, in which items are independent, shape (visits, n); visits are equally likely.
    """
    return np.asarray(np.mean([_counted(row) for row in chances], axis=0))


def chosen_given_number(chances: np.ndarray) -> np.ndarray:
    """Probability of each item to be among the chosen, given how many are, shape (n + 1, n); NaN where that number has no probability."""
    n = chances.shape[1]
    both = np.zeros((n + 1, n))
    for row in chances:
        for place in range(n):
            both[1:, place] += row[place] * _counted(np.delete(row, place))
    whole = number_chosen(chances)[:, None] * len(chances)
    return np.asarray(np.divide(both, whole, out=np.full(both.shape, np.nan), where=whole > 0))


def sets_chosen(chances: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """Every set of places that could be chosen, smaller ones first, with its probability; arguments as of `number_chosen`."""
    n = chances.shape[1]
    found = []
    for size in range(n + 1):
        for members in combinations(range(n), size):
            taken = np.isin(np.arange(n), members)
            found.append((members, float(np.where(taken, chances, 1.0 - chances).prod(axis=1).mean())))
    return found


def _counted(row: np.ndarray) -> np.ndarray:
    """Poisson binomial distribution, by adding one item after another."""
    found = np.ones(1)
    for chance in row.tolist():
        found = np.append(found * (1.0 - chance), 0.0) + np.append(0.0, found * chance)
    return found

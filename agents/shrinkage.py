"""Empirical Bayes: what little is known of one person is completed by what is known of everybody.

A person with three ratings has no rating histogram to speak of, and one with a single session no rhythm. Each estimate
here is the person's own data plus some *pseudo-observations* of the population; how many is read off the data, by
comparing how much people differ with how much chance alone would make them differ.
"""

from __future__ import annotations

import numpy as np

STRENGTHS = (1.0, 1000.0)
"""Bounds of an estimated strength, in pseudo-observations: even the clearest data leaves one, and none are worth more than 1000."""


def dirichlet_strength(counts: np.ndarray, default: float = 10.0) -> float:
    """How many pseudo-observations of the population a person's shares should be completed with.

    Method of moments for the Dirichlet-multinomial: with ``MSP`` the mean square between people, ``MSG`` the one within
    people and ``n_c`` the typical number of observations, ``rho = (MSP - MSG) / (MSP + (n_c - 1) MSG)`` estimates the
    correlation of two observations of one person, and the strength is ``(1 - rho) / rho``.

    Source: Weir & Hill, "Estimating F-statistics", Annual Review of Genetics 36 (2002).

    Args:
        counts: observations per person and category, shape (n_people, n_categories), >= 0.
        default: returned where the data cannot say (fewer than two people, or never two observations of one person).

    Returns:
        Pseudo-observations, within `STRENGTHS`.
    """
    sizes = counts.sum(axis=1)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    people, total = len(sizes), float(sizes.sum())
    if people < 2 or total <= people:
        return default
    own = counts / sizes[:, None]
    mean = counts.sum(axis=0) / total
    between = float((sizes[:, None] * (own - mean) ** 2).sum()) / (people - 1)
    within = float((sizes[:, None] * own * (1.0 - own)).sum()) / (total - people)
    typical = (total - float((sizes**2).sum()) / total) / (people - 1)
    denominator = between + (typical - 1.0) * within
    if denominator <= 0.0:
        return default
    correlation = (between - within) / denominator
    return float(np.clip((1.0 - correlation) / correlation, *STRENGTHS)) if correlation > 0.0 else STRENGTHS[1]


def shrink_shares(counts: np.ndarray, mean: np.ndarray, strength: float) -> np.ndarray:
    """Shares of each person, completed by `strength` observations of the population.

    Args:
        counts: shape (n_people, n_categories). mean: shares of the population, shape (n_categories,), sums to 1.
        strength: pseudo-observations, > 0.

    Returns:
        Posterior mean of a Dirichlet prior ``strength * mean``, shape of `counts`, rows sum to 1.
    """
    shares: np.ndarray = (counts + strength * mean) / (counts.sum(axis=1, keepdims=True) + strength)
    return shares


def normal_strength(people: np.ndarray, values: np.ndarray, n: int, default: float = 5.0) -> float:
    """How many pseudo-observations of the population a person's mean should be completed with.

    One-way random effects by analysis of variance: the ratio of the variance within people to the variance between them,
    which is the number of observations at which a person's own mean and the population's deserve equal weight.

    Source: Searle, Casella & McCulloch, "Variance Components" (1992), on the unbalanced one-way layout.

    Args:
        people: who each value belongs to, 0..n-1. values: the observations. n: number of people.
        default: returned where the data cannot say (fewer than two people, or never two values of one person).

    Returns:
        Pseudo-observations, within `STRENGTHS`.
    """
    sizes = np.bincount(people, minlength=n).astype(np.float64)
    present, total = int((sizes > 0).sum()), float(sizes.sum())
    if present < 2 or total <= present:
        return default
    means = np.bincount(people, weights=values, minlength=n) / np.maximum(sizes, 1.0)
    within = float(((values - means[people]) ** 2).sum()) / (total - present)
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (present - 1)
    typical = (total - float((sizes**2).sum()) / total) / (present - 1)
    spread = (between - within) / typical
    return float(np.clip(within / spread, *STRENGTHS)) if spread > 0.0 else STRENGTHS[1]

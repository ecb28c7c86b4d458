"""Exposure rules: which candidates go on the page, in which order, with which probability.

A rule is a function of arrays. It returns the places of the chosen candidates in the slate, in order of position, and
for each the **exact** probability of that choice given the choices above it. The product along a page is then the
probability of the page, which is what off-policy estimators need.
"""

from __future__ import annotations

import numpy as np

from simulator.records import Slate

Exposed = tuple[np.ndarray, np.ndarray]
"""Indices into the candidates (int64) and propensities (float64 in (0, 1]), both of shape (k,)."""


def greedy(slate: Slate, size: int) -> Exposed:
    """The best candidates in the recommender's order.

    Args:
        slate: candidates, best first.
        size: places on the page.

    Returns:
        The first ``min(size, n)`` candidates, with the slate's own propensities, or 1 where its ranking is deterministic.
    """
    k = min(size, len(slate.items))
    propensities = np.ones(k) if slate.propensities is None else np.asarray(slate.propensities[:k], dtype=np.float64)
    return np.arange(k), propensities


def epsilon_greedy(n: int, size: int, epsilon: float, generator: np.random.Generator) -> Exposed:
    """Place by place: with probability `epsilon` a candidate uniformly from all that remain, otherwise the best that remains.

    With r candidates left, the best of them has probability ``1 - epsilon + epsilon / r`` and each other ``epsilon / r``
    (Sutton and Barto, "Reinforcement learning", 2018, section 2.2, applied without replacement).

    Args:
        n: number of candidates, which are ordered best first.
        size: places on the page.
        epsilon: in [0, 1].
        generator: randomness of this page.

    Returns:
        ``min(size, n)`` choices without duplicates.
    """
    k = min(size, n)
    explores = generator.random(k) < epsilon
    draws = generator.random(k)
    remaining = list(range(n))
    chosen = np.empty(k, dtype=np.int64)
    propensities = np.empty(k)
    for place in range(k):
        left = len(remaining)
        pick = min(int(draws[place] * left), left - 1) if explores[place] else 0
        chosen[place] = remaining.pop(pick)
        propensities[place] = epsilon / left + (1.0 - epsilon if pick == 0 else 0.0)
    return chosen, np.minimum(propensities, 1.0)


def plackett_luce(scores: np.ndarray, size: int, temperature: float, generator: np.random.Generator) -> Exposed:
    """A draw without replacement whose next item is always a softmax over the candidates that remain.

    The logits are the scores, standardised over the candidates to mean 0 and standard deviation 1 so that a temperature
    means the same for every recommender, divided by the temperature. Sorting by logit plus Gumbel noise draws exactly
    this sequence (Kool et al., "Stochastic beams and where to find them", ICML 2019, section 2). The propensity of the
    k-th item is ``exp(logit_k) / sum over remaining exp(logit)`` (Plackett, 1975).

    Args:
        scores: finite scores of the candidates, shape (n,), in any unit.
        size: places on the page.
        temperature: > 0; near 0 it is greedy, large it is uniform.
        generator: randomness of this page.

    Returns:
        ``min(size, n)`` choices without duplicates.
    """
    k = min(size, len(scores))
    logits = standardised(scores) / temperature
    order = np.argsort(-(logits + generator.gumbel(size=len(scores))), kind="stable")
    ranked = logits[order]
    remaining = np.logaddexp.accumulate(ranked[::-1])[::-1]
    return order[:k], np.minimum(np.exp(ranked[:k] - remaining[:k]), 1.0)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores with mean 0 and standard deviation 1, shape (n,); all 0 if they are all equal."""
    values = np.asarray(scores, dtype=np.float64)
    largest = np.abs(values).max(initial=0.0)
    if largest > 0.0:
        values = values / largest  # so that squares neither overflow nor vanish
    spread = float(values.std())
    # a spread of rounding errors is no spread: equal scores must stay equal
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros(len(values))

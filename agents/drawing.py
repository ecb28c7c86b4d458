"""Drawing a plausible history and its ratings for a person who does not exist.

Both are maximum-entropy steps: as close to what the population does as the person's drawn traits allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from agents.optimising import smallest

ROUNDS = 30
"""Rounds of scaling; the shares are then met to well under what chance adds in the draw."""


@dataclass(frozen=True, slots=True)
class RatingStyle:
    """How a person rates, all in the data's units.

    Attributes:
        mean: mean rating. spread: standard deviation of the ratings. deviation: mean of ``(rating - item mean)^2``.
    """

    mean: float
    spread: float
    deviation: float


def item_rates(popularity: np.ndarray, genres: sparse.csr_array, genre_targets: np.ndarray, mainstream: float, n: int) -> np.ndarray:
    """How eagerly a person takes each item, so that `n` items have the wanted genres and the wanted popularity.

    The rate is ``popularity_i ** e * exp(sum of the weights of the item's genres)``. An item is taken with probability
    ``1 - exp(-rate)``, as in a draw without replacement. Weights, exponent and scale are moved until the expected genre counts
    stand in the wanted proportions, the expected mean log popularity is the wanted one and the expected number of items
    is `n`: iterative scaling (Darroch & Ratcliff, Annals of Mathematical Statistics 43, 1972) for the weights, damped
    Newton steps for the exponent.

    Args:
        popularity: interactions of each item, shape (n_items,); items with 0 are never taken.
        genres: 0/1, shape (n_items, n_genres).
        genre_targets: wanted shares of the genre counts, >= 0, shape (n_genres,).
        mainstream: wanted mean of ``log popularity`` of the items.
        n: wanted number of items, at most the number of items with popularity.

    Returns:
        Rates >= 0, shape (n_items,).
    """
    logs = np.log(np.maximum(popularity, 1.0))
    per_item = max(float(np.asarray(genres.sum(axis=1)).max(initial=1.0)), 1.0)
    targets = genre_targets / max(float(genre_targets.sum()), 1e-12)
    weights, exponent, shift = np.zeros(genres.shape[1]), 1.0, float(np.log(n / popularity.sum()))
    rates: np.ndarray = popularity * np.exp(shift)
    for _ in range(ROUNDS):
        taken = -np.expm1(-rates)
        total = float(taken.sum())
        shift += float(np.log(n / total))
        counts = taken @ genres
        shares = counts / max(float(counts.sum()), 1e-12)
        move = (targets > 0) & (shares > 0)
        # an item with many genres feels all their steps at once: 1 / per_item would surely converge, twice that does so faster
        weights[move] += np.clip(np.log(targets[move] / shares[move]), -2.0, 2.0) * min(1.0, 2.0 / per_item)
        mean = float(taken @ logs) / total
        spread = float(taken @ (logs - mean) ** 2) / total
        step = float(np.clip(0.5 * (mainstream - mean) / max(spread, 1e-3), -0.5, 0.5))
        exponent += step
        shift -= step * mean  # keeps the size of the history about right until the next round corrects it
        rates = np.where(popularity > 0, np.exp(np.clip(shift + exponent * logs + genres @ weights, -60.0, 60.0)), 0.0)
    return rates


def draw_items(rates: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` different items by an exponential race, the most eagerly taken tending to come first.

    Args:
        rates: >= 0, shape (n_items,), at least n of them positive. n: number of items. rng: the randomness.

    Returns:
        Item codes, int32, shape (n,).
    """
    arrivals = np.full(len(rates), np.inf)
    possible = rates > 0
    arrivals[possible] = rng.standard_exponential(int(possible.sum())) / rates[possible]
    first = np.argpartition(arrivals, n - 1)[:n]
    return first[np.argsort(arrivals[first])].astype(np.int32)


def draw_ratings(
    item_means: np.ndarray, grades: np.ndarray, frequencies: np.ndarray, wanted: RatingStyle, rng: np.random.Generator
) -> np.ndarray:
    """Ratings with a wanted mean, spread, and mean squared deviation from the items' means.

    Among all rating distributions with these three expectations the one nearest to the population's is
    ``p_i(r) ~ q(r) exp(a r + b r^2 + c (r - mean_i)^2)`` (minimum relative entropy); a, b, c minimise its convex dual.
    Wishes that exclude each other (a harsh rater who agrees with everybody) are met as far as possible. The draw uses one
    uniform number from each n-th of [0, 1), so that chance hardly moves the mean of a short history.

    Args:
        item_means: mean rating of each item of the history, the data's units, shape (n,).
        grades: ratings that the data knows, ascending, shape (k,). frequencies: their shares ``q``, > 0, shape (k,).
        wanted: mean, spread and deviation. rng: the randomness.

    Returns:
        One of `grades` per item, float32, shape (n,).
    """
    span = max(float(grades[-1] - grades[0]), 1e-9)
    own, others = (grades - grades[0]) / span, (item_means[:, None] - grades[0]) / span
    shape = (len(item_means), len(grades))
    features = np.stack([np.broadcast_to(own, shape), np.broadcast_to(own**2, shape), (own - others) ** 2])
    mean = (wanted.mean - grades[0]) / span
    targets = np.array([mean, mean**2 + (wanted.spread / span) ** 2, wanted.deviation / span**2])
    prior = np.log(frequencies)

    def probabilities(tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = prior + np.tensordot(tilt, features, axes=1)
        top = logits.max(axis=1, keepdims=True)
        raw = np.exp(logits - top)
        total = raw.sum(axis=1, keepdims=True)
        return raw / total, (np.log(total) + top)[:, 0]

    def dual(tilt: np.ndarray) -> tuple[float, np.ndarray]:
        shares, partition = probabilities(tilt)
        reached = (shares * features).sum(axis=2).mean(axis=1)
        # the small square keeps the tilt finite where the wishes cannot all be met
        return float(partition.mean() - tilt @ targets + 1e-5 * tilt @ tilt), reached - targets + 2e-5 * tilt

    found = smallest(dual, [np.zeros(3), np.array([0.5, 0.0, -0.5])], [(-1e4, 1e4)] * 3)
    tilt = found.point if found.converged else np.zeros(3)
    cumulative = np.cumsum(probabilities(tilt)[0], axis=1)
    n = len(item_means)
    uniform = (rng.permutation(n) + rng.random(n)) / n
    chosen = (uniform[:, None] > cumulative[:, :-1]).sum(axis=1)
    ratings: np.ndarray = grades[chosen].astype(np.float32)
    return ratings

"""Off-policy estimators for slates: pages whose places were filled one after another.

Rows are the places of slates, those of one slate together and from the first place on. Rewards are per place, and every value is
the mean reward of a place, comparable with `policy_estimators` (times the places of a slate it is the value of a slate). They
differ in what may influence the reward at a place: only its own item (independent), or the items above it as well
(reward interaction, cascade).
"""

from __future__ import annotations

import numpy as np

from experiments.analysis.offline.estimates import OfflineEstimate, estimate
from experiments.analysis.offline.policy_estimators import importance_weights
from simulator.errors import DataError


def independent_ips(
    reward: np.ndarray, target_marginal: np.ndarray, marginal: np.ndarray, unsupported: np.ndarray | None = None
) -> OfflineEstimate:
    """Each place for itself, ``mean(w_k r_k)`` with ``w_k = pi(a_k at k | x) / mu(a_k at k | x)`` (Li et al., "Offline
    evaluation of ranking policies with click models", KDD 2018).

    Right if people react to an item by itself (and its place), whatever stands above it.

    Args:
        reward: r per place, shape (n,).
        target_marginal, marginal: probability of this item at this place *whatever stands above*, under target and logging policy.
        unsupported: per row, the target's probability of what the logging policy never shows there, or None.
    """
    weights = importance_weights(target_marginal, marginal)
    return estimate([(weights * reward, None)], weights, weights, unsupported)


def independent_doubly_robust(
    reward: np.ndarray,
    target_marginal: np.ndarray,
    marginal: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """Independent IPS around a reward model, ``mean(expected_k + w_k (r_k - q_k))`` with the weights of `independent_ips`.

    Dudik et al.'s doubly robust estimator (ICML 2011) place by place. Right where independent IPS or the reward model is.

    Args:
        reward, target_marginal, marginal, unsupported: see `independent_ips`.
        predicted: q_k of the logged item, shape (n,).
        expected: mean of q_k over the items that the target's own pages have at this place, shape (n,).
    """
    weights = importance_weights(target_marginal, marginal)
    return estimate([(expected + weights * (reward - predicted), None)], weights, weights, unsupported)


def reward_interaction_ips(
    reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, slate: np.ndarray, unsupported: np.ndarray | None = None
) -> OfflineEstimate:
    """``mean(w_1:k r_k)``, weights multiplied from the top to the place (McInerney et al.,
    "Counterfactual evaluation of slate recommendations with sequential reward interactions", KDD 2020, "RIPS").

    Right if people read from the top: the reward at a place may depend on the items above, not on those below (the cascade).

    Args:
        reward: r per place, shape (n,).
        target, propensity: probability of this item at this place *given the items above*, under target and logging policy.
        slate: number of the slate, equal within a slate and in ascending order.
        unsupported: per row, the target's probability of what the logging policy never shows there, or None.
    """
    weights = cumulative(importance_weights(target, propensity), slate)
    return estimate([(weights * reward, None)], weights, weights, unsupported)


def self_normalised_reward_interaction_ips(
    reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, slate: np.ndarray, unsupported: np.ndarray | None = None
) -> OfflineEstimate:
    """RIPS divided at each place by the mean weight of that place (McInerney et al., KDD 2020, "nRIPS").

    ``sum over k of share_k sum(w_1:k r_k) / sum(w_1:k)`` with share_k the share of rows at place k. Args: as `reward_interaction_ips`.
    """
    weights = cumulative(importance_weights(target, propensity), slate)
    place = places(slate)
    terms: list[tuple[np.ndarray, np.ndarray | None]] = []
    for k in range(int(place.max(initial=-1)) + 1):
        here = weights * (place == k)
        terms.append((float((place == k).mean()) * here * reward, here))
    return estimate(terms or [(weights, None)], weights, weights, unsupported)


def cascade_doubly_robust(
    reward: np.ndarray,
    target: np.ndarray,
    propensity: np.ndarray,
    slate: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """``mean(w_1:k (r_k - q_k) + w_1:k-1 E_pi[q_k])`` (Kiyohara et al., "Doubly robust off-policy evaluation for ranking policies under
    the cascade behavior model", WSDM 2022).

    It is right under the cascade for any q_k that depends on the person and the items down to place k. Here q_k is the reward of
    place k alone; with a model of the rewards of place k and all below it is the recursive form of the paper.

    Args:
        reward, target, propensity, slate, unsupported: see `reward_interaction_ips`.
        predicted: q_k of the logged item, shape (n,).
        expected: mean of q_k over the target's items at this place given the logged items above, shape (n,).
    """
    single = importance_weights(target, propensity)
    weights = cumulative(single, slate)
    above = np.ones(len(weights))
    below_another = places(slate) > 0
    above[below_another] = weights[np.flatnonzero(below_another) - 1]
    return estimate([(weights * (reward - predicted) + above * expected, None)], weights, weights, unsupported)


def places(slate: np.ndarray) -> np.ndarray:
    """Place in its slate of each row, from 0, int64, shape (n,).

    Args:
        slate: number of the slate of each row, ascending.

    Raises:
        DataError: the numbers are not in ascending order, so that the rows of a slate may not be together.
    """
    numbers = np.asarray(slate)
    if len(numbers) == 0:
        return np.zeros(0, dtype=np.int64)
    steps = np.diff(numbers)
    if (steps < 0).any():
        raise DataError(f"slate numbers fall at row {int(np.flatnonzero(steps < 0)[0]) + 1}; sort the rows by slate and place.")
    starts = np.flatnonzero(np.concatenate(([True], steps > 0)))
    lengths = np.diff(np.append(starts, len(numbers)))
    return np.arange(len(numbers)) - np.repeat(starts, lengths)


def cumulative(weights: np.ndarray, slate: np.ndarray) -> np.ndarray:
    """Product of the weights from the top of the slate to each row, float64, shape (n,)."""
    place = places(slate)
    if len(place) == 0:
        return np.zeros(0)
    row = np.cumsum(place == 0) - 1
    table = np.ones((int(row[-1]) + 1, int(place.max()) + 1))
    table[row, place] = weights
    return np.asarray(np.cumprod(table, axis=1)[row, place])

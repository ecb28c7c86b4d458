"""Off-policy estimators for single actions, one pure function each.

All take arrays of shape (n,), one entry per logged action a with context x and reward r:

=============  ==============================================================================================
`reward`       r, in any unit
`target`       pi(a | x), the target policy's probability of the logged action, in [0, 1]
`propensity`   mu(a | x), the logging policy's, in (0, 1]
`predicted`    q(x, a), a model's reward of the logged action
`expected`     sum over all actions of pi(a' | x) q(x, a')
`unsupported`  the target's probability of actions with mu = 0, or None if it is not known
=============  ==============================================================================================

The importance weight is ``w = pi / mu``. On a page of several items, x holds the items above: then these estimators answer what
the target policy would earn at each place below the *logged* items. `slate_estimators` answers for whole pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.analysis.offline.estimates import OfflineEstimate, estimate
from simulator.errors import ConfigError, DataError


def importance_weights(target: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """``pi / mu``, checked, shape (n,).

    Raises:
        DataError: the arrays differ in length, a propensity is not in (0, 1] or a target probability not in [0, 1].
    """
    pi, mu = np.asarray(target, dtype=np.float64), np.asarray(propensity, dtype=np.float64)
    if pi.shape != mu.shape or pi.ndim != 1:
        raise DataError(f"there are {pi.shape} target probabilities for {mu.shape} propensities; both need one per row.")
    for name, values, good in (("propensity", mu, (mu > 0) & (mu <= 1)), ("target probability", pi, (pi >= 0) & (pi <= 1 + 1e-9))):
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            allowed = "in (0, 1]" if name == "propensity" else "in [0, 1]"
            raise DataError(f"the {name} of row {row} is {values[row]}; it must be {allowed}.")
    return pi / mu


def replay(reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, unsupported: np.ndarray | None = None) -> OfflineEstimate:
    """Mean reward of the rows whose action a deterministic target policy would take (Li et al., "Unbiased offline evaluation of
    contextual-bandit-based news article recommendation algorithms", WSDM 2011).

    ``sum 1[pi = 1] r / sum 1[pi = 1]``. It presumes uniformly random logging. A target that is random matches nothing: 0, with an
    effective sample size of 0.
    """
    weights = importance_weights(target, propensity)
    match = (np.asarray(target) >= 1.0 - 1e-12).astype(np.float64)
    return estimate([(match * reward, match)], match, weights, unsupported)


def ips(reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, unsupported: np.ndarray | None = None) -> OfflineEstimate:
    """Inverse propensity scoring, ``mean(w r)`` (Horvitz and Thompson, JASA 47, 1952; Strehl et al., NIPS 2010)."""
    weights = importance_weights(target, propensity)
    return estimate([(weights * reward, None)], weights, weights, unsupported)


def clipped_ips(
    reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, limit: float | None = None, unsupported: np.ndarray | None = None
) -> OfflineEstimate:
    """Inverse propensity scoring with weights of at most `limit`, ``mean(min(w, limit) r)`` (Ionides, JCGS 17, 2008).

    Args:
        reward, target, propensity, unsupported: see the module.
        limit: > 0; None takes ``sqrt(n)``, the order at which bias and variance of the truncated mean balance (Ionides, section 2).
    """
    weights = importance_weights(target, propensity)
    clipped = np.minimum(weights, _positive(np.sqrt(max(len(weights), 1)) if limit is None else limit, "limit"))
    return estimate([(clipped * reward, None)], clipped, weights, unsupported)


def snips(reward: np.ndarray, target: np.ndarray, propensity: np.ndarray, unsupported: np.ndarray | None = None) -> OfflineEstimate:
    """Self-normalised inverse propensity scoring, ``sum(w r) / sum(w)`` (Swaminathan and Joachims, NIPS 2015)."""
    weights = importance_weights(target, propensity)
    return estimate([(weights * reward, weights)], weights, weights, unsupported)


def direct_method(
    expected: np.ndarray, target: np.ndarray, propensity: np.ndarray, unsupported: np.ndarray | None = None
) -> OfflineEstimate:
    """The reward model's opinion of the target policy, ``mean(expected)`` (Beygelzimer and Langford, KDD 2009).

    It weighs nothing: its effective sample size is n, which says nothing about the model's bias.
    """
    weights = importance_weights(target, propensity)
    return estimate([(np.asarray(expected), None)], np.ones(len(weights)), weights, unsupported)


def doubly_robust(
    reward: np.ndarray,
    target: np.ndarray,
    propensity: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """``mean(expected + w (r - predicted))`` (Dudik et al., "Doubly robust policy evaluation and learning", ICML 2011)."""
    weights = importance_weights(target, propensity)
    return estimate([(expected + weights * (reward - predicted), None)], weights, weights, unsupported)


def self_normalised_doubly_robust(
    reward: np.ndarray,
    target: np.ndarray,
    propensity: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """``mean(expected) + sum(w (r - predicted)) / sum(w)`` (Robins et al., Statistical Science 22, 2007; "SNDR")."""
    weights = importance_weights(target, propensity)
    return estimate([(np.asarray(expected), None), (weights * (reward - predicted), weights)], weights, weights, unsupported)


def switch_doubly_robust(
    reward: np.ndarray,
    target: np.ndarray,
    propensity: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    threshold: float,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """``mean(expected + 1[w <= threshold] w (r - predicted))`` (Wang, Agarwal and Dudik, ICML 2017, doubly robust below it).

    Args:
        reward, target, propensity, predicted, expected, unsupported: see the module.
        threshold: weights above it trust the reward model alone, > 0; infinite is the doubly robust estimator.
    """
    weights = importance_weights(target, propensity)
    kept = weights * (weights <= _positive(threshold, "threshold"))
    return estimate([(expected + kept * (reward - predicted), None)], kept, weights, unsupported)


def optimistic_shrinkage(
    reward: np.ndarray,
    target: np.ndarray,
    propensity: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    strength: float,
    unsupported: np.ndarray | None = None,
) -> OfflineEstimate:
    """The doubly robust estimator with weights ``s w / (w^2 + s)`` (Su et al., ICML 2020, "DRos").

    Args:
        reward, target, propensity, predicted, expected, unsupported: see the module.
        strength: s > 0; near 0 is the direct method, infinite the doubly robust estimator.
    """
    weights = importance_weights(target, propensity)
    s = _positive(strength, "strength")
    shrunk = weights if np.isinf(s) else s * weights / (weights**2 + s)
    return estimate([(expected + shrunk * (reward - predicted), None)], shrunk, weights, unsupported)


def tuned(candidates: Sequence[float], make: Callable[[float], OfflineEstimate], unbiased: OfflineEstimate) -> float:
    """The setting whose estimated mean squared error is smallest (Su et al., ICML 2020, on model selection).

    The squared bias is estimated by the squared difference to the unbiased estimate less that difference's own sampling variance,
    at least 0; the variance by that of the contributions. Rows are taken for independent here, which orders the candidates alike.

    Args:
        candidates: settings to try, in order of preference at equal error.
        make: the estimate with a setting.
        unbiased: the estimate without shrinkage (doubly robust).

    Raises:
        ConfigError: there are no candidates.
    """
    if not len(candidates):
        raise ConfigError("there is no setting to choose from; give at least one.")
    n = len(unbiased.contributions)
    errors = []
    for setting in candidates:
        found = make(setting)
        difference = found.contributions - unbiased.contributions
        bias = max(0.0, float(difference.mean()) ** 2 - float(difference.var()) / n)
        errors.append(bias + float(found.contributions.var()) / n)
    return float(candidates[int(np.argmin(errors))])


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise ConfigError(f"{name} = {value} is not possible; it must be above 0.")
    return float(value)

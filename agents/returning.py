"""How often each user comes back, over the whole time in which the log could have shown it.

Gaps between sessions say how soon those come back who do: a user who came on two days running and never again has short gaps. What they
leave out is the time since the last session. So sessions after the first are counted over the time from a user's first session to the
end of the log, a Poisson number with a rate of the user's own; rates are Gamma distributed among users, by maximum likelihood (the
negative binomial model of repeat buying: Ehrenberg, "The pattern of consumer purchases", Applied Statistics 8, 1959), and a user's
rate is its posterior mean.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln

from agents.optimising import smallest

SHAPES = (0.05, 100.0)
"""Bounds of the shape of the Gamma distribution: the smaller it is, the more users differ."""

RATES = (1e-6, 1e6)
"""Bounds of its mean, in returns per unit of time."""


def return_rates(came: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Posterior mean of how often each user comes back per unit of time, shape (n,), > 0.

    Args:
        came: sessions after the first, >= 0, shape (n,). time: from the first session to the end of the log, >= 0, shape (n,).

    Returns:
        ``(came + a) / (time + a / m)``, with a the shape and m the mean of the rates among users; 1 for all if nobody ever came back.
    """
    if came.sum() <= 0 or time.sum() <= 0:
        return np.ones(len(came))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, m = np.exp(theta)
        both = m * time + a
        value = (gammaln(a + came) - gammaln(a) + a * np.log(a) + came * np.log(m) - (a + came) * np.log(both)).sum()
        of_shape = a * (digamma(a + came) - digamma(a) + np.log(a) + 1.0 - np.log(both) - (a + came) / both).sum()
        of_mean = (came - (a + came) * m * time / both).sum()
        return -float(value), -np.array([of_shape, of_mean])

    low, high = np.log(RATES)
    usual = float(np.clip(np.log(came.sum() / time.sum()), low, high))
    bounds = [(float(np.log(SHAPES[0])), float(np.log(SHAPES[1]))), (float(low), float(high))]
    a, m = np.exp(smallest(loss, [np.array([0.0, usual]), np.array([-1.0, usual])], bounds).point)
    return np.asarray((came + a) / (time + a / m))

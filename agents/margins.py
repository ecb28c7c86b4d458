"""What all choices together must come to, whatever single people and visits do.

A choice model that was fitted to tell choices from a sample of other items orders items well. That popular items are chosen as
often as they are, and that moods of visits cancel out, it does not know: both are set here, by what the log says of everybody together.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import expit

NODES, SWEEPS, SETTLED = 9, 500, 1e-6
"""Of `over_visits`: nodes for each part of a mood, most repetitions, and the change of log-odds at which they end."""

LEVELS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
"""Of `over_catalog`: shares of the choices that are less popular than the levels between which the shift is linear."""

NEWTON_STEPS, INNER_STEPS, MOST, RIDGE = 100, 50, 1.0, 0.01
"""Of `over_catalog`: most repetitions for the levels and for the people, most change in one of them, and the penalty on levels."""


def over_visits(pull: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What must be taken from the log-odds of items such that moods change what single visits choose, and not what all of them do.

    If visits choose in proportion to ``w_i exp(pull_i . z - c_i)`` with standard normal z, the mean over z is w itself where
    ``c_i = log E[exp(pull_i . z) / sum_j w_j exp(pull_j . z - c_j)]``; repeating this from c = 0 converges, since it is the scaling of
    a positive matrix to given sums of rows and columns (Sinkhorn, "Diagonal equivalence to matrices with prescribed row and column
    sums", American Mathematical Monthly 74, 1967).

    Args:
        pull: log-odds of each item per unit of each part of a mood, shape (n_items, r).
        counts: how often each item was chosen, not all 0, shape (n_items,).

    Returns:
        c, shape (n_items,), such that the mean of the sums over j is 1; 0 without moods. The mean over z is taken at `NODES` nodes of
        Gauss and Hermite for each part.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    places = np.array(list(product(range(NODES), repeat=pull.shape[1])), dtype=np.intp)
    moods, chance = nodes[places], (weights / weights.sum())[places].prod(axis=1)
    odds = np.exp(np.einsum("zr,ir->zi", moods, pull))
    share = counts / counts.sum()
    scale = np.ones(len(pull))
    for _ in range(SWEEPS):
        total = np.einsum("zi,i->z", odds, share * scale)
        before, scale = scale, 1.0 / np.einsum("zi,z->i", odds, chance * (chance @ total) / total)
        if np.abs(np.log(scale / before)).max(initial=0.0) < SETTLED:
            break
    return np.asarray(np.log(chance @ np.einsum("zi,i->z", odds, share * scale)) - np.log(scale))


def over_catalog(index: np.ndarray, met: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """What must be added to the log-odds of items such that of each level of popularity as many are expected as people have met.

    Person u meets item i with probability ``expit(index_ui + shift_i + a_u)``. The shift is linear in popularity between `LEVELS`, and
    by maximum likelihood with every item of the catalog as a row, so no sample of non-choices has to be corrected for: then expected and
    true numbers agree for every person (a_u) and every level.

    Args:
        index: log-odds, without constants of people, shape (p, n_items). met: bool, shape (p, n_items).
        popularity: any increasing function of popularity, shape (n_items,).

    Returns:
        The shift, shape (n_items,), with mean 0 over what was met; 0 if nobody met some items and not all.
    """
    totals = met.sum(axis=1)
    tells = (totals > 0) & (totals < met.shape[1])
    index, met, totals = index[tells], met[tells], totals[tells]
    counts = met.sum(axis=0).astype(np.float64)
    if not len(index):
        return np.zeros(len(popularity))
    levels = np.unique(np.quantile(np.repeat(popularity, counts.astype(np.intp)), LEVELS))
    basis = np.column_stack([np.interp(popularity, levels, row) for row in np.eye(len(levels))])
    shift, own = np.zeros(len(levels)), np.zeros(len(index))
    ridge = RIDGE * np.eye(len(levels))
    for _ in range(NEWTON_STEPS):
        base = index + basis @ shift
        for _ in range(INNER_STEPS):
            chance, spread = _chances(base + own[:, None])
            step = np.clip((totals - chance.sum(axis=1)) / spread.sum(axis=1).clip(min=1e-9), -MOST, MOST)
            own = own + step
            if np.abs(step).max() < SETTLED:
                break
        chance, spread = _chances(base + own[:, None])
        by_person = spread @ basis
        within = (basis * spread.sum(axis=0)[:, None]).T @ basis - by_person.T @ (by_person / spread.sum(axis=1)[:, None]) + ridge
        move = np.linalg.solve(within, basis.T @ (counts - chance.sum(axis=0)) - RIDGE * shift)
        shift = shift + np.clip(move, -MOST, MOST)
        if np.abs(move).max() < SETTLED:
            break
    found = basis @ shift
    return np.asarray(found - (found @ counts) / counts.sum())


def _chances(log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and the variance of an outcome of each."""
    chance = expit(log_odds)
    return chance, chance * (1.0 - chance)

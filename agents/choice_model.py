"""A binary logit model of choosing, by regularised maximum likelihood, with standard errors and a likelihood-ratio test.

Source: McFadden, "Conditional logit analysis of qualitative choice behavior" (1974); the correction for sampled
non-choices is that of Manski & Lerman, "The estimation of choice probabilities from choice based samples", Econometrica 45
(1977), and King & Zeng, "Logistic regression in rare events data", Political Analysis 9 (2001), eq. 7: with a logit model,
sampling by outcome changes the intercept alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

INTERCEPT = "intercept"
NEWTON_STEPS = 50

PENALTIES = (1.0, 10.0, 100.0)
"""Tried one after another where a fit does not converge with less."""

SLOPE_PRIOR = 0.2
"""Standard deviation of slopes of log-odds around 1 (`slope_above_one`)."""

MOST_WEIGHT = 1e6
"""A weight beyond this runs away and would not come back."""


@dataclass(frozen=True, eq=False)
class Logit:
    """A fitted model.

    Attributes:
        names: of the columns, the intercept first.
        weights, errors: estimates and their standard errors (robust to dependence within a person), shape (p + 1,).
        log_likelihood: without the penalty, at the estimates. n: rows. trouble: what could not be fitted as asked, empty if nothing.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    errors: np.ndarray
    log_likelihood: float
    n: int
    trouble: str = ""

    def index(self, columns: np.ndarray) -> np.ndarray:
        """Log-odds, shape (n,), for columns without the intercept's, shape (n, p)."""
        # einsum, since a matrix product's last bits depend on how many rows there are.
        return np.asarray(np.einsum("ij,j->i", columns, self.weights[1:]) + self.weights[0])


def fit_logit(
    columns: np.ndarray, chosen: np.ndarray, people: np.ndarray, names: Sequence[str], *, l2: float = 0.0, offset: np.ndarray | None = None
) -> Logit:
    """Estimates by Newton's method.

    Where it does not converge (some column tells the outcomes apart without an error, say) the penalty is raised, and if that does not
    help either, no column has a weight; `Logit.trouble` says so.

    Args:
        columns: without the intercept's, shape (n, p). chosen: 0/1, shape (n,).
        people: who each row belongs to, any integers, shape (n,); rows of one person may depend on each other.
        names: of the columns. l2: penalty ``l2 / 2 * |w|^2`` on all weights but the intercept, >= 0. offset: added to the log-odds.

    Returns:
        Estimates; standard errors by the sandwich with the person as cluster (Liang & Zeger, "Longitudinal data analysis using
        generalized linear models", Biometrika 73, 1986). Without rows of both kinds, all weights are 0 and errors are infinite.
    """
    n, p = columns.shape
    all_names = (INTERCEPT, *names)
    y = chosen.astype(np.float64)
    base = np.zeros(n) if offset is None else offset
    if n == 0 or y.min() == y.max():
        return Logit(all_names, np.zeros(p + 1), np.full(p + 1, np.inf), 0.0, n)
    x = np.column_stack([np.ones(n), columns])
    trouble = ""
    for penalty in (l2, *PENALTIES):
        # A column that never changes has no weight; the ridge of 1e-9 keeps the equations solvable.
        ridge = np.full(p + 1, max(penalty, l2) + 1e-9)
        ridge[0] = 0.0
        weights = _newton(x, y, base, ridge)
        if weights is not None:
            break
        trouble = f"weights could only be found with a penalty above {max(penalty, l2):g}"
    else:
        trouble, x, ridge = "no weights could be found but the intercept", x[:, :1], np.zeros(1)
        weights = _newton(x, y, base, ridge)
        assert weights is not None, "one intercept has one maximum"
    probability = expit(_index(x, weights) + base)
    inverse = np.linalg.inv(_information(x, probability, ridge))
    scores = x * (y - probability)[:, None]
    _, person = np.unique(people, return_inverse=True)
    summed = np.zeros((int(person.max()) + 1, x.shape[1]))
    np.add.at(summed, person, scores)
    groups = len(summed)
    sandwich = inverse @ (np.einsum("ni,nj->ij", summed, summed) * groups / max(1, groups - 1)) @ inverse
    likelihood = _penalised(weights, x, y, base, np.zeros(x.shape[1]))
    errors = np.sqrt(np.diag(sandwich).clip(min=0.0))
    missing = p + 1 - len(weights)
    return Logit(all_names, np.append(weights, np.zeros(missing)), np.append(errors, np.full(missing, np.inf)), likelihood, n, trouble)


def _newton(x: np.ndarray, y: np.ndarray, base: np.ndarray, ridge: np.ndarray) -> np.ndarray | None:
    """The penalised maximum, or None if it is not reached."""
    weights = np.zeros(x.shape[1])
    value = _penalised(weights, x, y, base, ridge)
    for _ in range(NEWTON_STEPS):
        probability = expit(_index(x, weights) + base)
        gradient = np.einsum("ni,n->i", x, y - probability) - ridge * weights
        try:
            step = np.linalg.solve(_information(x, probability, ridge), gradient)
        except np.linalg.LinAlgError:
            return None
        scale = 1.0
        while not (better := _penalised(weights + scale * step, x, y, base, ridge)) >= value and scale > 1e-6:
            scale /= 2.0
        weights = weights + scale * step
        if not np.isfinite(weights).all() or np.abs(weights).max() > MOST_WEIGHT:
            return None
        if abs(better - value) < 1e-9 * (1.0 + abs(value)):
            return weights
        value = better
    return None


def slope_above_one(index: np.ndarray, chosen: np.ndarray, people: np.ndarray) -> float:
    """How much further apart log-odds should be than they are: slope of what was chosen on them (Platt 1999), drawn to 1.

    Log-odds that come from weights with a penalty, or that are put together of parts which were estimated apart, are too close together.
    They are never drawn closer: weights fitted without a person's part of the data are worse than those with it, and say too small a slope.

    Args:
        index: log-odds by weights fitted without the row's person, shape (n,). chosen: 0/1. people: as in `fit_logit`.

    Returns:
        The mean of a normal posterior around the estimate, its prior 1 +- `SLOPE_PRIOR`; at least 1, and 1 where nothing can be estimated.
    """
    fitted = fit_logit(index[:, None], chosen, people, ("log-odds",))
    if fitted.trouble or not np.isfinite(fitted.errors[1]):
        return 1.0
    own, prior = fitted.errors[1] ** -2 if fitted.errors[1] > 0 else 0.0, SLOPE_PRIOR**-2
    return max(1.0, float((own * fitted.weights[1] + prior) / (own + prior)))


def likelihood_ratio(larger: Logit, smaller: Logit) -> tuple[float, int, float]:
    """Test of the terms that only `larger` has, both fitted to the same rows without a penalty.

    Returns:
        The statistic ``2 (ll_larger - ll_smaller)``, its degrees of freedom, and the p value (Wilks 1938).
    """
    statistic = max(0.0, 2.0 * (larger.log_likelihood - smaller.log_likelihood))
    freedom = len(larger.weights) - len(smaller.weights)
    return statistic, freedom, float(chi2.sf(statistic, freedom))


def calibration(probability: np.ndarray, chosen: np.ndarray, bins: int = 15) -> dict[str, float]:
    """Expected calibration error over equally full bins (Naeini et al., AAAI 2015) and Brier score, both of 0 at best.

    Args:
        probability: in [0, 1], shape (n,), n >= 1. chosen: 0/1.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    error = sum(len(part) * abs(float(probability[part].mean()) - float(chosen[part].mean())) for part in parts) / len(order)
    return {"ece": float(error), "brier": float(np.mean((probability - chosen) ** 2))}


def _index(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # einsum, as in `Logit.index`; and a matrix product's last bits depend on how many threads there are.
    return np.asarray(np.einsum("ij,j->i", x, weights))


def _penalised(weights: np.ndarray, x: np.ndarray, y: np.ndarray, base: np.ndarray, ridge: np.ndarray) -> float:
    index = _index(x, weights) + base
    return float((y * index - np.logaddexp(0.0, index)).sum() - 0.5 * (ridge * weights**2).sum())


def _information(x: np.ndarray, probability: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    # einsum: for so few columns, starting the threads of a matrix product would take longer than the product.
    return np.asarray(np.einsum("ni,nj->ij", x * (probability * (1.0 - probability))[:, None], x) + np.diag(ridge))

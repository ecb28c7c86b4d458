"""Too good to be true: are simulated people more alike, kinder and busier than real ones, and can they be told apart?"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.fidelity.behaviour import Behaviour, Observed
from experiments.fidelity.classifier import two_sample
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.distances import matched
from experiments.fidelity.resampling import estimate, plain, resample
from simulator.seeds import Stream


def measure(context: FidelityContext) -> dict[str, Any]:
    """All four comparisons of the run with the same real people.

    Raises:
        DataError: there is no run, or nobody real in it.
    """
    behaviour = Behaviour(context)
    stream = context.stream.child("realism")
    weights = resample(len(behaviour.people), context.bootstrap, stream.child("people"))
    missing: dict[str, str] = {}
    context.report("too good to be true", 0, 3)
    result: dict[str, Any] = {
        "people": len(behaviour.people),
        "only_held_out_people": behaviour.only_held_out,
        "between_person_variance": homogenisation(behaviour, weights, stream.child("variance")),
    }
    context.report("too good to be true", 1, 3)
    if behaviour.train.has_ratings:
        result["positivity"] = positivity(behaviour, weights)
    else:
        missing["positivity"] = "the data has no ratings"
    if behaviour.train.has_times:
        result["activity"] = activity(behaviour, weights)
        context.report("too good to be true", 2, 3)
        told = two_sample(behaviour, weights, stream.child("classifier"))
        if isinstance(told, str):
            missing["classifier"] = told
        else:
            result["classifier"] = told
    else:
        missing |= dict.fromkeys(("activity", "classifier"), "the data has no times, so no sittings")
    return result | {"not_measured": missing}


def homogenisation(behaviour: Behaviour, weights: np.ndarray, stream: Stream) -> dict[str, Any]:
    """Variance between people, simulated over real, from equally many choices of each person; below 1 people are too alike.

    The variance between people's true means is what the variance of their observed means has beyond chance (one-way analysis of
    variance, method of moments; Searle, Casella and McCulloch, *Variance Components*, 1992, section 3.6).
    """
    pairs: dict[str, tuple[Observed, Observed]] = {
        "popularity_of_chosen": (behaviour.popularity(behaviour.simulated), behaviour.popularity(behaviour.held_out))
    }
    if behaviour.train.has_ratings:
        pairs["ratings"] = (behaviour.ratings(behaviour.simulated), behaviour.ratings(behaviour.held_out))
    if behaviour.train.catalog.genre_names:
        pairs["novelty"] = (behaviour.novelty(behaviour.simulated), behaviour.novelty(behaviour.held_out))
    if behaviour.train.has_times:
        pairs["log_items_per_session"] = (
            _logged(behaviour.items_per_session(behaviour.simulated)),
            _logged(behaviour.items_per_session(behaviour.real)),
        )
    n, found = weights.shape[1], {}
    for name, pair in pairs.items():
        simulated, real = matched(*pair, n, stream.child(name))
        ones = np.ones((1, n))
        with np.errstate(invalid="ignore", divide="ignore"):
            a, b = (float(between_variance(sample, n, ones)[0]) for sample in (simulated, real))
            ratios = between_variance(simulated, n, weights) / between_variance(real, n, weights)
        known = np.isfinite(a) and np.isfinite(b) and b > 0
        ratio = plain(estimate(a / b if known else float("nan"), ratios, len(np.unique(real.person))))
        found[name] = {"simulated": a if np.isfinite(a) else None, "real": b if np.isfinite(b) else None, "ratio": ratio}
    return found


def between_variance(sample: Observed, n: int, weights: np.ndarray) -> np.ndarray:
    """Variance component between people, at least 0, for weighted people; NaN where nobody has two observations.

    Args:
        sample: observations. n: people. weights: of the people, shape (b, n).
    """
    counts = np.bincount(sample.person, minlength=n).astype(np.float64)
    sums = np.bincount(sample.person, weights=sample.values, minlength=n)
    means = np.divide(sums, counts, out=np.zeros(n), where=counts > 0)
    squares = np.bincount(sample.person, weights=(sample.values - means[sample.person]) ** 2, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        people, rows = weights @ (counts > 0), weights @ counts
        overall = (weights @ (counts * means)) / rows
        among = (weights @ (counts * means**2) - rows * overall**2) / (people - 1)
        within = (weights @ squares) / (rows - people)
        typical = (rows - (weights @ counts**2) / rows) / (people - 1)
        return np.asarray(np.maximum((among - within) / typical, 0.0))


def positivity(behaviour: Behaviour, weights: np.ndarray) -> dict[str, Any]:
    """How much kinder ratings are than the same people's held-out ones: means and shares of positive ratings."""
    simulated, real = behaviour.ratings(behaviour.simulated), behaviour.ratings(behaviour.held_out)
    shift = _difference(simulated, real, weights)
    good = _difference(behaviour.positives(behaviour.simulated), behaviour.positives(behaviour.held_out), weights)
    return {"mean_rating_shift": shift, "good_share_shift": good}


def activity(behaviour: Behaviour, weights: np.ndarray) -> dict[str, Any]:
    """Items per session over real items per sitting, and sessions per person if the people's rhythm says how often they come."""
    found = {
        "items_per_session": _ratio(behaviour.items_per_session(behaviour.simulated), behaviour.items_per_session(behaviour.real), weights)
    }
    if not behaviour.sessions_are_a_setting:
        days = behaviour.context.config.rounds * behaviour.context.config.round_days
        found["sessions_per_person"] = _ratio(
            behaviour.sessions_per_person(behaviour.simulated, days), behaviour.sessions_per_person(behaviour.real, days), weights
        )
    return found


def _logged(sample: Observed) -> Observed:
    return Observed(sample.person, np.log(np.maximum(sample.values, 1e-12)))


def _sums(sample: Observed, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.bincount(sample.person, weights=sample.values, minlength=n), np.bincount(sample.person, minlength=n).astype(np.float64)


def _own_means(first: Observed, second: Observed, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everybody's mean in both samples, and who has both, each of shape (n,)."""
    means, has = [], np.ones(n, dtype=bool)
    for sample in (first, second):
        sums, counts = np.bincount(sample.person, weights=sample.values, minlength=n), np.bincount(sample.person, minlength=n)
        has &= counts > 0
        means.append(np.divide(sums, counts, out=np.zeros(n), where=counts > 0))
    return means[0], means[1], has


def _difference(first: Observed, second: Observed, weights: np.ndarray) -> dict[str, Any]:
    """Mean over people of the difference of their means, with its interval."""
    a, b, has = _own_means(first, second, weights.shape[1])
    if not has.any():
        return {"simulated": None, "real": None} | plain(estimate(float("nan"), np.zeros(0), 0))
    own = weights[:, has]
    resampled = (own @ (a - b)[has]) / np.maximum(own.sum(axis=1), 1.0)
    means = {"simulated": float(a[has].mean()), "real": float(b[has].mean())}
    return means | plain(estimate(means["simulated"] - means["real"], resampled, int(has.sum())))


def _ratio(first: Observed, second: Observed, weights: np.ndarray) -> dict[str, Any]:
    """Ratio of the means over people of their means, with its interval."""
    a, b, has = _own_means(first, second, weights.shape[1])
    if not has.any() or b[has].sum() <= 0:
        return {"simulated": None, "real": None} | plain(estimate(float("nan"), np.zeros(0), 0))
    own = weights[:, has]
    below = own @ b[has]
    resampled = np.divide(own @ a[has], below, out=np.full(len(own), np.nan), where=below > 0)
    means = {"simulated": float(a[has].mean()), "real": float(b[has].mean())}
    return means | plain(estimate(means["simulated"] / means["real"], resampled, int(has.sum())))

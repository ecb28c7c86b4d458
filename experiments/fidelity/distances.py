"""Distances between two samples that belong to people, each as a multiple of its noise floor.

Two samples of the same world differ too. So every distance is measured twice on random halves A and B of the people, many
times: simulated A against real B, and real A against real B. The second is the noise floor (its mean is stated), and the
ratio of the two means is 1 for a simulation that is as good as the real people themselves. In both, a person contributes
the same number of observations: of each person as many are drawn as the smaller of the two samples has.

Jensen-Shannon distances (square root of the divergence, base 2) are taken over twenty bins that hold equally many real
observations; Wasserstein-1 and Kolmogorov-Smirnov distances over all values, or 512 quantiles where there are more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

from experiments.analysis.intervals import LEVEL
from experiments.fidelity.behaviour import Observed
from simulator.seeds import Stream

SPLITS = 200
"""Divisions into halves behind a ratio."""

REPLICATES, SPLITS_EACH = 100, 10
"""Resamples of people behind the interval of a ratio, and divisions in each."""

COARSE, FINE = 20, 512

Histograms = np.ndarray
"""Counts per person and value, shape (people, values)."""

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of two stacks of counts, shape (b, values), one number per pair, shape (b,)."""


def compare(simulated: Observed, real: Observed, people: int, stream: Stream) -> dict[str, Any] | None:
    """All three distances of two samples of the same people.

    Args:
        simulated, real: observations. people: how many people there are. stream: randomness of draws and divisions.

    Returns:
        Means, numbers of observations, and distance -> result of `ratio_to_floor`; None if fewer than four people have both.
    """
    a, b = matched(simulated, real, people, stream.child("matched"))
    if len(np.unique(a.person)) < 4:
        return None
    pooled = np.concatenate([a.values, b.values])
    grid = np.unique(pooled)
    if len(grid) > FINE:
        grid = np.unique(np.quantile(pooled, np.linspace(0, 1, FINE)))
    fine = [_counts(sample, np.searchsorted(grid, sample.values).clip(max=len(grid) - 1), len(grid), people) for sample in (a, b)]
    edges = np.unique(np.quantile(b.values, np.linspace(0, 1, COARSE + 1)[1:-1]))
    coarse = [_counts(sample, np.searchsorted(edges, sample.values, side="left"), len(edges) + 1, people) for sample in (a, b)]
    steps = np.diff(grid)
    return {
        "people": len(np.unique(a.person)),
        "simulated": {"mean": float(a.values.mean()), "median": float(np.median(a.values)), "observations": len(simulated.values)},
        "real": {"mean": float(b.values.mean()), "median": float(np.median(b.values)), "observations": len(real.values)},
        "compared_observations": len(a.values),
        "distances": {
            "jensen_shannon": ratio_to_floor(coarse[0], coarse[1], jensen_shannon, stream.child("js")),
            "wasserstein": ratio_to_floor(fine[0], fine[1], lambda p, q: wasserstein(p, q, steps), stream.child("w")),
            "kolmogorov_smirnov": ratio_to_floor(fine[0], fine[1], kolmogorov_smirnov, stream.child("ks")),
        },
    }


def matched(first: Observed, second: Observed, people: int, stream: Stream) -> tuple[Observed, Observed]:
    """Of each person equally many observations of both samples, drawn without replacement."""
    counts = [np.bincount(sample.person, minlength=people) for sample in (first, second)]
    wanted = np.minimum(*counts)
    return _drawn(first, wanted, stream.child("first")), _drawn(second, wanted, stream.child("second"))


def ratio_to_floor(
    simulated: Histograms, real: Histograms, distance: Distance, stream: Stream, *, least: float = 0.0
) -> dict[str, float | None]:
    """A distance as a multiple of the noise floor.

    Args:
        simulated, real: counts of the same people, in the same order. distance: of stacks of counts.
        stream: randomness of the divisions. least: noise floor below which none is taken for known, in the unit of the distance.

    Returns:
        ``distance`` (simulated half against real half), ``floor`` (real against real), ``ratio``, and the limits ``low`` and
        ``high`` of its interval: normal on the log scale with the spread of resamples of people, in which both copies of a
        person drawn twice stay in one half. The ratio is None where the floor is 0.
    """
    has = (simulated.sum(axis=1) > 0) & (real.sum(axis=1) > 0)
    simulated, real = simulated[has], real[has]
    n = len(real)
    sides = halves(n, SPLITS, stream.child("halves"))
    away, floor = _means(simulated, real, sides, 1.0 - sides, distance)
    floor = max(floor, least)
    if not (np.isfinite(away) and np.isfinite(floor)) or floor <= 0:
        return {
            "distance": away if np.isfinite(away) else None,
            "floor": 0.0 if floor == 0 else None,
            "ratio": None,
            "low": None,
            "high": None,
        }
    logs = []
    drawn = stream.child("people").generator().multinomial(n, np.full(n, 1.0 / n), size=REPLICATES)
    for number in range(REPLICATES):
        sides = halves(n, SPLITS_EACH, stream.child("replicate", number))
        far, near = _means(simulated, real, sides * drawn[number], (1.0 - sides) * drawn[number], distance)
        near = max(near, least)
        if min(far, near) > 0:
            logs.append(np.log(far / near))
    spread = float(np.std(logs)) if len(logs) > 1 else 0.0
    ratio = away / floor
    z = float(norm.ppf((1 + LEVEL) / 2))
    return {
        "distance": away,
        "floor": floor,
        "ratio": ratio,
        "low": ratio * float(np.exp(-z * spread)),
        "high": ratio * float(np.exp(z * spread)),
    }


def halves(n: int, count: int, stream: Stream) -> np.ndarray:
    """Random halves of n people: 1.0 for those in the first, else 0.0, shape (count, n)."""
    order = stream.generator().random((count, n)).argsort(axis=1)
    return (order < n // 2).astype(np.float64)


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance, base 2, in [0, 1] (Endres and Schindelin 2003)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(jensenshannon(first, second, base=2, axis=1))


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Largest difference of the two distribution functions, in [0, 1]."""
    return np.asarray(np.abs(_cumulative(first) - _cumulative(second)).max(axis=1))


def wasserstein(first: np.ndarray, second: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance: area between the two distribution functions, in the unit of the values.

    Args:
        first, second: counts per value, ascending. steps: differences of neighbouring values, shape (values - 1,).
    """
    return np.asarray(np.abs(_cumulative(first) - _cumulative(second))[:, :-1] @ steps)


def worst(figures: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, Mapping[str, float | None]] | None:
    """The distribution and distance with the largest ratio, or None if none has one."""
    found = [
        (name, distance, result)
        for name, figure in figures.items()
        for distance, result in figure.get("distances", {}).items()
        if result["ratio"] is not None
    ]
    return max(found, key=lambda entry: entry[2]["ratio"]) if found else None


def _means(simulated: Histograms, real: Histograms, side: np.ndarray, other: np.ndarray, distance: Distance) -> tuple[float, float]:
    reference = other @ real
    with np.errstate(invalid="ignore", divide="ignore"):
        away, floor = distance(side @ simulated, reference), distance(side @ real, reference)
    known = np.isfinite(away) & np.isfinite(floor)
    return (float(away[known].mean()), float(floor[known].mean())) if known.any() else (float("nan"), float("nan"))


def _cumulative(counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True))


def _counts(sample: Observed, value: np.ndarray, n_values: int, people: int) -> Histograms:
    flat = np.bincount(sample.person.astype(np.int64) * n_values + value, minlength=people * n_values)
    return flat.reshape(people, n_values).astype(np.float64)


def _drawn(sample: Observed, wanted: np.ndarray, stream: Stream) -> Observed:
    order = np.lexsort((stream.generator().random(len(sample.person)), sample.person))
    person = sample.person[order]
    place = np.arange(len(person)) - np.searchsorted(person, person)
    kept = order[place < wanted[person]]
    return Observed(sample.person[kept], sample.values[kept])

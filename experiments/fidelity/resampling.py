"""Bootstrap over people for sums and for the area under the curve; all people of one resample are resampled together.

Every figure of the report is a function of numbers per person, or of scores whose rows belong to people. A resample gives
each person a weight (how often they were drawn), so that a thousand resamples are one matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.analysis.intervals import LEVEL, Estimate
from simulator.seeds import Stream

_CELLS = 8_000_000
"""Weights of rows held in memory at once."""


def resample(people: int, count: int, stream: Stream) -> np.ndarray:
    """How often each person was drawn in each of `count` resamples with replacement, float64, shape (count, people).

    The same stream gives the same resamples: differences of two models are paired by using one.
    """
    return stream.generator().multinomial(people, np.full(people, 1.0 / people), size=count).astype(np.float64)


def estimate(value: float, resampled: np.ndarray, people: int) -> Estimate:
    """A value with the percentile interval of its resamples (Efron and Tibshirani 1993, chapter 13); NaNs are left out."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(known):
        return Estimate(float(value), float("nan"), float("nan"), people)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), people)


def area_under_curve(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Probability that a positive is scored above a negative, ties counting half (Mann-Whitney), for weighted rows.

    Args:
        scores: shape (n,). positive: bool, shape (n,).
        weights: of the rows, shape (b, n); None weighs all alike.

    Returns:
        shape (b,), or (1,) without weights; NaN where all rows are of one kind.
    """
    order = np.argsort(scores, kind="stable")
    rows = np.ones((1, len(scores))) if weights is None else weights[:, order]
    kinds = positive[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) != 0])) if len(scores) else np.zeros(0, dtype=np.int64)
    if not len(starts):
        return np.full(len(rows), np.nan)
    above = np.add.reduceat(rows * kinds, starts, axis=1)
    below = np.add.reduceat(rows * ~kinds, starts, axis=1)
    wins = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(rows), np.nan), where=pairs > 0))


def resampled_area(scores: np.ndarray, positive: np.ndarray, person: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`area_under_curve` of every resample of people.

    Args:
        scores, positive: as there. person: index of the person of each row, shape (n,). weights: of `resample`.
    """
    step = max(1, _CELLS // max(1, len(scores)))
    parts = [area_under_curve(scores, positive, weights[k : k + step][:, person]) for k in range(0, len(weights), step)]
    return np.concatenate(parts)


def person_index(users: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers 0 .. n-1 for the people of rows, and n."""
    codes, index = np.unique(users, return_inverse=True)
    return index, len(codes)


def plain(found: Estimate) -> dict[str, Any]:
    """An estimate as JSON: value, low, high (None where unknown), people."""
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {**{name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}, "people": found.people}

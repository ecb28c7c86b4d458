"""Means over rows with intervals over people, as a report stores them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.analysis.intervals import Estimate, bootstrap_ratio
from simulator.seeds import Stream


def row_mean(values: np.ndarray, owners: np.ndarray, stream: Stream) -> dict[str, Any]:
    """The mean of some rows, with an interval that resamples the people whose rows they are.

    Args:
        values: one number per row, shape (n,); rows with NaN are left out.
        owners: the person of each row, any integers, shape (n,).
        stream: randomness of the resampling.

    Returns:
        See `as_json`, and `rows`, the number of rows that count.
    """
    return row_ratio(values, np.ones(len(values)), owners, stream)


def row_ratio(above: np.ndarray, below: np.ndarray, owners: np.ndarray, stream: Stream) -> dict[str, Any]:
    """The sum of `above` over the sum of `below`; arguments and result as in `row_mean`, a row with a NaN in either is left out."""
    defined = ~(np.isnan(above) | np.isnan(below))
    _, people = np.unique(owners[defined], return_inverse=True)
    sums = np.bincount(people, weights=above[defined].astype(np.float64))
    counts = np.bincount(people, weights=below[defined].astype(np.float64))
    return {**as_json(bootstrap_ratio(sums, counts, stream)), "rows": int(defined.sum())}


def as_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate as ``{"value", "low", "high", "people"}``; what is not defined is null."""
    return {key: none_for_nan(value) for key, value in asdict(estimate).items()}


def none_for_nan(value: float) -> float | None:
    """The number, or None where it is not defined, since JSON knows no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value

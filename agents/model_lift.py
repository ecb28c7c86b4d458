"""What the language model adds to the evidence on people of whom nothing was learned but its weight."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from simulator.seeds import Stream

RESAMPLES = 200
FEWEST = 20
"""People below whom no interval is given."""


def area(index: np.ndarray, chosen: np.ndarray) -> float:
    """Area under the ROC curve (Mann and Whitney 1947): that a chosen item has the higher index; ties count half, NaN without a pair.

    Args:
        index: log-odds, shape (n,). chosen: 0 or 1, shape (n,).
    """
    positive = chosen > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(index)[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def lift(with_model: np.ndarray, evidence: np.ndarray, chosen: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """How much larger the area is with the model, and a 95 % interval over people (percentile bootstrap).

    Args:
        with_model, evidence: log-odds of the same rows, shape (n,). chosen: 0 or 1. people: user code of each row.

    Returns:
        ``lift``, and ``lift_low`` and ``lift_high`` where there are people enough; nothing where there is no pair.
    """
    found = area(with_model, chosen) - area(evidence, chosen)
    if not np.isfinite(found):
        return {}
    rows = [np.flatnonzero(people == user) for user in np.unique(people)]
    if len(rows) < FEWEST:
        return {"lift": found}
    generator = Stream(0).child("model lift").generator()
    drawn = []
    for _ in range(RESAMPLES):
        some = np.concatenate([rows[k] for k in generator.integers(len(rows), size=len(rows))])
        drawn.append(area(with_model[some], chosen[some]) - area(evidence[some], chosen[some]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"lift": found, "lift_low": float(low), "lift_high": float(high)}

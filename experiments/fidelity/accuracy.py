"""Accuracy among as many random items as chosen ones (1:1), of everybody at a threshold of their own.

A threshold is that of the highest accuracy on validation users. At that of the highest F1, which may call everything chosen, weak ways
such as counts look worse than they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from experiments.fidelity.baselines import COUNTS, Part, Scored
from experiments.fidelity.candidates import MIXES, in_mix
from experiments.fidelity.choices import best_threshold


def one_to_one(held_out: pl.DataFrame, scores: np.ndarray, validation: pl.DataFrame, validation_scores: np.ndarray) -> float:
    """The share of rows told right among as many random items as chosen ones, at the threshold most accurate on validation users.

    Args:
        held_out, validation: of `nested_candidates`. scores, validation_scores: of their rows, by the same way, higher is better.
    """

    def mixed(table: pl.DataFrame, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = in_mix(table.with_columns(score=pl.Series(values)), MIXES["random_1_1"])
        return kept["score"].to_numpy(), kept["chosen"].to_numpy()

    threshold = best_threshold(*mixed(validation, validation_scores), "accuracy")
    values, chosen = mixed(held_out, scores)
    return float(((values >= threshold) == chosen).mean())


def of_baselines(held_out: Part, validation: Part, best: Mapping[str, Scored], tried: Sequence[Scored]) -> dict[str, float]:
    """1:1 accuracy of each baseline at its own threshold.

    Args:
        held_out, validation: candidates of either. best: baseline -> it on the held-out rows. tried: of `scored`, on the validation rows.
    """
    learned = {json.dumps(one.told): one.scores for one in tried}
    return {name: one_to_one(held_out.rows, one.scores, validation.rows, learned[json.dumps(one.told)]) for name, one in best.items()}


def lifts(own: float, of_baselines: Mapping[str, float]) -> dict[str, Any]:
    """Accuracy among as many random items, and its lift over counts and over the best baseline."""
    top = max(of_baselines, key=lambda name: of_baselines[name])
    return {
        "accuracy_1_1": own,
        "accuracy_1_1_counts": of_baselines[COUNTS],
        "accuracy_1_1_baselines": dict(of_baselines),
        "lift_over_counts": own - of_baselines[COUNTS],
        "best_baseline_1_1": top,
        "lift_1_1": own - of_baselines[top],
    }

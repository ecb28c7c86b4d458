"""Repeated consumption, simulated against real, with a noise floor where nobody real repeats anything.

Many logs hold each pair of user and item once, so two halves of the real users do not differ at all and their distance is no floor.
There the floor is what one repeat in one half would make: a log with none is not known more precisely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.fidelity.behaviour import Observed
from experiments.fidelity.distances import Distance, jensen_shannon, kolmogorov_smirnov, matched, ratio_to_floor, wasserstein
from simulator.seeds import Stream

DISTANCES: Mapping[str, Distance] = {
    "jensen_shannon": jensen_shannon,
    "wasserstein": lambda first, second: wasserstein(first, second, np.ones(1)),
    "kolmogorov_smirnov": kolmogorov_smirnov,
}


def repeated(simulated: Observed, real: Observed, people: int, stream: Stream) -> dict[str, Any] | None:
    """The share of interactions with an item that the user had interacted with before, as `experiments.fidelity.distances.compare`.

    Args:
        simulated, real: 1 for each repeated interaction, 0 for others. people: how many users there are. stream: of the divisions.

    Returns:
        As `compare`; None if fewer than four users have both.
    """
    samples = matched(simulated, real, people, stream.child("matched"))
    users = len(np.unique(samples[0].person))
    if users < 4:
        return None
    tables = [np.zeros((people, 2)) for _ in samples]
    for table, sample in zip(tables, samples, strict=True):
        np.add.at(table, (sample.person, sample.values.astype(np.int64)), 1.0)
    half = max(len(samples[0].values) / 2.0, 1.0)
    none, one = np.array([[half, 0.0]]), np.array([[half - 1.0, 1.0]])
    return {
        "people": users,
        "simulated": {"mean": float(simulated.values.mean()), "observations": len(simulated.values)},
        "real": {"mean": float(real.values.mean()), "observations": len(real.values)},
        "compared_observations": len(samples[0].values),
        "distances": {
            name: ratio_to_floor(tables[0], tables[1], distance, stream.child(name), least=float(distance(none, one)[0]))
            for name, distance in DISTANCES.items()
        },
    }

"""From kept cells to figures: NDCG, and paired gains over the size control and over the real data alone, by stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.intervals import bootstrap_crossed
from experiments.augmentation.cells import AGAIN, ALONE, DUPLICATED, REAL, Cell, cells_of, seed_folder, seeds_of
from experiments.augmentation.strata import COLD_USERS, EVERYBODY, STRATA
from experiments.config import ExperimentConfig
from simulator.files import read_table
from simulator.seeds import Stream

CONTROLS = (DUPLICATED, REAL)
"""What gains are measured against."""

OF_PEOPLE, WITHOUT_PEOPLE = ("synthetic", "confidence", "fidelity"), ("exposure", "evidence")
"""Sources that simulated people decide about, and those of the same size without a decision: the difference is what people add."""


class Results:
    """Every cell's NDCG as a matrix of people and seeds, read once.

    Args:
        config: the experiment. folder: of an augmentation whose cells are all there.
    """

    def __init__(self, config: ExperimentConfig, folder: Path, left_out: Sequence[str] = ()) -> None:
        self._config, self._folder = config, folder
        self._seeds = list(seeds_of(config))
        self.cells = [cell for cell in cells_of(config) if cell.source not in left_out]
        self._cold = [
            read_table(seed_folder(folder, seed) / "strata.parquet", AGAIN).sort("user")["cold"].to_numpy() for seed in self._seeds
        ]
        self._kept: dict[tuple[str, str, float], tuple[dict[str, np.ndarray], float]] = {}

    def ndcg(self, recommender: str, source: str, dose: float, stratum: str) -> np.ndarray:
        """Shape (people by user code, seeds); NaN where a person is not in the stratum of a seed."""
        return self._cell(recommender, source, dose)[0][stratum]

    def added(self, recommender: str, source: str, dose: float) -> float:
        """Added interactions, mean over the seeds."""
        return self._cell(recommender, source, dose)[1]

    def rows(self) -> list[dict[str, Any]]:
        """One row per recommender, source, dose and stratum: NDCG, and gains as `Estimate`s (absent where it is the control itself)."""
        found = []
        arms = [(cell.recommender, cell.source, cell.dose) for cell in self.cells if cell.seed == self._seeds[0]]
        for recommender, source, dose in arms:
            for stratum in STRATA:
                values = self.ndcg(recommender, source, dose, stratum)
                # one stream per stratum: the same people and seeds are drawn for all cells, so intervals are comparable
                stream = Stream(self._config.seed).child("augmentation", "interval", stratum)
                row: dict[str, Any] = {
                    "recommender": recommender,
                    "source": source,
                    "dose": dose,
                    "added": self.added(recommender, source, dose),
                    "stratum": stratum,
                    "ndcg": asdict(bootstrap_crossed(values, stream)),
                }
                for control in self._controls(source):
                    before = self.ndcg(recommender, control, 0.0 if control == REAL else dose, stratum)
                    row[f"gain_over_{control}"] = asdict(bootstrap_crossed(values - before, stream))
                found.append(row)
        return found

    def _controls(self, source: str) -> list[str]:
        """What the gain of a source is measured against."""
        if source == REAL:
            return []
        if source in (ALONE, DUPLICATED):
            return [REAL]
        there = {cell.source for cell in self.cells}
        return [*CONTROLS, *(control for control in WITHOUT_PEOPLE if source in OF_PEOPLE and control in there)]

    def _cell(self, recommender: str, source: str, dose: float) -> tuple[dict[str, np.ndarray], float]:
        key = (recommender, source, dose)
        if key not in self._kept:
            frames = [read_table(Cell(seed, recommender, source, dose).file(self._folder), AGAIN) for seed in self._seeds]
            matrices = {}
            for stratum in STRATA:
                column = EVERYBODY if stratum == COLD_USERS else stratum
                matrix = np.full((len(self._cold[0]), len(frames)), np.nan)
                for number, frame in enumerate(frames):
                    matrix[frame["user"].to_numpy(), number] = frame[column].to_numpy()
                    if stratum == COLD_USERS:
                        matrix[~self._cold[number], number] = np.nan
                matrices[stratum] = matrix
            added = float(np.mean([frame["added"][0] if frame.height else 0 for frame in frames]))
            self._kept[key] = matrices, added
        return self._kept[key]


def headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where a source gains for people with few interactions and loses nothing overall, against the size control of the same dose.

    Returns:
        ``gains``: recommender, source and dose whose interval for cold users is above 0; ``without_loss``: those of them whose
        interval for everybody is not below 0. ``compared`` is the number of intervals for cold users: of so many, one in forty is
        above 0 by chance.
    """
    gains_of: dict[tuple[str, str, float, str], Mapping[str, Any]] = {
        (row["recommender"], row["source"], row["dose"], row["stratum"]): row[f"gain_over_{DUPLICATED}"]
        for row in rows
        if f"gain_over_{DUPLICATED}" in row
    }
    cold = {key[:3]: gain for key, gain in gains_of.items() if key[3] == COLD_USERS}
    gains = [key for key, gain in cold.items() if gain["low"] > 0]
    safe = [key for key in gains if gains_of[*key, EVERYBODY]["high"] >= 0]
    names = ("recommender", "source", "dose")
    return {
        "compared": len(cold),
        "gains": [dict(zip(names, key, strict=True)) for key in gains],
        "without_loss": [dict(zip(names, key, strict=True)) for key in safe],
    }

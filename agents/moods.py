"""What people are in the mood for in one visit: somebody who likes all sorts of films sees old dramas tonight and new comedies on Sunday.

The interactions of one real visit are more alike than those of one person. How much more is read off the training sittings:
of what they are about (popularity, year, quality) the variance is divided into that between people, between visits of
one person, and within visits (nested analysis of variance by moments; Searle, Casella & McCulloch, "Variance Components", 1992,
chapter 3). A mood is a normal variable that makes the means of visits differ by as much as they do; an item's log-odds of being
chosen move with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.behaviour import Behaviour
from agents.rhythm import split_sessions
from simulator.dataset import Dataset
from simulator.seeds import Stream

FILE = "moods.npz"

FEWEST_VISITS = 50
"""With fewer visits beyond the first of each person there are no moods."""


@dataclass(frozen=True, eq=False)
class Moods:
    """How visits of one person differ.

    Attributes:
        pull: log-odds of each item per unit of each independent part of a mood, shape (n_items, r); r may be 0.
    """

    pull: np.ndarray

    @classmethod
    def fit(cls, train: Dataset, behaviour: Behaviour, gap_seconds: float) -> Moods | None:
        """Reads moods off the training sittings.

        Args:
            train: rows sorted by person and time. behaviour: fitted on it. gap_seconds: longest pause within a visit.

        Returns:
            None if the data has no times, or too few visits to tell them from people (`FEWEST_VISITS`).
        """
        if not train.has_times:
            return None
        rows = train.interactions
        people, items = rows["user"].to_numpy(), rows["item"].to_numpy()
        sessions = split_sessions(people, rows["timestamp"].to_numpy(), gap_seconds)
        known, visitor = np.unique(sessions.people, return_inverse=True)
        if len(sessions.sizes) - len(known) < FEWEST_VISITS:
            return None
        values = np.column_stack([_spread(behaviour.popularity, items), behaviour.slopes.T])
        within, between, scale = nested_components(values[items], sessions.session, visitor)
        pull = values @ _directions(within, between, scale)
        return cls(pull)

    def log_odds(self, items: np.ndarray, visit: Stream) -> np.ndarray:
        """What the mood of a visit adds to the log-odds of choosing each item, shape (n,).

        Args:
            items: item codes, shape (n,). visit: randomness that the visit's pages share.
        """
        mood = visit.child("mood").generator().standard_normal(self.pull.shape[1])
        return np.asarray(np.einsum("ij,j->i", self.pull[items], mood))

    def save(self, folder: Path) -> None:
        """Writes ``moods.npz``."""
        np.savez(folder / FILE, pull=self.pull)

    @classmethod
    def load(cls, folder: Path) -> Moods | None:
        """Restores what `save` wrote; None if it wrote nothing."""
        if not (folder / FILE).is_file():
            return None
        return cls(np.load(folder / FILE)["pull"])


def nested_components(values: np.ndarray, visit: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Covariance within visits, and between the visits of one person.

    Args:
        values: one row per interaction, shape (n, k). visit: of each row, 0..m-1, each present, shape (n,).
        person: of each visit, 0..p-1, each present, shape (m,); p < m < n.

    Returns:
        Both covariances, shape (k, k); the second is a difference of two estimates and may have negative parts. And the share of
        the first that chance alone would show in the second at most (the upper edge of the eigenvalues of pure noise;
        Marchenko & Pastur 1967).
    """
    n, m, p = len(values), len(person), int(person.max()) + 1
    sizes = np.bincount(visit).astype(np.float64)
    means = np.zeros((m, values.shape[1]))
    np.add.at(means, visit, values)
    means /= sizes[:, None]
    own_sizes = np.bincount(person, weights=sizes)
    own = np.zeros((p, values.shape[1]))
    np.add.at(own, person, means * sizes[:, None])
    own /= own_sizes[:, None]
    left, moved = values - means[visit], means - own[person]
    within = left.T @ left / max(1, n - m)
    typical = (n - float((np.bincount(person, weights=sizes**2) / own_sizes).sum())) / (m - p)
    among = (moved * sizes[:, None]).T @ moved / (m - p)
    ratio = values.shape[1] / (m - p)
    return within, (among - within) / typical, (2.0 * np.sqrt(ratio) + ratio) / typical


def _directions(within: np.ndarray, between: np.ndarray, noise: float) -> np.ndarray:
    """What a unit of each part of a mood adds to the log-odds, per unit of each value; shape (k, r).

    Log-odds that move by ``x . b`` move the mean of what is chosen by ``within @ b``, so that b must have the covariance ``W^-1 B W^-1``.
    Only directions in which visits differ by more than chance can make them are taken.
    """
    lengths, axes = np.linalg.eigh(within)
    usable = lengths > 1e-9 * max(float(lengths.max(initial=0.0)), 1e-12)
    to_unit = axes[:, usable] / np.sqrt(lengths[usable])
    sizes, directions = np.linalg.eigh(to_unit.T @ between @ to_unit)
    kept = sizes > noise
    found: np.ndarray = to_unit @ directions[:, kept] * np.sqrt(sizes[kept])
    return found


def _spread(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Values of all items in standard deviations above the mean of these items."""
    own = values[items]
    return np.asarray((values - own.mean()) / max(float(own.std()), 1e-9))

"""What people are in the mood for in one visit: somebody who likes all sorts of films sees old dramas tonight and new comedies on Sunday.

The interactions of one real visit are more alike than those of one person. How much more is read off the training sittings:
of what they are about (popularity, year, quality) the variance is divided into that between people, between visits of
one person, and within visits (nested analysis of variance by moments; Searle, Casella & McCulloch, "Variance Components", 1992,
chapter 3). A mood is a normal variable that makes the means of visits differ by as much as they do; an item's log-odds of being
chosen move with it. Moods go both ways, but choices do not follow evenly: one for the unpopular finds a long tail of items, one for the
popular finds few. So each item's log-odds can be shifted once and for all, such that over all visits it is chosen as often as
without moods (`agents.margins.over_visits`).

A visit has a tone as well: the ratings of one visit, less what is usual for its items, are more alike than those of one person.

What is known of a person is the mean of the visits they made, moods and tones included. Who is held against other interactions of these
very visits (as where a random part of the log is held out) would get them twice, so there the moods of one person cancel out
over visits like those they made, the longer ones weighing more: they are centred.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from agents.behaviour import Behaviour
from agents.margins import over_visits
from agents.rhythm import split_sessions
from simulator.dataset import Dataset
from simulator.seeds import Stream
from simulator.spread import spreads

FILE = "moods.npz"

FEWEST_VISITS = 50
"""With fewer visits beyond the first of each person there are no moods."""


@dataclass(frozen=True)
class Visit:
    """One visit of a person among those they made.

    Attributes:
        stream: randomness that the visit's pages share. own: randomness that all visits of the person share.
        number: of the visit, from 0. shares: of each visit that the person made in the training part among their interactions, in order;
            positive, sum to 1, shape (visits,).
    """

    stream: Stream
    own: Stream
    number: int
    shares: np.ndarray


@dataclass(frozen=True, eq=False)
class Moods:
    """How visits of one person differ.

    Attributes:
        pull: log-odds of each item per unit of each independent part of a mood, shape (n_items, r); r may be 0.
        shift: what is taken from each item's log-odds at every visit, shape (n_items,).
        tone: standard deviation of ratings between visits of one person, over that within a visit, >= 0.
        centred: whether the moods and tones of one person cancel out over visits like those they made.
    """

    pull: np.ndarray
    shift: np.ndarray
    tone: float = 0.0
    centred: bool = False

    @classmethod
    def fit(cls, train: Dataset, behaviour: Behaviour, gap_seconds: float, whole: bool = False, centred: bool = False) -> Moods | None:
        """Reads moods off the training sittings.

        Args:
            train: rows sorted by person and time. behaviour: fitted on it. gap_seconds: longest pause within a visit.
            whole: whether log-odds are shifted such that moods cancel out over all visits, and visits have tones.
            centred: see above.

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
        if not whole:
            return cls(pull, np.zeros(len(pull)), centred=centred)
        tone = 0.0
        if train.has_ratings:
            stars = rows["rating"].cast(pl.Float64).fill_null(strategy="mean").to_numpy() - behaviour.quality[items]
            within, between, scale = nested_components(stars[:, None], sessions.session, visitor)
            ratio = float(between[0, 0] / max(within[0, 0], 1e-9))
            tone = float(np.sqrt(ratio)) if ratio > scale else 0.0
        return cls(pull, over_visits(pull, np.bincount(items, minlength=train.n_items)), tone, centred)

    def log_odds(self, items: np.ndarray, visit: Visit) -> np.ndarray:
        """What the mood of a visit adds to the log-odds of choosing each item, shape (n,); `items` are item codes, shape (n,)."""
        mood = self._drawn("mood", self.pull.shape[1], visit)
        # The shift grows with the variance of the moods that it makes up for.
        return np.asarray(np.einsum("ij,j->i", self.pull[items], mood) - self._variance(visit) * self.shift[items])

    def gladness(self, visit: Visit) -> tuple[float, float]:
        """How much more than usual is given in a visit, and what share of the variance around what is expected that is over visits.

        The first is in standard deviations of ratings around what is expected of them. These vary as before over all visits if they vary
        by that share less within one.
        """
        if not self.tone:
            return 0.0, 0.0
        share = 1.0 / (1.0 + 1.0 / self.tone**2)
        return float(self._drawn("tone", 1, visit)[0]) * float(np.sqrt(share)), share * min(self._variance(visit), 1.0)

    def _variance(self, visit: Visit) -> float:
        """Variance of a mood, 1 for one that is not centred."""
        if not self.centred:
            return 1.0
        own = float(visit.shares[visit.number % len(visit.shares)])
        return 1.0 - 2.0 * own + float(np.square(visit.shares).sum())

    def _drawn(self, name: str, size: int, visit: Visit) -> np.ndarray:
        """Normal variables, shape (size,)."""
        if not self.centred:
            return visit.stream.child(name).generator().standard_normal(size)
        every = visit.own.child(name).generator().standard_normal((len(visit.shares), size))
        return np.asarray(every[visit.number % len(every)] - np.einsum("i,ij->j", visit.shares, every))

    def save(self, folder: Path) -> None:
        """Writes ``moods.npz``."""
        np.savez(folder / FILE, pull=self.pull, shift=self.shift, tone=self.tone, centred=self.centred)

    @classmethod
    def load(cls, folder: Path) -> Moods | None:
        """Restores what `save` wrote; None if it wrote nothing."""
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE) as stored:
            pull = stored["pull"]
            if "shift" not in stored:  # a run of before
                return cls(pull, np.zeros(len(pull)))
            return cls(pull, stored["shift"], float(stored["tone"]), bool(stored["centred"]) if "centred" in stored else False)


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
    """Values of all items in standard deviations above the mean of these items, 0 where these do not differ."""
    own = values[items]
    spread = float(spreads(own))
    return np.asarray((values - own.mean()) / spread) if spread > 0.0 else np.zeros(len(values))

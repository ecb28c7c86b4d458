"""Scores of how items go with a user, comparable between users and between items: what the taste of a choice model is made of.

A score of a recommender carries levels that are no taste: histories that are long, items that are popular. Each is therefore given raw, in
standard deviations over the catalog for the user (z), and again in standard deviations over users for the item (t). `relatedness` has the
scores themselves.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import sparse

from agents import relatedness
from agents.relatedness import Related, on_grid
from simulator.dataset import Dataset

MOMENTS: Final[int] = 40
"""Equally full bins of time, in which the popularity of items is counted."""

MOST_LEVELS: Final[int] = 2_000
"""The level of an item is taken over at most so many users."""

ITEM_SHRINKAGE: Final[float] = 0.3
"""Share of the mean variance of all items that is added to that of each."""

HISTORY_CENTRE, POPULARITY_CENTRE, POPULARITY_UNIT = 3.5, 3.0, 1.5
"""About the natural log of 1 + items of a usual history, and that of 1 + interactions of a usual item and how far items differ in it.

Fixed, since constants from the data would explode where all histories are equally long.
"""

KINDS: Final[tuple[str, ...]] = ("of user", "of item", "raw", "of item x history", "of item x popularity")
"""Columns of each score: z, t, raw, and t times the length of the history and the popularity of the item."""

MOMENT: Final[str] = "moment"
KNOWN_BYTES: Final[int] = 64 * 2**20
"""Memory for what is known of the users asked about last."""

BATCH: Final[int] = 128
ROUNDING: Final[float] = 1e-9


class Moments:
    """Popularity at the times of a user: ``ln((sum_b w_b m_bi / share_b + 1) / (n_i + 1))``.

    m are interactions with the item in `MOMENTS` equally full bins of time, smoothed by one bin to either side, w the user's interactions
    over the bins, shares of all.

    Attributes:
        ratios: m over the share of the bin, float32, shape (bins, n_items). weights: w of users, float32, shape (n_users, bins).
        counts: interactions of each item, shape (n_items,).
    """

    def __init__(self, ratios: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> None:
        self.ratios, self.weights, self.counts = ratios, weights, counts

    @classmethod
    def fit(cls, train: Dataset, counts: np.ndarray, *, newest: bool) -> Moments:
        """Counts interactions by time.

        Args:
            train: with times. counts: of items. newest: whether a user's time is that of the newest interaction (to tell what comes next),
                else that of all of them (to tell what is missing).
        """
        rows = train.interactions
        times = rows["timestamp"].to_physical().to_numpy().astype(np.float64)
        users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
        edges = np.unique(np.quantile(times, np.arange(1, MOMENTS) / MOMENTS)) if len(times) else np.zeros(0)
        of_row, bins = np.searchsorted(edges, times, side="right"), len(edges) + 1
        found = np.zeros((bins, train.n_items))
        np.add.at(found, (of_row, items), 1.0)
        wide = np.pad(found, ((1, 1), (0, 0)))
        smooth = (wide[:-2] + wide[1:-1] + wide[2:]) / 3.0
        share = smooth.sum(axis=1) / max(1.0, smooth.sum())
        weights = np.zeros((train.n_users, bins))
        if newest:
            last = np.flatnonzero(np.append(np.diff(users) != 0, True)) if len(users) else np.zeros(0, dtype=np.int64)
            weights[users[last], of_row[last]] = 1.0
        else:
            np.add.at(weights, (users, of_row), 1.0)
            weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        ratios = np.divide(smooth, share[:, None], out=np.zeros_like(smooth), where=share[:, None] > 0)
        return cls(on_grid(ratios, relatedness.PAIR_BITS), on_grid(weights, relatedness.FACTOR_BITS), counts)

    def of(self, user: int) -> np.ndarray:
        """Scores of the whole catalog, shape (n_items,); 0 for a user code without interactions."""
        mine = self.weights[user].astype(np.float64) if 0 <= user < len(self.weights) else np.zeros(0)
        bins = np.flatnonzero(mine)
        if not len(bins):
            return np.zeros(len(self.counts))
        at = np.einsum("b,bi->i", mine[bins], self.ratios[bins].astype(np.float64))
        return np.asarray(np.log((at + 1.0) / (self.counts + 1.0)))


@dataclass(slots=True)
class _Known:
    """What is known of a user: different items met, ascending, sums over them of each score, and of all items the mean and spread."""

    met: np.ndarray
    raw: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


class RelatedScores:
    """Columns of the taste of choices for any user and items.

    Attributes:
        related: scores by name. moments: popularity at the user's time, or None without times. counts: interactions, shape (n_items,).
        mean, spread: of the values in standard deviations for a user, over users, shape (scores, n_items).
    """

    def __init__(
        self, related: Mapping[str, Related], moments: Moments | None, counts: np.ndarray, mean: np.ndarray, spread: np.ndarray
    ) -> None:
        self.related, self.moments, self.counts, self.mean, self.spread = dict(related), moments, counts, mean, spread
        self._known: OrderedDict[int, _Known] = OrderedDict()

    @classmethod
    def fit(cls, train: Dataset, *, newest: bool) -> RelatedScores:
        """Computes all scores that the data allow.

        Args:
            train: rows sorted by user and time. newest: as in `Moments.fit`.
        """
        rows = train.interactions
        users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
        matrix = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=(train.n_users, train.n_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        counts = np.asarray(matrix.sum(axis=0)).ravel()
        related: dict[str, Related] = {
            "ease": relatedness.ease(matrix, counts),
            "decomposition": relatedness.decomposition(matrix),
            "lift": relatedness.lift(relatedness.together_of(matrix), counts, int((np.diff(matrix.indptr) > 0).sum())),
            "walk": relatedness.walk(matrix, counts),
        }
        if (words := relatedness.words(train.catalog)) is not None:
            related["words"] = words
        moments = None
        if train.has_times:
            related["order"] = relatedness.order(users, items, counts)
            moments = Moments.fit(train, counts, newest=newest)
        return cls.of(related, matrix, counts, moments)

    @classmethod
    def of(
        cls, related: Mapping[str, Related], matrix: sparse.csr_matrix, counts: np.ndarray, moments: Moments | None = None
    ) -> RelatedScores:
        """Puts scores beside each other.

        Args:
            related: by name. matrix: 0/1 of users and items, whose levels are taken. counts: of its columns. moments: or None.
        """
        shape = (len(related) + (moments is not None), len(counts))
        made = cls(related, moments, counts, np.zeros(shape), np.ones(shape))
        made._level(matrix)
        return made

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores."""
        return (*self.related, *((MOMENT,) if self.moments is not None else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(f"{score}, {kind}" for kind in KINDS for score in self.scores)

    def _level(self, matrix: sparse.csr_matrix) -> None:
        """Takes mean and spread of each item over users, evenly spaced by code."""
        present = np.flatnonzero(np.diff(matrix.indptr))
        if not len(present):
            return
        some = present[np.unique(np.linspace(0, len(present) - 1, min(len(present), MOST_LEVELS)).astype(np.int64))]
        total, square = np.zeros(self.mean.shape), np.zeros(self.mean.shape)
        for start in range(0, len(some), BATCH):
            users = some[start : start + BATCH]
            part = matrix[users]
            outside = part.toarray() == 0.0
            for k, name in enumerate(self.scores):
                raw = np.stack([self._moment(user) for user in users.tolist()]) if name == MOMENT else self.related[name].of(part)
                mean, spread = _spread_of(raw, outside)
                z = np.where(outside, _over(raw - mean[:, None], spread[:, None]), 0.0)
                total[k] += z.sum(axis=0)
                square[k] += np.einsum("ui,ui->i", z, z)
        self.mean = total / len(some)
        variance = (square / len(some) - self.mean**2).clip(min=0.0)
        self.spread = np.sqrt(variance + ITEM_SHRINKAGE * np.maximum(variance.mean(axis=1, keepdims=True), 1e-12))

    def _moment(self, user: int) -> np.ndarray:
        assert self.moments is not None
        return self.moments.of(user)

    def columns(self, user: int, met: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Columns `names` for items.

        Args:
            user: code; those that the data do not have are known by their history alone. met: different item codes, ascending.
            items: item codes, none of them met.

        Returns:
            float64, shape (len(items), len(names)).
        """
        return self._columns(self._of(user, met), items)

    def columns_without(self, user: int, met: np.ndarray, item: int) -> np.ndarray:
        """Columns of an item that was met, by the rest of the history; shape (1, len(names))."""
        known = self._of(user, met)
        raw = known.raw - self._sums(np.array([item]))
        rest = met[met != item]
        return self._columns(_known(rest, raw), np.array([item]))

    def _columns(self, known: _Known, items: np.ndarray) -> np.ndarray:
        raw = known.raw[:, items]
        z = _over(raw - known.mean[:, None], known.spread[:, None])
        t = _compressed((z - self.mean[:, items]) / self.spread[:, items])
        by_history = t * (np.log1p(len(known.met)) - HISTORY_CENTRE)
        by_popularity = t * ((np.log1p(self.counts[items]) - POPULARITY_CENTRE) / POPULARITY_UNIT)
        return np.concatenate([_compressed(z), t, _compressed(raw), by_history, by_popularity]).T

    def _of(self, user: int, met: np.ndarray) -> _Known:
        """What is known of a user: from the last time, if the history has only grown, since sums are exact in whatever order."""
        known = self._known.get(user)
        if known is None or not np.array_equal(known.met, met):
            raw = None
            if known is not None and len(known.met) < len(met):
                new = np.setdiff1d(met, known.met, assume_unique=True)
                if len(new) + len(known.met) == len(met):
                    raw = known.raw + self._sums(new)
            if raw is None:
                raw = self._sums(met)
                if self.moments is not None:
                    raw[-1] = self.moments.of(user)
            known = _known(met, raw)
            self._known[user] = known
            most = max(1, KNOWN_BYTES // max(1, known.raw.nbytes))
            while len(self._known) > most:
                self._known.popitem(last=False)
        self._known.move_to_end(user)
        return known

    def _sums(self, items: np.ndarray) -> np.ndarray:
        """Sums over some items of each score that is one, shape (scores, n_items); 0 for `MOMENT`."""
        found = np.zeros(self.mean.shape)
        for k, one in enumerate(self.related.values()):
            found[k] = one.of_one(items)
        return found

    def save(self, folder: Path) -> None:
        """Writes files that begin with "related" into an existing folder."""
        for name, one in self.related.items():
            one.save(folder, f"related-{name}")
        arrays: dict[str, Any] = {"counts": self.counts, "mean": self.mean, "spread": self.spread}
        if self.moments is not None:
            arrays |= {"ratios": self.moments.ratios, "weights": self.moments.weights}
        np.savez(folder / "related.npz", **arrays)
        (folder / "related.json").write_text(json.dumps({"scores": list(self.related)}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> RelatedScores:
        """Restores what `save` wrote."""
        names = json.loads((folder / "related.json").read_text(encoding="utf-8"))["scores"]
        with np.load(folder / "related.npz") as stored:
            counts = stored["counts"]
            moments = Moments(stored["ratios"], stored["weights"], counts) if "ratios" in stored else None
            related = {name: relatedness.load(folder, f"related-{name}") for name in names}
            return cls(related, moments, counts, stored["mean"], stored["spread"])


def _known(met: np.ndarray, raw: np.ndarray) -> _Known:
    outside = np.ones(raw.shape[1], dtype=bool)
    outside[met] = False
    mean, spread = _spread_of(raw, outside)
    return _Known(met, raw, mean, spread)


def _spread_of(raw: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row over the items outside of a history, shape (rows,); spread 0 where nothing differs."""
    inside = np.where(outside, raw, 0.0)
    n = np.maximum(np.count_nonzero(np.broadcast_to(outside, raw.shape), axis=1), 1)
    mean = inside.sum(axis=1) / n
    square = np.einsum("ri,ri->r", inside, inside) / n
    variance = (square - mean**2).clip(min=0.0)
    return mean, np.where(variance > ROUNDING * square, np.sqrt(variance), 0.0)


def _over(values: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Values in units of a spread, 0 where there is none."""
    return np.asarray(np.divide(values, spread, out=np.zeros(values.shape), where=np.broadcast_to(spread > 0.0, values.shape)))


def _compressed(values: np.ndarray) -> np.ndarray:
    """``sign(x) ln(1 + |x|)``: large scores differ by their ratio."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))

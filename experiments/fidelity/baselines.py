"""Baselines for telling choices apart: counts, biases of ratings, ItemKNN and EASE, each tuned on validation users.

A figure of simulated users says little beside none: against random items counts alone answer nearly everything, and against items of the
same popularity a recommender may. Every baseline is tried with each setting of its grid, raw and in standard deviations over the catalog
for the user, since a baseline that is beaten only in its raw form is not beaten; what is best on validation users is held against the
simulated users on the held-out ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ease import EASE, EASEConfig
from environments.recommenders.item_knn import ItemKNN, ItemKNNConfig
from environments.recommenders.ranking import history_matrix
from experiments.fidelity.candidates import MATCHED, MIXES, POSITIVE, RANDOM, in_mix
from experiments.fidelity.resampling import area_under_curve, estimate, person_index, plain, resample, resampled_area
from simulator.dataset import Dataset
from simulator.records import UserProfile
from simulator.seeds import Stream

COUNTS: Final[str] = "counts"
GRID: Final[Mapping[str, Sequence[Mapping[str, float]]]] = {
    COUNTS: ({},),
    "biases": ({"shrinkage": 5.0}, {"shrinkage": 25.0}),
    "ItemKNN": tuple({"neighbours": n, "shrinkage": s} for n in (100, 400) for s in (0.0, 10.0, 50.0)),
    "EASE": tuple({"l2": l2} for l2 in (200.0, 50.0, 500.0, 1_000.0)),
}
"""Name -> settings that are tried."""

SCALINGS: Final[tuple[str, ...]] = ("raw", "by user")
CALIPER: Final[float] = 0.25
"""Pairs of a chosen item and its match further apart than this in ``ln(1 + count)`` are left out."""

CHANCE: Final[float] = 0.02
"""Matched negatives are taken for matched where counts alone come so near to an AUC of 0.5."""

MOST_EASE: Final[int] = 13_000
MOST_EASE_GRID: Final[int] = 7_000
"""EASE is fitted to catalogs of at most so many items, since its fit is cubic in them, and with all settings to less large ones."""

FEWEST_VALIDATION: Final[int] = 50
WORSE_THAN_CHANCE: Final[float] = 0.45
BATCH: Final[int] = 256
FIGURES: Final[tuple[str, ...]] = ("auc_matched", "auc_pairs", "auc_random")


@dataclass(frozen=True, eq=False)
class Part:
    """Candidates of some users, and what may be known to tell them apart.

    Attributes:
        train: the data that evidence is computed from. profiles: by user code, from it. rows: of `nested_candidates`.
    """

    train: Dataset
    profiles: Mapping[int, UserProfile]
    rows: pl.DataFrame

    @cached_property
    def counts(self) -> np.ndarray:
        """Training interactions of each item, float64, shape (n_items,)."""
        return np.bincount(self.train.interactions["item"].to_numpy(), minlength=self.train.n_items).astype(np.float64)


@dataclass(frozen=True)
class Scored:
    """A baseline on some rows.

    Attributes:
        name, options, scaling: which. scores: of the rows, higher is better, shape (n,).
    """

    name: str
    options: Mapping[str, float]
    scaling: str
    scores: np.ndarray

    @property
    def told(self) -> dict[str, Any]:
        """What it is, as JSON."""
        return {"name": self.name, "options": dict(self.options), "scaling": self.scaling}


def settings(n_items: int) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Every baseline with every setting that is tried on a catalog of so many items; of EASE fewer on a large one, since it is cubic."""
    for name, grid in GRID.items():
        few = name == "EASE" and n_items > MOST_EASE_GRID
        yield from ((name, options) for options in (grid[:2] if few else grid))


def scored(
    train: Dataset, profiles: Mapping[int, UserProfile], rows: pl.DataFrame, wanted: Iterable[tuple[str, Mapping[str, float]]]
) -> Iterator[Scored]:
    """Baselines in each scaling; those that the data does not allow are left out.

    Args:
        train: what they learn from. profiles: by user code, for the histories. rows: of `nested_candidates`, each user's together.
        wanted: of `settings`.
    """
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    counts = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items).astype(np.float64)
    for name, options in wanted:
        if name == COUNTS:
            yield Scored(name, options, "raw", counts[items])
        elif name == "biases":
            if train.has_ratings:
                yield Scored(name, options, "raw", _biases(train, options["shrinkage"])[items])
        elif name == "ItemKNN" or train.n_items <= MOST_EASE:
            model = _fitted(name, options, train)
            for scaling, values in zip(SCALINGS, _of_rows(model, profiles, users, items, train.n_items), strict=True):
                yield Scored(name, options, scaling, values)


def _fitted(name: str, options: Mapping[str, Any], train: Dataset) -> ArrayRecommender:
    model: ItemKNN | EASE = ItemKNN(ItemKNNConfig(**options)) if name == "ItemKNN" else EASE(EASEConfig(**options))
    model.fit(train.interactions, train.catalog, Stream(0))
    return model


def _biases(train: Dataset, shrinkage: float) -> np.ndarray:
    """Biases of items in ratings, beside those of users, shrunk; shape (n_items,)."""
    rows = train.interactions.filter(pl.col("rating").is_not_null())
    users, items, ratings = (rows[name].to_numpy() for name in ("user", "item", "rating"))
    left = ratings.astype(np.float64) - ratings.mean()
    of_user = np.bincount(users, weights=left, minlength=train.n_users) / (np.bincount(users, minlength=train.n_users) + shrinkage)
    left = left - of_user[users]
    return np.asarray(np.bincount(items, weights=left, minlength=train.n_items) / (np.bincount(items, minlength=train.n_items) + shrinkage))


def _of_rows(
    model: ArrayRecommender, profiles: Mapping[int, UserProfile], users: np.ndarray, items: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of rows, raw and in standard deviations over the items that the user has not met."""
    raw, standard = np.empty(len(users)), np.empty(len(users))
    codes, starts = np.unique(users, return_index=True)
    ends = np.append(starts[1:], len(users))
    for first in range(0, len(codes), BATCH):
        part = slice(first, first + BATCH)
        histories = [np.unique(profiles[int(user)].history) for user in codes[part]]
        scores = model.scores(history_matrix(histories, n_items))
        for own, history, start, end in zip(scores, histories, starts[part], ends[part], strict=True):
            free = np.ones(n_items, dtype=bool)
            free[history] = False
            spread = float(own[free].std())
            raw[start:end] = own[items[start:end]]
            standard[start:end] = (raw[start:end] - own[free].mean()) / spread if spread > 0 else 0.0
    return raw, standard


# --- figures ---


@dataclass(frozen=True)
class Judge:
    """Figures of scores on candidates, with the same resamples of users for all.

    Attributes:
        rows: of `nested_candidates`, with ``kind`` and ``rank``. counts: of training interactions of each item. resamples: how many.
        stream: of the resamples.
    """

    rows: pl.DataFrame
    counts: np.ndarray
    resamples: int
    stream: Stream

    def point(self, figure: str, scores: np.ndarray) -> float:
        """A figure without its interval."""
        if figure == "auc_pairs":
            won, _ = self._pairs(scores)
            return float(won.mean()) if len(won) else float("nan")
        keep, chosen = self._mix(figure)
        return float(area_under_curve(scores[keep], chosen)[0])

    def both(self, figure: str, scores: np.ndarray, other: np.ndarray | None = None) -> dict[str, Any]:
        """A figure, or the difference of two, with an interval over users."""
        index, n = person_index(self.rows["user"].to_numpy())
        weights = resample(n, self.resamples, self.stream.child(figure))
        points, parts = [], []
        for values in (scores,) if other is None else (scores, other):
            points.append(self.point(figure, values))
            if figure == "auc_pairs":
                won, of = self._pairs(values)
                sums, sizes = (np.bincount(index[of], weights=w, minlength=n) for w in (won, np.ones(len(won))))
                parts.append((weights @ sums) / np.maximum(weights @ sizes, 1.0))
            else:
                keep, chosen = self._mix(figure)
                parts.append(resampled_area(values[keep], chosen, index[keep], weights))
        if other is None:
            return plain(estimate(points[0], parts[0], n))
        return plain(estimate(points[0] - points[1], parts[0] - parts[1], n))

    def within(self, scores: np.ndarray) -> float:
        """Mean over users of their own area under the curve, matched negatives."""
        keep, chosen = self._mix("auc_matched")
        index, n = person_index(self.rows["user"].to_numpy()[keep])
        own = [area_under_curve(scores[keep][index == k], chosen[index == k])[0] for k in range(n)]
        return float(np.nanmean(own)) if own else float("nan")

    def _mix(self, figure: str) -> tuple[np.ndarray, np.ndarray]:
        kind = MATCHED if figure == "auc_matched" else RANDOM
        mix = MIXES["matched_1_1" if kind == MATCHED else "random_1_1"]
        keep = in_mix(self.rows.with_row_index("place"), mix)["place"].to_numpy()
        keep = np.sort(keep)
        return keep, (self.rows["kind"] == POSITIVE).to_numpy()[keep]

    def _pairs(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether the chosen item of each pair is scored higher (ties half), and the row of it."""
        table = self.rows.select("user", "rank", "kind", "item").with_row_index("place")
        pairs = table.filter(pl.col("kind") == POSITIVE).join(table.filter(pl.col("kind") == MATCHED), on=["user", "rank"]).sort("place")
        first, second = pairs["place"].to_numpy(), pairs["place_right"].to_numpy()
        popularity = np.log1p(self.counts[self.rows["item"].to_numpy()])
        near = np.abs(popularity[first] - popularity[second]) <= CALIPER
        first, second = first[near], second[near]
        return (scores[first] > scores[second]) + 0.5 * (scores[first] == scores[second]), first


def tuned(found: Sequence[Scored], judge: Judge, figure: str) -> list[int]:
    """Of each baseline the setting and scaling that are best by a figure, on the rows that they were scored on; places in `found`."""
    best: dict[str, tuple[float, int]] = {}
    for place, one in enumerate(found):
        value = judge.point(figure, one.scores)
        if np.isfinite(value) and (one.name not in best or value > best[one.name][0]):
            best[one.name] = (value, place)
    return [place for _, place in best.values()]


def best_of(tried: Sequence[Scored], judge: Judge, held_out: Part) -> dict[str, dict[str, Scored]]:
    """Figure -> baseline -> it on the held-out rows, with the setting and scaling that were best on validation users.

    Args:
        tried: on the validation rows. judge: of those rows. held_out: what the best are fitted to and scored on.
    """
    chosen = {figure: [tried[place] for place in tuned(tried, judge, figure)] for figure in FIGURES}
    wanted = sorted({(one.name, json.dumps(one.options)) for own in chosen.values() for one in own})
    again = {
        (one.name, json.dumps(one.options), one.scaling): one
        for one in scored(held_out.train, held_out.profiles, held_out.rows, [(name, json.loads(options)) for name, options in wanted])
    }
    return {figure: {one.name: again[one.name, json.dumps(one.options), one.scaling] for one in own} for figure, own in chosen.items()}


def beside(held_out: Part, validation: Part, scores: Mapping[str, np.ndarray], resamples: int, stream: Stream) -> dict[str, Any]:
    """Simulated users beside the baselines, for a report.

    Args:
        held_out, validation: candidates of either. scores: figure -> scores of the held-out rows that are judged by it.
        resamples: of users. stream: of the resamples.

    Returns:
        Figure -> ``value``, ``low``, ``high``, ``baselines`` (name -> value), ``best``, ``lift`` (an estimate); ``matched``: whether counts
        alone are near an AUC of 0.5 there; ``warnings``: what a reader must know first.
    """
    tried = list(scored(validation.train, validation.profiles, validation.rows, settings(validation.train.n_items)))
    best = best_of(tried, Judge(validation.rows, validation.counts, 0, stream), held_out)
    judge = Judge(held_out.rows, held_out.counts, resamples, stream)
    found: dict[str, Any] = {}
    for figure, own in scores.items():
        if (told := over_the_best(judge, figure, own, best[figure])) is not None:
            found[figure] = told
    chance = judge.point("auc_matched", best["auc_matched"][COUNTS].scores)
    found["matched"] = bool(abs(chance - 0.5) <= CHANCE)
    found["warnings"] = list(_warnings(found, chance, validation.rows["user"].n_unique()))
    return found


def over_the_best(judge: Judge, figure: str, own: np.ndarray, best: Mapping[str, Scored]) -> dict[str, Any] | None:
    """A figure of scores, and its lift over the best of some baselines; None if none has the figure."""
    points = {name: judge.point(figure, one.scores) for name, one in best.items()}
    points = {name: value for name, value in points.items() if np.isfinite(value)}
    if not points:
        return None
    top = best[max(points, key=lambda name: points[name])]
    return judge.both(figure, own) | {"baselines": points, "best": top.told, "lift": judge.both(figure, own, top.scores)}


def _warnings(found: Mapping[str, Any], chance: float, validation: int) -> Iterator[str]:
    if not found["matched"]:
        yield (
            "the catalog is too small for negatives of the same popularity: counts alone tell the items apart with an AUC of "
            f"{chance:.3f}, so that what is said of matched items is partly popularity"
        )
    if validation < FEWEST_VALIDATION:
        yield f"baselines and thresholds were set on {validation} validation users only"
    for figure in FIGURES:
        for name, value in found.get(figure, {}).get("baselines", {}).items():
            if value < WORSE_THAN_CHANCE:
                yield f"{name} is worse than chance in {figure} ({value:.3f}), which a fault of the data or of the split may explain"

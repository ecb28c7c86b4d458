"""The strong evidence: what everybody's training part says about how well an item suits a person, without a language model.

Every figure can be had for anybody with a history, real or drawn, and at any point of a simulation, from the history alone
(and, where the data has them, ratings, age, gender and occupation). What is left out where data lacks it is 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from agents.affinity import Factors, ItemWeights, RatingFactors, standardised
from agents.content import SMOOTHING, Content, lift_of
from agents.related_scores import RelatedScores
from agents.shrinkage import normal_strength
from simulator.dataset import Dataset
from simulator.records import UserProfile

FEATURES = (
    "popularity",
    "quality",
    "linear",
    "factors",
    "genres",
    "period",
    "novelty",
    "age",
    "gender",
    "occupation",
    "own popularity",
    "own year",
    "own quality",
    "taste",
)
"""Columns of `Behaviour.features`."""

LINEAR_STRENGTH = 10.0
"""Regularisation of the linear item model (`agents.affinity.ItemWeights`), found on MovieLens-1M's validation people."""

RANK = 64
RATING_RANK, RATING_L2 = 10, 15.0
DECADE = 10

LEVELS = 8
"""Levels of popularity, each with as many interactions."""

PLAIN = (
    "popularity",
    "quality",
    "genres",
    "genre_shares",
    "period",
    "period_shares",
    "level",
    "level_shares",
    "slopes",
    "slope_strengths",
)
"""Attributes of `Behaviour` that are plain arrays."""

GROUPS = ("age", "gender", "occupation")

SLOPES = ("year", "quality")
"""What of an item people go for to different degrees, besides its popularity: the year it came out in and its bias in ratings."""


@dataclass(eq=False)
class Behaviour:
    """Evidence from one set of interactions.

    - popularity: natural log of the share of people who interacted with the item (plus one interaction);
    - quality: the item's bias in ratings, the data's units;
    - linear, factors: standardised affinity to the history by a linear item model and a decomposition (`agents.affinity`);
    - genres: mean over the item's genres of the log of observed over expected counts in the history; period: the same for the
      five-year period it came out in;
    - novelty: mean over the item's genres of 1 / (1 + times the genre occurs in the history): 1 if all is new;
    - age, gender, occupation: log of observed over expected interactions of the person's group with the item;
    - own popularity: log of observed over expected counts in the history of items about as popular (in `LEVELS` levels);
    - own year, own quality: the item's year and quality, standardised over all interactions, times the mean of the history, which
      is drawn to everybody's as far as chance alone makes such means differ (`agents.shrinkage.normal_strength`);
    - taste: what the factors of ratings make of the person's ratings of the history (`RatingFactors`), the data's units.

    Attributes:
        popularity, quality: shape (n_items,).
        genres: each item's genres, rows sum to 1 or 0, shape (n_items, n_genres). genre_shares: of all interactions.
        period: five-year period of each item, -1 where unknown. period_shares: of all interactions with a known one.
        groups: kind -> value -> log ratio for each item.
        level: of popularity of each item, 0 to at most `LEVELS` - 1. level_shares: of all interactions.
        slopes: `SLOPES` of each item, 0 where unknown, shape (2, n_items). slope_strengths: pseudo-observations of a person's means.
        related: scores of how items go with a history (`agents.related_scores`), the columns behind `FEATURES`.
    """

    popularity: np.ndarray
    quality: np.ndarray
    linear: ItemWeights
    related: RelatedScores
    factors: Factors
    ratings: RatingFactors | None
    genres: np.ndarray
    genre_shares: np.ndarray
    period: np.ndarray
    period_shares: np.ndarray
    groups: dict[str, dict[str, np.ndarray]]
    level: np.ndarray
    level_shares: np.ndarray
    slopes: np.ndarray
    slope_strengths: np.ndarray

    @classmethod
    def fit(cls, train: Dataset, *, newest: bool = False) -> Behaviour:
        """Computes everything from the interactions of `train`.

        Args:
            train: rows sorted by user and time. newest: whether what comes next is asked, so that a user's time is that of the newest
                interaction (`agents.related_scores.Moments`).
        """
        rows = train.interactions
        users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
        shape = (train.n_users, train.n_items)
        matrix = sparse.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
        matrix.data[:] = 1.0
        counts = np.bincount(items, minlength=train.n_items).astype(np.float64)
        rated = None
        if train.has_ratings:
            given = rows["rating"].to_numpy().astype(np.float64)
            rated = RatingFactors.fit(users, items, given, shape, RATING_RANK, RATING_L2)
        content = Content.fit(train)
        popularity = np.log((counts + 1.0) / max(1, len(np.unique(users))))
        quality = rated.bias if rated is not None else np.zeros(train.n_items)
        bounds = np.quantile(popularity[items], np.arange(1, LEVELS) / LEVELS) if len(items) else np.zeros(0)
        level = np.searchsorted(bounds, popularity)
        level_counts = np.bincount(level, weights=counts)
        slopes = np.stack([content.year, standardised(quality, items)])
        return cls(
            popularity=popularity,
            quality=quality,
            linear=ItemWeights.fit(matrix, LINEAR_STRENGTH),
            related=RelatedScores.fit(train, newest=newest),
            factors=Factors.fit(matrix, RANK),
            ratings=rated,
            genres=content.genres,
            genre_shares=content.genre_shares,
            period=content.period,
            period_shares=content.period_shares,
            groups=_group_affinity(train, users, items, counts),
            level=level,
            level_shares=level_counts / max(1.0, level_counts.sum()),
            slopes=slopes,
            slope_strengths=np.array([normal_strength(users, values[items], train.n_users) for values in slopes]),
        )

    def features(self, profile: UserProfile, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What speaks for some items.

        Args:
            profile: who. history: item codes they have met so far. items: item codes; one of the history is judged by the rest of it.

        Returns:
            Columns `names`, float64, shape (len(items), len(names)).
        """
        met = np.unique(history)
        again = np.isin(items, met)
        if not again.any():
            return np.column_stack([self._features(profile, met, items), self.related.columns(profile.user, met, items)])
        found = np.empty((len(items), len(self.names)))
        found[~again] = self.features(profile, met, items[~again])
        for place in np.flatnonzero(again).tolist():
            item = items[place]
            own = self._features(_without(profile, item), met[met != item], items[place : place + 1])
            found[place] = np.column_stack([own, self.related.columns_without(profile.user, met, item)])[0]
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return (*FEATURES, *self.related.names)

    @property
    def content(self) -> Content:
        """The part that genres and years make up, which items without interactions have too."""
        return Content(self.genres, self.genre_shares, self.period, self.period_shares, self.slopes[0], float(self.slope_strengths[0]))

    def _taste(self, profile: UserProfile, items: np.ndarray) -> np.ndarray:
        """What the factors of ratings make of the others of a person's ratings, shape (len(items),); 0 without ratings."""
        if self.ratings is None:
            return np.zeros(len(items))
        fitted = self.ratings
        return _by_the_others(lambda one, some: fitted.parts(one.history, one.ratings, some)[:, 2], profile, items)

    def _features(self, profile: UserProfile, met: np.ndarray, items: np.ndarray) -> np.ndarray:
        content = self.content.columns(met, items)
        found = np.zeros((len(items), len(FEATURES)))
        found[:, 0] = self.popularity[items]
        found[:, 1] = self.quality[items]
        found[:, 2] = self.linear.scores(met, items)
        found[:, 3] = self.factors.scores(met, items)
        found[:, 4:7] = content[:, :3]
        for column, (kind, value) in enumerate(zip(GROUPS, group_of(profile), strict=True), start=7):
            ratios = self.groups[kind].get(value)
            if ratios is not None:
                found[:, column] = ratios[items]
        found[:, 10] = lift_of(self.level, self.level_shares, met, items)
        found[:, 11] = content[:, 3]
        found[:, 12] = self.slopes[1][met].sum() / (len(met) + float(self.slope_strengths[1])) * self.slopes[1][items]
        found[:, 13] = self._taste(profile, items)
        return found

    def save(self, folder: Path) -> None:
        """Writes the evidence into an existing folder."""
        self.linear.save(folder, "linear")
        self.related.save(folder)
        arrays = {name: getattr(self, name) for name in PLAIN}
        arrays |= {"into": self.factors.into, "out": self.factors.out}
        names = [(kind, value) for kind in GROUPS for value in self.groups[kind]]
        arrays["groups"] = np.array([self.groups[kind][value] for kind, value in names]).reshape(len(names), len(self.popularity))
        document: dict[str, object] = {"groups": names}
        if self.ratings is not None:
            arrays |= {"rating_bias": self.ratings.bias, "rating_factors": self.ratings.factors}
            document["ratings"] = {"mean": self.ratings.mean, "l2": self.ratings.l2}
        np.savez(folder / "behaviour.npz", **arrays)
        (folder / "behaviour.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Behaviour:
        """Restores what `save` wrote."""
        stored = np.load(folder / "behaviour.npz")
        document = json.loads((folder / "behaviour.json").read_text(encoding="utf-8"))
        groups: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in GROUPS}
        for (kind, value), ratios in zip(document["groups"], stored["groups"], strict=True):
            groups[kind][value] = ratios
        rated = None
        if "ratings" in document:
            rated = RatingFactors(document["ratings"]["mean"], stored["rating_bias"], stored["rating_factors"], document["ratings"]["l2"])
        return cls(
            **{name: stored[name] for name in PLAIN},
            linear=ItemWeights.load(folder, "linear"),
            related=RelatedScores.load(folder),
            factors=Factors(stored["into"], stored["out"]),
            ratings=rated,
            groups=groups,
        )


def _by_the_others(columns: Callable[[UserProfile, np.ndarray], np.ndarray], profile: UserProfile, items: np.ndarray) -> np.ndarray:
    """What a function makes of a person and items, and of each item of their history without it."""
    found = columns(profile, items)
    for place in np.flatnonzero(np.isin(items, profile.history)).tolist():
        found[place] = columns(_without(profile, items[place]), items[place : place + 1])[0]
    return found


def _without(profile: UserProfile, item: int) -> UserProfile:
    """The person as known without an item of their history."""
    rest = profile.history != item
    return replace(profile, history=profile.history[rest], ratings=None if profile.ratings is None else profile.ratings[rest])


def group_of(profile: UserProfile) -> tuple[str, str, str]:
    """The groups somebody belongs to, in the order of `GROUPS`; empty where it is not known. Ages are counted in decades."""
    age = "" if profile.age is None else str(profile.age // DECADE * DECADE)
    return age, profile.gender or "", profile.occupation or ""


def _group_affinity(train: Dataset, users: np.ndarray, items: np.ndarray, counts: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    shares = counts / max(1.0, counts.sum())
    table = train.users.select(
        (pl.col("age") // DECADE * DECADE).cast(pl.String).alias("age"), pl.col("gender"), pl.col("occupation")
    ).fill_null("")
    found: dict[str, dict[str, np.ndarray]] = {}
    for kind in GROUPS:
        values, codes = np.unique(table[kind].to_numpy().astype(str), return_inverse=True)
        of_row = codes[users]
        together = sparse.csr_matrix((np.ones(len(users)), (of_row, items)), shape=(len(values), train.n_items))
        found[kind] = {}
        for row, value in enumerate(values.tolist()):
            if value:
                own = np.asarray(together[row].toarray()).ravel()
                found[kind][value] = np.log((own + SMOOTHING) / (own.sum() * shares + SMOOTHING))
    return found

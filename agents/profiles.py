"""Who people are: a `UserProfile` from each person's training history.

`Norms` is what is usual in the population; `profile_parts` measures histories against it. Real people (`fit_profiles`) and
drawn ones (`agents.synthetic`) go through the same code, so that their traits mean the same.

Only the training part of the data is ever seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import polars as pl
from scipy import sparse

from agents import traits
from agents.rhythm import SESSION_GAP, fit_rhythms
from agents.shrinkage import dirichlet_strength, shrink_shares
from agents.stars import stars
from agents.traits import Histories
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.one_thread import one_thread
from simulator.positives import least_positive
from simulator.records import Trait, UserProfile

LIKED, DISLIKED = 20, 8
"""How many items a profile names at most."""

GENRES = 40
"""How many genres a profile names at most."""

KNOWN_BY = 0.05
"""An item that a smaller share of people met says little to anybody; it is named after all others."""

GENRE_SMOOTHING = 5.0
"""Counts added to a genre's observed and expected ones (see `agents.traits.genre_lift`)."""


class ProfileParts(TypedDict):
    """The fields of a `UserProfile` that follow from its history."""

    history: np.ndarray
    ratings: np.ndarray | None
    liked: tuple[int, ...]
    disliked: tuple[int, ...]
    genres: Mapping[str, float]
    activity: Trait
    conformity: Trait | None
    diversity: Trait
    pickiness: Trait | None
    rating_histogram: tuple[float, ...] | None


@dataclass(frozen=True)
class Norms:
    """What is usual in the real population, from the training part.

    Attributes:
        rating_scale: (lowest, highest) rating, or None without ratings.
        genre_names: as in the catalog. genres: its genre matrix, sparse, float64, shape (n_items, n_genres).
        popularity: training interactions of each item, shape (n_items,).
        item_means: mean training rating of each item, the population's mean for items without; None without ratings.
        genre_shares: share of each genre among the genres of all training interactions, shape (n_genres,).
        histogram: the population's probability of 1..5 stars; None without ratings.
        histogram_strength: pseudo-ratings that complete a person's own histogram.
        activity, conformity, diversity, pickiness: everybody's values, shape (n_people,); None without ratings.
        n_people: with at least one training interaction.
    """

    rating_scale: tuple[float, float] | None
    genre_names: list[str]
    genres: sparse.csr_array
    popularity: np.ndarray
    item_means: np.ndarray | None
    genre_shares: np.ndarray
    histogram: np.ndarray | None
    histogram_strength: float
    activity: np.ndarray
    conformity: np.ndarray | None
    diversity: np.ndarray
    pickiness: np.ndarray | None
    n_people: int


@one_thread()
def fit_profiles(train: Dataset) -> list[UserProfile]:
    """A profile of everybody who has a training interaction.

    Args:
        train: the training part of the data.

    Returns:
        Profiles in order of user code.

    Raises:
        DataError: there are no training interactions.
    """
    rows = _in_order(train)
    histories, codes = _histories(train, rows)
    norms = fit_norms(train)
    times = rows["timestamp"].to_numpy() if train.has_times else None
    rhythms = fit_rhythms(histories.people, times, histories.n, SESSION_GAP, train.kept_share, train.split_seed)
    parts = profile_parts(histories, norms)
    users = train.users[codes].select("user_id", "age", "gender", "occupation").rows()
    return [
        UserProfile(user=int(code), user_id=user_id, synthetic=False, rhythm=rhythm, age=age, gender=gender, occupation=occupation, **part)
        for code, (user_id, age, gender, occupation), rhythm, part in zip(codes, users, rhythms, parts, strict=True)
    ]


def fit_norms(train: Dataset) -> Norms:
    """What is usual among the people of a data set.

    Args:
        train: the training part of the data.

    Raises:
        DataError: there are no training interactions.
    """
    histories, _ = _histories(train, _in_order(train))
    matrix = sparse.csr_array(train.catalog.genre_matrix, dtype=np.float64)
    popularity = np.bincount(histories.items, minlength=train.n_items).astype(np.float64)
    counts = traits.genre_counts(histories, matrix)
    totals = counts.sum(axis=0)
    item_means = histogram = conformity = pickiness = None
    strength = 0.0
    if histories.ratings is not None and train.rating_scale is not None:
        sums = np.bincount(histories.items, weights=histories.ratings, minlength=train.n_items)
        item_means = np.divide(sums, popularity, out=np.full(train.n_items, sums.sum() / popularity.sum()), where=popularity > 0)
        conformity, pickiness = traits.conformity(histories, item_means), traits.pickiness(histories)
        given = star_counts(histories, train.rating_scale)
        histogram = (given.sum(axis=0) + 1.0) / (given.sum() + 5.0)
        strength = dirichlet_strength(given)
    return Norms(
        rating_scale=train.rating_scale,
        genre_names=train.catalog.genre_names,
        genres=matrix,
        popularity=popularity,
        item_means=item_means,
        genre_shares=totals / max(totals.sum(), 1.0),
        histogram=histogram,
        histogram_strength=strength,
        activity=traits.activity(histories),
        conformity=conformity,
        diversity=traits.diversity(counts),
        pickiness=pickiness,
        n_people=histories.n,
    )


def profile_parts(histories: Histories, norms: Norms) -> list[ProfileParts]:
    """Everything in a profile that follows from the history, one per person.

    Args:
        histories: of real or drawn people. norms: of the real population.
    """
    n, ends = histories.n, histories.ends
    counts = traits.genre_counts(histories, norms.genres)
    lifts = traits.genre_lift(counts, norms.genre_shares, GENRE_SMOOTHING)
    met = np.flatnonzero(norms.genre_shares)
    order = met[np.argsort(-lifts[:, met], axis=1, kind="stable")[:, :GENRES]]
    liked, disliked = _taste(histories, norms)
    active = traits.as_traits(traits.activity(histories), norms.activity)
    diverse = traits.as_traits(traits.diversity(counts), norms.diversity)
    conforming: list[Trait | None] = [None] * n
    picky: list[Trait | None] = [None] * n
    histograms: list[tuple[float, ...] | None] = [None] * n
    if norms.item_means is not None and norms.conformity is not None and norms.pickiness is not None:
        conforming = [*traits.as_traits(traits.conformity(histories, norms.item_means), norms.conformity, reverse=True)]
        picky = [*traits.as_traits(traits.pickiness(histories), norms.pickiness, reverse=True)]
    if norms.rating_scale is not None and norms.histogram is not None:
        shares = shrink_shares(star_counts(histories, norms.rating_scale), norms.histogram, norms.histogram_strength)
        histograms = [tuple(row) for row in shares.tolist()]
    starts = np.concatenate(([0], ends[:-1]))
    return [
        ProfileParts(
            history=histories.items[start:end],
            ratings=None if histories.ratings is None else histories.ratings[start:end],
            liked=liked[i],
            disliked=disliked[i],
            genres={norms.genre_names[g]: float(lifts[i, g]) for g in order[i]},
            activity=active[i],
            conformity=conforming[i],
            diversity=diverse[i],
            pickiness=picky[i],
            rating_histogram=histograms[i],
        )
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def star_counts(histories: Histories, scale: tuple[float, float]) -> np.ndarray:
    """How often each person gave 1..5 stars, shape (n, 5)."""
    given = stars(histories.ratings if histories.ratings is not None else [], scale)
    return np.bincount(histories.people * 5 + given - 1, minlength=histories.n * 5).reshape(histories.n, 5).astype(np.float64)


def _in_order(train: Dataset) -> pl.DataFrame:
    if train.interactions.height == 0:
        raise DataError(f"data set '{train.name}' has no training interactions, so there is nobody to simulate.")
    return train.interactions.sort(["user", "timestamp"] if train.has_times else ["user"], maintain_order=True)


def _histories(train: Dataset, rows: pl.DataFrame) -> tuple[Histories, np.ndarray]:
    """The training histories, and the user code of each person in them."""
    codes, people = np.unique(rows["user"].to_numpy(), return_inverse=True)
    ratings = rows["rating"].to_numpy() if train.has_ratings and train.rating_scale is not None else None
    return Histories(people, rows["item"].to_numpy(), ratings, len(codes), train.has_times), codes


def _taste(histories: Histories, norms: Norms) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The items that show best what each person likes and dislikes, strongest first.

    With ratings, an item counts as liked if the rating is positive (`simulator.positives`), as disliked up to 3 stars and below the
    own mean. They are ordered by the distance of the rating from the own mean, then by what the item tells: the rarer, the
    more (self-information, -log of its share of people), but items nearly nobody met (`KNOWN_BY`) come last. Without ratings
    the latest items stand for what is liked, and without times either, those that tell most. The last of several
    interactions with an item counts.
    """
    n = histories.n
    share = norms.popularity / norms.n_people
    telling = np.where(share >= KNOWN_BY, -np.log(np.maximum(share, 1e-12)), -1.0 / np.maximum(norms.popularity, 0.5))
    table = pl.DataFrame({"person": histories.people, "item": histories.items, "row": np.arange(len(histories.items))})
    table = table.with_columns(telling=pl.Series(telling[histories.items])).unique(["person", "item"], keep="last", maintain_order=True)
    if histories.ratings is None or norms.rating_scale is None:
        by = ["person", "row", "item"] if histories.timed else ["person", "telling", "item"]
        return _first(table.sort(by, descending=[False, True, False]), LIKED, n), [()] * n
    rows = table["row"].to_numpy()
    given = histories.ratings[rows].astype(np.float64)
    usual = traits.pickiness(histories)[histories.people[rows]].round(6)
    table = table.with_columns(
        distance=pl.Series(given - usual).round(6),
        positive=pl.Series(given >= least_positive(norms.rating_scale, usual)),
        stars=pl.Series(stars(given, norms.rating_scale)),
    )
    good = pl.col("positive")
    best = table.filter(good).sort(["person", "distance", "telling", "item"], descending=[False, True, True, False])
    bad = (pl.col("stars") <= 3) & (pl.col("distance") <= 0) & ~good
    worst = table.filter(bad).sort(["person", "distance", "telling", "item"], descending=[False, False, True, False])
    return _first(best, LIKED, n), _first(worst, DISLIKED, n)


def _first(ranked: pl.DataFrame, at_most: int, n: int) -> list[tuple[int, ...]]:
    """The first items of each person in a table sorted by person."""
    found: list[tuple[int, ...]] = [()] * n
    heads = ranked.group_by("person", maintain_order=True).agg(pl.col("item").head(at_most))
    for person, items in heads.iter_rows():
        found[person] = tuple(items)
    return found

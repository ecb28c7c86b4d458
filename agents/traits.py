"""Measured properties of people: activity, conformity, diversity, pickiness.

The four follow the two simulators that made them usual:

* Agent4Rec: Zhang et al., "On Generative Agents in Recommendation", SIGIR 2024 (activity, conformity, diversity);
* SimUSER: Bougie & Watanabe, "SimUSER: Simulating User Behavior with Large Language Models for Recommender System
  Evaluation", ACL 2025 (pickiness from the mean rating).

Unlike there, a level is a third of the population, so that "high" means the same for every trait and data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from simulator.records import Level, Trait


@dataclass(frozen=True, slots=True)
class Histories:
    """Interactions of several people, person by person, oldest first where times are known.

    Attributes:
        people: 0..n-1 and non-decreasing, shape (rows,); everybody has at least one row.
        items: item codes, int32, shape (rows,).
        ratings: the data's units, float32, shape (rows,), or None without ratings.
        n: number of people.
        timed: whether the order of the rows is one of time.
    """

    people: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    n: int
    timed: bool = False

    @property
    def ends(self) -> np.ndarray:
        """Row after the last one of each person, shape (n,)."""
        return np.cumsum(np.bincount(self.people, minlength=self.n))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of a value per row over the rows of each person, shape (n,)."""
        means: np.ndarray = np.bincount(self.people, weights=values, minlength=self.n) / np.bincount(self.people, minlength=self.n)
        return means


def activity(histories: Histories) -> np.ndarray:
    """Number of training interactions of each person: ``sum_i y_ui`` (Agent4Rec). Shape (n,)."""
    return np.bincount(histories.people, minlength=histories.n).astype(np.float64)


def conformity(histories: Histories, item_means: np.ndarray) -> np.ndarray:
    """Mean squared deviation of a person's ratings from the items' mean ratings: ``mean_i (r_ui - mean_i)^2`` (Agent4Rec).

    The *smaller* the value, the more the person agrees with everybody; the level is about agreeing (see `as_traits`).

    Args:
        histories: with ratings.
        item_means: mean training rating of every item, the data's units, shape (n_items,).

    Returns:
        Squared rating units, >= 0, shape (n,).
    """
    assert histories.ratings is not None
    return histories.mean((histories.ratings.astype(np.float64) - item_means[histories.items]) ** 2)


def pickiness(histories: Histories) -> np.ndarray:
    """Mean rating of each person, the data's units (SimUSER), shape (n,). The *smaller* the value, the pickier."""
    assert histories.ratings is not None
    return histories.mean(histories.ratings.astype(np.float64))


def genre_counts(histories: Histories, genres: sparse.csr_array) -> np.ndarray:
    """How often each genre occurs in each history, shape (n, n_genres); an item counts once for each of its genres.

    Args:
        histories: of any people. genres: 0/1, shape (n_items, n_genres); sparse, since tags can be thousands.
    """
    ones = np.ones(len(histories.items))
    seen = sparse.csr_array((ones, (histories.people, histories.items)), shape=(histories.n, genres.shape[0]))
    return np.asarray((seen @ genres).toarray())


def diversity(counts: np.ndarray, share: float = 0.8) -> np.ndarray:
    """How many genres it takes, most frequent first, to cover `share` of a person's genre counts.

    Agent4Rec's paper counts every genre ever touched, which the active all do; like its published statistics, and
    SimUSER, this stops at 80 %, so that one stray film does not make somebody versatile.

    Args:
        counts: of `genre_counts`, shape (n, n_genres).
        share: to cover, in (0, 1].

    Returns:
        Number of genres, shape (n,); 0 for a person whose items have no genres.
    """
    if counts.shape[1] == 0:
        return np.zeros(len(counts))
    totals = counts.sum(axis=1)
    covered = np.cumsum(-np.sort(-counts, axis=1), axis=1)
    enough = covered >= share * totals[:, None] - 1e-9  # 1e-9: 0.8 * 5 must not exceed 4 by a rounding error
    return np.where(totals > 0, enough.argmax(axis=1) + 1, 0).astype(np.float64)


def genre_lift(counts: np.ndarray, shares: np.ndarray, smoothing: float) -> np.ndarray:
    """Share of each genre in a person's history over its share in everybody's.

    ``lift_ug = (c_ug + a) / (n_u p_g + a)``, observed over expected genre counts with ``a`` added to both: the mean of a
    Gamma posterior whose prior has mean 1, as in DuMouchel, "Bayesian data mining in large frequency tables", The American
    Statistician 53 (1999). So two westerns do not make a lover of westerns, and one film of a genre that hardly exists means nothing.

    Args:
        counts: ``c``, of `genre_counts`, shape (n, n_genres); ``n_u`` is its row sum.
        shares: ``p``, of all training interactions, shape (n_genres,), sums to 1.
        smoothing: ``a``, > 0.

    Returns:
        > 0, 1 where the person is like everybody, shape (n, n_genres).
    """
    lifts: np.ndarray = (counts + smoothing) / (counts.sum(axis=1, keepdims=True) * shares + smoothing)
    return lifts


def percentiles(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of `reference` with a lower value, counting half of the equal ones.

    Args:
        values: shape (n,). reference: the real population's values, not empty.

    Returns:
        In [0, 1], shape (n,).
    """
    ordered = np.sort(reference)
    ranks: np.ndarray = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return ranks / (2.0 * len(ordered))


def level(percentile: float, *, reverse: bool = False) -> Level:
    """The third of the population that a percentile lies in; `reverse` where a *low* value means much of the trait."""
    place = 1.0 - percentile if reverse else percentile
    if place < 1.0 / 3.0:
        return "low"
    return "medium" if place <= 2.0 / 3.0 else "high"


def as_traits(values: np.ndarray, reference: np.ndarray, *, reverse: bool = False) -> list[Trait]:
    """Values with their place in the real population.

    Value and percentile keep the formula's direction, the level follows the trait's name. With `reverse` (conformity,
    pickiness) a value at the bottom, percentile 0, has the level "high": nearest to the crowd, or the lowest mean rating.

    Args:
        values: one per person. reference: of the real population. reverse: whether a low value means much of the trait.

    Returns:
        One trait per person, in order.
    """
    places = percentiles(values, reference)
    return [Trait(float(value), float(place), level(float(place), reverse=reverse)) for value, place in zip(values, places, strict=True)]

"""Sampled exposures: what people did, hidden again, among items that they did not choose.

A log without exposures cannot tell what somebody saw and left. What can be made from it is a test: hide a part of
each person's interactions, mix them with items that the person never interacted with, and ask which is which. Negatives
are random, or matched to a positive in popularity, since on random ones popularity alone answers nearly everything.

The choice model (`agents.calibrated`), the tuned language model and the fidelity report all use these functions, on
different people: `people_split` keeps those on whom something is fitted apart from those on whom it is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.seeds import Stream

Kind = Literal["random", "matched"]

HELD_OUT_SHARE, MOST_HELD_OUT = 0.3, 1_000
VALIDATION_SHARE, MOST_VALIDATION = 0.2, 1_000


@dataclass(frozen=True, eq=False)
class PeopleSplit:
    """User codes by what they are for; int32, ascending, disjoint.

    Attributes:
        fit: the user model (a tuned language model) learns from these.
        validation: thresholds, early stopping and the weights of the choice model are set on these.
        held_out: fidelity is measured on these; their training part feeds only their own profile, memory and evidence.
    """

    fit: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


def people_split(dataset: Dataset) -> PeopleSplit:
    """Divides the people of a data set by a hash of their ids: the same for every seed, split and subset of rows.

    Held out are 30 % of the people, at most 1,000; validation takes 20 %, at most 1,000.
    """
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in dataset.users["user_id"].to_list()]
    order = np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int32)
    held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * len(order)))
    validation = min(MOST_VALIDATION, int(VALIDATION_SHARE * len(order)))
    parts = np.split(order, [held_out, held_out + validation])
    return PeopleSplit(fit=np.sort(parts[2]), validation=np.sort(parts[1]), held_out=np.sort(parts[0]))


@dataclass(frozen=True, eq=False)
class Hidden:
    """A training part of which some interactions of some people are hidden once more.

    Attributes:
        observed: what profiles and evidence may be computed from: everything that is not hidden.
        hidden: the hidden interactions, `INTERACTIONS_SCHEMA`, in the order of the data set.
    """

    observed: Dataset
    hidden: pl.DataFrame


def hide(train: Dataset, people: np.ndarray, share: float, order: Literal["random", "temporal"], rng: Stream) -> Hidden:
    """Hides a share of the training interactions of `people`; at least one of each person stays.

    Args:
        train: the training part; rows sorted by person and, where the data has times, by time.
        people: user codes of those of whom something is hidden.
        share: of each person's interactions, in (0, 1), rounded to whole interactions.
        order: "random" ones or the latest ("temporal"), as the data itself was split.
        rng: person u draws from ``rng.child(user_id)``, so that other people cannot matter.

    Raises:
        DataError: the latest are wanted, and the data has no times.
    """
    if order == "temporal" and not train.has_times:
        raise DataError(
            f"which interactions are the latest cannot be known of data set '{train.name}', which has no times on all rows; random ones "
            "can be hidden instead (decision.hide = 'random', dataset.split = 'random')."
        )
    rows = train.interactions
    counts = np.bincount(rows["user"].to_numpy(), minlength=train.n_users)
    starts = np.cumsum(counts) - counts
    is_hidden = np.zeros(rows.height, dtype=bool)
    ids = train.users["user_id"].to_list()
    for user in np.asarray(people).tolist():
        count = min(int(np.floor(counts[user] * share + 0.5)), int(counts[user]) - 1)
        if count < 1:
            continue
        places = (
            rng.child(ids[user]).generator().permutation(counts[user])[:count] if order == "random" else np.arange(counts[user])[-count:]
        )
        is_hidden[starts[user] + places] = True
    mask = pl.Series(is_hidden)
    return Hidden(train.with_interactions(rows.filter(~mask)), rows.filter(mask))


class Negatives:
    """Draws items that somebody did not choose.

    Args:
        popularity: interactions of each item in the part of the data that may be seen, shape (n_items,).
        window: matched negatives are at most this many places away from the positive in the order of popularity, if
            there are free ones; otherwise the nearest free one on the drawn side, or on the other.
        rng: orders items that are equally popular, so that an item's number tells nothing.
    """

    def __init__(self, popularity: np.ndarray, rng: Stream, window: int = 15) -> None:
        self.popularity = np.asarray(popularity)
        self.window = window
        shuffle = rng.child("popularity ties").generator().permutation(len(self.popularity))
        self._ranked = np.lexsort((shuffle, self.popularity))
        self._rank = np.empty(len(self._ranked), dtype=np.int64)
        self._rank[self._ranked] = np.arange(len(self._ranked))

    def random(self, positives: np.ndarray, taken: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Uniformly random free items, all different; -1 where none is left. `taken` (bool, n_items) is not changed."""
        free = np.flatnonzero(~taken)
        drawn = np.full(len(positives), -1, dtype=np.int64)
        count = min(len(positives), len(free))
        drawn[:count] = generator.choice(free, size=count, replace=False)
        return drawn

    def matched(self, positives: np.ndarray, taken: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """For each positive a free item of about its popularity, all different; -1 where none is left. `taken` is not changed."""
        blocked = taken[self._ranked]
        drawn = np.full(len(positives), -1, dtype=np.int64)
        for number in generator.permutation(len(positives)).tolist():
            rank = int(self._rank[positives[number]])
            above = rank + 1 + np.flatnonzero(~blocked[rank + 1 : rank + 1 + self.window])
            below = rank - 1 - np.flatnonzero(~blocked[max(0, rank - self.window) : rank][::-1])
            sides = [side for side in (above, below) if len(side)]
            if sides:
                near = sides[int(generator.integers(len(sides)))]
                place = int(near[int(generator.integers(len(near)))])
            else:
                free = np.flatnonzero(~blocked)
                if not len(free):
                    continue
                place = int(free[np.argmin(np.abs(free - rank))])
            blocked[place] = True
            drawn[number] = self._ranked[place]
        return drawn

    def both(
        self, matched_to: np.ndarray, random: int, met: Sequence[np.ndarray], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Matched and random negatives of one person, all different.

        Args:
            matched_to: items that matched negatives are drawn for. random: how many random ones.
            met: arrays of item codes that cannot be negatives.

        Returns:
            Matched and random item codes, fewer where there are not enough free items.
        """
        taken = np.zeros(len(self.popularity), dtype=bool)
        for items in met:
            taken[items] = True
        matched = self.matched(matched_to, taken, generator)
        matched = matched[matched >= 0]
        taken[matched] = True
        drawn = self.random(np.zeros(random, dtype=np.int64), taken, generator)
        return matched, drawn[drawn >= 0]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items to be told apart, of one person.

    Attributes:
        user: user code.
        items: item codes, int64, shape (n,), in shuffled order, all different.
        chosen: whether the person interacted with the item, bool, shape (n,).
        ratings: the person's rating, float64, shape (n,); NaN for negatives and where the data has no ratings.
    """

    user: int
    items: np.ndarray
    chosen: np.ndarray
    ratings: np.ndarray


def candidates(
    hidden: pl.DataFrame,
    known: Sequence[np.ndarray],
    negatives: Negatives,
    *,
    per_person: int,
    ratio: int,
    kind: Kind,
    rng: Stream,
    user_ids: Sequence[str],
) -> Iterator[Candidates]:
    """Positives of each person among `ratio` times as many negatives.

    Args:
        hidden: interactions that count as positives, `INTERACTIONS_SCHEMA`, rows sorted by person.
        known: by user code, all item codes that cannot be negatives (observed, hidden, and any other known interaction).
        negatives: draws them.
        per_person: candidates per person; ``per_person // (1 + ratio)`` positives, at least one, fewer where fewer are hidden.
        ratio: negatives per positive, >= 1.
        kind: random or matched in popularity.
        rng: person u draws from ``rng.child(user_id, kind, ratio)``.
        user_ids: the data's own ids by user code.

    Yields:
        One record per person with a hidden interaction, in order of user code.
    """
    n_items = len(negatives.popularity)
    draw = negatives.random if kind == "random" else negatives.matched
    users, items = hidden["user"].to_numpy(), hidden["item"].to_numpy()
    ratings = hidden["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    for user in np.unique(users).tolist():
        generator = rng.child(user_ids[user], kind, ratio).generator()
        rows = slice(*np.searchsorted(users, [user, user + 1]).tolist())
        own, first = np.unique(items[rows], return_index=True)
        picked = generator.permutation(len(own))[: max(1, per_person // (1 + ratio))]
        positives, given = own[picked].astype(np.int64), ratings[rows][first[picked]]
        taken = np.zeros(n_items, dtype=bool)
        taken[known[user]] = True
        taken[own] = True
        drawn = draw(np.repeat(positives, ratio), taken, generator)
        drawn = drawn[drawn >= 0]
        order = generator.permutation(len(positives) + len(drawn))
        yield Candidates(
            user=user,
            items=np.concatenate([positives, drawn])[order],
            chosen=np.concatenate([np.ones(len(positives), dtype=bool), np.zeros(len(drawn), dtype=bool)])[order],
            ratings=np.concatenate([given, np.full(len(drawn), np.nan)])[order],
        )


def items_by_user(interactions: pl.DataFrame, n_users: int) -> list[np.ndarray]:
    """Item codes of each person, in the order of the rows (sorted by person), one int array per user code."""
    users = interactions["user"].to_numpy()
    bounds = np.searchsorted(users, np.arange(n_users + 1))
    items = interactions["item"].to_numpy()
    return [items[start:end] for start, end in pairwise(bounds.tolist())]

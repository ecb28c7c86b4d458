"""What is known of a person and a visit, for sentences about it: what was shown, chosen and rated, how it felt, who the person is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agents.actions import SATISFACTION
from agents.titles import titles_in
from simulator.dataset import Catalog
from simulator.positives import least_positive
from simulator.records import Closing, MemoryRecord, Met, Situation, UserProfile

FAVOURITES = 3
"""Favourite genres that a sentence may call so: those that prompts tell."""


@dataclass(frozen=True)
class Facts:
    """What sentences are made from and checked against.

    Attributes:
        catalog: the items. profile: who speaks. scale: (lowest, highest) rating, or None.
        met: everything that was shown, in order; in an interview, what the memories tell of it.
        pages: seen in the visit. satisfaction: from 1 to 10. fatigue: in [0, 1). Each None where it is not known.
        whole_life: whether items of the history count as chosen, as in an interview; else a sentence is about one visit.
    """

    catalog: Catalog
    profile: UserProfile
    scale: tuple[float, float] | None
    met: tuple[Met, ...]
    pages: int | None = None
    satisfaction: float | None = None
    fatigue: float | None = None
    whole_life: bool = False

    @cached_property
    def shown(self) -> frozenset[int]:
        """Codes of the items that were shown."""
        return frozenset(one.item for one in self.met)

    @cached_property
    def chosen(self) -> frozenset[int]:
        """Of these, the chosen ones."""
        return frozenset(one.item for one in self.met if one.chosen)

    @cached_property
    def skipped(self) -> frozenset[int]:
        """Of these, the ones that were never chosen."""
        return self.shown - self.chosen

    @cached_property
    def given(self) -> dict[int, float]:
        """Item code -> the last rating given among what was shown."""
        return {one.item: one.rating for one in self.met if one.rating is not None}

    @cached_property
    def known(self) -> frozenset[int]:
        """Codes of the items of the training history."""
        return frozenset(self.profile.history.tolist())

    @cached_property
    def ratings(self) -> dict[int, float]:
        """Item code -> rating, of the history and of what was shown; the latter counts."""
        own = self.profile.ratings
        before = {} if own is None else dict(zip(self.profile.history.tolist(), np.asarray(own, dtype=np.float64).tolist(), strict=True))
        return {item: rating for item, rating in before.items() if not np.isnan(rating)} | self.given

    @cached_property
    def mean_rating(self) -> float | None:
        """Of the ratings given among what was shown."""
        return float(np.mean([one.rating for one in self.met if one.rating is not None])) if self.given else None

    def liked(self, item: int) -> bool | None:
        """Whether the person liked an item: the rating is a positive one of theirs and in the upper half; None if there is none."""
        if self.scale is None or item not in self.ratings:
            return None
        usual = self.profile.pickiness.value if self.profile.pickiness is not None else sum(self.scale) / 2
        rating, middle = self.ratings[item], sum(self.scale) / 2
        return bool(rating > middle and rating >= float(least_positive(self.scale, np.array(usual))))

    def disliked(self, item: int) -> bool | None:
        """Whether the person disliked an item: the rating is in the lower half; None if there is none."""
        return None if self.scale is None or item not in self.ratings else self.ratings[item] < sum(self.scale) / 2

    @cached_property
    def favourites(self) -> tuple[str, ...]:
        """Genres that the person watches more than others do, strongest first, as they are told."""
        return tuple(genre for genre, lift in list(self.profile.genres.items())[:FAVOURITES] if lift > 1)


def of_visit(catalog: Catalog, scale: tuple[float, float] | None, situation: Situation, closing: Closing | None = None) -> Facts:
    """The facts of a visit that is over.

    Args:
        catalog: the items. scale: of the ratings. situation: the last of the visit. closing: how it was looked back on, where it was.
    """
    outcome = closing.outcomes.get(SATISFACTION.name) if closing is not None else None
    value = None if outcome is None or np.isnan(outcome.values[0]) else float(outcome.values[0])
    return Facts(
        catalog, situation.profile, scale, situation.met, pages=situation.page.number, satisfaction=value, fatigue=situation.state.fatigue
    )


def of_life(catalog: Catalog, scale: tuple[float, float] | None, profile: UserProfile, memories: Sequence[MemoryRecord]) -> Facts:
    """The facts that somebody can be asked about: profile, history, and what their memories hold of items shown."""
    met: list[Met] = []
    for record in memories:
        if record.forgotten is not None:
            continue
        if record.kind in ("chosen", "rated") and record.item >= 0:
            stars = re.search(r"gave it (\d+(?:\.\d+)?) stars?\.$", record.text)
            met.append(Met(record.item, True, float(stars[1]) if stars and record.kind == "rated" else None))
        elif record.kind == "seen":
            items = [named.items[0] for named in titles_in(catalog, record.text) if len(named.items) == 1]
            met += [Met(item, chosen=False) for item in items]
    return Facts(catalog, profile, scale, tuple(met), whole_life=True)

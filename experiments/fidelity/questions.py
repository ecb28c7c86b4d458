"""Held-out people in front of pages whose right answer is known: some items they chose later, as many of equal popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.exposures import Kind, Negatives, candidates, items_by_user
from agents.stars import stars
from experiments.fidelity.context import FidelityContext, Report, silent
from experiments.fidelity.pages import BATCH, ask, first_pages
from simulator.protocols import DecisionModel
from simulator.records import Action, Situation, UserProfile
from simulator.seeds import Stream


@dataclass(frozen=True, eq=False)
class Questions:
    """Pages, and what the people did with the items on them; one row per item, in the order of the pages and of the places.

    Attributes:
        situations: the pages.
        owner: user code of each row, shape (n,).
        page: number of the page in `situations` of each row, shape (n,). place: on it, from 0, shape (n,).
        item: item codes, shape (n,).
        chosen: whether the person interacted with the item, bool, shape (n,).
        stars: 1..5 that the person gave, 0 where there is no rating, int64, shape (n,).
    """

    situations: list[Situation]
    owner: np.ndarray
    page: np.ndarray
    place: np.ndarray
    item: np.ndarray
    chosen: np.ndarray
    stars: np.ndarray


def questions(context: FidelityContext, people: np.ndarray, *, per_person: int, kind: Kind, stream: Stream, ratio: int = 1) -> Questions:
    """Pages of held-out interactions among items the person never interacted with.

    Args:
        context: of the report. people: user codes. per_person: items per person.
        kind: how the negatives are drawn (`agents.exposures`). stream: randomness of the draw and of the pages.
        ratio: negatives per positive.
    """
    train = context.train
    rows = context.held_out.filter(context.held_out["user"].is_in(people.tolist()))
    everything = [
        np.concatenate(pair)
        for pair in zip(items_by_user(train.interactions, train.n_users), items_by_user(context.split.test, train.n_users), strict=True)
    ]
    negatives = Negatives(np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items), stream)
    drawn = candidates(
        rows,
        everything,
        negatives,
        per_person=per_person,
        ratio=ratio,
        kind=kind,
        rng=stream.child("candidates"),
        user_ids=context.user_ids,
    )
    asked = [
        (context.profiles[one.user], one.items, one.chosen, one.ratings, stream.child("person", context.user_ids[one.user]))
        for one in drawn
    ]
    return gather(asked, context.question_size, train.rating_scale)


def gather(
    asked: Sequence[tuple[UserProfile, np.ndarray, np.ndarray, np.ndarray, Stream]], page_size: int, scale: tuple[float, float] | None
) -> Questions:
    """Questions from (profile, items, chosen, ratings in the data's units or NaN, stream of the pages) of each person."""
    situations: list[Situation] = []
    pages, places = [], []
    for profile, items, _, _, stream in asked:
        own = first_pages(profile, items, page_size, stream)
        sizes = [len(situation.page.impressions) for situation in own]
        pages.append(np.repeat(np.arange(len(own)), sizes) + len(situations))
        places.append(np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, dtype=np.int64))
        situations += own
    ratings = _joined([one[3] for one in asked], np.float64)
    given = np.zeros(len(ratings), dtype=np.int64)
    rated = ~np.isnan(ratings)
    if scale is not None:
        given[rated] = stars(ratings[rated], scale)
    return Questions(
        situations,
        owner=_joined([np.full(len(one[1]), one[0].user) for one in asked], np.int64),
        page=_joined(pages, np.int64),
        place=_joined(places, np.int64),
        item=_joined([one[1] for one in asked], np.int64),
        chosen=_joined([one[2] for one in asked], np.bool_),
        stars=given,
    )


def answers(
    model: DecisionModel, situations: Sequence[Situation], actions: Sequence[Action], report: Report = silent, what: str = ""
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """The probability of choosing and of each rating, one row per item of the pages (`experiments.fidelity.pages.Answers`).

    Returns:
        choose, shape (n,); rate, shape (n, n_results), or None; number of pages with an unusable reply, whose rows are NaN.
    """
    choose, rate, unusable = [], [], 0
    for number, answer in enumerate(ask(model, situations, actions)):
        choose.append(answer.choose)
        if answer.rate is not None:
            rate.append(answer.rate)
        unusable += answer.unusable
        report(what, min((number + 1) * BATCH, len(situations)), len(situations))
    return _joined(choose, np.float64), np.concatenate(rate) if rate else None, unusable


def _joined(parts: Sequence[np.ndarray], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=kind), *parts]).astype(kind)

"""Pages on which variants of a language model are judged, and what is read off their answers.

Every judged person is in front of pages of six items: two that the person took in the held-out part, two that nobody held out for them
and are as popular in the training part, and two random ones. Nothing of the judged people is learned from (`agents.exposures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from agents.decisions import first_page
from agents.exposures import Negatives, items_by_user
from experiments.analysis.intervals import bootstrap_ratio
from experiments.analysis.ranking_metrics import auc_of
from simulator.dataset import Dataset
from simulator.records import Situation, UserProfile
from simulator.seeds import Stream

RANDOM, MATCHED, REAL = 0, 1, 2
"""Kinds of items on a page."""

OF_EACH: Final[int] = 2
"""Items of each kind on a page."""

FIGURES: Final = ("auc_matched", "auc_random", "loss")
"""What is measured of every person."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Judged people in front of their pages.

    Attributes:
        situations: person by person. kinds: of the items, in order of the pages, int8, shape (people, items).
    """

    situations: list[Situation]
    kinds: np.ndarray


def judged(
    train: Dataset, held_out: pl.DataFrame, profiles: dict[int, UserProfile], people: np.ndarray, pages: int, most: int, rng: Stream
) -> Judged:
    """The pages of some people.

    Args:
        train: the training part, which popularity is that of. held_out: columns user and item.
        profiles: by user code, from the training part. people: user codes of those who may be judged, in any order.
        pages: of each person; whoever has fewer than two held-out items a page is left out. most: people at most.
        rng: of the choice of people and items.
    """
    known = items_by_user(train.interactions, train.n_users)
    later = dict(held_out.filter(pl.col("user").is_in(people)).group_by("user").agg("item").iter_rows())
    negatives = Negatives(np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items), rng)
    ids, wanted = train.users["user_id"].to_list(), OF_EACH * pages
    situations: list[Situation] = []
    kinds: list[np.ndarray] = []
    found = 0
    for user in rng.child("people").generator().permutation(np.sort(people)).tolist():
        taken = np.unique(np.array(later.get(user, ()), np.int64))
        if len(taken) < wanted or user not in profiles or found == most:
            continue
        generator = rng.child("items", ids[user]).generator()
        real = generator.permutation(taken)[:wanted]
        matched, drawn = negatives.both(real, wanted, (known[user], taken), generator)
        if len(matched) < wanted or len(drawn) < wanted:
            continue
        found += 1
        by_kind = (drawn, matched, real)
        for page in range(pages):
            place = slice(OF_EACH * page, OF_EACH * (page + 1))
            order = generator.permutation(3 * OF_EACH)
            items = np.concatenate([some[place] for some in by_kind])[order]
            situations.append(first_page(profiles[user], items, rng.child("page", ids[user], page)))
            kinds.append(np.repeat([RANDOM, MATCHED, REAL], OF_EACH).astype(np.int8)[order])
    return Judged(situations, np.array(kinds).reshape(-1, 3 * wanted))


def figures(chances: np.ndarray, kinds: np.ndarray) -> dict[str, np.ndarray]:
    """How well probabilities of choosing tell the kinds apart, per person.

    Args:
        chances: log-probabilities of choosing and of not choosing, shape (people, items, 2). kinds: of the items, shape (people, items).

    Returns:
        ``auc_matched``, ``auc_random``: the chance that an item that the person took has higher log-odds than one of the others; the mean
        log-odds at each place of a page, which say nothing about taste, are subtracted before. ``loss``: mean negative log-probability of
        what is true. Each of shape (people,).
    """
    odds = chances[..., 0] - chances[..., 1]
    by_page = odds.reshape(len(odds), -1, 3 * OF_EACH)
    odds = (by_page - by_page.mean(axis=(0, 1))).reshape(odds.shape)
    own = -np.where(kinds == REAL, chances[..., 0], chances[..., 1]).mean(axis=1)
    return {"auc_matched": against(odds, kinds, MATCHED), "auc_random": against(odds, kinds, RANDOM), "loss": own}


def against(scores: np.ndarray, kinds: np.ndarray, other: int) -> np.ndarray:
    """Per person the area under the ROC curve of what they took against one other kind of item, shape (people,)."""
    # Everybody has as many of each kind, so that what is left is a rectangle again.
    used = (kinds == REAL) | (kinds == other)
    return auc_of(scores[used].reshape(len(scores), -1), (kinds[used] == REAL).reshape(len(scores), -1))


def summed_up(found: dict[str, np.ndarray], baseline: dict[str, np.ndarray] | None, rng: Stream) -> dict[str, Any]:
    """Means over people with 95 % intervals, and paired differences to a baseline.

    Args:
        found, baseline: figure -> one number per person, the same people. rng: of the resampling, which is the same for all figures.
    """
    result: dict[str, Any] = {name: _mean(values, rng) for name, values in found.items()}
    if baseline is not None:
        result["difference"] = {name: _mean(values - baseline[name], rng) for name, values in found.items() if name in baseline}
    return result


def _mean(values: np.ndarray, rng: Stream) -> dict[str, float]:
    estimate = bootstrap_ratio(values, np.ones(len(values)), rng)
    return {"value": round(estimate.value, 4), "low": round(estimate.low, 4), "high": round(estimate.high, 4)}

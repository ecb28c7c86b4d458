"""Asking a decision model about given items: first pages of a session, read through the one seam `decide`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.decisions import first_page
from simulator.errors import RunError
from simulator.protocols import DecisionModel
from simulator.records import Action, Situation, UserProfile
from simulator.seeds import Stream

BATCH = 64
"""Pages asked about at once."""

MOST_ASKED = 20
"""Items on a page that is asked about; a run may show longer ones than a small language model's context holds beside a person."""


def first_pages(profile: UserProfile, items: np.ndarray, page_size: int, stream: Stream, time: int = 0) -> list[Situation]:
    """Items as first pages of sessions of a person without memories, in the given order.

    Args:
        profile: whose pages. items: item codes, shape (n,). page_size: the last page may be shorter.
        stream: page number k draws from ``stream.child("page", k)``.
        time: simulated seconds at which each page appears.
    """
    return [
        first_page(profile, items[start : start + page_size], stream.child("page", number), session=number, time=time)
        for number, start in enumerate(range(0, len(items), page_size))
    ]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a decision model says about the items of some pages, in the order of the pages and of the places on them.

    Attributes:
        choose: probability of choosing each item, shape (n,); NaN where the reply could not be used.
        rate: probability of each result of rating if chosen, shape (n, n_results), or None without ratings; NaN likewise.
        unusable: pages with an unusable reply.
    """

    choose: np.ndarray
    rate: np.ndarray | None
    unusable: int


def ask(model: DecisionModel, situations: Sequence[Situation], actions: Sequence[Action]) -> Iterator[Answers]:
    """What a model says about pages, one `Answers` per batch of pages.

    Args:
        model: fitted. situations: the pages. actions: of the experiment (`experiments.build.actions`).

    Raises:
        RunError: not one page of a batch could be answered.
    """
    choose = next(action for action in actions if action.name == "choose")
    rates = any(action.name == "rate" for action in actions)
    for start in range(0, len(situations), BATCH):
        batch = situations[start : start + BATCH]
        decisions = model.decide(batch)
        bad = [decision for decision in decisions if decision.status != "ok"]
        if len(bad) == len(batch):
            raise RunError(f"none of {len(batch)} pages could be answered ({bad[0].status}); one reply was: {bad[0].reply[:200]!r}.")
        chosen = [d.outcomes["choose"].probabilities[:, choose.values.index(True)] * _usable(d.status) for d in decisions]
        rated = [d.outcomes["rate"].probabilities * _usable(d.status) for d in decisions] if rates else None
        yield Answers(np.concatenate(chosen), None if rated is None else np.concatenate(rated), len(bad))


def in_stars(rate: np.ndarray, actions: Sequence[Action]) -> np.ndarray:
    """Probabilities of the results of rating as those of the labels, 1 to 5 stars; shape (n, 5).

    Args:
        rate: of `Answers`, or of a decision. actions: of the experiment. A result between two labels counts as the higher.
    """
    action = next(action for action in actions if action.name == "rate")
    away = np.abs(np.array(action.results, dtype=np.float64)[:, None] - np.array(action.values, dtype=np.float64)[::-1])
    label = len(action.values) - 1 - away.round(9).argmin(axis=1)
    return np.asarray(np.einsum("nr,rl->nl", rate, np.eye(len(action.values))[label]))


def _usable(status: str) -> float:
    return 1.0 if status == "ok" else float("nan")

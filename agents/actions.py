"""What people can do, declared as data.

To add an action, add one entry: its question appears in the prompt, its probe is scored, its columns are logged, and
the controls draw it from their own rule. See `simulator.records.Action` for the meaning of each field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agents.rating_values import OwnValues
from agents.stars import STARS, stars, to_scale
from simulator.dataset import Dataset
from simulator.records import Action

CHOOSE = Action(
    name="choose",
    scope="item",
    labels=("yes", "no"),
    values=(True, False),
    column="chosen",
    question="{choose}:",
    meaning="whether the person chose (watched, bought ...) the item",
)
RATE = Action(
    name="rate",
    scope="item",
    labels=("1", "2", "3", "4", "5"),
    values=(1, 2, 3, 4, 5),
    column="rating",
    question=" stars:",
    only_if="choose",
    needs_ratings=True,
    meaning="rating given to a chosen item, 1 to 5 stars in the data's units",
)
LEAVE = Action(
    name="leave",
    scope="page",
    labels=("leave", "next"),
    values=(True, False),
    column="leave",
    question="After this page I go:",
    meaning="whether the person left after this page instead of asking for the next",
)
SATISFACTION = Action(
    name="satisfaction",
    scope="session",
    labels=("1", "2", "3", "4", "5", "6", "7", "8", "9", "10"),
    values=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    column="satisfaction",
    question="My satisfaction with this visit, from 1 to 10:",
    meaning="satisfaction with the session, 1 to 10",
)

ACTIONS: tuple[Action, ...] = (CHOOSE, RATE, LEAVE, SATISFACTION)
"""Skipping an item is a `choose` that came out False; asking for the next page is a `leave` that came out False."""


def actions_for(dataset: Dataset) -> tuple[Action, ...]:
    """The actions that make sense for this data set: without ratings nobody rates."""
    return tuple(action for action in ACTIONS if dataset.has_ratings or not action.needs_ratings)


def on_scale(action: Action, dataset: Dataset) -> Action:
    """An action of ratings in the data's units, with the values that the data has as its grades where they are not the five stars.

    The answer of a label is divided among the grades that stand for so many stars, in proportion to how often these were given. Where
    there is none (the data has 0 and 1, say), it is divided between the two grades around it.

    Args:
        action: whose labels are 1 to 5 stars. dataset: has ratings; its training part.
    """
    assert dataset.rating_scale is not None
    of_labels = np.asarray(to_scale(STARS, dataset.rating_scale), dtype=np.float64)
    made = replace(action, values=tuple(of_labels.tolist()))
    given = dataset.interactions["rating"].drop_nulls().to_numpy().astype(np.float64)
    own = OwnValues.of(given)
    if np.isin(own.values, of_labels).all():
        return made
    counts = np.bincount(own.codes(given), minlength=len(own.values)).astype(np.float64)
    nearest = stars(own.values, dataset.rating_scale) - 1
    shares = np.zeros((len(of_labels), len(own.values)))
    shares[nearest, np.arange(len(own.values))] = counts
    for label in np.flatnonzero(shares.sum(axis=1) == 0).tolist():
        at = np.interp(of_labels[label], own.values, np.arange(len(own.values)))
        low = int(at)
        shares[label, low] = 1.0 - (at - low)
        shares[label, min(low + 1, len(own.values) - 1)] += at - low
    shares /= shares.sum(axis=1, keepdims=True)
    within = tuple(map(tuple, own.within.tolist())) if own.within.shape[1] > 1 else ()
    return replace(made, grades=tuple(own.values.tolist()), within=within, shares=tuple(map(tuple, shares.tolist())))


def of_scope(actions: Sequence[Action], scope: str) -> tuple[Action, ...]:
    """Those actions that are asked per item, per page or per session."""
    return tuple(action for action in actions if action.scope == scope)

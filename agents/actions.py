"""What people can do, declared as data.

To add an action, add one entry: its question appears in the prompt, its probe is scored, its columns are logged, and
the controls draw it from their own rule. See `simulator.records.Action` for the meaning of each field.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def of_scope(actions: Sequence[Action], scope: str) -> tuple[Action, ...]:
    """Those actions that are asked per item, per page or per session."""
    return tuple(action for action in actions if action.scope == scope)

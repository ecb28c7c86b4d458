"""From probabilities to decisions: the one place where actions are drawn.

Every draw has its own stream, named by action and item, so that the same person in front of the same item at the same
page draws the same number whatever stands around it. Two runs with different recommenders are therefore paired.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from agents.actions import CHOOSE
from simulator.records import Action, Closing, Decision, Outcome, Situation

Probabilities = Mapping[str, np.ndarray]
"""Action name -> probability of each label: shape (n_impressions, n_labels) for item actions, (1, n_labels) otherwise. Of an action with
grades (`simulator.records.Action`), those of its grades, where `decide` is told so."""

Leaving = Callable[[Mapping[str, Outcome]], np.ndarray]
"""From the outcomes of the actions that stand before "leave" to its probabilities, shape (1, n_labels)."""


def decide(
    actions: Sequence[Action],
    situation: Situation,
    probabilities: Probabilities,
    leaving: Leaving | None = None,
    graded: Container[str] = (),
) -> Decision:
    """Draws every item and page action of a page.

    Args:
        actions: of the experiment, in order of declaration: an action named in `only_if` stands before.
        situation: its stream gives the randomness.
        probabilities: for every item and page action, before any response to interventions that is assumed (`responded`).
        leaving: from what was done on this page to the probabilities of "leave", in place of those of `probabilities`.
        graded: names of the actions whose probabilities are of their results already, not of their labels.
    """
    outcomes: dict[str, Outcome] = {}
    for action in actions:
        if action.scope == "session":
            continue
        keys = situation.page.items.tolist() if action.scope == "item" else [-1]
        chances = probabilities[action.name]
        if action.name == "leave" and leaving is not None:
            chances = leaving(outcomes)
        chances = responded(action, situation, chances)
        chances = chances if action.name in graded else action.graded(chances)
        outcomes[action.name] = _draw(action, situation, chances, keys, outcomes)
    return Decision(outcomes)


def responded(action: Action, situation: Situation, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of an action after the response to interventions that the experiment assumes.

    Only choosing responds: ``logit p' = logit p + sum of the responses of the item's notes`` (`simulator.records.Note`). This is an
    assumption of whoever wrote the experiment, for people who cannot read what stands beside an item, and never a finding. The
    draws stay those of the same page without interventions, so that treated and untreated worlds are paired.

    Args:
        action: which. situation: the page, with its notes. probabilities: of each label, shape (n, n_labels).

    Returns:
        The same array where nothing is assumed, else a new one of the same shape.
    """
    if action.name != CHOOSE.name:
        return probabilities
    shifts = np.array([sum(note.response for note in impression.notes) for impression in situation.page.impressions])
    if not shifts.any():
        return probabilities
    weights = probabilities * np.exp(np.outer(shifts, np.array(action.values, dtype=np.float64)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def close(actions: Sequence[Action], situation: Situation, probabilities: Probabilities, reason: str = "", insight: str = "") -> Closing:
    """Draws every session action; arguments as in `decide`."""
    outcomes = {
        action.name: _draw(action, situation, probabilities[action.name], [-1], {}) for action in actions if action.scope == "session"
    }
    return Closing(outcomes, reason, insight)


def unusable(actions: Sequence[Action], situation: Situation, prior: Probabilities, status: str, reply: str) -> Decision:
    """The documented fallback for a reply that cannot be used: nothing is chosen and the person leaves; it is counted."""
    outcomes = {}
    for action in actions:
        if action.scope == "session":
            continue
        n = len(situation.page.impressions) if action.scope == "item" else 1
        value = float(action.scope == "page") if action.is_binary else np.nan
        outcomes[action.name] = Outcome(np.full(n, value), np.broadcast_to(action.graded(prior[action.name]), (n, len(action.results))))
    return Decision(outcomes, status, reply)


def unlike(one: Decision, other: Decision) -> int:
    """On how many items of a page two decisions choose otherwise, and one more if only one of them leaves."""
    return sum(int((one.outcomes[name].values != other.outcomes[name].values).sum()) for name in ("choose", "leave"))


def _draw(action: Action, situation: Situation, probabilities: np.ndarray, keys: Sequence[int], done: Mapping[str, Outcome]) -> Outcome:
    cumulative = np.cumsum(probabilities, axis=1)
    # An action's own session number keeps session actions apart from page actions of the last page.
    stream = situation.stream.child(action.name)
    uniforms = np.array([stream.child(key).generator().random(2) for key in keys]).reshape(-1, 2)
    index = np.minimum((uniforms[:, :1] >= cumulative / cumulative[:, -1:]).sum(axis=1), len(action.results) - 1)
    values = np.array(action.results, dtype=np.float64)[index]
    if action.within:
        values = np.array(action.within)[index, (uniforms[:, 1] * len(action.within[0])).astype(np.int64)]
    if action.only_if is not None:
        values = np.where(done[action.only_if].values == 1.0, values, np.nan)
    return Outcome(values, probabilities)

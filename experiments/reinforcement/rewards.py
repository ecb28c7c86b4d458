"""Rewards: what a page turn is worth, as a function of the rows that it left in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.dataset import Dataset, require
from simulator.errors import ConfigError, with_suggestion
from simulator.plugins import load_function
from simulator.positives import least_positive

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one action led to.

    Attributes:
        page: the row of `pages`, or None if nothing could be shown. impressions: its rows of `impressions`, by position.
        session: the row of `sessions` if a session ended with this page, else None.
        repaired: places whose item was not allowed (see `environments.given_slates`).
        terminated: the episode ended because of what the person did, or because nothing is left to show.
        truncated: it ended because of a limit: the last page of a session, or the end of the episode's time.
    """

    page: Row | None
    impressions: tuple[Row, ...]
    session: Row | None
    repaired: int
    terminated: bool
    truncated: bool


Reward = Callable[[Turn], float]
"""From what happened to a finite number."""

REWARDS: Mapping[str, str] = {
    "choices": "items chosen on the page",
    "likes": "items chosen on the page and rated at least three quarters up the scale",
    "rating": "sum of the ratings given on the page, the data's units",
    "satisfaction": "satisfaction with the session when it ends, 1 to 10; otherwise 0; its weights are assumed (agents/satisfaction.py)",
    "session_length": "1 for each page that is looked at",
}
"""Name -> meaning of the rewards that come with usersim; any other is an import path."""


def reward_named(name: str, train: Dataset) -> Reward:
    """The reward of a name, or of an import path such as ``my_rewards.py:dwell`` of a function from `Turn` to a number.

    Raises:
        ConfigError, PluginError: there is no such reward.
        DataError: it needs ratings, which the data does not have.
    """
    if ":" in name:
        function = load_function(name)
        return lambda turn: float(function(turn))
    if name not in REWARDS:
        said = with_suggestion("reward", name, REWARDS)
        raise ConfigError(f"{said} A function of your own is named by its import path, 'package.module:function'.")
    if name in ("likes", "rating"):
        require(train, ratings=f"the reward '{name}'")
    if name == "choices":
        return lambda turn: float(sum(row["chosen"] for row in turn.impressions))
    if name == "rating":
        return lambda turn: float(sum(row["rating"] or 0.0 for row in turn.impressions))
    if name == "satisfaction":
        return lambda turn: float(turn.session["satisfaction"]) if turn.session is not None else 0.0
    if name == "session_length":
        return lambda turn: float(turn.page is not None)
    assert train.rating_scale is not None
    least = least_positive(train.rating_scale)
    return lambda turn: float(sum(row["rating"] is not None and row["rating"] >= least for row in turn.impressions))

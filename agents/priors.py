"""What is known about a person's answers before anything of a page is read.

MovieLens and its like log no exposures: how often a shown item is taken, and how many pages a visit has, cannot be read
from them. These two are settings. What such a log does tell, and what is used here, is each person's own rating
histogram and how long their visits are compared with other people's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from simulator.plugins import ComponentConfig
from simulator.records import Action, Situation, UserProfile


class PriorConfig(ComponentConfig):
    """What the data cannot tell.

    Attributes:
        choose_rate: share of shown items that people choose on average, in (0, 1).
        typical_pages: pages of a session of the person in the middle, >= 1; others in proportion to their own sessions.
    """

    choose_rate: float = Field(0.3, gt=0, lt=1)
    typical_pages: float = Field(3.0, ge=1, le=100)


class Priors:
    """Prior probabilities of every action for a person.

    - a positive choice: `choose_rate`;
    - stars: the person's own histogram in the training part, shrunk to the population (`UserProfile.rating_histogram`);
    - leaving after a page: 1 / expected pages (the hazard of a geometric length), expected pages being `typical_pages` times the
      person's items per session over the population's median, within [1.1, 50];
    - any other action: uniform over its labels.

    Args:
        config: the settings.
        actions: of the experiment.
        profiles: the people; their median items per session is "typical".
    """

    def __init__(self, config: PriorConfig, actions: Sequence[Action], profiles: Sequence[UserProfile]) -> None:
        self._config = config
        self._actions = tuple(actions)
        self.typical_items = float(np.median([profile.rhythm.items_per_session for profile in profiles])) if profiles else 1.0

    def expected_pages(self, profile: UserProfile) -> float:
        """Expected pages of a session of this person, in [1.1, 50]."""
        relative = profile.rhythm.items_per_session / self.typical_items
        return float(np.clip(self._config.typical_pages * relative, 1.1, 50.0))

    def of(self, action: Action, profile: UserProfile) -> np.ndarray:
        """Probability of each label, shape (n_labels,), sums to 1."""
        n = len(action.labels)
        if action.name == "choose":
            return _binary(action, self._config.choose_rate)
        if action.name == "leave":
            return _binary(action, 1.0 / self.expected_pages(profile))
        if action.name == "rate" and profile.rating_histogram is not None:
            return np.array(profile.rating_histogram, dtype=np.float64)
        return np.full(n, 1.0 / n)

    def page(self, situation: Situation) -> dict[str, np.ndarray]:
        """Prior of every action in front of a page: (n_impressions, n_labels) for item actions, (1, n_labels) otherwise."""
        n = len(situation.page.impressions)
        return {
            action.name: np.tile(self.of(action, situation.profile), (n if action.scope == "item" else 1, 1)) for action in self._actions
        }


def _binary(action: Action, positive: float) -> np.ndarray:
    return np.array([positive if value else 1.0 - positive for value in action.values])

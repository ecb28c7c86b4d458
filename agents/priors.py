"""What is known about a person's answers before anything of a page is read.

MovieLens and its like log no exposures: how often a shown item is taken, and how many pages a visit has, cannot be read
from them. These two are settings. What such a log does tell, and what is used here, is each person's own rating
histogram and how long their visits are compared with other people's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.optimize import brentq
from scipy.special import expit, logit

from agents.visits import leaving_chance
from simulator.errors import ConfigError
from simulator.plugins import ComponentConfig
from simulator.records import Action, Outcome, Situation, UserProfile


class PriorConfig(ComponentConfig):
    """What the data cannot tell.

    Attributes:
        choose_rate: share of shown items that people choose on average, in (0, 1).
        typical_pages: expected pages of a session of the person in the middle, >= 1; others in proportion to their own sessions.
    """

    choose_rate: float = Field(0.3, gt=0, lt=1)
    typical_pages: float = Field(3.0, ge=1, le=100)


class VisitConfig(PriorConfig):
    """How long people stay.

    Attributes:
        stay: "pages": as many pages as `typical_pages` says, relative to the person's own sessions; "visits": until as many things are
            chosen as in one of the person's own visits, or of somebody else's (`agents.visits`); needs data with times.
        leave_response: how many log-odds likelier people are to leave after a page on which they choose nothing than after one on which
            they choose as much as usual; the other way round where they choose more (`agents.staying`). An assumption, which no log without
            exposures can tell; 0 is a session whose length does not depend on what is chosen. Of no effect with ``stay = "visits"``.
    """

    stay: Literal["pages", "visits"] = "pages"
    leave_response: float = Field(1.0, ge=0, le=10)

    def assumptions(self) -> tuple[str, ...]:
        """What is assumed of how long people stay, in sentences."""
        if self.stay == "visits" or self.leave_response == 0.0:
            return ()
        return (
            f"the odds of leaving after a page on which somebody chooses nothing are {np.exp(self.leave_response):.3g} times those after a "
            "page of which they choose as much as usual, and lower in proportion where they choose more "
            f"(decision.leave_response = {self.leave_response:g}); no data says so.",
        )


class Priors:
    """Prior probabilities of every action for a person.

    - a positive choice: `choose_rate`;
    - stars: the person's own histogram in the training part, shrunk to the population (`UserProfile.rating_histogram`);
    - leaving after a page: the constant hazard at which a session has the expected number of pages (`hazard`): `typical_pages` times
      the person's items per session over the population's median, as far as `max_pages` allows;
    - any other action: uniform over its labels.

    Args:
        config: the settings.
        actions: of the experiment.
        profiles: the people; their median items per session is "typical".
        max_pages: a session ends after this page at the latest.
    """

    def __init__(self, config: PriorConfig, actions: Sequence[Action], profiles: Sequence[UserProfile], max_pages: int) -> None:
        self._config = config
        self._actions = tuple(actions)
        self._max_pages = max_pages
        self.typical_items = float(np.median([profile.rhythm.items_per_session for profile in profiles])) if profiles else 1.0

    def expected_pages(self, profile: UserProfile) -> float:
        """Expected pages of a session of this person, from 1.1 to 98 % of what is possible, so that nobody is sure to stay or to leave."""
        relative = profile.rhythm.items_per_session / self.typical_items
        most = max(1.1, 1.0 + 0.98 * (self._max_pages - 1))
        return float(np.clip(self._config.typical_pages * relative, 1.1, most))

    def of(self, action: Action, profile: UserProfile) -> np.ndarray:
        """Probability of each label, shape (n_labels,), sums to 1."""
        n = len(action.labels)
        if action.name == "choose":
            return _binary(action, self._config.choose_rate)
        if action.name == "leave":
            return _binary(action, hazard(round(self.expected_pages(profile), 3), self._max_pages))
        if action.name == "rate" and profile.rating_histogram is not None:
            return np.array(profile.rating_histogram, dtype=np.float64)
        return np.full(n, 1.0 / n)

    def page(self, situation: Situation) -> dict[str, np.ndarray]:
        """Prior of every action in front of a page: (n_impressions, n_labels) for item actions, (1, n_labels) otherwise."""
        n = len(situation.page.impressions)
        return {
            action.name: np.tile(self.of(action, situation.profile), (n if action.scope == "item" else 1, 1)) for action in self._actions
        }


def visits_known(profiles: Sequence[UserProfile], stay: str) -> None:
    """Stops where people are to stay as in their visits and the data has none.

    Raises:
        ConfigError: with what to write instead.
    """
    if stay == "visits" and any(profile.rhythm.visits is None for profile in profiles):
        raise ConfigError("[decision] stay = 'visits' needs data with times, from which visits are read; write stay = 'pages'.")


def leaving_by_visits(action: Action, situation: Situation, choose: np.ndarray) -> Callable[[Mapping[str, Outcome]], np.ndarray]:
    """What the probability of leaving is once it is known how many things were chosen on a page (`agents.visits.leaving_chance`).

    After a page without a choice nobody leaves; whoever finds nothing more goes when the pages of the session end.

    Args:
        action: of leaving. situation: in front of the page, of somebody with visits. choose: probability of choosing each item, shape (n,).

    Returns:
        From what was done on the page to probabilities of the action's labels, shape (1, n_labels).
    """
    visits, state = situation.profile.rhythm.visits, situation.state
    assert visits is not None
    step = float(choose.sum() / max(1.0 - np.prod(1.0 - choose), 1e-9))

    def leaving(done: Mapping[str, Outcome]) -> np.ndarray:
        chosen = int((done["choose"].values == 1.0).sum())
        chance = leaving_chance(visits, state.session, state.chosen + chosen, step) if chosen else 0.0
        return _binary(action, chance)[None, :]

    return leaving


@lru_cache(maxsize=65_536)
def hazard(pages: float, max_pages: int) -> float:
    """The constant probability of leaving after a page with which a session has so many pages on average.

    Solves ``(1 - (1 - h)^m) / h = pages``, the mean of a geometric length cut off after page m. Without the cut in mind, people
    with long sessions would hardly differ from others: 1 / pages is met only where nearly everybody leaves before the last page.

    Args:
        pages: wanted, >= 1; more than `max_pages` cannot be had and is taken for nearly that. max_pages: m, >= 1.

    Returns:
        In (0, 1]; 1 where there is one page only.
    """
    if max_pages == 1 or pages <= 1.0:
        return 1.0

    def too_many(h: float) -> float:
        return (1.0 - (1.0 - h) ** max_pages) / h - pages

    least = 1e-6
    return least if too_many(least) <= 0 else float(brentq(too_many, least, 1.0))


def intercept_for(index: np.ndarray, rate: float, shares: np.ndarray | None = None) -> float:
    """The intercept at which mean probabilities are so high: solves ``mean(expit(index + c)) = rate``.

    Args:
        index: log-odds, finite, shape (n,) or (n, k), not empty. rate: in (0, 1). shares: weights of the k columns, sum 1, or None.
    """
    if not np.isfinite(index).all():
        raise ValueError("log-odds must be finite")
    middle = float(logit(rate))

    def too_many(c: float) -> float:
        chance = expit(index + c)
        return float((chance if shares is None else chance @ shares).mean()) - rate

    # With the first all probabilities are below the rate, with the second above.
    return float(brentq(too_many, middle - float(index.max()) - 1.0, middle - float(index.min()) + 1.0))


def _binary(action: Action, positive: float) -> np.ndarray:
    return np.array([positive if value else 1.0 - positive for value in action.values])

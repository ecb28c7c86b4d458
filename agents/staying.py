"""Whether somebody stays after a page: as far as the data say, and as far as is assumed.

How many pages somebody sees is a setting relative to their own sessions (`agents.priors`). Around it, leaving depends on what the page was:

    logit P(leave) = base + tired * fatigue + glad * satisfaction - response * appeal

The weights of fatigue and of satisfaction (the ratings given in the visit, this page's among them, less the person's own mean) are
estimated where the data has times (`agents.hazard`). That people leave sooner where they find less is an **assumption**: a log without
exposures shows no page on which nothing was chosen. Its size is the setting `response`; the appeal of a page is how much more of it
was chosen than the person usually chooses of pages of a good recommender. On such pages a session has as many pages as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from agents.hazard import LEAST_ITEMS
from simulator.records import Action, Outcome, Situation

MOST_APPEAL = 2.0
"""A page on which three times as much is chosen as usual is the best there can be."""

LEAST = 0.001
"""Nobody is taken to choose less, or more than all but this, of usual pages."""

LOWEST, HIGHEST = -30.0, 30.0
"""Bounds of the base, log-odds."""


@dataclass(frozen=True, slots=True)
class Staying:
    """How one person leaves pages.

    Attributes:
        pages: expected pages of a session on a good recommender's pages, >= 1. max_pages: a session ends after this one at the latest.
        page_size: items on a page. usual_share: share of those that the person usually chooses, in (0, 1).
        usual_items: impressions in which the person's fatigue reaches 1 - 1/e.
        response: log-odds that are assumed to be added after a page without a choice, >= 0.
        tired, glad: weights of fatigue and satisfaction. own_mean: the person's mean rating, or None.
    """

    pages: float
    max_pages: int
    page_size: int
    usual_share: float
    usual_items: float
    response: float
    tired: float = 0.0
    glad: float = 0.0
    own_mean: float | None = None

    def chance(self, situation: Situation, done: Mapping[str, Outcome]) -> float:
        """Probability of leaving after a page on which this was done (`choose` and, where the data has ratings, `rate`)."""
        state, chosen = situation.state, done["choose"].values == 1.0
        usual = round(float(np.clip(self.usual_share, LEAST, 1.0 - LEAST)), 3)
        base = base_log_odds(
            round(self.pages, 3),
            self.max_pages,
            self.page_size,
            round(self.usual_items, 3),
            self.tired,
            self.response,
            usual,
        )
        index = base + self.tired * state.fatigue - self.response * float(appeal(int(chosen.sum()), len(chosen), usual))
        if self.own_mean is not None:
            given = done["rate"].values[chosen] if "rate" in done else np.zeros(0)
            given = given[np.isfinite(given)]
            before = state.chosen if state.mean_rating is not None else 0
            if before + len(given):
                total = before * (state.mean_rating or 0.0) + float(given.sum())
                index += self.glad * (total / (before + len(given)) - self.own_mean)
        return float(expit(index))

    def leaving(self, action: Action, situation: Situation) -> Callable[[Mapping[str, Outcome]], np.ndarray]:
        """From what was done on a page to probabilities of the labels of leaving, shape (1, n_labels)."""

        def probabilities(done: Mapping[str, Outcome]) -> np.ndarray:
            chance = self.chance(situation, done)
            return np.array([[chance if value else 1.0 - chance for value in action.values]])

        return probabilities


def appeal(chosen: int | np.ndarray, shown: int, usual: float) -> np.ndarray:
    """How much more of a page was chosen than usual, as a share of the usual: -1 if nothing, 0 if as much, at most `MOST_APPEAL`.

    Args:
        chosen: number of items. shown: items on the page. usual: share that is usually chosen, in (0, 1).
    """
    share = np.asarray(chosen, dtype=np.float64) / max(1, shown)
    return np.asarray(np.clip((share - usual) / usual, -1.0, MOST_APPEAL))


@lru_cache(maxsize=65_536)
def base_log_odds(
    pages: float, max_pages: int, page_size: int, usual_items: float, slope: float, response: float = 0.0, usual: float = 0.5
) -> float:
    """The log-odds of leaving after the first page with which a session has so many pages on average.

    It is that of somebody neither glad nor sad, who chooses each item of each page with probability `usual`.

    Args:
        pages: wanted mean, >= 1. max_pages: a session ends after this page at the latest. page_size: items on a page.
        usual_items: impressions in which the person's fatigue reaches 1 - 1/e. slope: weight of fatigue.
        response: to the appeal of a page. usual: share of a page that is usually chosen, in (0, 1).
    """
    if max_pages == 1 or pages <= 1.0:
        return HIGHEST
    fatigue = 1.0 - np.exp(-page_size * np.arange(max_pages - 1) / max(LEAST_ITEMS, usual_items))
    counts = np.arange(page_size + 1)
    chances, moved = binom.pmf(counts, page_size, usual), -response * appeal(counts, page_size, usual)

    def too_many(base: float) -> float:
        leave = np.einsum("k,kj->j", chances, expit(base + slope * fatigue[None, :] + moved[:, None]))
        return 1.0 + float(np.cumprod(1.0 - leave).sum()) - pages

    if too_many(LOWEST) <= 0:
        return LOWEST
    return HIGHEST if too_many(HIGHEST) >= 0 else float(brentq(too_many, LOWEST, HIGHEST))

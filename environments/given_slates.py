"""Pages that somebody else fills: an agent that learns, a person at a keyboard. Served in place of a recommender's.

The rule of the feed holds here too: an item of the history is never shown, nor one that was shown before if the experiment
does not repeat, nor one twice on a page. A place that breaks it is *repaired*, and repairs are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.records import Impression, Page, PageRequest, Slate


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be shown to one person.

    Attributes:
        items: item codes in order of position, shape (places,); a code outside the catalog is an empty place.
        scores: of the items, float64, shape (places,); NaN where there is none.
        backups: what repairs take, best first.
    """

    items: np.ndarray
    scores: np.ndarray
    backups: Slate


class GivenSlates:
    """Serves what `give` was told (`simulator.protocols.Environment`).

    A place is repaired if its item is outside the catalog, in the history, already shown (`PageRequest.shown`), or further up
    on the same page. It gets the first backup that may be shown and is nowhere else on the page; if there is none, the place is
    left out. A page without any place is None: nothing is left to show. Propensities are unknown (NaN), since only who picked
    the items knows with which probability.

    Attributes:
        repaired: places that were repaired or left out at the last `serve`, one number for each request.
    """

    def __init__(self, n_items: int, policy: str) -> None:
        """Takes what all pages share.

        Args:
            n_items: items of the catalog.
            policy: id that is logged with each page.
        """
        self.repaired: list[int] = []
        self._n_items, self._policy = n_items, policy
        self._given: Sequence[Given] = ()

    def give(self, slates: Sequence[Given]) -> None:
        """What the next `serve` shows, in the order of its requests."""
        self._given = slates

    def serve(self, requests: Sequence[PageRequest]) -> list[Page | None]:
        """The page of each request; None where nothing may be shown.

        Raises:
            ValueError: there are more or fewer requests than slates given.
        """
        served = [self._page(request, given) for request, given in zip(requests, self._given, strict=True)]
        self._given = ()
        self.repaired = [repaired for _, repaired in served]
        return [page for page, _ in served]

    def _page(self, request: PageRequest, given: Given) -> tuple[Page | None, int]:
        free = may_be_shown(request, self._n_items)
        places: list[tuple[int, float] | None] = []
        for item, score in zip(given.items.tolist(), given.scores.tolist(), strict=True):
            fits = 0 <= item < self._n_items and bool(free[item])
            places.append((item, score) if fits else None)
            if fits:
                free[item] = False
        spare = (
            (item, score) for item, score in zip(given.backups.items.tolist(), given.backups.scores.tolist(), strict=True) if free[item]
        )
        filled = [place if place is not None else next(spare, None) for place in places]
        shown = [place for place in filled if place is not None]
        impressions = tuple(Impression(position, item, score, np.nan) for position, (item, score) in enumerate(shown, start=1))
        return Page(request.number, self._policy, impressions) if impressions else None, places.count(None)


def may_be_shown(request: PageRequest, n_items: int) -> np.ndarray:
    """Which items may be on this page, boolean, shape (n_items,): those of neither the history nor what was shown."""
    free = np.ones(n_items, dtype=bool)
    free[request.history] = False
    free[request.shown] = False
    return free

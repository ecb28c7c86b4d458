"""What a policy would show on logged pages: for every place, given the logged items above it, which items with which probability.

Where the recommender's ranking is deterministic the probabilities come from the exposure rule's closed form
(`environments.propensities`) and are exact. A recommender that draws its ranking uniformly is a Plackett-Luce rule with equal
scores, and exact too. Any other recommender that draws is asked again and again (`Sampled`): a Monte Carlo estimate whose
standard error is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from environments.feed import Feed, FeedConfig
from environments.propensities import PageRule
from experiments.logged_pages import LoggedPages
from simulator.errors import RecommenderError
from simulator.protocols import Recommender
from simulator.records import Slate

WIDTH = 100
"""Candidates whose scores are kept for a policy that does not explore: enough to say how far down a logged item stands."""

BLOCK = 1024
"""Pages that are worked on at once."""

NUMBERS = 2_000_000
"""Probabilities held in memory at once while pages are drawn."""

PAGE_DRAWS = 20
"""Pages that a random policy is drawn for, per logged page, where a mean over its own pages is needed."""

Report = Callable[[str, int, int], None]
"""Called with (what is going on, pages done, pages in all)."""


class PolicyOnLog(Protocol):
    """A policy's answers on the pages of a log."""

    @property
    def draws(self) -> int:
        """Draws behind each probability; 0 if probabilities are exact."""

    def next_items(self, place: int, pages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items it may put at a place (from 0) below the logged ones, for some pages.

        Returns:
            Item codes, int64, shape (len(pages), c), -1 in the padding, and their probabilities, rows summing to 1.
        """

    def marginals(self) -> np.ndarray | None:
        """Probability of each logged item at its place whatever stands above, shape (n,); None if there is no closed form."""

    def own_pages(self, pages: np.ndarray) -> np.ndarray:
        """Whole pages as it would fill them, drawn; -1 behind the last, shape (len(pages), draws, places)."""

    def scores(self, pages: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Scores of given items, standardised over the candidates of the page; NaN outside them. Shape as `items`: (pages, c)."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A policy with exact probabilities (`PolicyOnLog`).

    Attributes:
        log: the pages.
        rule: how candidates become a page.
        candidates: item codes, best first, -1 in the padding, shape (P, c). counts: candidates of each page.
        logits: of the exposure rule, -inf in the padding. standard: standardised scores, NaN in the padding.
    """

    log: LoggedPages
    rule: PageRule
    candidates: np.ndarray
    counts: np.ndarray
    logits: np.ndarray
    standard: np.ndarray
    draws: int = 0

    def next_items(self, place: int, pages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `PolicyOnLog`."""
        candidates = self.candidates[pages]
        remaining = candidates >= 0
        for above in range(place):
            shown: np.ndarray = self.log.shown[pages, above]
            remaining &= candidates != shown[:, None]
        return candidates, self.rule.next_item(self.logits[pages], remaining)

    def marginals(self) -> np.ndarray:
        """See `PolicyOnLog`."""
        numbers: np.ndarray = np.full(self.log.shown.shape, -1, dtype=np.int64)
        for place in range(numbers.shape[1]):
            shown: np.ndarray = self.log.shown[:, place]
            found = (self.candidates == shown[:, None]) & (self.candidates >= 0)
            numbers[:, place] = np.where(found.any(axis=1), found.argmax(axis=1), -1)
        made = self.rule.marginals(self.logits, self.counts, numbers)
        return np.asarray(made[self.log.page, self.log.place])

    def own_pages(self, pages: np.ndarray) -> np.ndarray:
        """See `PolicyOnLog`."""
        draws = 1 if self.rule.rule == "none" else PAGE_DRAWS
        luck = self.log.requests[pages[0]].stream.child("offline", "own pages").generator()
        width = max(1, NUMBERS // (draws * self.candidates.shape[1]))
        parts = [self._filled(np.repeat(pages[start : start + width], draws), luck) for start in range(0, len(pages), width)]
        return np.concatenate(parts).reshape(len(pages), draws, -1)

    def _filled(self, pages: np.ndarray, luck: np.random.Generator) -> np.ndarray:
        """One drawn page for each entry of `pages`, shape (len(pages), places)."""
        candidates, logits = self.candidates[pages], self.logits[pages]
        remaining, line = candidates >= 0, np.arange(len(pages))
        result = np.full((len(pages), self.log.shown.shape[1]), -1, dtype=np.int64)
        for place in range(result.shape[1]):
            chances = np.cumsum(self.rule.next_item(logits, remaining), axis=1)
            drawn = (chances <= luck.random(len(pages))[:, None] * chances[:, -1:]).sum(axis=1)
            drawn = np.minimum(drawn, candidates.shape[1] - 1)
            some = chances[:, -1] > 0
            result[some, place] = candidates[line, drawn][some]
            remaining[line, drawn] = False
        return result

    def scores(self, pages: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See `PolicyOnLog`."""
        dense = np.full((len(pages), self.log.train.n_items + 1), np.nan)  # the last column takes the padding
        rows = np.arange(len(pages))[:, None]
        dense[rows, self.candidates[pages]] = self.standard[pages]
        dense[:, -1] = np.nan
        return np.asarray(dense[rows, items])


@dataclass(frozen=True, eq=False)
class Sampled:
    """A policy whose recommender draws its ranking in a way that only it knows (`PolicyOnLog`).

    The probability of an item is the share of `draws` first items of lists that leave out what is already shown.
    """

    log: LoggedPages
    feeds: Mapping[int, Feed]
    draws: int

    def next_items(self, place: int, pages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `PolicyOnLog`."""
        items = np.full((len(pages), self.draws), -1, dtype=np.int64)
        place_of = {int(page): row for row, page in enumerate(pages)}
        for batch in batches(self.log, pages):
            feed = self.feeds[int(self.log.fitted_rounds[batch[0]])]
            asked = [self.log.requests[page] for page in batch]
            excluded = [np.concatenate([self.log.requests[page].shown, self.log.shown[page, :place]]).astype(np.int32) for page in batch]
            rows = [place_of[int(page)] for page in batch]
            for draw in range(self.draws):
                # Keyed by person and page through the batch's own name, so that the same log gives the same numbers.
                rng = asked[0].stream.child("offline", place, draw)
                slates = feed.without(asked, 1, rng, excluded)
                items[rows, draw] = [int(slate.items[0]) if len(slate.items) else -1 for slate in slates]
        return items, np.where(items >= 0, 1.0 / self.draws, 0.0)

    def marginals(self) -> None:
        """There is no closed form."""
        return

    def own_pages(self, pages: np.ndarray) -> np.ndarray:
        """See `PolicyOnLog`."""
        places = self.log.shown.shape[1]
        result = np.full((len(pages), PAGE_DRAWS, places), -1, dtype=np.int64)
        row_of = {int(page): row for row, page in enumerate(pages)}
        for batch in batches(self.log, pages):
            feed = self.feeds[int(self.log.fitted_rounds[batch[0]])]
            asked = [self.log.requests[page] for page in batch]
            for draw in range(PAGE_DRAWS):
                rng = asked[0].stream.child("offline", "own pages", draw)
                slates = feed.without(asked, places, rng, [request.shown for request in asked])
                for page, slate in zip(batch, slates, strict=True):
                    result[row_of[int(page)], draw, : len(slate.items)] = slate.items
        return result

    def scores(self, pages: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Unknown: a list that is drawn has no scores that stay."""
        return np.full(items.shape, np.nan)


def policy_on_log(
    log: LoggedPages, recommenders: Mapping[int, Recommender], config: FeedConfig, draws: int, report: Report
) -> ClosedForm | Sampled:
    """Asks a policy for its candidates on every logged page.

    Args:
        log: the pages.
        recommenders: fitted round -> recommender.
        config: how it makes pages.
        draws: for a recommender that draws its ranking.
        report: told of the progress.

    Raises:
        RecommenderError: the recommender broke its contract, or draws lists and cannot leave out what is already shown.
    """
    n = len(log.requests)
    everything = np.arange(n)
    wide = config.candidates if config.exploration != "none" else max(WIDTH, config.page_size)
    # Exploration asks for candidates instead of a page; which rule then fills the page is not the feed's business here.
    asking = config.model_copy(update={"exploration": "plackett-luce", "candidates": wide})
    slates: list[Slate | None] = [None] * n
    done = 0
    plain = config.model_copy(update={"exploration": "none"})  # one that draws is asked without a rule on top
    feeds = {number: Feed(recommender, "", asking, log.train.n_items) for number, recommender in recommenders.items()}
    drawn = {number: Feed(recommender, "", plain, log.train.n_items) for number, recommender in recommenders.items()}
    one = log.requests[0]
    probe = drawn[int(log.fitted_rounds[0])].without([one], 1, one.stream, [one.shown])
    drawing = any(slate.propensities is not None for slate in probe)
    if drawing and config.exploration != "none":
        name = type(recommenders[int(log.fitted_rounds[0])]).__name__
        raise RecommenderError(f"{name} already draws its ranking at random; use recommender.exploration = 'none' with it.")
    for batch in batches(log, everything):
        fitted = int(log.fitted_rounds[batch[0]])
        asked = [log.requests[page] for page in batch]
        if drawing:
            shown = [request.shown for request in asked]
            answers = drawn[fitted].without(asked, log.train.n_items, asked[0].stream, shown)
            if not all(_is_uniform(slate) for slate in answers):
                return Sampled(log, drawn, draws)
        else:
            answers = feeds[fitted].candidates(asked)
        for page, slate in zip(batch, answers, strict=True):
            slates[page] = slate
        done += len(batch)
        report("asking the policy for its candidates", done, n)
    return _closed_form(log, [slate for slate in slates if slate is not None], config, uniform=drawing)


def batches(log: LoggedPages, pages: np.ndarray) -> Iterator[np.ndarray]:
    """Pages in groups that one call of a recommender can answer: one fitted round, nobody twice, at most `BLOCK`."""
    seen: dict[tuple[int, int], int] = {}
    groups: dict[tuple[int, int], list[int]] = {}
    for page in pages.tolist():
        fitted = int(log.fitted_rounds[page])
        turn = seen[fitted, log.requests[page].user] = seen.get((fitted, log.requests[page].user), -1) + 1
        groups.setdefault((fitted, turn), []).append(page)
    for group in groups.values():
        for start in range(0, len(group), BLOCK):
            yield np.array(group[start : start + BLOCK])


def logged_probabilities(policy: PolicyOnLog, log: LoggedPages) -> np.ndarray:
    """The policy's probability of each logged item at its place given the logged items above it, shape (n,)."""
    result = np.zeros(len(log.items))
    for rows, place, pages in blocks(log):
        items, probabilities = policy.next_items(place, pages)
        result[rows] = (probabilities * (items == log.items[rows][:, None])).sum(axis=1)
    return np.minimum(result, 1.0)


def unsupported(target: PolicyOnLog, logging: PolicyOnLog, log: LoggedPages) -> np.ndarray | None:
    """Per impression the target's probability of items that the logging policy never puts there; None if that is not known."""
    if logging.draws:
        return None
    result = np.zeros(len(log.items))
    for rows, place, pages in blocks(log):
        items, probabilities = target.next_items(place, pages)
        possible, chances = logging.next_items(place, pages)
        supported: np.ndarray = np.zeros((len(pages), log.train.n_items + 1), dtype=bool)
        line, column = np.nonzero(chances > 0)
        supported[line, possible[line, column]] = True
        result[rows] = (probabilities * ~supported[np.arange(len(pages))[:, None], items]).sum(axis=1)
    return result


def blocks(log: LoggedPages) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """The impressions of one place for up to `BLOCK` pages at a time: their rows, the place, the pages."""
    for place in range(log.shown.shape[1]):
        rows = np.flatnonzero(log.place == place)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            yield part, place, log.page[part]


def _is_uniform(slate: Slate) -> bool:
    """Whether a list of all eligible items was drawn uniformly: the k-th of m (from 0) with probability 1 / (m - k)."""
    m = len(slate.items)
    return slate.propensities is not None and bool(np.allclose(slate.propensities * (m - np.arange(m)), 1.0, rtol=1e-9, atol=0))


def _closed_form(log: LoggedPages, slates: Sequence[Slate], config: FeedConfig, *, uniform: bool) -> ClosedForm:
    counts = np.array([len(slate.items) for slate in slates])
    width = max(1, int(counts.max(initial=0)))
    candidates = np.full((len(slates), width), -1, dtype=np.int64)
    scores = np.zeros((len(slates), width))
    for row, slate in enumerate(slates):
        candidates[row, : counts[row]] = slate.items
        scores[row, : counts[row]] = 0.0 if uniform else slate.scores
    rule = PageRule("plackett-luce") if uniform else PageRule.of(config)
    unit = PageRule("plackett-luce").logits(scores, counts)
    standard = np.where(np.isfinite(unit), unit, np.nan)
    return ClosedForm(log, rule, candidates, counts, rule.logits(scores, counts), standard)

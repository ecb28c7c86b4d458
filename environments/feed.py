"""The feed: pages of a recommender's items, with repeat suppression, exploration and exact propensities."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from environments.exposure import Exposed, epsilon_greedy, greedy, plackett_luce
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.protocols import Recommender
from simulator.records import Impression, Page, PageRequest, Slate
from simulator.seeds import Key, Stream


class FeedConfig(ComponentConfig):
    """How pages are made. In an experiment file these keys stand in ``[recommender]``, beside the recommender's own.

    Attributes:
        page_size: items on a page.
        max_pages: pages of a session at most.
        exploration: "none" shows the best items; "epsilon" and "plackett-luce" explore (see `environments.exposure`).
        epsilon: probability of exploring at each place, for "epsilon".
        temperature: of the softmax over standardised scores, for "plackett-luce".
        candidates: how many of the best unseen items the exploration chooses from.
        repeat: "session" shows no item twice in a session; "never" not in a later session either (then `PageRequest.shown`
            must hold what was shown in all sessions); "allow" shows what the recommender ranks first, again and again.
            Items of the history are never shown, whatever this says.
    """

    page_size: int = Field(default=5, ge=1, le=50)
    max_pages: int = Field(default=5, ge=1, le=10_000)
    exploration: Literal["none", "epsilon", "plackett-luce"] = "none"
    epsilon: float = Field(default=0.1, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0, le=1e6)
    candidates: int = Field(default=100, ge=1, le=100_000_000)
    repeat: Literal["session", "never", "allow"] = "session"

    @model_validator(mode="after")
    def _candidates_fill_a_page(self) -> Self:
        if self.exploration != "none" and self.candidates < self.page_size:
            raise ValueError(f"candidates = {self.candidates} cannot fill a page of page_size = {self.page_size}; raise candidates")
        return self


@dataclass(frozen=True, slots=True)
class _RequestStreams(Stream):
    """A batch's streams under the name that recommenders use: ``child(user)`` belongs to that person's own request.

    So a recommender that draws is fresh on every page, and the batch cannot matter even when its people are on
    different pages or in different sessions.
    """

    requests: Mapping[int, Stream] = field(default_factory=dict)

    def child(self, *names: Key) -> Stream:
        own = self.requests.get(names[0]) if names and isinstance(names[0], int) else None
        return Stream.child(self, *names) if own is None else own.child("recommend", *names[1:])


def takes_exclude(recommender: Recommender) -> bool:
    """Whether a recommender can be told which items to leave out, as one that draws its lists must (see `Feed`)."""
    return "exclude" in inspect.signature(recommender.recommend).parameters


class Feed:
    """Serves pages (`simulator.protocols.Environment`): one call of the recommender for a batch, then one exposure rule.

    A recommender whose slates carry propensities draws its ranking at random. Then an item left out afterwards would
    change the probabilities of those that remain in a way that only the recommender can know. Such a recommender
    therefore has a further keyword ``exclude`` in `recommend` (b arrays of item codes that must not be in the slate),
    and exploration on top of it is refused. Deterministic recommenders need no ``exclude``.
    """

    def __init__(self, recommender: Recommender, policy: str, config: FeedConfig, n_items: int) -> None:
        """Puts a fitted recommender behind pages.

        Args:
            recommender: fitted, and frozen as long as this feed is used.
            policy: id that is logged with each page.
            config: how pages are made.
            n_items: items of the catalog; codes from there on are unknown items.
        """
        self.config = config
        self._recommender = recommender
        self._policy = policy
        self._n_items = n_items
        self._name = type(recommender).__name__
        self._takes_exclude = takes_exclude(recommender)

    @property
    def repairs(self) -> Counter[str]:
        """What had to be repaired in the recommender's answers so far -> how often; empty if it never repairs."""
        return Counter(getattr(self._recommender, "repairs", {}))

    def serve(self, requests: Sequence[PageRequest]) -> list[Page | None]:
        """The next page of each person; None where nothing is left to show or the session has had its last page.

        Args:
            requests: at most one per person.

        Raises:
            RecommenderError: the recommender broke its contract, or exploration was asked for on top of one that draws.
            ValueError: two requests of the same person.
        """
        pages: list[Page | None] = [None] * len(requests)
        open_requests = [row for row, request in enumerate(requests) if request.number <= self.config.max_pages]
        if not open_requests:
            return pages
        batch = [requests[row] for row in open_requests]
        for row, request, slate in zip(open_requests, batch, self.candidates(batch), strict=True):
            if len(slate.items):
                places, propensities = self._expose(slate, request.stream.child("expose"))
                shown = zip(slate.items[places].tolist(), slate.scores[places].tolist(), propensities.tolist(), strict=True)
                impressions = tuple(Impression(position, *values) for position, values in enumerate(shown, start=1))
                pages[row] = Page(request.number, self._policy, impressions)
        return pages

    def candidates(self, requests: Sequence[PageRequest]) -> list[Slate]:
        """Checked slates without suppressed items, cut to as many candidates as the exposure rule may choose from.

        Args:
            requests: as for `serve`, at least one.

        Raises:
            RecommenderError, ValueError: as `serve`.
        """
        streams = {request.user: request.stream for request in requests}
        if len(streams) < len(requests):
            raise ValueError("a batch of page requests names a person twice")
        rng = _RequestStreams(requests[0].stream.seed, ("recommend",), streams)
        suppresses = self.config.repeat != "allow"
        shown = [request.shown if suppresses else request.shown[:0] for request in requests]
        wanted = self.config.page_size if self.config.exploration == "none" else self.config.candidates
        return self.without(requests, wanted, rng, shown, suppresses=suppresses)

    def without(
        self, requests: Sequence[PageRequest], n: int, rng: Stream, left_out: Sequence[np.ndarray], *, suppresses: bool = True
    ) -> list[Slate]:
        """Checked slates of the n best items for each person that are neither in their history nor left out.

        Args:
            requests: at most one per person; only the person and the history are read.
            n: items that are wanted of each. rng: given to the recommender. left_out: item codes, one array per request.
            suppresses: whether anything may be left out at all, so that a recommender that draws must know of it.

        Raises:
            RecommenderError: as `serve`.
        """
        users = np.array([request.user for request in requests], dtype=np.int32)
        histories = [request.history for request in requests]
        if self._takes_exclude:
            excluding: dict[str, Sequence[np.ndarray]] = {"exclude": left_out}
            asked, forbidden = n, [np.concatenate(pair) for pair in zip(histories, left_out, strict=True)]
        else:
            excluding = {}
            asked, forbidden = n + max(len(items) for items in left_out), histories
        slates = self._recommender.recommend(users, histories, asked, rng, **excluding)
        check_slates(slates, forbidden, asked, self._n_items, self._name)
        for slate in slates:
            self._refuse_guesses(slate, suppresses)
        if self._takes_exclude:
            return slates
        kept = _outside([slate.items for slate in slates], left_out, self._n_items)
        return [
            Slate(slate.items[keep][:n], slate.scores[keep][:n], None if slate.propensities is None else slate.propensities[:n])
            for slate, keep in zip(slates, kept, strict=True)
        ]

    def _refuse_guesses(self, slate: Slate, suppresses: bool) -> None:
        if slate.propensities is None:
            return
        if self.config.exploration != "none":
            raise RecommenderError(
                f"{self._name} already draws its ranking at random, so exploration = '{self.config.exploration}' on top of it "
                "would make the propensities inexact; use exploration = 'none' with it."
            )
        if suppresses and not self._takes_exclude:
            raise RecommenderError(
                f"{self._name} draws its ranking at random, and its recommend has no keyword 'exclude', so the propensities would be "
                "wrong once shown items are left out; add the keyword (see environments/feed.py), or use repeat = 'allow'."
            )

    def _expose(self, slate: Slate, stream: Stream) -> Exposed:
        config = self.config
        if config.exploration == "epsilon":
            return epsilon_greedy(len(slate.items), config.page_size, config.epsilon, stream.generator())
        if config.exploration == "plackett-luce":
            return plackett_luce(slate.scores, config.page_size, config.temperature, stream.generator())
        return greedy(slate, config.page_size)


def check_slates(slates: object, left_out: Sequence[np.ndarray], n: int, n_items: int, name: str) -> None:
    """Checks what a recommender returned against its contract.

    Args:
        slates: what `recommend` returned.
        left_out: per person, the items that must not be in the slate.
        n: items that were asked for.
        n_items: items of the catalog.
        name: class of the recommender, for the message.

    Raises:
        RecommenderError: the first violation, with the class and what to return instead.
    """
    if not isinstance(slates, list):
        raise RecommenderError(f"{name}.recommend returned {type(slates).__name__}; it must return a list with one Slate per person.")
    if len(slates) != len(left_out):
        raise RecommenderError(f"{name}.recommend returned {len(slates)} slates for {len(left_out)} people; it must return one per person.")
    for slate in slates:
        _check_form(slate, n, name)
    lengths = np.array([len(slate.items) for slate in slates])
    rows = np.repeat(np.arange(len(slates)), lengths)
    items = np.concatenate([slate.items for slate in slates]).astype(np.int64)
    scores = np.concatenate([slate.scores for slate in slates])
    unknown = items[(items < 0) | (items >= n_items)]
    if len(unknown):
        raise RecommenderError(f"{name}.recommend returned the unknown item {unknown[0]}; item codes are 0..{n_items - 1}.")
    if not np.isfinite(scores).all():
        raise RecommenderError(f"{name}.recommend returned the score {scores[~np.isfinite(scores)][0]}; scores must be finite numbers.")
    if (np.diff(scores)[np.diff(rows) == 0] > 0).any():
        raise RecommenderError(f"{name}.recommend returned scores that increase; the best item must come first.")
    keys = np.sort(rows * n_items + items)
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated):
        raise RecommenderError(f"{name}.recommend returned item {repeated[0] % n_items} twice in one slate; items must be distinct.")
    forbidden = np.sort(_keys(left_out, n_items))
    forbidden = forbidden[np.diff(forbidden, prepend=-1) > 0]
    seen = keys[np.isin(keys, forbidden, assume_unique=True)]
    if len(seen):
        raise RecommenderError(
            f"{name}.recommend returned item {seen[0] % n_items}, which is in that person's history or was to be excluded; "
            "it must return unseen items only."
        )
    unseen = n_items - np.bincount(forbidden // n_items, minlength=len(slates))
    short = np.flatnonzero(lengths < np.minimum(n, unseen))
    if len(short):
        raise RecommenderError(
            f"{name}.recommend returned {lengths[short[0]]} items where {n} were asked for and {unseen[short[0]]} unseen ones exist; "
            "a slate may be shorter only when fewer unseen items exist."
        )


def _check_form(slate: object, n: int, name: str) -> None:
    if not isinstance(slate, Slate):
        raise RecommenderError(f"{name}.recommend returned a {type(slate).__name__} in its list; every entry must be a Slate.")
    wanted = [("items", slate.items, np.integer), ("scores", slate.scores, np.floating)]
    if slate.propensities is not None:
        wanted.append(("propensities", slate.propensities, np.floating))
    for part, values, kind in wanted:
        if not isinstance(values, np.ndarray) or values.ndim != 1 or not np.issubdtype(values.dtype, kind):
            found = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise RecommenderError(f"{name}: Slate.{part} is {found}; it must be a one-dimensional numpy array of {kind.__name__} numbers.")
        if len(values) != len(slate.items):
            raise RecommenderError(f"{name}: a Slate has {len(slate.items)} items but {len(values)} {part}; there must be one per item.")
    if len(slate.items) > n:
        raise RecommenderError(f"{name}.recommend returned {len(slate.items)} items where {n} were asked for; cut the slate.")
    p = slate.propensities
    if p is not None and not ((p > 0) & (p <= 1)).all():
        raise RecommenderError(f"{name}: Slate.propensities holds {p[~((p > 0) & (p <= 1))][0]}; a propensity is above 0 and at most 1.")


def _keys(lists: Sequence[np.ndarray], n_items: int) -> np.ndarray:
    """One number per (row, item) pair, so that a batch is compared in one numpy call instead of one per person."""
    rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    return rows * n_items + np.concatenate(lists).astype(np.int64)


def _outside(lists: Sequence[np.ndarray], others: Sequence[np.ndarray], n_items: int) -> list[np.ndarray]:
    """Per row, which items of `lists` are not in `others` (boolean masks)."""
    outside = ~np.isin(_keys(lists, n_items), _keys(others, n_items), assume_unique=True)
    return np.split(outside, np.cumsum([len(items) for items in lists])[:-1])

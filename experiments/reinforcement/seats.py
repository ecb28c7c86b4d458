"""People in front of pages that an agent fills: one person per seat, turned page by page, all seats in one batch.

The step is `simulator.session.Cohort.step`; here are only a place for the agent's slates, and one log per seat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from agents.arrivals import Window
from agents.user import UserAgent
from environments.given_slates import Given, GivenSlates, may_be_shown
from environments.interventions import Intervened
from experiments import build
from experiments.reinforcement.rewards import Turn
from experiments.reinforcement.world import World
from simulator.errors import ConfigError
from simulator.log import CohortLog
from simulator.records import Closing, MemoryRecord, Page, PageRequest, PageTurn, Past, SessionEnd, Slate, UserProfile
from simulator.seeds import Stream
from simulator.session import Cohort
from simulator.tables import IMPRESSIONS, PAGES, SESSIONS

POLICY = "agent"
"""Policy id of the pages in the log."""

ATTEMPTS = 1_000
"""Draws of somebody who comes within the episode's time, before it is said that nobody does."""

NOTHING = Slate(np.empty(0, dtype=np.int32), np.empty(0))


@dataclass(eq=False)
class Seat:
    """One person during one episode.

    Attributes:
        profile: who. agent: the person. log: what they do.
        request: their wish for the next page; None once the episode is over. candidates: offered for it; None if every item is.
        number: of the page that is wished for, from 1. time: when it appears, simulated seconds.
        items, ratings: their history of training and episode, oldest first, and what they rated each (NaN: not at all).
        shown, chosen, stars: of the session that is going on: items, whether chosen, ratings (NaN: none).
        page: the last one. over: whether the episode is.
    """

    profile: UserProfile
    agent: UserAgent
    log: CohortLog
    request: PageRequest | None = None
    candidates: Slate | None = None
    number: int = 1
    time: int = 0
    items: list[int] = field(default_factory=list)
    ratings: list[float] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    chosen: list[bool] = field(default_factory=list)
    stars: list[float] = field(default_factory=list)
    page: Page | None = None
    over: bool = False

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables of this episode (`simulator.tables`)."""
        return self.log.tables()


class Seats:
    """So many seats; an episode is one round of one person: one session, or all that come in ``round_days``.

    Args:
        world: who may come, and how they decide.
        n: number of seats.
    """

    def __init__(self, world: World, n: int) -> None:
        self.world = world
        self._seats: list[Seat | None] = [None] * n
        self._desk = _Desk(world)
        # The stream seeds generators of Mesa's own, which nothing uses.
        self._cohort = Cohort(lambda _: (), self._desk, world.decisions, self._desk, Stream(world.config.seed))

    def seat(self, number: int) -> Seat:
        """Who sits there.

        Raises:
            ConfigError: nobody, before the first `begin`.
        """
        seat = self._seats[number]
        if seat is None:
            raise ConfigError("nobody is there yet: call reset before step.")
        return seat

    def begin(self, episodes: Mapping[int, tuple[Stream, UserProfile | None]]) -> None:
        """Begins episodes.

        Args:
            episodes: seat -> randomness of the episode, and who comes, or None for somebody drawn evenly.

        Raises:
            ConfigError: nobody comes within the episode's time.
        """
        for number, (stream, who) in episodes.items():
            old = self._seats[number]
            if old is not None:
                old.agent.remove()
            self._seats[number] = self._arrived(stream, who)
        self._ask(list(episodes))

    def turn(self, actions: Mapping[int, np.ndarray]) -> dict[int, Turn]:
        """One page turn of everybody who is given a slate.

        Args:
            actions: seat -> what fills the page: item codes, or places among the candidates; shape (page_size,).
        """
        if not actions:
            return {}
        numbers = sorted(actions)
        acting = [self.seat(number) for number in numbers]
        before = [(len(seat.log.rows(PAGES)), len(seat.log.rows(IMPRESSIONS)), len(seat.log.rows(SESSIONS))) for seat in acting]
        self._desk.acting = acting
        self._desk.slates.give([self._given(seat, actions[number]) for number, seat in zip(numbers, acting, strict=True)])
        self._cohort.users = [seat.agent for seat in acting]
        self._cohort.step()
        if self._cohort.ended:
            self._cohort.look_back()
        repaired = self._desk.slates.repaired
        turns = {}
        for number, seat, counts, places in zip(numbers, acting, before, repaired, strict=True):
            turns[number] = self._turned(seat, counts, places)
        self._ask([number for number in numbers if not self.seat(number).over])
        return turns

    def allowed(self, number: int) -> np.ndarray:
        """Which actions at a place need no repair, boolean, shape (n_actions,); all False once the episode is over."""
        seat, n_items = self.seat(number), self.world.train.n_items
        if seat.request is None:
            return np.zeros(self.world.candidates or n_items, dtype=bool)
        if seat.candidates is None:
            return may_be_shown(seat.request, n_items)
        return np.arange(self.world.candidates or 0) < len(seat.candidates.items)

    def _arrived(self, stream: Stream, who: UserProfile | None) -> Seat:
        world = self.world
        window = Window(world.origin, world.origin + world.round_seconds)
        for attempt in range(ATTEMPTS):
            own = stream if attempt == 0 else stream.child("attempt", attempt)
            profile = who or world.people[int(own.child("person").generator().integers(len(world.people)))]
            memory = build.memory(world.config, world.train.catalog)
            agent = UserAgent(
                self._cohort, profile, memory, Past(), world.habits, round_number=0, window=window, origin=world.origin, stream=own
            )
            if agent.browsing:
                ratings = [np.nan] * len(profile.history) if profile.ratings is None else profile.ratings.tolist()
                log = CohortLog(world.actions, world.train.catalog.item_ids, interventions=bool(world.interventions))
                return Seat(profile, agent, log, items=profile.history.tolist(), ratings=ratings)
            agent.remove()
        name = "nobody" if who is None else f"person '{who.user_id}' never"
        raise ConfigError(f"{name} comes within round_days = {world.config.round_days:g} (tried {ATTEMPTS} times); raise round_days.")

    def _ask(self, numbers: Sequence[int]) -> None:
        """Notes what those who sit there want next, and what may be offered to them."""
        for number in numbers:
            seat = self.seat(number)
            seat.request, seat.time = seat.agent.request(), seat.agent.time
            seat.number = seat.request.number
        generator = self.world.generator
        if generator is None:
            return
        waiting = list(numbers)
        while waiting:
            # The feed answers a person once per batch; the same one may sit on several seats.
            batch = list({self.seat(number).profile.user: number for number in reversed(waiting)}.values())
            requests = [request for number in batch if (request := self.seat(number).request) is not None]
            for number, slate in zip(batch, generator.candidates(requests), strict=True):
                self.seat(number).candidates = slate
            waiting = [number for number in waiting if number not in batch]

    def _given(self, seat: Seat, action: np.ndarray) -> Given:
        if seat.candidates is None:
            return Given(action, np.full(len(action), np.nan), self.world.popular)
        offered, missing = seat.candidates, (self.world.candidates or 0) - len(seat.candidates.items)
        items = np.pad(offered.items, (0, missing), constant_values=self.world.train.n_items)
        scores = np.pad(offered.scores, (0, missing), constant_values=np.nan)
        return Given(items[action], scores[action], offered)

    def _turned(self, seat: Seat, before: tuple[int, int, int], repaired: int) -> Turn:
        pages, impressions, sessions = (
            seat.log.rows(table)[count:] for table, count in zip((PAGES, IMPRESSIONS, SESSIONS), before, strict=True)
        )
        seat.over = not seat.agent.browsing
        session = dict(sessions[0]) if sessions else None
        truncated = seat.over and session is not None and (self.world.habits.sessions == "rhythm" or session["exit"] == "last_page")
        if pages and seat.page is not None:
            _note(seat, seat.page.items.tolist(), impressions)
        if session is not None and not seat.over:
            seat.shown, seat.chosen, seat.stars = [], [], []
        if seat.over:
            seat.log.memories(seat.profile, seat.agent.records())
            seat.request, seat.candidates = None, None if seat.candidates is None else NOTHING
            seat.number += len(pages)
            seat.time = session["end"] if session is not None else seat.time
        rows = tuple(dict(row) for row in impressions)
        return Turn(dict(pages[0]) if pages else None, rows, session, repaired, seat.over and not truncated, truncated)


def _note(seat: Seat, items: Sequence[int], impressions: Sequence[Mapping[str, object]]) -> None:
    for item, row in zip(items, impressions, strict=True):
        chosen, rating = bool(row["chosen"]), row.get("rating")
        stars = float(rating) if isinstance(rating, float) else np.nan
        seat.shown.append(item)
        seat.chosen.append(chosen)
        seat.stars.append(stars)
        if chosen:
            seat.items.append(item)
            seat.ratings.append(stars)


class _Desk(CohortLog):
    """Between the cohort and the seats: serves what was given, and puts every turn into the log of its seat instead of its own.

    A turn, and the end of a session, carry the very page that was served last, so they find their seat even where one person
    sits on several.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.actions, world.train.catalog.item_ids)
        self.slates = GivenSlates(world.train.n_items, POLICY)
        self.acting: Sequence[Seat] = ()
        user_ids = {person.user: person.user_id for person in world.people}
        self._pages = Intervened(self.slates, world.interventions, 0, user_ids, Stream(world.config.seed))

    def serve(self, requests: Sequence[PageRequest]) -> list[Page | None]:
        """See `simulator.protocols.Environment`."""
        pages = self._pages.serve(requests)
        for seat, page in zip(self.acting, pages, strict=True):
            seat.page = page or seat.page
        return pages

    def page(self, turn: PageTurn) -> None:
        """See `CohortLog`."""
        self._seat(turn.situation.page).log.page(turn)

    def session(self, end: SessionEnd, closing: Closing) -> None:
        """See `CohortLog`."""
        self._seat(end.situation.page).log.session(end, closing)

    def memories(self, profile: UserProfile, records: Sequence[MemoryRecord]) -> None:
        """Nothing: a cohort tells them when everybody is gone, a seat when its episode is over."""

    def _seat(self, page: Page) -> Seat:
        return next(seat for seat in self.acting if seat.page is page)

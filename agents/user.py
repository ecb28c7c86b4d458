"""One simulated person as a Mesa agent: perceives pages, acts on decisions, remembers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import mesa
import numpy as np

from agents.arrivals import History, Sessions, Window, next_arrival, one_arrival, relived_arrival
from agents.experience import records_of_page, records_of_session
from agents.requests import Repeat, page_request, page_stream, person_stream
from agents.rhythm import SESSION_GAP
from agents.visits import seconds_on_page
from simulator.dataset import Catalog
from simulator.protocols import Memory
from simulator.records import (
    Closing,
    Decision,
    MemoryRecord,
    Met,
    Page,
    PageRequest,
    PageTurn,
    Past,
    SessionEnd,
    SessionState,
    Situation,
    UserProfile,
)
from simulator.seeds import Stream


@dataclass(frozen=True, slots=True)
class Habits:
    """What is the same for all people of an experiment.

    Attributes:
        catalog: the items. rating_scale: (lowest, highest) rating, or None.
        max_pages: a session ends after this page at the latest.
        sessions: one session per round, as many as the person's rhythm gives, or the person's time in the data lived again.
        recall: whether memories are recalled once per session or anew at each page.
        history: "behind" if what the training part has of somebody is not shown to them again; "ahead" if it is.
        repeat: "never" if items shown in earlier sessions are not to be shown again.
        remembers: whether what happens is put into words and remembered; not where nobody would read it.
    """

    catalog: Catalog
    rating_scale: tuple[float, float] | None
    max_pages: int
    sessions: Sessions = "one"
    recall: Literal["session", "page"] = "session"
    history: History = "behind"
    repeat: Repeat = "session"
    remembers: bool = True


@dataclass(slots=True)
class _Visit:
    """The session that is going on."""

    start: int
    time: int
    page: int = 1
    chosen: int = 0
    left: bool = False
    shown: list[int] = field(default_factory=list)
    ratings: list[float] = field(default_factory=list)
    met: list[Met] = field(default_factory=list)
    memories: tuple[MemoryRecord, ...] | None = None
    last: Situation | None = None


class UserAgent(mesa.Agent):  # type: ignore[misc]
    """A person in one round.

    Args:
        model: the cohort.
        profile: who it is.
        memory: theirs alone, already holding the records of earlier rounds.
        past: what else they bring from earlier rounds.
        habits: what all people share.
        round_number: from 0.
        window: the time of this round; `origin`: start of the run.
        stream: randomness of the run; the person's and the pages' streams are made from it by name.
    """

    def __init__(
        self,
        model: mesa.Model,
        profile: UserProfile,
        memory: Memory,
        past: Past,
        habits: Habits,
        *,
        round_number: int,
        window: Window,
        origin: int,
        stream: Stream,
    ) -> None:
        super().__init__(model)
        self.profile = profile
        self.memory = memory
        self._habits = habits
        self._round = round_number
        self._window = window
        self._origin = origin
        self._stream = person_stream(stream, profile.user)
        self._chosen = np.array(past.chosen, dtype=np.int32)
        self._shown_before = past.shown
        self._next_record = past.remembered
        self._session = past.sessions
        self._last_end = past.last_end
        self._sessions_this_round = 0
        self._visit: _Visit | None = None
        self._begin_session()

    @property
    def browsing(self) -> bool:
        """Whether a session is going on."""
        return self._visit is not None

    @property
    def time(self) -> int:
        """When the next page appears, simulated seconds; only while browsing."""
        return self._here.time

    def request(self) -> PageRequest:
        """Asks for the next page."""
        return page_request(
            self.profile.user,
            self._here.page,
            training=self.profile.history,
            chosen=self._chosen,
            shown_before=self._shown_before,
            shown_here=self._here.shown,
            history=self._habits.history,
            repeat=self._habits.repeat,
            stream=self._page_stream(),
        )

    def perceive(self, page: Page) -> Situation:
        """Looks at a page, with what it brings to mind."""
        visit = self._here
        if self._habits.recall == "page" or visit.memories is None:
            visit.memories = self.memory.recall(page, visit.time)
        shared = self._stream.child("session", self._session)
        visit.last = Situation(self.profile, visit.memories, page, self._state(), self._page_stream(), visit=shared)
        return visit.last

    def act(self, situation: Situation, decision: Decision) -> PageTurn:
        """Does what was decided; time passes, the page is remembered."""
        visit, items = self._here, situation.page.items
        chosen = decision.outcomes["choose"].values == 1.0
        rating = decision.outcomes.get("rate")
        if rating is not None:
            visit.ratings.extend(rating.values[chosen & ~np.isnan(rating.values)].tolist())
        visit.met.extend(_met(items, chosen, None if rating is None else rating.values))
        visit.shown.extend(items.tolist())
        visit.chosen += int(chosen.sum())
        visit.left = bool(decision.outcomes["leave"].values[0] == 1.0)
        self._chosen = np.concatenate([self._chosen, items[chosen]])
        if self._habits.remembers:
            self._remember(
                records_of_page(
                    situation.page,
                    decision,
                    catalog=self._habits.catalog,
                    state=situation.state,
                    own_mean=self.profile.pickiness.value if self.profile.pickiness else None,
                    scale=self._habits.rating_scale,
                    next_record=self._next_record,
                )
            )
        dwell = self._dwell(len(items), int(chosen.sum()), situation.stream)
        visit.time += dwell
        visit.page += 1
        return PageTurn(situation, decision, dwell)

    def session_end(self, *, nothing_left: bool = False) -> SessionEnd | None:
        """The end of the session if it is over now (or must be, with `nothing_left` to show), else None."""
        visit = self._here
        if visit.last is None:
            # Nothing could be shown at all: a session without a page leaves no trace.
            self._visit = None
            return None
        if not (visit.left or nothing_left or visit.page > self._habits.max_pages):
            return None
        exit_: Literal["left", "last_page", "exhausted"] = "left" if visit.left else "exhausted" if nothing_left else "last_page"
        reflects = bool(getattr(self.memory, "reflection_due", False))
        return SessionEnd(replace(visit.last, state=self._state(), reflects=reflects, met=tuple(visit.met)), exit_)

    def look_back(self, end: SessionEnd, closing: Closing) -> None:
        """Remembers the session; the next one of this round begins, if there is one."""
        visit = self._here
        if self._habits.remembers:
            happened = [one for one in self.memory.records() if one.session == self._session and one.kind in ("chosen", "rated")]
            self._remember(
                records_of_session(
                    closing,
                    end.situation.state,
                    catalog=self._habits.catalog,
                    rests_on=[*end.situation.memories, *happened],
                    next_record=self._next_record,
                )
            )
        self._shown_before = (*self._shown_before, *visit.shown)
        self._session += 1
        self._sessions_this_round += 1
        self._last_end = visit.time
        self._begin_session()

    def records(self) -> list[MemoryRecord]:
        """What was held when the round began or was remembered since, with what was forgotten of it."""
        return self.memory.records()

    def _begin_session(self) -> None:
        """Starts the next session of this round, or leaves the person away if there is none."""
        start = self._next_start()
        self._visit = _Visit(start, start) if start is not None else None

    def _next_start(self) -> int | None:
        habits, rhythm = self._habits, self.profile.rhythm
        if habits.sessions == "rhythm":
            return next_arrival(rhythm, self._window, self._origin, self._last_end, self._session, self._stream)
        if habits.sessions == "relived" and rhythm.visits is not None:
            return relived_arrival(rhythm.visits, self._window, self._last_end, self._session, self._stream)
        if self._sessions_this_round:
            return None
        # A session of the last round may have reached into this one.
        return max(one_arrival(rhythm, self._window, self._stream.child("round", self._round)), self._last_end or 0)

    @property
    def _history(self) -> np.ndarray:
        return np.concatenate([self.profile.history, self._chosen])

    @property
    def _here(self) -> _Visit:
        assert self._visit is not None, "only somebody who is browsing can be asked this"
        return self._visit

    def _state(self) -> SessionState:
        visit = self._here
        return SessionState(
            round=self._round,
            session=self._session,
            time=visit.time,
            start=visit.start,
            page=visit.page,
            shown=len(visit.shown),
            chosen=visit.chosen,
            mean_rating=float(np.mean(visit.ratings)) if visit.ratings else None,
            fatigue=float(1.0 - np.exp(-len(visit.shown) / max(10.0, self.profile.rhythm.items_per_session))),
            history=self._history,
            ratings=tuple(visit.ratings),
        )

    def _page_stream(self) -> Stream:
        return page_stream(self._stream, self._session, self._here.page)

    def _dwell(self, items: int, chosen: int, stream: Stream) -> int:
        """Seconds on a page: the person's median seconds per item times the items, times a lognormal factor (log-sd 0.5).

        Somebody who lives their time in the data again goes at the pace of their visits there, in seconds per thing chosen; that
        includes what was passed over meanwhile, so a page without a choice takes one second.
        """
        noise = float(stream.child("dwell").generator().standard_normal())
        visits = self.profile.rhythm.visits
        if self._habits.sessions == "relived" and visits is not None:
            before = self._here.chosen - chosen
            return seconds_on_page(visits, self._session, before, chosen, noise, self._stream, SESSION_GAP) if chosen else 1
        factor = float(np.exp(0.5 * noise))
        return max(1, round(self.profile.rhythm.seconds_per_item * items * factor))

    def _remember(self, records: list[MemoryRecord]) -> None:
        self._next_record += len(records)
        self.memory.remember(records)


def _met(items: np.ndarray, chosen: np.ndarray, ratings: np.ndarray | None) -> list[Met]:
    """What was done with each item of a page."""
    given = np.full(len(items), np.nan) if ratings is None else ratings
    return [
        Met(item, bool(took), float(rating) if took and not np.isnan(rating) else None)
        for item, took, rating in zip(items.tolist(), chosen, given, strict=True)
    ]

"""One simulated person as a Mesa agent: perceives pages, acts on decisions, remembers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import mesa
import numpy as np

from agents.arrivals import Sessions, Window, next_arrival, one_arrival
from agents.experience import records_of_page, records_of_session
from simulator.dataset import Catalog
from simulator.protocols import Memory
from simulator.records import (
    Closing,
    Decision,
    MemoryRecord,
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
        sessions: one session per round, or as many as the person's rhythm gives.
        recall: whether memories are recalled once per session or anew at each page.
        repeat: "never" if items shown in earlier sessions are not to be shown again.
    """

    catalog: Catalog
    rating_scale: tuple[float, float] | None
    max_pages: int
    sessions: Sessions = "one"
    recall: Literal["session", "page"] = "session"
    repeat: Literal["session", "never", "allow"] = "session"


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
        self._stream = stream.child("user", profile.user)
        self._history = np.concatenate([profile.history, np.array(past.chosen, dtype=np.int32)])
        self._shown_before = past.shown if habits.repeat == "never" else ()
        self._next_record = len(past.records)
        self._session = past.sessions
        self._last_end = past.last_end
        self._sessions_this_round = 0
        self._begin_session()

    @property
    def browsing(self) -> bool:
        """Whether a session is going on."""
        return self._start is not None

    def request(self) -> PageRequest:
        """Asks for the next page."""
        shown = () if self._habits.repeat == "allow" else (*self._shown_before, *self._shown)
        return PageRequest(self.profile.user, self._page, self._history, np.array(shown, dtype=np.int32), self._page_stream().child("feed"))

    def perceive(self, page: Page) -> Situation:
        """Looks at a page, with what it brings to mind."""
        if self._habits.recall == "page" or not self._recalled:
            self._memories = self.memory.recall(page, self._time)
            self._recalled = True
        self._last = Situation(self.profile, self._memories, page, self._state(), self._page_stream())
        return self._last

    def act(self, situation: Situation, decision: Decision) -> PageTurn:
        """Does what was decided; time passes, the page is remembered."""
        items = situation.page.items
        chosen = decision.outcomes["choose"].values == 1.0
        rating = decision.outcomes.get("rate")
        if rating is not None:
            self._ratings.extend(rating.values[chosen & ~np.isnan(rating.values)].tolist())
        self._shown = (*self._shown, *items.tolist())
        self._n_chosen += int(chosen.sum())
        self._history = np.concatenate([self._history, items[chosen]])
        self._left = bool(decision.outcomes["leave"].values[0] == 1.0)
        dwell = self._dwell(len(items), situation.stream)
        self._time += dwell
        own_mean = self.profile.pickiness.value if self.profile.pickiness else None
        self._remember(
            records_of_page(
                situation.page,
                decision,
                catalog=self._habits.catalog,
                state=situation.state,
                own_mean=own_mean,
                scale=self._habits.rating_scale,
                next_record=self._next_record,
            )
        )
        self._page += 1
        return PageTurn(situation, decision, dwell)

    def session_end(self, *, nothing_left: bool = False) -> SessionEnd | None:
        """The end of the session if it is over now (or must be, with `nothing_left` to show), else None."""
        if self._page == 1:
            # Nothing could be shown at all: a session without a page leaves no trace.
            self._start = None
            return None
        if not (self._left or nothing_left or self._page > self._habits.max_pages):
            return None
        exit_: Literal["left", "last_page", "exhausted"] = "left" if self._left else "exhausted" if nothing_left else "last_page"
        return SessionEnd(replace(self._last, state=self._state()), exit_)

    def look_back(self, end: SessionEnd, closing: Closing) -> None:
        """Remembers the session; the next one of this round begins, if there is one."""
        this_visit = [record for record in self.memory.records() if record.session == self._session and record.kind in ("chosen", "rated")]
        self._remember(
            records_of_session(
                closing,
                end.situation.state,
                catalog=self._habits.catalog,
                rests_on=[*end.situation.memories, *this_visit],
                next_record=self._next_record,
            )
        )
        self._shown_before = (*self._shown_before, *self._shown) if self._habits.repeat == "never" else ()
        self._session += 1
        self._sessions_this_round += 1
        self._last_end = self._time
        self._begin_session()

    def records(self) -> list[MemoryRecord]:
        """Everything remembered or forgotten."""
        return self.memory.records()

    def _begin_session(self) -> None:
        self._start: int | None
        habits, rhythm = self._habits, self.profile.rhythm
        if habits.sessions == "rhythm":
            self._start = next_arrival(rhythm, self._window, self._origin, self._last_end, self._session, self._stream)
        elif self._sessions_this_round:
            self._start = None
        else:
            # A session of the last round may have reached into this one.
            self._start = max(one_arrival(rhythm, self._window, self._stream.child("round", self._round)), self._last_end or 0)
        self._time = self._start or 0
        self._page = 1
        self._shown: tuple[int, ...] = ()
        self._n_chosen = 0
        self._ratings: list[float] = []
        self._left = False
        self._recalled = False
        self._memories: tuple[MemoryRecord, ...] = ()

    def _state(self) -> SessionState:
        return SessionState(
            round=self._round,
            session=self._session,
            time=self._time,
            start=self._start or 0,
            page=self._page,
            shown=len(self._shown),
            chosen=self._n_chosen,
            mean_rating=float(np.mean(self._ratings)) if self._ratings else None,
            fatigue=float(1.0 - np.exp(-len(self._shown) / max(10.0, self.profile.rhythm.items_per_session))),
            history=self._history,
        )

    def _page_stream(self) -> Stream:
        return self._stream.child("session", self._session, "page", self._page)

    def _dwell(self, items: int, stream: Stream) -> int:
        """Seconds on a page: the person's median seconds per item times the items, times a lognormal factor (log-sd 0.5)."""
        factor = float(np.exp(0.5 * stream.child("dwell").generator().standard_normal()))
        return max(1, round(self.profile.rhythm.seconds_per_item * items * factor))

    def _remember(self, records: list[MemoryRecord]) -> None:
        self._next_record += len(records)
        self.memory.remember(records)

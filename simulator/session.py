"""The simulation of one cohort by Mesa: one step is one page turn of everybody who is browsing.

    recommend -> expose -> perceive -> prompt -> score -> decide -> apply -> remember -> log

`Cohort.step` is that line; everything else in the project exists to make one of its words good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import mesa

from simulator.log import CohortLog
from simulator.protocols import DecisionModel, Environment
from simulator.records import Closing, Decision, MemoryRecord, Page, PageRequest, PageTurn, SessionEnd, Situation, UserProfile
from simulator.seeds import Stream


class User(Protocol):
    """What a cohort needs of a person (`agents.user.UserAgent`)."""

    profile: UserProfile

    @property
    def browsing(self) -> bool:
        """Whether a session is going on."""

    def request(self) -> PageRequest:
        """Asks for the next page."""

    def perceive(self, page: Page) -> Situation:
        """Looks at a page, with what it brings to mind."""

    def act(self, situation: Situation, decision: Decision) -> PageTurn:
        """Does what was decided; time passes, the page is remembered."""

    def session_end(self, *, nothing_left: bool = False) -> SessionEnd | None:
        """The end of the session if it is over now (or must be, with `nothing_left` to show), else None."""

    def look_back(self, end: SessionEnd, closing: Closing) -> None:
        """Remembers the session; the next one of this round begins, if there is one."""

    def records(self) -> list[MemoryRecord]:
        """Everything remembered or forgotten."""


class Cohort(mesa.Model):  # type: ignore[misc]
    """The people of one cohort during one round.

    Args:
        make_users: makes the people, given this model; they register themselves with Mesa.
        environment: serves pages from a frozen recommender.
        decisions: decides what people do.
        log: keeps what happens.
        stream: of this cohort and round; seeds Mesa's own generators, which nothing here uses.
    """

    def __init__(
        self,
        make_users: Callable[[mesa.Model], Sequence[User]],
        environment: Environment,
        decisions: DecisionModel,
        log: CohortLog,
        stream: Stream,
    ) -> None:
        super().__init__(rng=stream.integer())
        self.users = make_users(self)
        self.environment, self.decisions, self.log = environment, decisions, log
        self.ended: list[tuple[User, SessionEnd]] = []
        self.running = any(user.browsing for user in self.users)

    def step(self) -> None:
        """One page turn of everybody who is browsing; when nobody is any more, all look back on their sessions together."""
        waiting = {id(user) for user, _ in self.ended}
        browsing = [user for user in self.users if user.browsing and id(user) not in waiting]
        served = self.environment.serve([user.request() for user in browsing])
        pages = [(user, page) for user, page in zip(browsing, served, strict=True) if page is not None]
        unserved = [user for user, page in zip(browsing, served, strict=True) if page is None]

        situations = [user.perceive(page) for user, page in pages]
        decisions = self.decisions.decide(situations)
        for (user, _), situation, decision in zip(pages, situations, decisions, strict=True):
            self.log.page(user.act(situation, decision))

        over = [(user, user.session_end()) for user, _ in pages] + [(user, user.session_end(nothing_left=True)) for user in unserved]
        self.ended += [(user, end) for user, end in over if end is not None]
        if len(self.ended) == sum(user.browsing for user in self.users):
            self.look_back()
        self.running = any(user.browsing for user in self.users)

    def look_back(self) -> None:
        """Closes all ended sessions at once, since texts that are written together cost less each; the next sessions begin.

        A step does so when everybody's session has ended; whoever cannot wait for that, as an agent that learns, asks for it.
        """
        closings = self.decisions.close_sessions([end.situation for _, end in self.ended])
        for (user, end), closing in zip(self.ended, closings, strict=True):
            self.log.session(end, closing)
            user.look_back(end, closing)
        self.ended = []

    def run(self) -> None:
        """Steps until everybody's sessions of this round are over, then logs what they remember."""
        while self.running:
            self.step()
        for user in self.users:
            self.log.memories(user.profile, user.records())

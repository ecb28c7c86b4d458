"""A live run as a Mesa model: one step is one page turn of everybody who is browsing, by `simulator.session.Cohort.step`.

Mesa's visualisation steps it, pauses it and makes it anew. When everybody has left, the next step begins the next round.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mesa
import polars as pl

from experiments import build
from experiments.analysis.stories import Story, story
from experiments.dashboard.world import AT_THE_START, FROM_THE_NEXT_PAGE, NOT_BETWEEN_PAGES, World
from experiments.people_tables import items_table, people_table
from simulator.dataset import Domain
from simulator.errors import UsersimError
from simulator.records import MemoryRecord, UserProfile
from simulator.run_directory import RunDirectory
from simulator.session import User
from simulator.simulation import join_round, write_shard

TABLES = ("impressions", "pages", "sessions", "texts")
"""The tables of the log that are shown while it grows."""


class LiveLog:
    """The tables of a live run so far, in the form of `experiments.analysis.stories.Log`."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], people: pl.DataFrame, items: pl.DataFrame, domain: Domain) -> None:
        self.impressions, self.pages = tables["impressions"], tables["pages"]
        self.sessions, self.texts = tables["sessions"], tables["texts"]
        self.people, self.items, self.domain = people, items, domain


class LiveRun(mesa.Model):  # type: ignore[misc]
    """The people of a world, browsing.

    Args:
        world: what it is made of; the newest live run is its `live`.

    Attributes:
        round: from 0. turned: ids of those who saw a page in the last step. trouble: why it stopped, or empty.
        turns: per step what happened, as `describe` says; the same numbers are in Mesa's data collector.
    """

    def __init__(self, world: World) -> None:
        super().__init__(rng=world.parts.config.seed)
        self.world = world
        self.trouble = ""
        self.turned: list[str] = []
        self.turns: list[dict[str, Any]] = []
        self._earlier: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
        self._log: LiveLog | None = None
        self.datacollector = mesa.DataCollector(model_reporters={name: _last(name) for name in self.measures})
        with world.lock:
            world.forget_conversations()
            self._folder = world.live_folder()
            self._pasts, self._interactions = dict(world.pasts), world.interactions
            self.round = world.first_round
            if world.source is not None:
                self._remember_source(world.source)
            self._begin_round()
            self.running = True
            world.live = self

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Names of the numbers that each step gives: shares and means are of this page turn alone."""
        chosen, actions = self.domain.chosen, {action.name for action in self.world.parts.begun.blueprint.actions}
        rating = ("mean rating",) if "rate" in actions else ()
        return ("browsing", "shown", chosen, f"share {chosen}", *rating, "mean fatigue", "left", "seconds", "tokens")

    @property
    def domain(self) -> Domain:
        """The words for the items."""
        return self.world.parts.begun.train.catalog.domain

    @property
    def last_round(self) -> int:
        """The last round that begins by itself."""
        rounds = self.world.parts.config.rounds
        return self.world.first_round + rounds - 1

    def step(self) -> None:
        """One page turn of everybody who is browsing; between rounds, the recommender learns first."""
        with self.world.lock:
            try:
                if not self.cohort.running:
                    self.round += 1
                    self._begin_round()
                self._turn()
                if not self.cohort.running:
                    self._end_round()
                self.running = self.cohort.running or self.round < self.last_round
            except UsersimError as error:
                self.trouble, self.running = str(error), False

    def change(self, overrides: Sequence[str]) -> None:
        """Settings ``section.key=value`` in force from the next page on; people stay where they are.

        Raises:
            ConfigError, PluginError: they are not allowed, or not between two pages; nothing has changed then.
        """
        world = self.world
        with world.lock:
            world.change(overrides, FROM_THE_NEXT_PAGE, NOT_BETWEEN_PAGES)
            if self.cohort.running:
                task = world.task(self.round, self._pasts, self._interactions)
                self.cohort.environment, self.cohort.decisions = world.parts.worker.environment(task), world.parts.worker.decisions

    @staticmethod
    def start_over(world: World, overrides: Sequence[str]) -> LiveRun:
        """A new live run of the same people under other settings.

        Raises:
            ConfigError, PluginError: they are not allowed; nothing has changed then.
        """
        with world.lock:
            if overrides:
                world.change(overrides, AT_THE_START)
            return LiveRun(world)

    def ask(self, user: str, question: str) -> str:
        """What a person answers now.

        Raises:
            ConfigError: the experiment has no language model.
        """
        with self.world.lock:
            conversation = self.world.conversation(self.person(user))
            conversation.memories = self.memories(user)
            return conversation.ask(question)

    def person(self, user: str) -> UserProfile:
        """The profile of somebody, by id."""
        return self._agent(user).profile

    def memories(self, user: str) -> list[MemoryRecord]:
        """Everything that somebody remembers or forgot, in the order it was made."""
        return self._agent(user).records()

    def browsing(self, user: str) -> bool:
        """Whether somebody has a session going on; whoever has left waits until the others have, to look back together."""
        return user in self._here()

    @property
    def log(self) -> LiveLog:
        """The log so far, of these people."""
        if self._log is None:
            begun = self.world.parts.begun
            now = self.cohort.log.tables() if not self._stored else {}
            tables = {name: pl.concat([*self._earlier[name], *([now[name]] if name in now else [])], how="diagonal") for name in TABLES}
            self._log = LiveLog(tables, people_table(begun.train, self.world.people), self._items, self.domain)
        return self._log

    @property
    def here(self) -> int:
        """How many people are about to see a page."""
        return len(self._here())

    def story(self, user: str) -> Story:
        """What somebody did so far."""
        return story(self.log, user)

    @cached_property
    def _items(self) -> pl.DataFrame:
        return items_table(self.world.parts.begun.train)

    def _here(self) -> list[str]:
        over = {user.profile.user_id for user, _ in self.cohort.ended}
        return [user.profile.user_id for user in self.cohort.users if user.browsing and user.profile.user_id not in over]

    def _agent(self, user: str) -> User:
        return next(agent for agent in self.cohort.users if agent.profile.user_id == user)

    def _begin_round(self) -> None:
        self._task = self.world.task(self.round, self._pasts, self._interactions)
        self.cohort = self.world.parts.worker.cohort(self._task)
        self._stored, self._log = False, None

    def _turn(self) -> None:
        before, tokens, started = self._totals(), self.world.parts.worker.usage.computed_tokens, time.perf_counter()
        self.turned = self._here()
        if self.cohort.running:
            self.cohort.step()
        self._log = None
        spent, after = time.perf_counter() - started, self._totals()
        new = {name: after[name] - before[name] for name in after}
        chosen, shown, rated = new["chosen"], new["shown"], new["rated"]
        turn = {
            "browsing": new["pages"],
            "shown": shown,
            self.domain.chosen: chosen,
            f"share {self.domain.chosen}": chosen / shown if shown else None,
            "mean rating": new["stars"] / rated if rated else None,
            "mean fatigue": new["fatigue"] / new["pages"] if new["pages"] else None,
            "left": new["ends"],
            "seconds": round(spent, 3),
            "tokens": self.world.parts.worker.usage.computed_tokens - tokens,
        }
        self.turns.append({"step": len(self.turns) + 1, "round": self.round + 1, **{name: turn[name] for name in self.measures}})
        self.datacollector.collect(self)

    def _end_round(self) -> None:
        """Keeps what happened, as a shard, from which the next round takes what people bring."""
        self.cohort.run()  # nobody browses any more, so this only logs what they remember
        tables = self.cohort.log.tables()
        write_shard(self._folder, build.result_of(self._task, tables), tables)
        self._pasts, simulated = join_round(self.world.plan, self._folder, self.round, [0], self._pasts)
        self._interactions = pl.concat([self._interactions, simulated])
        for name in TABLES:
            self._earlier[name].append(tables[name])
        self._stored, self._log = True, None

    def _totals(self) -> dict[str, float]:
        tables = self.cohort.log.tables()
        shown, pages = tables["impressions"], tables["pages"]
        ratings = shown["rating"] if "rating" in shown.columns else pl.Series([], dtype=pl.Float64)
        return {
            "pages": pages.height,
            "shown": shown.height,
            "chosen": int(shown["chosen"].sum()),
            "rated": ratings.count(),
            "stars": float(ratings.sum()),
            "fatigue": float(pages["fatigue"].sum()),
            "ends": tables["sessions"].height + len(self.cohort.ended),
        }

    def _remember_source(self, source: Path) -> None:
        ids = [person.user_id for person in self.world.people]
        for name in TABLES:
            table = RunDirectory(source).read_table(name).filter(pl.col("user").is_in(ids))
            self._earlier[name].append(table)


def _last(name: str) -> Any:
    return lambda model: model.turns[-1][name]

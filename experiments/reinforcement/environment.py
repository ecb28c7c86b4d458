"""One person in front of an agent: the environment of Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
from gymnasium import spaces

from experiments.config import ExperimentConfig
from experiments.reinforcement.features import ItemFeatures
from experiments.reinforcement.observations import Observer, row_of
from experiments.reinforcement.rewards import Turn, reward_named
from experiments.reinforcement.seats import Seats
from experiments.reinforcement.world import World, open_world
from simulator.errors import ConfigError, with_suggestion
from simulator.records import UserProfile
from simulator.seeds import Stream

Observation = dict[str, Any]
Info = dict[str, Any]


class Setting:
    """What the environment of one person and that of many have in common: the world, the spaces, the reward.

    Args:
        config: as `experiments.reinforcement.world.open_world`, or a `World` that was opened before and stays open.
        overrides: settings ``section.key=value`` of an experiment file.
        reward: a name of `experiments.reinforcement.rewards.REWARDS`, or the import path of a function.
        candidates: an action picks among so many items that the experiment's recommender offers; None: among all items.
        repair_penalty: subtracted from the reward for each place that had to be repaired.
        history_length: items of a person's history that are told.
        n: how many people at once.
        trust: whether the folder of a run may name code, programs and hosts (`experiments.trust`).

    Raises:
        UsersimError: something is wrong with it, in one sentence.
    """

    def __init__(
        self,
        config: str | Path | ExperimentConfig | World,
        overrides: Sequence[str],
        *,
        reward: str,
        candidates: int | None,
        repair_penalty: float,
        history_length: int,
        n: int,
        trust: bool,
    ) -> None:
        if history_length < 1 or n < 1:
            name, value = ("history_length", history_length) if history_length < 1 else ("num_envs", n)
            raise ConfigError(f"{name} = {value}, but it must be at least 1.")
        if not 0 <= repair_penalty < np.inf:
            raise ConfigError(f"repair_penalty = {repair_penalty}, but it is subtracted from the reward and must be 0 or more.")
        self._opened = not isinstance(config, World)
        if isinstance(config, World):
            if overrides or candidates not in (None, config.candidates):
                raise ConfigError("overrides and candidates belong to a world and were chosen when it was opened; leave them out here.")
            self.world = config
        else:
            self.world = open_world(config, overrides, candidates=candidates, trust=trust)
        self.reward_of = reward_named(reward, self.world.train)
        self.repair_penalty = repair_penalty
        self.observer = Observer(self.world, history_length)
        self.n_actions = self.world.candidates or self.world.train.n_items
        self.action_space = spaces.MultiDiscrete([self.n_actions] * self.world.page_size)
        self.seats = Seats(self.world, n)

    def reward(self, turn: Turn) -> float:
        """The reward of a turn, less the penalty of its repairs."""
        return self.reward_of(turn) - self.repair_penalty * turn.repaired

    def who(self, wanted: object) -> UserProfile | None:
        """The person of the reset option ``user``; None if anybody may come."""
        return None if wanted is None else self.world.person(str(wanted))

    def checked(self, actions: object, shape: tuple[int, ...]) -> np.ndarray:
        """Actions as an int64 array.

        Raises:
            ConfigError: wrong shape, no whole numbers, or out of range.
        """
        array = np.asarray(actions)
        what = "places among the candidates" if self.world.candidates else "item codes"
        wanted = f"{what}, whole numbers from 0 to {self.n_actions - 1}, shape {shape}"
        if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
            raise ConfigError(f"the action is {array.dtype} of shape {array.shape}; it must be {wanted}.")
        outside = array[(array < 0) | (array >= self.n_actions)]
        if len(outside):
            raise ConfigError(f"the action has {outside[0]}; it must be {wanted}.")
        return array.astype(np.int64)

    def close(self) -> None:
        """Closes the world, unless it was opened elsewhere."""
        if self._opened:
            self.world.close()


def reset_options(options: Mapping[str, Any] | None, allowed: Sequence[str]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ConfigError: they are no mapping, or one is not known, so that it would be ignored.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(f"the options of reset are {options!r}; they must be a mapping with any of the keys {', '.join(allowed)}.")
    for name in options or {}:
        if name not in allowed:
            raise ConfigError(with_suggestion("option of reset", str(name), allowed))
    return dict(options or {})


def info_of(turn: Turn, user: str) -> Info:
    """What `step` tells besides: the rows of the log. They hold what no recommender knows; they are for looking, not for acting."""
    info: Info = {"user": user, "repaired": turn.repaired, "impressions": list(turn.impressions)}
    if turn.page is not None:
        info["page"] = turn.page
    if turn.session is not None:
        info["session"] = turn.session
    return info


class Episodes:
    """Names the randomness of one sequence of episodes: seed, and how many resets ago it was given."""

    def __init__(self, seed: int) -> None:
        self._seed, self._number = seed, -1

    def next(self, seed: int | None) -> Stream:
        """The stream of the next episode; a seed begins the sequence anew."""
        self._seed, self._number = (self._seed, self._number + 1) if seed is None else (int(seed), 0)
        return Stream(self._seed).child("episode", self._number)


class SlateEnvironment(gymnasium.Env[Observation, np.ndarray]):
    """An agent fills pages for one simulated person at a time.

    *Action*: the page, one item per place, best place first. Items of the history, items shown before (``recommender.repeat``), and
    items that stand on the page already are repaired: the place gets the best candidate (without ``candidates`` the most popular
    item) that may be shown. ``info["repaired"]`` counts the repairs, ``repair_penalty`` prices them, and `action_masks` avoids all but
    those within a page.
    *Observation*: see `experiments.reinforcement.observations.Observer`.
    *Episode*: one session; with ``population.sessions = "rhythm"`` all sessions that begin within ``round_days``. It is `terminated` when
    the person leaves or nothing is left to show, and `truncated` at the last page (``recommender.max_pages``) or when the time is over.
    *Seeds*: person and behaviour of every episode follow from the seed of the last seeded reset, or of the experiment if there was
    none, and the number of resets since; never from other episodes or environments.
    *Reset options*: ``user``, the id of who is to come.

    Args:
        config, overrides, reward, candidates, repair_penalty, history_length, trust: see `Setting`.
        render_mode: "ansi" makes `render` return the last page as text.

    Raises:
        UsersimError: something is wrong with the configuration, in one sentence.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        config: str | Path | ExperimentConfig | World = "movielens",
        overrides: Sequence[str] = (),
        *,
        reward: str = "choices",
        candidates: int | None = None,
        repair_penalty: float = 0.0,
        history_length: int = 50,
        render_mode: str | None = None,
        trust: bool = False,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode = {render_mode!r}, but it must be 'ansi' or None.")
        self.render_mode = render_mode
        self._setting = Setting(
            config,
            overrides,
            reward=reward,
            candidates=candidates,
            repair_penalty=repair_penalty,
            history_length=history_length,
            n=1,
            trust=trust,
        )
        self.observation_space = self._setting.observer.space
        self.action_space = self._setting.action_space
        self._episodes = Episodes(self.world.config.seed)
        self._last: Turn | None = None

    @property
    def world(self) -> World:
        """Data, people and features behind the environment; to be shared with others."""
        return self._setting.world

    @property
    def features(self) -> ItemFeatures:
        """What a recommender may know of all items."""
        return self.world.features

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Somebody comes.

        Raises:
            ConfigError: the option ``user`` names nobody, or another option is given.
        """
        given = reset_options(options, ("user",))
        super().reset(seed=seed)
        who = self._setting.who(given.get("user"))
        self._setting.seats.begin({0: (self._episodes.next(seed), who)})
        self._last = None
        return self._observation(), {"user": self._setting.seats.seat(0).profile.user_id}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, Info]:
        """Shows a page.

        Raises:
            ConfigError: the action is not one, or the episode is over.
        """
        slate = self._setting.checked(action, (self.world.page_size,))
        seat = self._setting.seats.seat(0)
        if seat.over:
            raise ConfigError("this episode is over: call reset before the next step.")
        turn = self._last = self._setting.seats.turn({0: slate})[0]
        info = info_of(turn, seat.profile.user_id)
        return self._observation(), self._setting.reward(turn), turn.terminated, turn.truncated, info

    def action_masks(self) -> np.ndarray:
        """Which actions at each place need no repair because of history or earlier pages, boolean, shape (page_size x n_actions,)."""
        return np.tile(self._setting.seats.allowed(0), self.world.page_size)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The log of this episode so far, the same tables as those of a run (`simulator.tables`)."""
        return self._setting.seats.seat(0).tables

    def render(self) -> str | None:
        """The last page and what was done on it, as text."""
        if self.render_mode is None:
            return None
        return rendered(self._last, self._setting.seats.seat(0).profile.user_id, self.world)

    def close(self) -> None:
        """Frees the language model; may be called again."""
        self._setting.close()

    def _observation(self) -> Observation:
        return row_of(self._setting.observer.observe([self._setting.seats.seat(0)]), 0)


def rendered(turn: Turn | None, user: str, world: World) -> str:
    """A page as text, a line per item: position, title, what was done."""
    if turn is None or turn.page is None:
        return f"Person {user}: no page yet."
    title = dict(zip(world.train.catalog.item_ids, world.train.catalog.titles, strict=True))
    lines = [f"Person {user}, page {turn.page['page']}{', then left' if turn.page['leave'] else ''}"]
    for row in turn.impressions:
        did = "" if not row["chosen"] else f"  {world.train.catalog.domain.chosen}"
        stars = "" if row.get("rating") is None else f", rated {row['rating']:g}"
        lines.append(f"{row['position']:2d}. {title[row['item']]}{did}{stars}")
    return "\n".join(lines)

"""Many people in front of one agent: the vector environment of Gymnasium, one batch per page turn for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from experiments.config import ExperimentConfig
from experiments.reinforcement.environment import Episodes, Info, Observation, Setting, info_of, rendered, reset_options
from experiments.reinforcement.features import ItemFeatures
from experiments.reinforcement.observations import row_of
from experiments.reinforcement.rewards import Turn
from experiments.reinforcement.world import World
from simulator.errors import ConfigError


class SlateVectorEnvironment(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """`SlateEnvironment` times `num_envs`: everybody sees and does the same, to the last digit, as in an environment of their own.

    All pages of a step are one batch, so a language model is asked for all people at once. The seed of environment i is
    ``seed + i`` if `reset` gets one number, or the i-th of a list.

    Args:
        num_envs: how many people at once.
        autoreset_mode: what happens when an episode ends (`gymnasium.vector.AutoresetMode`): "NextStep" begins the next one at the
            next step, whose action for it is ignored; "SameStep" at once, with ``final_obs`` and ``final_info`` in the infos;
            "Disabled" waits for ``reset(options={"reset_mask": ...})``.
        config, overrides, reward, candidates, repair_penalty, history_length, render_mode, trust: as for `SlateEnvironment`.

    Raises:
        UsersimError: something is wrong with the configuration, in one sentence.
    """

    def __init__(
        self,
        num_envs: int,
        config: str | Path | ExperimentConfig | World = "movielens",
        overrides: Sequence[str] = (),
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        reward: str = "choices",
        candidates: int | None = None,
        repair_penalty: float = 0.0,
        history_length: int = 50,
        render_mode: str | None = None,
        trust: bool = False,
    ) -> None:
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            allowed = ", ".join(mode.value for mode in AutoresetMode)
            raise ConfigError(f"autoreset_mode = {autoreset_mode!r}, but it must be one of {allowed}.") from error
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"render_mode = {render_mode!r}, but it must be 'ansi' or None.")
        self._setting = Setting(
            config,
            overrides,
            reward=reward,
            candidates=candidates,
            repair_penalty=repair_penalty,
            history_length=history_length,
            n=num_envs,
            trust=trust,
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {"render_modes": ["ansi"], "render_fps": 1, "autoreset_mode": self._mode}
        self.single_observation_space = self._setting.observer.space
        self.single_action_space = self._setting.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes = [Episodes(self.world.config.seed + number) for number in range(num_envs)]
        self._over = np.zeros(num_envs, dtype=bool)
        self._last: list[Turn | None] = [None] * num_envs

    @property
    def world(self) -> World:
        """Data, people and features behind the environment; to be shared with others."""
        return self._setting.world

    @property
    def features(self) -> ItemFeatures:
        """What a recommender may know of all items."""
        return self.world.features

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Somebody comes everywhere, or where ``options["reset_mask"]`` (boolean, shape (num_envs,)) says so.

        Args:
            seed: one number, or one for each environment. options: ``user``: the id of who comes, or one for each environment.

        Raises:
            ConfigError: seeds, users or mask do not fit, a user is nobody, or another option is given.
        """
        given = reset_options(options, ("user", "reset_mask"))
        seeds = self._each(seed, "seed", lambda value, number: value + number)
        super().reset(seed=seeds[0])
        users = self._each(given.get("user"), "user", lambda value, _: value)
        mask = np.asarray(given.get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ConfigError(f"reset_mask must be a boolean array of shape ({self.num_envs},) with at least one True.")
        infos = self._begin(np.flatnonzero(mask).tolist(), seeds, users)
        return self._observations(), infos

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Shows a page to everybody; where an episode ended at the step before, the next one begins instead.

        Raises:
            ConfigError: the actions are not such, an episode is over and autoreset is disabled, or `reset` was not called.
        """
        slates = self._setting.checked(actions, (self.num_envs, self.world.page_size))
        if self._over.any() and self._mode is AutoresetMode.DISABLED:
            raise ConfigError(f"the episode of environment {int(np.argmax(self._over))} is over: reset it with options reset_mask.")
        beginning = np.flatnonzero(self._over).tolist()
        turns = self._setting.seats.turn({number: slates[number] for number in range(self.num_envs) if number not in beginning})
        rewards, terminated, truncated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        told: dict[int, Info] = {}
        for number, turn in turns.items():
            self._last[number] = turn
            rewards[number] = self._setting.reward(turn)
            terminated[number], truncated[number] = turn.terminated, turn.truncated
            told[number] = info_of(turn, self._setting.seats.seat(number).profile.user_id)
        infos: Info = {}
        if beginning:
            self._begin(beginning)
        self._over = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP and self._over.any():
            ended = np.flatnonzero(self._over).tolist()
            last = self._observations()
            for number in ended:
                self._tell(infos, {"final_obs": row_of(last, number), "final_info": told.pop(number)}, number)
            self._begin(ended)
        for number in range(self.num_envs):
            self._tell(infos, told.get(number) or {"user": self._user(number)}, number)
        return self._observations(), rewards, terminated, truncated, infos

    def action_masks(self) -> np.ndarray:
        """`SlateEnvironment.action_masks` of each environment, boolean, shape (num_envs, page_size x n_actions)."""
        masks = np.stack([self._setting.seats.allowed(number) for number in range(self.num_envs)])
        return np.tile(masks, (1, self.world.page_size))

    def render(self) -> tuple[str, ...] | None:
        """The last page of each environment as text."""
        if self.render_mode is None:
            return None
        return tuple(rendered(self._last[number], self._user(number), self.world) for number in range(self.num_envs))

    def close_extras(self) -> None:
        """Frees the language model."""
        self._setting.close()

    def _begin(self, numbers: Sequence[int], seeds: Sequence[Any] = (), users: Sequence[Any] = ()) -> Info:
        """Begins the next episode of some environments; says who came."""
        wanted = {number: self._setting.who(users[number]) if users else None for number in numbers}
        streams = {number: self._episodes[number].next(seeds[number] if seeds else None) for number in numbers}
        self._setting.seats.begin({number: (streams[number], wanted[number]) for number in numbers})
        infos: Info = {}
        for number in numbers:
            self._over[number], self._last[number] = False, None
            self._tell(infos, {"user": self._user(number)}, number)
        return infos

    def _user(self, number: int) -> str:
        return self._setting.seats.seat(number).profile.user_id

    def _observations(self) -> Observation:
        return self._setting.observer.observe([self._setting.seats.seat(number) for number in range(self.num_envs)])

    def _each(self, given: Any, name: str, spread: Callable[[Any, int], Any]) -> list[Any]:
        """One value for each environment, from one for all or a sequence."""
        if given is None or isinstance(given, (str, int, np.integer)):
            return [None if given is None else spread(given, number) for number in range(self.num_envs)]
        if len(given) != self.num_envs:
            raise ConfigError(f"{name} has {len(given)} entries for {self.num_envs} environments; give one, or one for each.")
        return list(given)

    def _tell(self, infos: Info, info: Info, number: int) -> None:
        """Adds what one environment tells: an array for each key, and which environments it is about (``_key``)."""
        for key, value in info.items():
            about = infos.setdefault(f"_{key}", np.zeros(self.num_envs, dtype=bool))
            about[number] = True
            if key == "final_info":
                self._tell(infos.setdefault(key, {}), value, number)
                continue
            kind = np.int64 if isinstance(value, int) else object
            infos.setdefault(key, np.zeros(self.num_envs, dtype=kind) if kind is np.int64 else np.full(self.num_envs, None, dtype=object))
            infos[key][number] = value

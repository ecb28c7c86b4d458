"""Who takes part: everybody, a number of people, or a number with every level of activity in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from agents.exposures import PeopleSplit
from simulator.errors import ConfigError
from simulator.plugins import ComponentConfig
from simulator.records import Level, UserProfile
from simulator.seeds import Stream

LEVELS: tuple[Level, ...] = ("low", "medium", "high")


class PopulationConfig(ComponentConfig):
    """Who takes part.

    Attributes:
        users: number of real people, or "all".
        among: whom to take them from: "everybody", or those of one role (`agents.exposures.people_split`): "fit", "validation", or
            "held-out", the people on whom fidelity is measured.
        synthetic: number of people to draw from the fitted distribution besides (see `agents.synthetic`).
        stratify: "activity" gives each level of activity the share that it has in the data; "none" leaves that to chance.
    """

    users: int | Literal["all"] = 200
    among: Literal["everybody", "fit", "validation", "held-out"] = "everybody"
    synthetic: int = Field(default=0, ge=0, le=100_000_000, strict=True)
    stratify: Literal["none", "activity"] = "none"

    @field_validator("users", mode="plain")
    @classmethod
    def _whole_number_or_all(cls, value: Any) -> int | Literal["all"]:
        if value == "all":
            return "all"
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValueError('must be a whole number from 0 on, or "all"')


def choose_people(
    profiles: Sequence[UserProfile], config: PopulationConfig, rng: Stream, roles: PeopleSplit | None = None
) -> list[UserProfile]:
    """The real people who take part.

    A larger number keeps everybody whom a smaller one chose, with the same seed and without stratification. Stratified
    numbers are proportional to the levels' shares among all people, rounded by largest remainder; within a level chance decides.

    Args:
        profiles: of all people of the data.
        config: how many, and how.
        rng: of the choice.
        roles: of everybody; needed where people of one role are wanted.

    Returns:
        Chosen profiles in order of user code.

    Raises:
        ConfigError: more people are wanted than there are, or nobody at all.
    """
    if config.among != "everybody":
        assert roles is not None, "people of one role are wanted, and nobody's role is known"
        wanted_codes = set(getattr(roles, config.among.replace("-", "_")).tolist())
        profiles = [profile for profile in profiles if profile.user in wanted_codes]
    if config.users == "all":
        return list(profiles)
    wanted, available = config.users, len(profiles)
    if wanted > available:
        raise ConfigError(
            f"population.users = {wanted}, but the data has {available} people with training interactions"
            f"{'' if config.among == 'everybody' else f' among its {config.among} people'}; "
            f'write at most {available}, or "all".'
        )
    if wanted + config.synthetic == 0:
        raise ConfigError("population.users = 0 and population.synthetic = 0, so there is nobody to simulate; set one of them.")
    order = rng.generator().permutation(available)
    if config.stratify == "activity":
        quotas = _quotas([sum(profile.activity.level == name for profile in profiles) for name in LEVELS], wanted)
        levels = np.array([LEVELS.index(profile.activity.level) for profile in profiles], dtype=np.int64)
        order = np.concatenate([order[levels[order] == index][:quota] for index, quota in enumerate(quotas)])
    return [profiles[index] for index in np.sort(order[:wanted])]


def _quotas(sizes: Sequence[int], wanted: int) -> list[int]:
    """`wanted` places shared out in proportion to `sizes` by largest remainder; never more than a size as ``wanted <= sum(sizes)``."""
    shares = np.array(sizes, dtype=np.float64) * wanted / max(sum(sizes), 1)
    quotas = np.floor(shares + 1e-9).astype(np.int64)
    missing = wanted - int(quotas.sum())
    quotas[np.argsort(-(shares - quotas), kind="stable")[:missing]] += 1
    return [int(quota) for quota in quotas]

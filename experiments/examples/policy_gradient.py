"""An agent learns to fill pages for simulated people, and is compared on other people with random, popular and recommended pages.

    python -m experiments.examples.policy_gradient movielens --set language_model=false --set decision.language_model=false

Half of the people are for learning, the others for judging. Everybody is judged in the same episodes under every policy (same
person, same seed), so differences are paired; intervals resample people. Numbers and learning curve go to ``--output``. The settings
above leave people without a language model, whose pages take milliseconds; with one, an agent learns as well, in hours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.intervals import Estimate, bootstrap_ratio
from experiments.analysis.learning_figures import learning_curve
from experiments.console import emit, note, stages
from experiments.examples.slate_policy import NAMES, SlatePolicy, page_features
from experiments.reinforcement import make_vector
from experiments.reinforcement.rewards import REWARDS
from experiments.reinforcement.world import World, open_world
from simulator.errors import ConfigError, UsersimError
from simulator.files import write_atomically
from simulator.seeds import Stream

CHECKS = 6
"""How often the policy is judged while it learns."""

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From a batch of observations to a batch of actions."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the agent learns and is judged.

    Attributes:
        reward: what it is paid. candidates: offered for each page. environments: people at once.
        updates: steps of the policy, each after `turns` pages of everybody. rate: of the steps.
        discount: what the reward of the next page counts for this one; 0 pays each page for itself, which is much less noisy, 1 pays
            it for the rest of the episode too.
        episodes: of each judged person.
    """

    reward: str = "choices"
    candidates: int = 100
    environments: int = 64
    updates: int = 50
    turns: int = 5
    rate: float = 0.1
    discount: float = 0.0
    episodes: int = 2


def learn(world: World, options: Options, on_update: Callable[[int, int, SlatePolicy], None]) -> SlatePolicy:
    """Learns by REINFORCE with the discounted return to go of the episode, less its mean over all pages of the same number in the batch.

    Args:
        world: of the people to learn from, with candidates.
        options: how.
        on_update: called before the first and after every update with its number, the pages shown so far, and the policy.
    """
    environments = make_vector(options.environments, world, reward=options.reward)
    policy = SlatePolicy.untrained(options.rate)
    observations, _ = environments.reset(seed=world.config.seed)
    stream = Stream(world.config.seed).child("policy gradient")
    pages, over = 0, np.zeros(options.environments, dtype=bool)
    on_update(0, 0, policy)
    for update in range(1, options.updates + 1):
        turns = []
        for turn in range(options.turns + (world.max_pages if options.discount else 0)):
            features = page_features(observations, world.features)
            there = observations["candidates"] < world.train.n_items
            actions, gradients = policy.draw(features, there, world.page_size, stream.child(update, turn).generator())
            shown, numbers = ~over, observations["page"]
            observations, rewards, terminated, truncated, _ = environments.step(actions)
            over = terminated | truncated
            turns.append((shown, numbers, gradients, rewards, over))
            pages += int(shown.sum())
        policy.update(_gradient(turns, options))
        on_update(update, pages, policy)
    return policy


def _gradient(turns: Sequence[tuple[np.ndarray, ...]], options: Options) -> np.ndarray:
    """The policy gradient from the first `Options.turns` turns; later ones only complete their returns."""
    to_go, returns = np.zeros(len(turns[0][0])), []
    for _, _, _, rewards, over in reversed(turns):
        to_go = rewards + options.discount * np.where(over, 0.0, to_go)
        returns.append(to_go)
    first = [(*turn[:3], value) for turn, value in zip(turns, reversed(returns), strict=True)][: options.turns]
    shown, numbers, gradients, values = (np.concatenate(part) for part in zip(*first, strict=True))
    numbers, gradients, values = numbers[shown], gradients[shown], values[shown]
    advantages = values.astype(np.float64)
    for number in np.unique(numbers):
        advantages[numbers == number] -= values[numbers == number].mean()
    gradient: np.ndarray = (advantages[:, None] * gradients).mean(axis=0)
    return gradient


def judge(world: World, options: Options, act: Act) -> np.ndarray:
    """The mean return of each person's episodes under a policy, shape (people,); the same episodes for every policy."""
    environments = make_vector(len(world.people), world, reward=options.reward, autoreset_mode="SameStep")
    users = [person.user_id for person in world.people]
    returns = np.zeros(len(users))
    for episode in range(options.episodes):
        seeds = [1_000_000 + episode * len(users) + number for number in range(len(users))]
        observations, _ = environments.reset(seed=seeds, options={"user": users})
        going = np.ones(len(users), dtype=bool)
        while going.any():
            observations, rewards, terminated, truncated, _ = environments.step(act(observations))
            returns += np.where(going, rewards, 0.0)
            going &= ~(terminated | truncated)
    return returns / options.episodes


def controls(world: World, everything: World, options: Options) -> dict[str, np.ndarray]:
    """Returns by person of the policies that do not learn.

    Args:
        world: of the people who are judged, with candidates. everything: the same people, with all items to choose from.
        options: how.
    """
    size, n = world.page_size, world.train.n_items
    stream = Stream(world.config.seed).child("random pages")
    turns = iter(range(10**9))
    rank = np.argsort(everything.popular.items)

    def at_random(choices: int) -> Act:
        def act(observations: Mapping[str, np.ndarray]) -> np.ndarray:
            return stream.child(next(turns)).generator().random((len(observations["user"]), choices)).argsort(axis=1)[:, :size]

        return act

    def popular(observations: Mapping[str, np.ndarray]) -> np.ndarray:
        blocked = np.zeros((len(observations["user"]), n + 1), dtype=bool)
        for key in ("history", "shown"):
            np.put_along_axis(blocked, observations[key], True, axis=1)
        return np.argsort(np.where(blocked[:, :n], n, rank), axis=1, kind="stable")[:, :size]

    def recommended(observations: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.arange(size), (len(observations["user"]), 1))

    return {
        "random items": judge(everything, options, at_random(n)),
        "random candidates": judge(world, options, at_random(options.candidates)),
        "popularity": judge(everything, options, popular),
        "the recommender itself": judge(world, options, recommended),
    }


def run(config: str, overrides: Sequence[str], options: Options, output: Path, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Learns, judges, writes ``learning.json`` and ``learning_curve.png``; returns what it wrote."""
    tell("reading the data", 0, 0)
    opened = open_world(config, overrides, candidates=options.candidates)
    try:
        pupils, judged = replace(opened, people=opened.people[::2]), replace(opened, people=opened.people[1::2])
        if not judged.people:
            raise ConfigError("population.users = 1, but half of the people are for learning and half for judging; set at least 2.")
        stream = Stream(opened.config.seed).child("judging")
        tell("judging the controls", 0, 0)
        others = controls(judged, replace(judged, candidates=None, generator=None), options)
        curve: list[dict[str, float | None]] = []
        learned = np.zeros(len(judged.people))

        def on_update(update: int, pages: int, policy: SlatePolicy) -> None:
            nonlocal learned
            tell("learning", update, options.updates)
            if update % max(1, options.updates // CHECKS) and update != options.updates:
                return
            learned = judge(judged, options, _greedy(policy, judged, stream.child("ties", update)))
            curve.append({"pages": pages, **_numbers(_mean(learned, stream.child("curve", update)))})

        started = time.perf_counter()
        policy = learn(pupils, options, on_update)
        seconds = time.perf_counter() - started
    finally:
        opened.close()
    results = {name: _numbers(_mean(returns, stream.child(name))) for name, returns in {**others, "learned": learned}.items()}
    gains = {name: _numbers(_mean(learned - returns, stream.child("gain", name))) for name, returns in others.items()}
    document = {
        "experiment": opened.config.name,
        "data": opened.train.name,
        "reward": options.reward,
        "people": {"learned from": len(pupils.people), "judged": len(judged.people)},
        "pages": curve[-1]["pages"],
        "seconds": round(seconds, 1),
        "return": results,
        "gain of the learned policy": gains,
        "no verdict": no_verdict(others),
        "weights": dict(zip(NAMES, policy.theta.round(4).tolist(), strict=True)),
        "curve": curve,
        "options": asdict(options),
        "seed": opened.config.seed,
    }
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "learning.json", json.dumps(document, indent=1).encode())
    learning_curve(document, output / "learning_curve.png")
    return document


def no_verdict(returns: Mapping[str, np.ndarray]) -> str | None:
    """Why a reward tells nothing about policies that show other pages: everybody has the same return under all of them; else None."""
    first, *others = returns.values()
    if not all(np.allclose(first, other, rtol=0, atol=1e-9) for other in others):
        return None
    return (
        f"everybody's return is the same under {', '.join(returns)}: nothing that is shown moves this reward, so there is nothing to learn"
    )


def _greedy(policy: SlatePolicy, world: World, ties: Stream) -> Act:
    rng = ties.generator()

    def act(observations: Mapping[str, np.ndarray]) -> np.ndarray:
        there = observations["candidates"] < world.train.n_items
        return policy.best(page_features(observations, world.features), there, world.page_size, rng)

    return act


def _mean(values: np.ndarray, stream: Stream) -> Estimate:
    return bootstrap_ratio(values, np.ones(len(values)), stream)


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    """Value and interval; no interval where everybody has the same, since nothing varies then."""
    limits = (
        {"low": round(estimate.low, 4), "high": round(estimate.high, 4)} if estimate.high > estimate.low else {"low": None, "high": None}
    )
    return {"value": round(estimate.value, 4), **limits}


def _told(found: Mapping[str, float | None]) -> str:
    interval = " (the same for everybody)" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{interval}"


def _rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("episodes of", f"{document['people']['judged']} people; learned from {document['people']['learned from']} others")]
    rows.append(("learning", f"{document['pages']} pages in {document['seconds']} s"))
    for name, found in document["return"].items():
        gain = document["gain of the learned policy"].get(name)
        behind = "" if gain is None else f"   learned is ahead by {_told(gain)}"
        rows.append((name, f"{_told(found)}{behind}"))
    if document["no verdict"]:
        rows.append(("no verdict", document["no verdict"]))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.examples.policy_gradient", description=str(__doc__).splitlines()[0])
    parser.add_argument("config", nargs="?", default="movielens", help="an experiment file or the name of one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the experiment")
    parser.add_argument("--seed", type=int, help="of everything")
    parser.add_argument("--output", type=Path, default=Path("results/policy-gradient"), help="folder of numbers and figure")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--reward", default=Options().reward, help=f"{', '.join(REWARDS)}, or an import path of a function")
    for name, meaning in {
        "candidates": "items offered for each page",
        "environments": "people at once",
        "updates": "steps of the policy",
        "turns": "pages of everybody before a step",
        "episodes": "of each judged person",
    }.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(Options(), name), help=meaning)
    parser.add_argument("--rate", type=float, default=Options().rate, help="of the steps")
    parser.add_argument("--discount", type=float, default=Options().discount, help="what the next page's reward counts, 0 to 1")
    given = parser.parse_args(arguments)
    options = Options(**{name: getattr(given, name) for name in Options.__dataclass_fields__})
    seed = [] if given.seed is None else [f"seed={given.seed}"]
    try:
        for name in ("environments", "updates", "turns", "episodes"):
            if getattr(options, name) < 1:
                raise ConfigError(f"--{name} {getattr(options, name)}, but it must be at least 1.")
        if not (options.rate > 0 and 0 <= options.discount <= 1):
            raise ConfigError(f"--rate {options.rate:g} --discount {options.discount:g}: a rate is above 0, a discount from 0 to 1.")
        with stages() as report:
            document = run(given.config, [*given.set, *seed], options, given.output, report)
    except UsersimError as error:
        note(f"policy_gradient: {error}")
        return error.exit_status
    emit(document, as_json=given.json, title=f"return of an episode: {options.reward}", rows=None if given.json else _rows(document))
    note(f"numbers and learning curve: {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Finds the level at which people choose as often as `decision.choose_rate` says, on pages of the experiment's own recommender.

::

    a sample of the people, before the recommender of the first round -> a rehearsal: sessions as in the first round, written nowhere
    probabilities of choosing what was shown -> the log-odds that must be added for their mean to be the rate -> again, since people who
    choose more stay longer and are then shown other items; until asked and expected agree

Whose pages those are is the section [anchor] of an experiment, or else its [recommender]. Arms that are compared have one anchor, since
another one for each would take away what their recommenders differ in. What is chosen in later rounds is a result: nothing is held there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import mesa
import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.special import expit, logit

from agents.arrivals import Window
from agents.memory import NoMemory
from agents.priors import intercept_for
from agents.user import UserAgent
from environments.feed import Feed
from experiments import anchor as anchors
from experiments import build
from experiments.anchor import Anchor
from experiments.config import ExperimentConfig
from experiments.manifest import code_of
from experiments.round_recommender import fit_recommender, fitted, loaded
from experiments.same_settings import prepared_alike, settings
from simulator.dataset import Dataset
from simulator.files import reading
from simulator.log import CohortLog
from simulator.one_thread import one_thread
from simulator.plugins import load
from simulator.protocols import Anchorable, DecisionModel, LanguageModel
from simulator.records import Action, Closing, Decision, Past, Situation, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream
from simulator.session import Cohort

MOST_PEOPLE, FEW_PEOPLE = 400, 50
"""People of a rehearsal, and of the first ones, which find about where the level is."""

MOST_TURNS = 15
"""Page turns of a rehearsal at most."""

PASSES, CLOSE = 4, 0.05
"""Rehearsals of few and of most people, at most so many each, and the relative error that was mended in the last one at most."""

QUANTILES = (np.arange(32) + 0.5) / 32
"""Of the log-odds on the pages that are kept, to tell what somebody usually chooses."""

LEAST = 1e-9

SLOPES = (-1.0, 2.0)
"""Bounds of how much more often people choose per unit of their own level."""


def anchor_of(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment on whose pages `choose_rate` is met: the same, with the recommender of its section [anchor], if it has one."""
    return config.model_copy(update={"recommender": config.anchor or config.recommender, "anchor": None, "interventions": {}})


def can_be_anchored(config: ExperimentConfig) -> bool:
    """Whether the people of an experiment have a level that can be moved (`simulator.protocols.Anchorable`)."""
    return hasattr(load(config.decision.use, methods=build.METHODS["decision"]), "anchor")


def make(
    run: RunDirectory,
    blueprint: build.Blueprint,
    train: Dataset,
    people: Sequence[UserProfile],
    model: LanguageModel | None,
    origin: int,
    prepared: Sequence[Path] = (),
) -> None:
    """Finds the anchor of a run and keeps it there, unless it is there already, whole; another run's is taken over if it is the same.

    Args:
        run: with its manifest and its fitted decision model. blueprint: of the run. train: what recommenders learn from.
        people: who takes part. model: behind the decisions, never asked here. origin: start of the first round, simulated seconds.
        prepared: folders of other runs.

    Raises:
        RunError: it is damaged, and found again it is not what cohorts were simulated with.
    """
    config = blueprint.config
    if not can_be_anchored(config) or (run.has_any_shard and "anchor" not in run.read_json("manifest")):
        return  # people whose level cannot be moved, and runs of before, which had none
    own = anchor_of(config)
    made_from = {"settings": _made_from(own), "code": code_of(own)["recommender"]}

    def find_and_keep(folder: Path) -> None:
        there = None if run.has_any_shard else _of_another(run, config, made_from, prepared)
        anchors.write(folder, there or _find(run, blueprint, train, people, model, origin, made_from))

    run.made_once(run.path / anchors.FOLDER, find_and_keep, rest_on_it=run.has_shards())


def anchored(
    blueprint: build.Blueprint, decisions: DecisionModel, train: Dataset, people: Sequence[UserProfile], origin: int
) -> Anchor | None:
    """Moves a fitted decision model to where that of a run of this experiment would be; None if there is nothing to move.

    Args:
        blueprint, train, people, origin: as in `make`. decisions: fitted, from now on at that level.
    """
    own = anchor_of(blueprint.config)
    if not isinstance(decisions, Anchorable) or decisions.asked_share is None:
        return None
    feed = Feed(fitted(own, train, 0), build.policy_id(own), own.recommender.feed_config(), train.n_items)
    anchor = found(replace(blueprint, config=own, interventions=()), decisions, feed, people, origin)
    decisions.anchor(anchor.shift, np.array(anchor.usual), anchor.level_slope)
    return anchor


@one_thread()
def met(blueprint: build.Blueprint, decisions: Anchorable, feed: Feed, people: Sequence[UserProfile], origin: int) -> float:
    """The share of what they are shown that people choose in the first round of a run, which draws otherwise than the rehearsal did.

    Args:
        blueprint, decisions, feed, people, origin: as in `found`.
    """
    anchor, moved = found(blueprint, decisions, feed, people, origin), decisions.rehearsing()
    moved.anchor(anchor.shift, np.array(anchor.usual), anchor.level_slope)
    seen = rehearse(blueprint, moved, feed, people, origin, Stream(blueprint.config.seed))
    return float(np.concatenate(seen.chosen).mean()) if seen.chosen else float("nan")


def _made_from(own: ExperimentConfig) -> dict[str, Any]:
    """What pages of a rehearsal depend on besides the decision model, its data and the people."""
    told = settings(own)
    return {key: value for key, value in told.items() if key.partition(".")[0] == "recommender"} | {"round_days": own.round_days}


def _of_another(run: RunDirectory, config: ExperimentConfig, made_from: dict[str, Any], prepared: Sequence[Path]) -> Anchor | None:
    for other in prepared:
        if (other / anchors.FOLDER).is_dir() and prepared_alike(run, config, RunDirectory(other)):
            found = anchors.read(other)
            if found is not None and found.made_from == made_from:
                return found
    return None


def _find(
    run: RunDirectory,
    blueprint: build.Blueprint,
    train: Dataset,
    people: Sequence[UserProfile],
    model: LanguageModel | None,
    origin: int,
    made_from: dict[str, Any],
) -> Anchor:
    config, own = blueprint.config, anchor_of(blueprint.config)
    here = replace(blueprint, config=own, interventions=())
    decisions = build.decisions(own, here.context(model))
    with reading(run.path / "decisions", "start the run again"):
        decisions.load(run.path / "decisions")
    assert isinstance(decisions, Anchorable)
    if decisions.asked_share is None:
        return Anchor(None, "", 0, 0, None, 0.0, (), made_from)
    if config.anchor is None:
        fit_recommender(run, config, train, 0, pl.DataFrame())
        recommender = loaded(config, run.recommender_folder(0))
    else:
        recommender = fitted(own, train, 0)
    feed = Feed(recommender, build.policy_id(own), own.recommender.feed_config(), train.n_items)
    return replace(found(here, decisions, feed, people, origin), made_from=made_from)


@one_thread()
def found(blueprint: build.Blueprint, decisions: Anchorable, feed: Feed, people: Sequence[UserProfile], origin: int) -> Anchor:
    """The level at which people choose as often as they are asked to on the pages of a feed; `decisions` stay as they are.

    Args:
        blueprint: of the experiment, without interventions. decisions: fitted, with an asked share. feed: serves the pages.
        people: who takes part. origin: start of the first round, simulated seconds.
    """
    asked = decisions.asked_share
    assert asked is not None
    draws = Stream(blueprint.config.seed).child("anchor")
    everybody = sample_of(people, MOST_PEOPLE, draws.child("people"))
    few = everybody[:: max(1, len(everybody) // FEW_PEOPLE)]
    rehearsed = decisions.rehearsing()
    shift, slope, expected, usual, pages = 0.0, 1.0, asked, np.full(len(QUANTILES), logit(asked)), 0
    for some in (few, everybody) if len(few) < len(everybody) else (everybody,):
        for _ in range(PASSES):
            seen = rehearse(blueprint, rehearsed, feed, some, origin, draws)
            if not seen.chances:
                break
            pages, levels = len(seen.chances), np.concatenate(seen.levels)
            log_odds = logit(np.concatenate(seen.chances).clip(LEAST, 1.0 - LEAST))
            before = float(expit(log_odds).mean())
            step = intercept_for(log_odds, asked)
            shift, expected = shift + step, float(expit(log_odds + step).mean())
            slope = level_slope(log_odds + step, levels)
            usual = np.quantile(log_odds + step - slope * levels, QUANTILES)
            rehearsed.anchor(shift, usual, slope)
            if abs(before / asked - 1.0) < CLOSE:
                break
    return Anchor(asked, build.policy_id(blueprint.config), len(everybody), pages, expected, shift, tuple(usual.tolist()), {}, slope)


def level_slope(log_odds: np.ndarray, levels: np.ndarray) -> float:
    """How much more often users choose what they are shown per unit of their own level, log-odds, within `SLOPES`.

    A level is part of the log-odds, and so is what the level goes with: the active have met what is popular, and less that they would
    choose is left. With the slope the shares that users of a higher level are taken to choose are those that they chose:
    ``sum level (p - mean_q expit(x_q + slope * level)) = 0``, with x_q the quantiles of ``log p / (1 - p) - slope * level``, the
    score equation of a fractional logit (Papke & Wooldridge, Journal of Applied Econometrics 11, 1996).

    Args:
        log_odds: of choosing what was shown, finite, shape (n,). levels: own level of whoever it was shown to, shape (n,).

    Returns:
        The slope; 1 where all have one level.
    """
    values, place = np.unique(levels, return_inverse=True)
    if np.ptp(values) < LEAST:
        return 1.0
    counts = np.bincount(place)
    chosen, centred = np.bincount(place, weights=expit(log_odds)), values - levels.mean()

    def too_few(slope: float) -> float:
        usual = np.quantile(log_odds - slope * levels, QUANTILES)
        return float((centred * (chosen - counts * expit(usual[:, None] + slope * values[None, :]).mean(axis=0))).sum())

    low, high = SLOPES
    if too_few(low) <= 0:
        return low
    return high if too_few(high) >= 0 else float(brentq(too_few, low, high, xtol=1e-6))


def rehearse(
    blueprint: build.Blueprint, decisions: Anchorable, feed: Feed, people: Sequence[UserProfile], origin: int, draws: Stream
) -> _Watched:
    """Sessions as in the first round; what was decided on each page, of which nothing is logged."""
    config = blueprint.config
    habits = replace(build.habits(config, blueprint.catalog, blueprint.rating_scale), remembers=False)
    window = Window(origin, origin + int(config.round_days * 86_400))
    watched = _Watched(decisions, blueprint.actions)

    def users(model: mesa.Model) -> list[UserAgent]:
        nothing = NoMemory(NoMemory.Config(), catalog=blueprint.catalog)
        return [
            UserAgent(model, person, nothing, Past(), habits, round_number=0, window=window, origin=origin, stream=draws)
            for person in people
        ]

    cohort = Cohort(users, feed, cast(DecisionModel, watched), CohortLog(blueprint.actions, blueprint.catalog.item_ids), draws)
    for _ in range(MOST_TURNS):
        if cohort.running:
            cohort.step()
    return watched


def sample_of(people: Sequence[UserProfile], most: int, stream: Stream) -> list[UserProfile]:
    """At most so many people, as many of each activity: every so manieth in order of their histories' lengths, in order of their ids.

    Args:
        people: in any order. most: how many. stream: draws where the count begins.
    """
    ordered = sorted(people, key=lambda person: (len(person.history), person.user_id))
    if len(ordered) <= most:
        return ordered
    places = ((np.arange(most) + stream.generator().random()) * len(ordered) / most).astype(np.intp)
    return [ordered[place] for place in places.tolist()]


class _Watched:
    """People who are watched: probabilities of choosing, what was chosen and whoever's own level, an array for each page."""

    def __init__(self, people: Anchorable, actions: Sequence[Action]) -> None:
        choose = next(action for action in actions if action.name == "choose")
        self._people, self._yes = people, choose.values.index(True)
        self.chances: list[np.ndarray] = []
        self.chosen: list[np.ndarray] = []
        self.levels: list[np.ndarray] = []

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """What they do."""
        decided = self._people.decide(situations)
        for situation, decision in zip(situations, decided, strict=True):
            self.chances.append(decision.outcomes["choose"].probabilities[:, self._yes])
            self.chosen.append(decision.outcomes["choose"].values)
            self.levels.append(np.full(len(self.chances[-1]), self._people.own_level(situation.profile)))
        return decided

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """How they look back."""
        return self._people.close_sessions(situations)

"""What environments for reinforcement learning share: data, people, their fitted decision model, the items' features.

All of it comes from an experiment file or a run, and from the training part of its data; it is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agents.profiles import fit_profiles
from agents.taste import read_tastes
from agents.user import Habits
from environments.feed import Feed
from environments.interventions import Intervention, aimed
from environments.recommenders.ranking import popularity_share
from experiments import build
from experiments import config as configuration
from experiments.anchoring import anchored
from experiments.config import ExperimentConfig
from experiments.reinforcement.features import ItemFeatures, item_features
from experiments.round_recommender import fitted, loaded
from experiments.run import origin, take_part
from experiments.run_data import data_of
from experiments.stored_settings import config_of
from experiments.trust import granted
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.protocols import DecisionModel, LanguageModel
from simulator.records import Action, Slate, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream


@dataclass(frozen=True, eq=False)
class World:
    """Everything that does not change from episode to episode.

    Attributes:
        config: the experiment. train: the training part of its data, all that a recommender may learn from.
        people: who may come, in order of user code. actions: what they can do. habits: what they share.
        interventions: beside items, those of the first round; see `environments.interventions`.
        decisions: decides for them; fitted. language_model: behind it, or None.
        features: what is known of the items.
        popular: every item, by the number of people who had it in training, with NaN for scores.
        candidates: size of the candidate set, or None if every item is a candidate.
        generator: picks candidates: the experiment's recommender, fitted on the training part; None without candidates.
    """

    config: ExperimentConfig
    train: Dataset
    people: tuple[UserProfile, ...]
    actions: tuple[Action, ...]
    habits: Habits
    interventions: tuple[Intervention, ...]
    decisions: DecisionModel
    language_model: LanguageModel | None
    features: ItemFeatures
    popular: Slate
    candidates: int | None
    generator: Feed | None

    @property
    def page_size(self) -> int:
        """Items on a page."""
        return self.config.recommender.feed_config().page_size

    @property
    def max_pages(self) -> int:
        """Pages of a session at most."""
        return self.habits.max_pages

    @property
    def n_users(self) -> int:
        """User codes are below this; synthetic people have the highest."""
        return self.train.n_users + self.config.population.synthetic

    @property
    def round_seconds(self) -> int:
        """Length of an episode's window of simulated time, seconds."""
        return int(self.config.round_days * 86_400)

    @property
    def origin(self) -> int:
        """Start of the window, simulated seconds since 1970 UTC, as that of a run's first round."""
        return origin(self.train, self.config.population.sessions)

    def person(self, user: str) -> UserProfile:
        """The person with this id.

        Raises:
            ConfigError: nobody who takes part has it.
        """
        found = next((person for person in self.people if person.user_id == str(user)), None)
        if found is None:
            some = ", ".join(person.user_id for person in self.people[:8])
            raise ConfigError(f"there is no person '{user}' among the {len(self.people)} people of this environment; for example {some}.")
        return found

    def close(self) -> None:
        """Frees the language model."""
        if self.language_model is not None:
            self.language_model.close()


def open_world(
    source: str | Path | ExperimentConfig,
    overrides: Sequence[str] = (),
    *,
    candidates: int | None = None,
    factors: int = 16,
    trust: bool = False,
) -> World:
    """Makes a world.

    Args:
        source: an experiment file, the name of one that comes with usersim, a checked configuration, or the folder of a run, whose
            fitted people are then used instead of fitting them anew. ``rounds`` and ``refit`` mean nothing here.
        overrides: settings ``section.key=value``; not with a run or a configuration.
        candidates: how many items the experiment's recommender offers for each page; None offers all.
        factors: length of the item factors among the features.
        trust: whether a run may name code, programs and hosts (`experiments.trust`).

    Raises:
        ConfigError: the source, an override, or the number of candidates is not allowed.
        UsersimError: anything else that the user can mend.
    """
    with granted(trust):
        config, run = _read(source, overrides)
    feed = config.recommender.feed_config()
    build.resolved(config)
    train = data_of(config, run).train
    if candidates is not None and not feed.page_size <= candidates <= train.n_items:
        raise ConfigError(
            f"candidates = {candidates}, but a page has {feed.page_size} places and the data {train.n_items} items; "
            f"write a number from {feed.page_size} to {train.n_items}, or None for all items."
        )
    profiles = fit_profiles(train)
    people = _with_tastes(config, run, take_part(config, train, profiles))
    ledger = None if run is None else run.path / build.LEDGER
    model = build.language_model(config, ledger=ledger)
    try:
        actions = build.actions(train)
        blueprint = build.Blueprint(config, train.catalog, actions, train.rating_scale, Path())
        decisions = build.decisions(config, blueprint.context(model))
        if run is not None and (run.path / "decisions").is_dir():
            build.restore(decisions, run.path / "decisions")
        else:
            decisions.fit(train, profiles, Stream(config.seed).child("decisions"))
            anchored(blueprint, decisions, train, people, origin(train, config.population.sessions))
        shares = popularity_share(train.interactions, train.n_items)
        order = np.lexsort((np.arange(train.n_items), -shares)).astype(np.int32)
        return World(
            config=config,
            train=train,
            people=tuple(people),
            actions=actions,
            habits=build.habits(config, train.catalog, train.rating_scale),
            interventions=aimed(config.interventions, train, Stream(config.seed)),
            decisions=decisions,
            language_model=model,
            features=item_features(train, factors, Stream(config.seed).child("item factors")),
            popular=Slate(order, np.full(train.n_items, np.nan)),
            candidates=candidates,
            generator=None if candidates is None else _generator(config, run, train, candidates),
        )
    except BaseException:
        if model is not None:
            model.close()
        raise


def _read(source: str | Path | ExperimentConfig, overrides: Sequence[str]) -> tuple[ExperimentConfig, RunDirectory | None]:
    if isinstance(source, ExperimentConfig):
        config, run = source, None
    elif (Path(source) / "config.toml").is_file():
        run = RunDirectory.open(Path(source))
        config = config_of(run)
    else:
        return configuration.read(Path(source), overrides), None
    if overrides:
        raise ConfigError(f"'{overrides[0]}' cannot be set for a run or a checked configuration; give an experiment file with it.")
    return config, run


def _with_tastes(config: ExperimentConfig, run: RunDirectory | None, people: list[UserProfile]) -> list[UserProfile]:
    if not config.population.taste:
        return people
    tastes = None if run is None else run.path / "tastes.json"
    if tastes is None or not tastes.is_file():
        raise ConfigError("population.taste = true: the tastes are written by a run; give the folder of one, or set it to false.")
    kept = read_tastes(tastes)
    return [replace(person, taste=kept.get(person.user_id)) for person in people]


def _generator(config: ExperimentConfig, run: RunDirectory | None, train: Dataset, candidates: int) -> Feed:
    kept = None if run is None else run.recommender_folder(0)
    generator = loaded(config, kept) if kept is not None and kept.is_dir() else fitted(config, train, 0)
    # The best candidates in order, however the experiment itself would explore among them.
    feed = config.recommender.feed_config().model_copy(update={"page_size": candidates, "exploration": "none"})
    return Feed(generator, build.policy_id(config), feed, train.n_items)

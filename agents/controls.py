"""Controls: people without a language model, behind the same seam, so that the model's own share can be measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
from pydantic import Field

from agents.choice_model import fit_logit
from agents.choices import close, decide, unusable
from agents.evidence import FEATURES, Evidence, choice_examples, star_probabilities
from agents.exposures import people_split
from agents.priors import PriorConfig, Priors, VisitConfig, intercept_for, leaving_by_visits, visits_known
from agents.satisfaction import Satisfaction, fit_satisfaction
from agents.staying import Staying
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.files import read_table
from simulator.one_thread import one_thread
from simulator.plugins import ComponentConfig
from simulator.protocols import DecisionContext
from simulator.records import Action, Closing, Decision, Outcome, Situation, UserProfile
from simulator.seeds import Stream


def closing_probabilities(
    actions: Sequence[Action], priors: Priors, satisfaction: Satisfaction, situation: Situation, usual_share: float
) -> dict[str, np.ndarray]:
    """Every session action by its prior, satisfaction by what happened in the session (`agents.satisfaction`).

    Args:
        actions: of the experiment. priors: of them. satisfaction: the model. situation: the last of the session.
        usual_share: share of the shown items that the user usually chooses, in (0, 1).
    """
    return {
        action.name: satisfaction.probabilities(action, situation, usual_share)
        if action.name == "satisfaction"
        else priors.of(action, situation.profile)[None, :]
        for action in actions
        if action.scope == "session"
    }


SPREAD_STRENGTH = 10.0
"""Pseudo-ratings that complete a person's own spread."""


class RandomDecisions:
    """People who follow their prior (`agents.priors`) whatever is shown; session actions are uniform.

    How long they stay depends on how much they happen to choose (`agents.staying`).
    """

    Config = VisitConfig
    uses_language_model = False
    reads_memories = False

    def __init__(self, config: VisitConfig, *, context: DecisionContext) -> None:
        self._actions = context.actions
        self._config, self._context = config, context
        self._priors = Priors(config, context.actions, (), context.max_pages)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        return self._config.assumptions()

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        return ()

    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Learns what a typical session length is."""
        visits_known(profiles, self._config.stay)
        self._priors.typical_items = float(np.median([profile.rhythm.items_per_session for profile in profiles]))

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """See `simulator.protocols.DecisionModel.decide`."""
        return [self._decision(situation, self._probabilities(situation)) for situation in situations]

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """See `simulator.protocols.DecisionModel.close_sessions`; no text is written."""
        return [close(self._actions, situation, self._closing_probabilities(situation)) for situation in situations]

    def save(self, folder: Path) -> None:
        """Writes ``priors.json``."""
        (folder / "priors.json").write_text(json.dumps({"typical_items": self._priors.typical_items}), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        self._priors.typical_items = json.loads((folder / "priors.json").read_text(encoding="utf-8"))["typical_items"]

    def _decision(self, situation: Situation, found: dict[str, np.ndarray]) -> Decision:
        choose, leave = (next(action for action in self._actions if action.name == name) for name in ("choose", "leave"))
        if self._config.stay == "pages":
            return decide(self._actions, situation, found, self._staying(situation.profile).leaving(leave, situation))
        positive = found["choose"][:, choose.values.index(True)]
        return decide(self._actions, situation, found, leaving_by_visits(leave, situation, positive))

    def _staying(self, profile: UserProfile) -> Staying:
        """How a person leaves pages; nothing is known of fatigue and satisfaction here."""
        config, context = self._config, self._context
        pages, usual = self._priors.expected_pages(profile), config.choose_rate
        return Staying(pages, context.max_pages, context.page_size, usual, profile.rhythm.items_per_session, config.leave_response)

    def _probabilities(self, situation: Situation) -> dict[str, np.ndarray]:
        return self._priors.page(situation)

    def _closing_probabilities(self, situation: Situation) -> dict[str, np.ndarray]:
        return {action.name: self._priors.of(action, situation.profile)[None, :] for action in self._actions if action.scope == "session"}


class EvidenceDecisions(RandomDecisions):
    """A logistic choice model on popularity, affinity and quality; ratings from user and item biases. No language model.

    The weights are estimated by logistic regression (with a ridge of 1) on the training part of all people but the held-out ones
    (`agents.evidence.choice_examples`, `agents.exposures.people_split`).
    The intercept is then set so that the mean probability over first pages of typical items is the prior's `choose_rate`,
    since sampled negatives say nothing about how often shown items are taken. Ratings are normal around the overall mean plus
    item bias plus the person's own bias, with the person's own spread (`own_spread`), rounded to stars.
    Satisfaction follows from what happened in the session (`agents.satisfaction`).
    """

    used: tuple[str, ...] = FEATURES
    rates_items: bool = True

    def __init__(self, config: VisitConfig, *, context: DecisionContext) -> None:
        super().__init__(config, context=context)
        self._choose_rate = config.choose_rate
        self._evidence: Evidence | None = None
        self._satisfaction: Satisfaction | None = None
        self._weights = np.zeros(len(FEATURES))
        self._intercept = self._shift = 0.0

    @property
    def asked_share(self) -> float:
        """See `simulator.protocols.Anchorable`."""
        return self._choose_rate

    def rehearsing(self) -> EvidenceDecisions:
        """See `simulator.protocols.Anchorable`."""
        return copy(self)

    def own_level(self, profile: UserProfile) -> float:
        """See `simulator.protocols.Anchorable`; nobody has one."""
        return 0.0

    def anchor(self, shift: float, usual: np.ndarray, level_slope: float = 1.0) -> None:
        """See `simulator.protocols.Anchorable`; what is usual is the rate itself."""
        self._shift = shift

    @property
    def assumptions(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        return (*super().assumptions, *(self._satisfaction.assumptions if self._satisfaction is not None else ()))

    @one_thread()
    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Estimates the weights on the training part."""
        super().fit(train, profiles, rng)
        split = people_split(train)
        learns_from = np.concatenate([split.fit, split.validation])
        features, labels = choice_examples(train, rng.child("choice examples"), among=learns_from)
        columns = [FEATURES.index(name) for name in self.used]
        model = fit_logit(features[:, columns], labels, np.arange(len(labels)), self.used, l2=1.0)
        self._weights = np.zeros(len(FEATURES))
        self._weights[columns] = model.weights[1:]
        self._evidence = Evidence(train.interactions, train.n_users, train.n_items)
        self._satisfaction = fit_satisfaction(train, learns_from)
        self._intercept = self._matched_intercept(profiles, rng.child("intercept").generator())

    def save(self, folder: Path) -> None:
        """Writes the weights and the evidence."""
        super().save(folder)
        assert self._evidence is not None
        assert self._satisfaction is not None
        self._evidence.save(folder)
        self._satisfaction.save(folder)
        document = {"weights": dict(zip(FEATURES, self._weights.tolist(), strict=True)), "intercept": self._intercept}
        (folder / "choice_model.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        super().load(folder)
        self._evidence = Evidence.load(folder)
        self._satisfaction = Satisfaction.load(folder, len(self._context.catalog))
        document = json.loads((folder / "choice_model.json").read_text(encoding="utf-8"))
        self._weights = np.array([document["weights"][name] for name in FEATURES])
        self._intercept = document["intercept"]

    def _matched_intercept(self, profiles: Sequence[UserProfile], generator: np.random.Generator) -> float:
        """The intercept at which the mean choice probability over popular items for some people is `choose_rate`."""
        assert self._evidence is not None
        draw = np.exp(self._evidence.popularity)
        utilities = []
        for index in generator.integers(len(profiles), size=min(200, 5 * len(profiles))):
            items = generator.choice(len(draw), size=min(20, len(draw)), replace=False, p=draw / draw.sum())
            utilities.append(self._evidence.features(profiles[int(index)].history, items) @ self._weights)
        return intercept_for(np.concatenate(utilities), self._choose_rate)

    def _probabilities(self, situation: Situation) -> dict[str, np.ndarray]:
        assert self._evidence is not None
        probabilities = super()._probabilities(situation)
        items, profile = situation.page.items, situation.profile
        utility = self._evidence.features(profile.history, items) @ self._weights + self._intercept + self._shift
        positive = 1.0 / (1.0 + np.exp(-utility))
        for action in self._actions:
            if action.name == "choose":
                probabilities[action.name] = np.column_stack([positive if value else 1.0 - positive for value in action.values])
            elif action.name == "rate" and self.rates_items and profile.pickiness is not None:
                own = profile.pickiness.value - self._evidence.mean_rating
                if len(profile.history):
                    own -= float(self._evidence.item_bias[profile.history].mean())
                means = self._evidence.mean_rating + own + self._evidence.item_bias[items]
                spread = own_spread(profile, own, self._evidence.rating_sd)
                probabilities[action.name] = star_probabilities(means, spread, [float(value) for value in action.values])
        return probabilities

    def _closing_probabilities(self, situation: Situation) -> dict[str, np.ndarray]:
        assert self._satisfaction is not None
        return closing_probabilities(self._actions, self._priors, self._satisfaction, situation, self._choose_rate)


def own_spread(profile: UserProfile, offset: float, usual: float) -> float:
    """How far a person's ratings lie around the items' means, once their own offset is taken out; this is where conformity acts.

    Conformity is the mean of ``(rating - item mean)^2``, that is offset^2 + spread^2. The spread's square is shrunk to the
    population's by ten pseudo-ratings.

    Args:
        profile: whose. offset: how much higher than the items' means the person rates. usual: the population's spread, same unit.
    """
    if profile.conformity is None:
        return usual
    n = len(profile.history)
    own = max(profile.conformity.value - offset**2, 0.0)
    return float(np.sqrt((n * own + SPREAD_STRENGTH * usual**2) / (n + SPREAD_STRENGTH)))


class PopularityDecisions(EvidenceDecisions):
    """As `EvidenceDecisions`, with popularity as the only evidence for a choice and the person's own histogram for ratings."""

    used = ("popularity",)
    rates_items = False


class ReplayedConfig(ComponentConfig):
    """Options of `ReplayedDecisions`.

    Attributes:
        run: folder of the run whose people are replayed; needs the same people and the same pages.
    """

    run: Path = Field(...)


class ReplayedDecisions:
    """People who do again what the log of an earlier run says they did on the same page.

    A page that the log does not hold, or with other items, gives the status "not in the replayed log" and counts as unusable.
    """

    Config = ReplayedConfig
    uses_language_model = False
    reads_memories = False

    def __init__(self, config: ReplayedConfig, *, context: DecisionContext) -> None:
        self._actions = context.actions
        self._item_ids = context.catalog.item_ids
        self._priors = Priors(PriorConfig(), context.actions, (), context.max_pages)
        frames = {}
        for name in ("impressions", "pages", "sessions"):
            file = config.run / f"{name}.parquet"
            if not file.is_file():
                raise ConfigError(f"[decision] run = '{config.run}': there is no {name}.parquet; give the folder of a complete run.")
            frames[name] = read_table(file, "give the folder of another run", ConfigError)
        self._items = {
            (user, session, page): frame.sort("position")
            for (user, session, page), frame in frames["impressions"].group_by("user", "session", "page", maintain_order=True)
        }
        self._pages = {(row["user"], row["session"], row["page"]): row for row in frames["pages"].iter_rows(named=True)}
        self._sessions = {(row["user"], row["session"]): row for row in frames["sessions"].iter_rows(named=True)}

    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Nothing to learn."""

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """See `simulator.protocols.DecisionModel.decide`."""
        return [self._replay(situation) for situation in situations]

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """See `simulator.protocols.DecisionModel.close_sessions`; no text is written."""
        return [self._replay_session(situation) for situation in situations]

    def save(self, folder: Path) -> None:
        """Nothing to keep: the log is read again."""

    def load(self, folder: Path) -> None:
        """Nothing to restore."""

    def _replay(self, situation: Situation) -> Decision:
        key = (situation.profile.user_id, situation.state.session, situation.page.number)
        logged, page = self._items.get(key), self._pages.get(key)
        items = [self._item_ids[item] for item in situation.page.items]
        if logged is None or page is None or logged["item"].to_list() != items:
            prior = self._priors.page(situation)
            return unusable(self._actions, situation, prior, "not in the replayed log", f"page {key[2]} of session {key[1]} of {key[0]}")
        outcomes = {}
        for action in self._actions:
            if action.scope == "item":
                outcomes[action.name] = _as_logged(action, logged[action.column].to_list())
            elif action.scope == "page":
                outcomes[action.name] = _as_logged(action, [page[action.column]])
        return Decision(outcomes, memories_told=page.get("memories_told"))

    def _replay_session(self, situation: Situation) -> Closing:
        row = self._sessions.get((situation.profile.user_id, situation.state.session))
        actions = [action for action in self._actions if action.scope == "session"]
        if row is None:
            uniform = {action.name: self._priors.of(action, situation.profile)[None, :] for action in actions}
            return Closing(close(self._actions, situation, uniform).outcomes, status="not in the replayed log")
        return Closing({action.name: _as_logged(action, [row[action.column]]) for action in actions})


def _as_logged(action: Action, values: Sequence[bool | float | None]) -> Outcome:
    """Values of a log as an outcome; what did not happen is NaN, and the probabilities say what was done for certain."""
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    away = np.abs(numbers[:, None] - np.array(action.results, dtype=np.float64))
    certain = (away <= (away.min(axis=1, keepdims=True) if action.within else 0.0)).astype(np.float64)
    certain[certain.sum(axis=1) == 0] = 1.0 / len(action.results)
    certain /= certain.sum(axis=1, keepdims=True)
    return Outcome(numbers, certain)

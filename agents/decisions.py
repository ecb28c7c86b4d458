"""Decisions of people driven by a language model alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from agents.choices import close, decide, unusable
from agents.priors import PriorConfig, Priors
from agents.prompts import PromptBuilder, PromptConfig
from agents.stated_satisfaction import StatedSatisfaction, fit_stated
from agents.text import clean
from agents.texts import TextWriter, Trial
from simulator.dataset import Dataset
from simulator.errors import ConfigError, ModelError
from simulator.protocols import DecisionContext
from simulator.records import (
    Action,
    Closing,
    Completion,
    Decision,
    Impression,
    Met,
    Page,
    Scores,
    SessionState,
    Situation,
    UserProfile,
)
from simulator.seeds import Stream


class LanguageModelConfig(PriorConfig):
    """Options of `LanguageModelDecisions`.

    Attributes:
        recentre: corrects the model's own preference for labels and places (see `LanguageModelDecisions`).
        reference_pages: pages of random people and items on which that preference is measured, once per run.
        strength: what the model's corrected log-odds are multiplied by; 0 leaves the prior alone.
        texts: whether the model is asked for texts, and a reason for the satisfaction is written. Without it, insights are made from facts.
        texts_trial: sentences that the model is asked for before the run, to see how many of them are complete and true (`agents.texts`).
        least_texts_share: below this share of them it is not asked for texts: they are made from facts. With 0 it is asked untried.
        satisfaction_sessions: real sessions, one of each user, at whose end the model is asked for its satisfaction, to test whether the
            answer tells anything (`agents.stated_satisfaction`); with 0 it is not asked, and satisfaction follows from what happened.
        prompt: what goes into the prompts.
    """

    recentre: bool = True
    reference_pages: int = Field(32, ge=1, le=10_000)
    strength: float = Field(1.0, ge=0, le=10)
    texts: bool = True
    texts_trial: int = Field(16, ge=1, le=1_000)
    least_texts_share: float = Field(0.5, ge=0, le=1)
    satisfaction_sessions: int = Field(0, ge=0, le=100_000)
    prompt: PromptConfig = PromptConfig()


@dataclass(frozen=True, eq=False)
class Reading:
    """What the language model says about one page.

    Attributes:
        logprobs: action name -> log-probability of each label, minus the model's own preference for labels and places if that is
            corrected; shape (n_impressions, n_labels) for item actions, (1, n_labels) for page actions. Empty if there is no answer.
        status, reply: as in `Scores`.
        thought, thought_status: as in `Decision`.
    """

    logprobs: Mapping[str, np.ndarray]
    status: str
    reply: str
    thought: str = ""
    thought_status: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The scores of a page, and the thought that was put before it with how it came about."""

    scores: Scores
    thought: str = ""
    thought_status: str = ""


class LanguageModelDecisions:
    """People whose every decision is read from the probabilities of a language model.

    A small model prefers some labels and some places whatever the item is. With `recentre`, the mean log-probability of
    each label at each place is measured on reference pages (random training people, random training items) and
    subtracted; what remains is added to the person's prior (`agents.priors`)::

        p(label)  is proportional to  prior(label) * exp(strength * (log p_model(label) - reference(place, label)))

    This is batch calibration (Zhou et al. 2024, "Batch calibration: rethinking calibration for in-context learning and
    prompt engineering", equation 2) with a fixed reference batch, so that no person's decision depends on who else is
    in the cohort. Without `recentre`, p(label) = p_model(label). Satisfaction follows from what happened in the session, and from the
    model's answer only where a test gave that weight (`agents.stated_satisfaction`).

    Args:
        config: the options.
        context: the catalog, the actions and the language model.

    Raises:
        ConfigError: the experiment has no language model.
    """

    Config = LanguageModelConfig

    def __init__(self, config: LanguageModelConfig, *, context: DecisionContext) -> None:
        if context.language_model is None:
            raise ConfigError("[decision] agents.decisions:LanguageModelDecisions needs a section [language_model].")
        self.config = config
        self._context = context
        self._model = context.language_model
        self._actions = context.actions
        self.prompts = PromptBuilder(context.catalog, context.actions, config.prompt, context.seed)
        self._priors = Priors(config, context.actions, (), context.max_pages)
        self._reference: dict[str, np.ndarray] = {}
        self._glad: StatedSatisfaction | None = None
        self._others = [action for action in context.actions if action.scope == "session" and action.name != "satisfaction"]
        self._texts = TextWriter(
            self._model, self.prompts, context.actions, context.rating_scale, texts=config.texts, least=config.least_texts_share
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`: what satisfaction follows from, and who writes the texts."""
        glad = self._glad.assumptions if self._glad is not None else ()
        return (*glad, *([self._texts.told] if self._texts.told else []))

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        return ()

    @property
    def figures(self) -> dict[str, float]:
        """What was measured of the model before the run, for its summary."""
        trial = self._texts.trial
        return {} if trial is None else {"texts_trial_asked": trial.asked, "texts_trial_passed_share": trial.share}

    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Measures the model's preference for labels and places on reference pages; fits satisfaction to what happened."""
        self.measure(train, profiles, rng)
        self._glad = fit_stated(train, self.config.satisfaction_sessions, self._stated, rng.child("satisfaction"))

    def measure(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """What `fit` learns of the model itself, for those who have another model of satisfaction: tries texts, asks reference pages."""
        self._priors = Priors(self.config, self._actions, profiles, self._context.max_pages)
        self.try_texts(train, profiles, rng)
        if not self.config.recentre:
            return
        situations = reference_situations(train, profiles, self._context.page_size, self.config.reference_pages, rng)
        pages = [answer.scores for answer in self._answers(situations)]
        asked = [_some([self._read(scores, self._context.page_size) for scores in pages if scores.status == "ok"], pages)]
        if self._others:
            asked.append(self._read_ends(situations))
        for batch in asked:
            for name in batch[0]:
                self._reference[name] = np.mean([logprobs[name] for logprobs in batch], axis=0)

    def try_texts(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Asks for sentences about made up visits, to see whether the model writes true ones."""
        if self.config.texts and self.config.least_texts_share:
            pages = reference_situations(train, profiles, self._context.page_size, self.config.texts_trial, rng.child("texts"))
            visits = [made_up_visit(page, self._actions) for page in pages]
            asked = [action for action in self._actions if action.scope == "session"]
            drawn = {action.name: self._priors.of(action, visits[0].profile)[None, :] for action in asked}
            self._texts.test(visits, [close(self._actions, visit, drawn) for visit in visits])

    @property
    def reference(self) -> dict[str, np.ndarray]:
        """Action -> the model's mean log-probabilities on the reference pages, by place."""
        return dict(self._reference)

    def adopt(self, profiles: Sequence[UserProfile], reference: Mapping[str, np.ndarray]) -> None:
        """Takes what an earlier `fit` measured of the same model and prompts, instead of asking again."""
        self._priors = Priors(self.config, self._actions, profiles, self._context.max_pages)
        self._reference = dict(reference)

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """See `simulator.protocols.DecisionModel.decide`. One scored prompt per page, after a thought if there is to be one."""
        return [self._decision(situation, answer) for situation, answer in zip(situations, self._answers(situations), strict=True)]

    def read(self, situations: Sequence[Situation]) -> list[Reading]:
        """What the model says about each page, without the prior: for models that weigh it with something else."""
        return [
            Reading(
                self._corrected_page(answer.scores, len(situation.page.impressions)),
                answer.scores.status,
                answer.scores.reply,
                answer.thought,
                answer.thought_status,
            )
            for situation, answer in zip(situations, self._answers(situations), strict=True)
        ]

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """See `simulator.protocols.DecisionModel.close_sessions`.

        One scored prompt per session if the model's answer to satisfaction has weight, or if there are other actions at its end; then the
        texts.
        """
        assert self._glad is not None
        answers: Sequence[Scores | None] = [None] * len(situations)
        if self._others or self._glad.listens:
            answers = self._model.score([self.prompts.closing(situation) for situation in situations])
        return self.written([self._closing(situation, scores) for situation, scores in zip(situations, answers, strict=True)], situations)

    def written(self, closings: Sequence[Closing], situations: Sequence[Situation]) -> list[Closing]:
        """The same closings with the texts of the language model, which answers nothing else; one situation for each."""
        return self._texts.write(situations, closings)

    def save(self, folder: Path) -> None:
        """Writes ``language_model_decisions.json``."""
        document = {
            "typical_items": self._priors.typical_items,
            "reference_log_probabilities": {name: values.tolist() for name, values in self._reference.items()},
            "labels": {action.name: list(action.labels) for action in self._actions},
            "texts_trial": None if self._texts.trial is None else asdict(self._texts.trial),
        }
        (folder / "language_model_decisions.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if self._glad is not None:
            self._glad.save(folder)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        document = json.loads((folder / "language_model_decisions.json").read_text(encoding="utf-8"))
        self._priors.typical_items = document["typical_items"]
        self._reference = {name: np.array(values) for name, values in document["reference_log_probabilities"].items()}
        trial = document.get("texts_trial")
        self._texts.trial = None if trial is None else Trial(**trial)
        self._glad = StatedSatisfaction.load(folder, len(self._context.catalog))

    # --- asking ---

    def _answers(self, situations: Sequence[Situation]) -> list[_Answer]:
        """What the model says about each page; where a thought could not be had, its status in place of scores."""
        if not self.config.prompt.thought_tokens:
            return [_Answer(scores) for scores in self._model.score([self.prompts.page(situation) for situation in situations])]
        written = self._model.generate([self.prompts.thought(situation) for situation in situations])
        thoughts = [_text(completion, 600) for completion in written]
        usable = [number for number, (_, status) in enumerate(thoughts) if status in ("ok", "length", "empty")]
        scored = self._model.score([self.prompts.page(situations[number], thoughts[number][0]) for number in usable])
        found = dict(zip(usable, scored, strict=True))
        return [
            _Answer(found.get(number) or Scores((), (), status, written[number].text), text, status)
            for number, (text, status) in enumerate(thoughts)
        ]

    def _read_ends(self, situations: Sequence[Situation]) -> list[dict[str, np.ndarray]]:
        """What was read at the ends of sessions of one page."""
        ends = self._model.score([self.prompts.closing(_after_first_page(situation)) for situation in situations])
        return _some([self._read_session(scores) for scores in ends if scores.status == "ok"], ends)

    def _stated(self, situations: Sequence[Situation]) -> np.ndarray:
        """Expected satisfaction at the end of sessions by the model's own probabilities, NaN where it did not answer."""
        return np.array([self._answered(scores) for scores in self._model.score([self.prompts.closing(one) for one in situations])])

    def _answered(self, scores: Scores) -> float:
        if scores.status != "ok":
            return float("nan")
        action = next(one for one in self.prompts.session_actions if one.name == "satisfaction")
        return float(np.exp(self._read_session(scores)[action.name][0]) @ np.array(action.values, dtype=np.float64))

    # --- reading scores ---

    def _read(self, scores: Scores, n_items: int) -> dict[str, np.ndarray]:
        """Log-probabilities by action from the probes of a page prompt, in their order."""
        per_item = len(self.prompts.item_actions)
        read = {
            action.name: np.array([scores.logprobs[place * per_item + k] for place in range(n_items)])
            for k, action in enumerate(self.prompts.item_actions)
        }
        for k, action in enumerate(self.prompts.page_actions):
            read[action.name] = scores.logprobs[n_items * per_item + k][None, :]
        return read

    def _read_session(self, scores: Scores) -> dict[str, np.ndarray]:
        return {action.name: scores.logprobs[k][None, :] for k, action in enumerate(self.prompts.session_actions)}

    def _corrected_page(self, scores: Scores, n_items: int) -> dict[str, np.ndarray]:
        if scores.status != "ok":
            return {}
        return {name: self._corrected(name, logprobs) for name, logprobs in self._read(scores, n_items).items()}

    def _corrected(self, name: str, logprobs: np.ndarray) -> np.ndarray:
        if not self.config.recentre:
            return logprobs
        # A page may be longer or shorter than the reference pages (a short last page); places beyond take the last one's.
        places = np.minimum(np.arange(len(logprobs)), len(self._reference[name]) - 1)
        return np.asarray(logprobs - self._reference[name][places])

    def _probabilities(self, action: Action, logprobs: np.ndarray, profile: UserProfile) -> np.ndarray:
        if not self.config.recentre:
            return np.asarray(np.exp(logprobs))
        utility = np.log(self._priors.of(action, profile)) + self.config.strength * self._corrected(action.name, logprobs)
        weights = np.exp(utility - utility.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def _decision(self, situation: Situation, answer: _Answer) -> Decision:
        scores = answer.scores
        if scores.status != "ok":
            unused = unusable(self._actions, situation, self._priors.page(situation), scores.status, scores.reply)
            return replace(unused, thought=answer.thought, thought_status=answer.thought_status)
        read = self._read(scores, len(situation.page.impressions))
        found = self._priors.page(situation)
        for action in (*self.prompts.item_actions, *self.prompts.page_actions):
            found[action.name] = self._probabilities(action, read[action.name], situation.profile)
        decision = decide(self._actions, situation, found)
        told = self.prompts.told(situation.memories)
        return replace(decision, memories_told=told, thought=answer.thought, thought_status=answer.thought_status)

    def _closing(self, situation: Situation, scores: Scores | None) -> Closing:
        assert self._glad is not None
        found = self._priors.page(situation)
        heard = scores is not None and scores.status == "ok"
        read = self._read_session(scores) if scores is not None and heard else {}
        for action in self._others if heard else ():
            found[action.name] = self._probabilities(action, read[action.name], situation.profile)
        answer = self._answered(scores) if scores is not None and "satisfaction" in read else float("nan")
        for action in self.prompts.session_actions:
            if action.name == "satisfaction":
                found[action.name] = self._glad.probabilities(action, situation, self.config.choose_rate, answer)
        closing = close(self._actions, situation, {action.name: found[action.name] for action in self.prompts.session_actions})
        return closing if scores is None or heard else Closing(closing.outcomes, status=scores.status, reply=scores.reply)


def _some(read: list[dict[str, np.ndarray]], asked: Sequence[Scores]) -> list[dict[str, np.ndarray]]:
    """What was read; an error if it is nothing."""
    if not read:
        bad = asked[0]
        raise ModelError(f"none of the {len(asked)} reference pages could be scored ({bad.status}); one reply was: {bad.reply[:200]!r}.")
    return read


def _after_first_page(situation: Situation) -> Situation:
    state = replace(situation.state, page=2, shown=len(situation.page.impressions), chosen=1)
    return replace(situation, state=state)


def made_up_visit(page: Situation, actions: Sequence[Action]) -> Situation:
    """The end of a visit of one page, of which each item was chosen with an even chance, and rated in any way."""
    generator = page.stream.child("made up").generator()
    rate = next((action for action in actions if action.name == "rate"), None)
    met = tuple(
        Met(item, True, None if rate is None else float(rate.results[int(generator.integers(len(rate.results)))]))
        if generator.random() < 0.5
        else Met(item, False)
        for item in page.page.items.tolist()
    )
    chosen = [one.item for one in met if one.chosen]
    given = [one.rating for one in met if one.rating is not None]
    history = np.concatenate([page.state.history, np.array(chosen, dtype=np.int32)])
    state = replace(
        page.state, page=2, shown=len(met), chosen=len(chosen), mean_rating=float(np.mean(given)) if given else None, history=history
    )
    return replace(page, state=state, met=met)


def _text(completion: Completion, limit: int) -> tuple[str, str]:
    """What was written, one line of at most `limit` characters, and its status."""
    written = completion.status in ("ok", "length")
    text = clean(completion.text, limit) if written else ""
    return text, "empty" if written and not text else completion.status


def reference_situations(train: Dataset, profiles: Sequence[UserProfile], page_size: int, count: int, rng: Stream) -> list[Situation]:
    """First pages of random training people, filled with random items they have no interaction with.

    Items are drawn in proportion to their training interactions, as a recommender's pages lean to popular items too.
    """
    popularity = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items).astype(np.float64) + 1.0
    situations = []
    for number in range(count):
        stream = rng.child("reference", number)
        generator = stream.generator()
        profile = profiles[int(generator.integers(len(profiles)))]
        weights = popularity.copy()
        weights[profile.history] = 0.0
        size = min(page_size, int((weights > 0).sum()))
        items = generator.choice(len(weights), size=size, replace=False, p=weights / weights.sum())
        situations.append(first_page(profile, items, stream))
    return situations


def first_page(profile: UserProfile, items: np.ndarray, stream: Stream, *, session: int = 0, time: int = 0) -> Situation:
    """Somebody in front of these items, in this order, on the first page of a session, remembering nothing.

    Args:
        profile: who. items: item codes, shape (n,). stream: randomness of the decision.
        session: number of the session. time: simulated seconds at which it begins.
    """
    page = Page(1, "reference", tuple(Impression(k + 1, int(item), 0.0, 1.0) for k, item in enumerate(items)))
    return Situation(profile, (), page, SessionState(0, session, time, time, 1, 0, 0, None, 0.0, profile.history), stream)

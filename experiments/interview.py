"""Talking to one simulated person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.answers import REFUSAL, facts_for
from agents.facts import of_life
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder, PromptConfig
from agents.synthetic import synthesise
from agents.taste import read_tastes
from agents.text import clean
from agents.text_check import check
from agents.texts import checked_text
from experiments import build
from experiments.config import ExperimentConfig
from experiments.run_data import data_of
from experiments.stored_settings import config_of
from experiments.told import read_told
from simulator.dataset import Dataset
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.memory_table import from_frame
from simulator.protocols import LanguageModel
from simulator.records import MemoryRecord, Message, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

CONTEXT = 4_096
"""Tokens of a whole conversation, where the backend has such a setting."""

MEMORIES_TOLD = 12
"""Records a person has in mind during an answer: the last feeling and insight, then those nearest to the question."""


def interview_prompts(train: Dataset) -> PromptBuilder:
    """Writes the questions of interviews, with more of the taste than a page tells, since few are asked."""
    return PromptBuilder(train.catalog, build.actions(train), PromptConfig(liked=16, disliked=4))


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answered.

    Attributes:
        text: the answer. status: "ok" if the model wrote it and every sentence was found true, "facts" if it was made from facts,
            "unknown" if nothing is known.
        items: ids of the items that it names. refused: sentences of the model that were not found true, with what was against them.
    """

    text: str
    status: str
    items: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


class Conversation:
    """Questions to one person, who answers from profile and memories; what was said before is remembered within it.

    Args:
        model: writes the answers, of which true sentences are kept; None leaves facts.
        prompts: of the people's data. profile: who is asked.
        memories: everything the person remembers or forgot.
        seed: of the run, from which the sampler's randomness comes. scale: of the ratings, or None.

    Attributes:
        answers: everything that was answered.
    """

    def __init__(
        self,
        model: LanguageModel | None,
        prompts: PromptBuilder,
        profile: UserProfile,
        memories: Sequence[MemoryRecord],
        seed: int,
        scale: tuple[float, float] | None = None,
    ) -> None:
        self.memories = memories
        self._model, self._prompts, self._profile, self._seed, self._scale = model, prompts, profile, seed, scale
        self._said: list[Message] = []
        self.answers: list[Answer] = []

    @property
    def person(self) -> str:
        """Who is asked, in one line."""
        return self._prompts.person_text(self._profile).strip()

    def ask(self, question: str) -> str:
        """The person's answer to one question: what the model says as far as it is true, else facts, else that nothing is known."""
        self._said.append(Message("user", clean(question, 500)))
        facts = of_life(self._prompts.catalog, self._scale, self._profile, self.memories)
        recalled = self._recalled(question)
        known = facts_for(clean(question, 500), facts, recalled)
        said: list[str] = []
        refused: list[tuple[str, str]] = []
        if known and self._model is not None:
            stream = Stream(self._seed).child("interview", self._profile.user, len(self._said))
            written = self._model.generate([self._prompts.interview(self._profile, recalled, self._said, stream)])[0]
            if written.status in ("ok", "length"):
                said, refused = checked_text(written.text, facts, cut=written.status == "length")
        status = "ok" if said else "facts" if known else "unknown"
        text = " ".join(said or known) or REFUSAL
        items = sorted({item for sentence in (said or known) for item in check(sentence, facts).items})
        self.answers.append(Answer(text, status, tuple(str(facts.catalog.item_ids[item]) for item in items), tuple(refused)))
        self._said.append(Message("assistant", text))
        return text

    def _recalled(self, question: str) -> list[MemoryRecord]:
        """What comes to mind: newest feeling and insight, then records that share most words with the question, then the newest."""
        held = [record for record in self.memories if record.forgotten is None]
        special = [next((r for r in reversed(held) if r.kind == kind), None) for kind in ("feeling", "insight")]
        words = _words(question)
        ranked = sorted(held, key=lambda record: (len(words & _words(record.text)), record.time, record.record), reverse=True)
        told: list[MemoryRecord] = []
        for record in [*(r for r in special if r is not None), *ranked]:
            if record not in told:
                told.append(record)
        return told[:MEMORIES_TOLD]


def interview_model(config: ExperimentConfig, whose: str) -> LanguageModel:
    """The language model of an experiment with room for a conversation.

    Raises:
        ConfigError: there is none; `whose` says of whom, as in "of results/movielens/20260101-120000".
    """
    model = build.language_model(config, always=True, context=CONTEXT, sequences=1)
    if model is None:
        raise ConfigError(f"the people {whose} have no language model (language_model = false), so nobody can be interviewed.")
    return model


def writes_texts(config: ExperimentConfig, figures: Mapping[str, float]) -> bool:
    """Whether the language model of a run is asked for texts: not where too few of its sentences passed the trial before it.

    Args:
        config: of the run. figures: of its decision model (`experiments.told`).
    """
    share = figures.get("texts_trial_passed_share")
    return share is None or share >= float(config.decision.options.get("least_texts_share", 0.5))


class Interview:
    """A conversation with one person of a finished run.

    Args:
        path: folder of a complete run.
        user: id of the person.

    Raises:
        RunError, ConfigError: there is no such run, person, or no language model in the experiment.
    """

    def __init__(self, path: Path, user: str) -> None:
        run = RunDirectory.open(path, complete=True)
        self._config = config_of(run)
        train = data_of(self._config, run).train
        profile = self._find(run, train, user)
        codes = {str(item): code for code, item in enumerate(train.catalog.item_ids)}
        memories = from_frame(run.read_table("memories"), codes).get(user, [])
        asks = writes_texts(self._config, read_told(path).figures)
        self._model = interview_model(self._config, f"of {path}") if asks else None
        prompts = interview_prompts(train)
        self._conversation = Conversation(self._model, prompts, profile, memories, self._config.seed, train.rating_scale)

    @property
    def person(self) -> str:
        """Who is being interviewed, in one line."""
        return self._conversation.person

    def ask(self, question: str) -> str:
        """The person's answer to one question."""
        return self._conversation.ask(question)

    def close(self) -> None:
        """Frees the language model."""
        if self._model is not None:
            self._model.close()

    @property
    def answers(self) -> list[Answer]:
        """Everything that was answered, with how it came about."""
        return self._conversation.answers

    def _find(self, run: RunDirectory, train: Dataset, user: str) -> UserProfile:
        people = run.read_table("people")
        ids = people["user"].to_list()
        if user not in ids:
            raise RunError(f"in {run.path}: {with_suggestion('person', user, ids) if len(ids) <= 20 else _some(user, ids)}")
        profiles = fit_profiles(train)
        if self._config.population.synthetic:
            stream = Stream(self._config.seed).child("population")
            profiles = [*profiles, *synthesise(profiles, self._config.population.synthetic, train, stream.child("synthesise"))]
        profile = next(person for person in profiles if person.user_id == user)
        tastes = run.path / "tastes.json"
        kept = read_tastes(tastes) if tastes.exists() else {}
        return replace(profile, taste=kept.get(user))


def _some(user: str, ids: list[str]) -> str:
    return f"there is no person '{user}' among its {len(ids)} people; for example {', '.join(ids[:8])} (column user of people.parquet)."


def _words(text: str) -> set[str]:
    return {word for word in "".join(c.lower() if c.isalnum() else " " for c in text).split() if len(word) > 3}

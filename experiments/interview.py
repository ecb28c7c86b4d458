"""Talking to one person of a finished run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from agents.synthetic import synthesise
from agents.text import clean
from experiments import build
from experiments import config as configuration
from simulator.dataset import Dataset
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.memory_table import from_frame
from simulator.records import MemoryRecord, Message, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

CONTEXT = 4_096
"""Tokens of a whole conversation, where the backend has such a setting."""

MEMORIES_TOLD = 12
"""Records a person has in mind during an answer: the last feeling and insight, then those nearest to the question."""


class Interview:
    """A conversation with one simulated person; earlier questions and answers are remembered within it.

    Args:
        path: folder of a complete run.
        user: id of the person.

    Raises:
        RunError, ConfigError: there is no such run, person, or no language model in the experiment.
    """

    def __init__(self, path: Path, user: str) -> None:
        run = RunDirectory.open(path, complete=True)
        self._config = configuration.of_run(run.config_path)
        if self._config.language_model is None:
            raise ConfigError(f"the people of {path} have no language model (language_model = false), so nobody can be interviewed.")
        train = build.data(self._config).train
        self._profile = self._find(run, train, user)
        self._memories = from_frame(run.read_table("memories"), {str(item): code for code, item in enumerate(train.catalog.item_ids)}).get(
            user, []
        )
        actions = build.actions(train)
        self._prompts = PromptBuilder(train.catalog, actions)
        model = build.language_model(self._config, always=True, context=CONTEXT, sequences=1)
        assert model is not None
        self._model = model
        self._conversation: list[Message] = []

    @property
    def person(self) -> str:
        """Who is being interviewed, in one line."""
        return self._prompts.person_text(self._profile).strip()

    def ask(self, question: str) -> str:
        """The person's answer to one question."""
        self._conversation.append(Message("user", clean(question, 500)))
        stream = Stream(self._config.seed).child("interview", self._profile.user, len(self._conversation))
        request = self._prompts.interview(self._profile, self._recalled(question), self._conversation, stream)
        answer = self._model.generate([request])[0].text.strip()
        self._conversation.append(Message("assistant", answer))
        return answer

    def close(self) -> None:
        """Frees the language model."""
        self._model.close()

    def _recalled(self, question: str) -> list[MemoryRecord]:
        """What comes to mind: newest feeling and insight, then records that share most words with the question, then the newest."""
        held = [record for record in self._memories if record.forgotten is None]
        special = [next((r for r in reversed(held) if r.kind == kind), None) for kind in ("feeling", "insight")]
        words = _words(question)
        ranked = sorted(held, key=lambda record: (len(words & _words(record.text)), record.time, record.record), reverse=True)
        told: list[MemoryRecord] = []
        for record in [*(r for r in special if r is not None), *ranked]:
            if record not in told:
                told.append(record)
        return told[:MEMORIES_TOLD]

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
        kept = json.loads(tastes.read_text(encoding="utf-8")) if tastes.is_file() else {}
        return replace(profile, taste=kept.get(user))


def _some(user: str, ids: list[str]) -> str:
    return f"there is no person '{user}' among its {len(ids)} people; for example {', '.join(ids[:8])} (column user of people.parquet)."


def _words(text: str) -> set[str]:
    return {word for word in "".join(c.lower() if c.isalnum() else " " for c in text).split() if len(word) > 3}

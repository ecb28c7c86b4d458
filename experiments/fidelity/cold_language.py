"""New items as a language model sees them: a user's history in a prompt, pages of new items told by what is written about them.

What its answers add to all other evidence on texts is learned on validation users, from whom no adapter learned
(`agents.exposures.people_split`), about items that are hidden meanwhile, and measured on held-out users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.choice_model import fit_logit, likelihood_ratio
from agents.cold_items import Choices, Lesson, choices, some_items, without_items
from agents.decisions import LanguageModelDecisions
from agents.exposures import people_split
from agents.profiles import fit_profiles
from experiments import build
from experiments.config import ExperimentConfig
from experiments.fidelity.context import Report, silent
from experiments.fidelity.models import DecisionModels
from experiments.fidelity.pages import BATCH, first_pages
from simulator.dataset import Dataset
from simulator.errors import ConfigError, ModelError
from simulator.llm import adapters
from simulator.seeds import Stream

ALONE: Final[str] = "language_model"
TOGETHER: Final[str] = "all_and_language_model"


@dataclass(frozen=True, eq=False)
class Reader:
    """Who is asked about new items.

    Attributes:
        config: an experiment with a language model; its prompts and the length of its pages are used. people: held-out users, and as many
            validation users, who are asked at most. folder: the model's answers are kept there. report: told of the progress.
    """

    config: ExperimentConfig
    people: int
    folder: Path
    report: Report = silent

    @cached_property
    def learned_from(self) -> list[str]:
        """Names of the data that the adapter learned from, and those before it; empty without an adapter."""
        name = self.config.language_model.options.get("adapter") if self.config.language_model else None
        cards = adapters.descent(adapters.card(adapters.find(str(name)))) if name else []
        return sorted({str(card["data"]["name"]) for card in cards if "data" in card})

    def measure(
        self, train: Dataset, some: Sequence[Choices], known: np.ndarray, lesson: Lesson, weighed: np.ndarray, stream: Stream
    ) -> tuple[list[int], dict[str, np.ndarray], dict[str, Any]]:
        """What the model says of the choices of some held-out users, alone and beside other evidence.

        Args:
            train: without the new items. some: choices of the held-out users. known: log-odds of their rows by other evidence.
            lesson: rows that this evidence was learned from; weighed: its log-odds of them. stream: that of all measurements of new items.

        Returns:
            Places in `some` of the users who were asked; row -> log-odds of their rows (`ALONE`, `TOGETHER`); what it was measured with.

        Raises:
            ConfigError: the experiment has no language model, or no validation user can be asked.
            ModelError: no page could be answered.
        """
        if self.config.language_model is None:
            raise ConfigError("the experiment has no section [language_model].")
        own = stream.child("language model")
        places = np.sort(own.child("people").generator().permutation(len(some))[: self.people]).tolist()
        hidden, taught = self._taught(train, lesson, stream.child("lesson"), own)
        profiles = fit_profiles(train)
        models = DecisionModels(self.config, train, profiles, self.folder)
        try:
            model = models.unfitted("llm", texts=False)
            assert isinstance(model, LanguageModelDecisions)
            model.measure(train, profiles, own.child("decisions"))
            said, bad = self._asked(model, train, [some[place] for place in places], own.child("asked"), "held-out users")
            learned, bad_too = self._asked(model, hidden, taught, own.child("taught"), "validation users")
        finally:
            models.close()
        mine = np.isin(lesson.people, [one.user for one in taught])
        owners, chosen = lesson.people[mine], lesson.chosen[mine]
        columns = np.column_stack([weighed[mine], learned])
        larger = fit_logit(columns, chosen, owners, ("other evidence", "language model"))
        statistic, _, p = likelihood_ratio(larger, fit_logit(columns[:, :1], chosen, owners, ("other evidence",)))
        starts = np.cumsum([0, *(len(one.items) for one in some)])
        rows = np.concatenate([np.arange(starts[place], starts[place + 1]) for place in places])
        together = larger.index(np.column_stack([known[rows], said]))
        about = {
            "asked": len(places),
            "validation_users": len(taught),
            "weight": float(larger.weights[-1]),
            "likelihood_ratio": statistic,
            "p": p,
            "unusable_pages": bad + bad_too,
            "learned_from": self.learned_from,
        }
        return places, {ALONE: said, TOGETHER: np.asarray(together)}, about

    def _taught(self, train: Dataset, lesson: Lesson, stream: Stream, own: Stream) -> tuple[Dataset, list[Choices]]:
        """The data without the items that the lesson hides, and the choices among these of validation users, ascending by user."""
        able = np.intersect1d(people_split(train).validation, lesson.people)
        users = np.sort(own.child("validation").generator().permutation(able)[: self.people])
        hidden = some_items(train, stream.child("hidden"))
        taught = choices(train, hidden, users, stream.child("choices"))
        if not taught:
            raise ConfigError(f"data set '{train.name}' has no validation user who chose hidden items; use one with more users.")
        return without_items(train, hidden), taught

    def _asked(
        self, model: LanguageModelDecisions, observed: Dataset, some: Sequence[Choices], stream: Stream, who: str
    ) -> tuple[np.ndarray, int]:
        """Log-odds of choosing by the model alone, one row per item of `some`, and the pages that it could not answer (log-odds 0)."""
        profiles: Mapping[int, Any] = {profile.user: profile for profile in fit_profiles(observed)}
        ids, size = observed.users["user_id"].to_list(), self.config.recommender.feed_config().page_size
        situations, rows = [], []
        start = 0
        for one in some:
            drawn = stream.child(ids[one.user])
            order = drawn.generator().permutation(len(one.items))
            situations += first_pages(profiles[one.user], one.items[order], size, drawn)
            rows.append(start + order)
            start += len(one.items)
        choose = next(action for action in build.actions(observed) if action.name == "choose")
        yes, no = choose.values.index(True), choose.values.index(False)
        parts, bad = [], 0
        for first in range(0, len(situations), BATCH):
            batch = situations[first : first + BATCH]
            for situation, reading in zip(batch, model.read(batch), strict=True):
                bad += reading.status != "ok"
                answer = reading.logprobs.get("choose")
                parts.append(np.zeros(len(situation.page.impressions)) if answer is None else answer[:, yes] - answer[:, no])
            self.report(f"new items: {who}", min(first + BATCH, len(situations)), len(situations))
        if bad == len(situations):
            raise ModelError(f"none of {bad} pages of new items could be answered.")
        found = np.empty(start)
        found[np.concatenate(rows)] = np.concatenate(parts)
        return found, bad

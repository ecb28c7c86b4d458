"""Satisfaction of users played by a language model: what happened in the session, and the model's answer where a test gives it weight.

    satisfaction = 5.5 + UNIT * S + weight * (answer - its mean) + noise, rounded to 1..10

S is that of `agents.satisfaction`. The weight is 0 unless the model is asked about real sessions, and its answers tell whether the user
returned within a week beyond what S tells: a likelihood-ratio test with p < .05 (`agents.satisfaction.answer_adds`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from agents.evidence import star_probabilities
from agents.exposures import people_split
from agents.profiles import fit_profiles
from agents.satisfaction import FEWEST_OUTCOMES, NOISE, Satisfaction, SessionFacts, answer_adds, fit_satisfaction, real_sessions, returns
from simulator.dataset import Dataset
from simulator.records import Action, Impression, Met, Page, SessionState, Situation
from simulator.seeds import Stream

FILE = "satisfaction_answers.json"

Answers = Callable[[Sequence[Situation]], np.ndarray]
"""Expected satisfaction by a language model at the end of some sessions, shape (n,); NaN where it did not answer."""


@dataclass(frozen=True, eq=False)
class StatedSatisfaction:
    """A model of satisfaction that may listen to a language model.

    Attributes:
        happened: of what happened. weight: points of satisfaction for a point of the answer, >= 0. mean: of the answers, 1 to 10.
        report: of the test; empty where the model was not asked.
    """

    happened: Satisfaction
    weight: float = 0.0
    mean: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def listens(self) -> bool:
        """Whether the model's answer changes anything."""
        return self.weight > 0.0

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is assumed, in sentences (`simulator.protocols.Candid`)."""
        why = self.report.get("sentence", "the language model is not asked for satisfaction: no test on data gave its answer weight.")
        return (*self.happened.assumptions, str(why))

    def probabilities(self, action: Action, situation: Situation, usual_share: float, answer: float = float("nan")) -> np.ndarray:
        """Probability of each label, shape (1, n_labels); as `Satisfaction.probabilities`, and the model's answer, 1 to 10 or NaN."""
        centre = float(np.atleast_1d(self.happened.expected(self.happened.facts(situation, usual_share)))[0])
        if self.listens and np.isfinite(answer):
            centre = float(np.clip(centre + self.weight * (answer - self.mean), 1.0, 10.0))
        return star_probabilities(np.array([centre]), NOISE, [float(value) for value in action.values])

    def save(self, folder: Path) -> None:
        """Writes ``satisfaction.json`` and ``satisfaction_answers.json``."""
        self.happened.save(folder)
        document = {"weight": self.weight, "mean": self.mean, "report": dict(self.report)}
        (folder / FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, n_items: int) -> StatedSatisfaction:
        """Restores what `save` wrote; runs of before kept nothing of it."""
        happened = Satisfaction.load(folder, n_items)
        return cls(happened, **json.loads((folder / FILE).read_text(encoding="utf-8"))) if (folder / FILE).is_file() else cls(happened)


def fit_stated(train: Dataset, most: int, ask: Answers, rng: Stream) -> StatedSatisfaction:
    """The model of what happened, and the weight of the language model's answers.

    Args:
        train: the training part, rows sorted by user and time; nothing is learned from held-out users. most: sessions that the model is
            asked about; 0 asks it nothing. ask: see `Answers`. rng: of the choice of sessions.
    """
    split = people_split(train)
    people = np.concatenate([split.fit, split.validation])
    happened = fit_satisfaction(train, people)
    if not most:
        return StatedSatisfaction(happened)
    if not train.has_times or not train.has_ratings:
        return _silent(happened, "the data has no times and ratings on all rows")
    situations, facts, soon = _ends(train, happened, people, most, rng)
    if len(situations) < FEWEST_OUTCOMES or soon.min() == soon.max():
        return _silent(happened, f"only {len(situations)} users have a session of which it is known whether they returned within a week")
    answers = ask(situations)
    known = np.isfinite(answers)
    if known.sum() < FEWEST_OUTCOMES:
        return _silent(happened, f"only {int(known.sum())} of {len(known)} answers could be read")
    facts = SessionFacts({name: column[known] for name, column in facts.columns.items()}, facts.mean[known], facts.level[known])
    users = np.array([situation.profile.user for situation in situations])[known]
    found = answer_adds(happened, facts, answers[known], soon[known].astype(np.float64), users)
    told = f"(likelihood-ratio test on {int(known.sum())} returns, p = {found['p']:.2g})"
    sentence = (
        f"a point of the language model's answer counts {found['weight']:.2f} points of satisfaction {told}."
        if found["weight"] > 0
        else f"the language model's answer to satisfaction counts nothing {told}."
    )
    report = {**found, "sessions": int(known.sum()), "sentence": sentence}
    return StatedSatisfaction(happened, float(found["weight"]), float(answers[known].mean()), report)


def _silent(happened: Satisfaction, why: str) -> StatedSatisfaction:
    return StatedSatisfaction(happened, report={"sentence": f"the language model is not asked for satisfaction: {why}."})


def _ends(
    train: Dataset, happened: Satisfaction, people: np.ndarray, most: int, rng: Stream
) -> tuple[list[Situation], SessionFacts, np.ndarray]:
    """The last but one session of some users at its end, what happened in it, and whether the last one began within a week.

    Profiles know nothing of the last session, so that the outcome is in no prompt.
    """
    rows = train.interactions.filter(train.interactions["user"].is_in(people.tolist()))
    sessions, facts = real_sessions(rows, happened)
    followed, soon = returns(sessions)
    last = np.flatnonzero(np.diff(sessions.people[followed], append=-1) != 0)
    last = np.sort(rng.child("sessions").generator().permutation(last)[:most])
    chosen, soon = followed[last], soon[last]
    first = np.cumsum(sessions.sizes) - sessions.sizes
    outcome = np.isin(np.repeat(np.arange(len(sessions.sizes)), sessions.sizes), chosen + 1)
    gone = rows.filter(pl.Series(outcome)).select("user", "item", "timestamp")
    observed = train.with_interactions(train.interactions.join(gone, on=["user", "item", "timestamp"], how="anti", maintain_order="left"))
    profiles = {profile.user: profile for profile in fit_profiles(observed)}
    items, ratings, times = (rows[name].to_numpy() for name in ("item", "rating", "timestamp"))
    situations = []
    for session in chosen.tolist():
        start, size = int(first[session]), int(sessions.sizes[session])
        own = slice(start, start + size)
        profile = profiles[int(sessions.people[session])]
        given = tuple(float(rating) for rating in ratings[own])
        met = tuple(Met(int(item), True, rating) for item, rating in zip(items[own], given, strict=True))
        began, ended = int(times[own][0]), int(times[own][-1])
        fatigue = float(facts.columns["fatigue"][session])
        state = SessionState(0, 0, ended, began, 2, size, size, float(np.mean(given)), fatigue, profile.history, given)
        page = Page(1, "real", tuple(Impression(k + 1, one.item, 0.0, 1.0) for k, one in enumerate(met)))
        situations.append(Situation(profile, (), page, state, rng.child("session", session), met=met))
    columns = {name: column[chosen] for name, column in facts.columns.items()}
    return situations, SessionFacts(columns, facts.mean[chosen], facts.level[chosen]), soon

"""Satisfaction with a session, from what happened in it: expectation and disconfirmation, peak and end, finding and effort.

    S = sum over facts of weight * fact,      satisfaction = 5.5 + UNIT * S + noise, rounded to 1..10

===============  ==========================================================================================================  ==============
fact             meaning                                                                                                     stated weight
===============  ==========================================================================================================  ==============
disconfirmation  mean over rated items of (rating - what was expected of the item) / spread of ratings                       +0.45
hope             mean over rated items of (what was expected - the user's own level) / spread                                +0.25
peak             the rating furthest from the user's own level, less that level / spread                                     +0.25
end              the last rating less the user's own level / spread                                                          +0.25
share            share of the shown items that was chosen, against the user's usual one (`agents.staying.appeal`)            +0.30
effort           log of items passed over per item chosen, against the user's usual ratio                                    -0.10
fatigue          1 - exp(-items / the user's items per session), at the end of the session                                   -0.20
===============  ==========================================================================================================  ==============

The stated weights follow the order of sizes in the literature: satisfaction is told by disconfirmation more than by expectation (Oliver,
"A cognitive model of the antecedents and consequences of satisfaction decisions", Journal of Marketing Research 17, 1980; the
meta-analysis of Szymanski & Henard, Journal of the Academy of Marketing Science 29, 2001), and by peak and end alike, not by duration
(Kahneman, Fredrickson, Schreiber & Redelmeier, "When more pain is preferred to less", Psychological Science 4, 1993). Those of share,
effort and fatigue are assumptions. Where nothing was chosen, what was hoped for did not come: `NOTHING` stands for the ratings, and the
share is -1.

A log with times has an outcome: whether a user who comes again does so within a week. `fit_satisfaction` looks whether that moves with S;
the weights of what such a log tells are then drawn to the estimates, otherwise the stated ones stand, and the report says which.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from agents.choice_model import Logit, fit_logit, likelihood_ratio
from agents.evidence import star_probabilities
from agents.hazard import LEAST_ITEMS
from agents.rhythm import SESSION_GAP, WEEK, split_sessions
from agents.staying import LEAST, appeal
from agents.visits import Sessions
from simulator.dataset import Dataset
from simulator.records import Action, Situation

FILE, ITEMS_FILE = "satisfaction.json", "satisfaction_items.npy"

STATED: Mapping[str, float] = {
    "disconfirmation": 0.45,
    "hope": 0.25,
    "peak": 0.25,
    "end": 0.25,
    "share": 0.30,
    "effort": -0.10,
    "fatigue": -0.20,
}
"""Fact -> weight where no data says otherwise."""

TOLD = ("disconfirmation", "hope", "peak", "end", "fatigue")
"""Facts that a log of ratings without exposures has."""

NOTHING = -2.0
"""Stands for the standardised ratings of a session in which nothing was chosen: disappointed as by the lowest ratings."""

MIDDLE, UNIT, NOISE = 5.5, 1.5, 1.0
"""Satisfaction at S = 0, how much a unit of S adds, and the standard deviation around it; a stated scale, which no data here has."""

PRIOR_SPREAD = 0.15
"""Standard deviation of a weight around the stated one, before the data."""

LEVEL_STRENGTH, ITEM_STRENGTH = 5.0, 5.0
"""Pseudo-ratings of the population that complete a user's level and an item's."""

SIGNIFICANT = 0.05
FEWEST_OUTCOMES = 100
"""Sessions with a known outcome below which nothing is fitted."""


@dataclass(frozen=True, eq=False)
class SessionFacts:
    """What happened in sessions.

    Attributes:
        columns: fact (of `STATED`) -> value of each session, shape (n,).
        mean: mean rating; level: the user's own level before the session; the data's units, shape (n,).
    """

    columns: Mapping[str, np.ndarray]
    mean: np.ndarray
    level: np.ndarray


@dataclass(frozen=True, eq=False)
class Satisfaction:
    """A model of satisfaction.

    Attributes:
        weights: fact -> weight. mean, spread: of all ratings of the training part; 0 and 1 without ratings.
        of_item: what is expected of each item above the mean, the data's units, shape (n_items,).
        report: where the weights come from: ``source`` ("stated" or "fitted"), the estimates, tests and ``sentence``.
    """

    weights: Mapping[str, float]
    mean: float
    spread: float
    of_item: np.ndarray
    report: Mapping[str, Any] = field(default_factory=dict)

    def of(self, facts: Mapping[str, np.ndarray | float]) -> np.ndarray:
        """S of sessions, shape (n,); a fact that is missing counts 0, as usual."""
        return np.asarray(sum(self.weights[name] * np.asarray(facts[name], dtype=np.float64) for name in self.weights if name in facts))

    def expected(self, facts: Mapping[str, np.ndarray | float]) -> np.ndarray:
        """Satisfaction before noise and rounding, 1 to 10, shape (n,)."""
        return np.asarray(np.clip(MIDDLE + UNIT * self.of(facts), 1.0, 10.0))

    def probabilities(self, action: Action, situation: Situation, usual_share: float) -> np.ndarray:
        """Probability of each label of the satisfaction at the end of a session, shape (1, n_labels).

        Args:
            action: of the satisfaction. situation: the last of the session.
            usual_share: share of the shown items that the user usually chooses, in (0, 1).
        """
        centre = np.atleast_1d(self.expected(self.facts(situation, usual_share)))
        return star_probabilities(centre, NOISE, [float(value) for value in action.values])

    def facts(self, situation: Situation, usual_share: float) -> dict[str, float]:
        """The facts of one simulated session at its end; arguments as in `probabilities`."""
        state, profile = situation.state, situation.profile
        usual = float(np.clip(usual_share, LEAST, 1.0 - LEAST))
        skipped = state.shown - state.chosen
        found = {
            "share": float(appeal(state.chosen, state.shown, usual)),
            "effort": math.log((skipped + 1.0) / (state.chosen + 1.0)) - math.log((1.0 - usual) / usual),
            "fatigue": state.fatigue,
        }
        if not state.chosen:
            return found | {"disconfirmation": NOTHING, "hope": 0.0, "peak": NOTHING, "end": NOTHING}
        ratings = np.array(state.ratings, dtype=np.float64)
        if len(ratings) != state.chosen or profile.pickiness is None:
            return found
        rated = ratings_facts(ratings - profile.pickiness.value, self.of_item[state.history[-state.chosen :]], self.spread)
        return found | rated

    def save(self, folder: Path) -> None:
        """Writes ``satisfaction.json``."""
        document = {"weights": dict(self.weights), "mean": self.mean, "spread": self.spread, "report": dict(self.report)}
        (folder / FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")
        np.save(folder / ITEMS_FILE, self.of_item)

    @classmethod
    def load(cls, folder: Path, n_items: int) -> Satisfaction:
        """Restores what `save` wrote; runs of before kept nothing, and get the stated model of `n_items` items that promise the same."""
        if not (folder / FILE).is_file():
            return cls(dict(STATED), 0.0, 1.0, np.zeros(n_items))
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(**document, of_item=np.load(folder / ITEMS_FILE))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is assumed, in sentences (`simulator.protocols.Candid`)."""
        return (str(self.report["sentence"]),) if "sentence" in self.report else ()


def ratings_facts(above: np.ndarray, of_item: np.ndarray, spread: float) -> dict[str, float]:
    """The facts that the ratings of one session make.

    Args:
        above: ratings less the user's own level, in order, shape (n,), n >= 1. of_item: what was expected of the items above the mean.
        spread: standard deviation of ratings; all in the data's units.
    """
    z = above / spread
    return {
        "disconfirmation": float((z - of_item / spread).mean()),
        "hope": float(of_item.mean() / spread),
        "peak": float(z[np.argmax(np.abs(z))]),
        "end": float(z[-1]),
    }


def real_sessions(interactions: pl.DataFrame, items: Satisfaction) -> tuple[Sessions, SessionFacts]:
    """Sessions of a log with times and ratings, and what happened in each; a user's level is that of earlier sessions alone.

    Args:
        interactions: `INTERACTIONS_SCHEMA`, sorted by user and time. items: what is expected of items; its weights are not used.
    """
    users, times = interactions["user"].to_numpy(), interactions["timestamp"].to_numpy()
    ratings, codes = interactions["rating"].to_numpy().astype(np.float64), interactions["item"].to_numpy()
    sessions = split_sessions(users, times, SESSION_GAP)
    first = np.cumsum(sessions.sizes) - sessions.sizes
    new = np.ones(len(first), dtype=bool)
    new[1:] = np.diff(sessions.people) != 0
    whose = np.maximum.accumulate(np.where(new, np.arange(len(first)), 0))
    running = np.concatenate([[0.0], np.cumsum(ratings - items.mean)])
    before = first - first[whose]
    level = items.mean + (running[first] - running[first[whose]]) / (before + LEVEL_STRENGTH)
    earlier = np.arange(len(first)) - whose
    usual = (before + sessions.sizes.mean()) / (earlier + 1)
    rows = [
        ratings_facts(ratings[a : a + n] - own, items.of_item[codes[a : a + n]], items.spread)
        for a, n, own in zip(first.tolist(), sessions.sizes.tolist(), level.tolist(), strict=True)
    ]
    columns = {name: np.array([row[name] for row in rows]) for name in ("disconfirmation", "hope", "peak", "end")}
    columns["fatigue"] = 1.0 - np.exp(-sessions.sizes / np.maximum(LEAST_ITEMS, usual))
    return sessions, SessionFacts(columns, np.add.reduceat(ratings, first) / sessions.sizes, level)


def returns(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Sessions that another of the same user follows, codes of shape (n,), and whether it began within a week.

    The last one of a user has no known outcome: what follows it may be held out.
    """
    followed = np.flatnonzero(np.diff(sessions.people) == 0)
    return followed, sessions.starts[followed + 1] - sessions.ends[followed] < WEEK


def fit_satisfaction(train: Dataset, people: np.ndarray) -> Satisfaction:
    """The stated model, with weights drawn to what the returns of users say, where they say anything.

    ``logit P(within a week) = a + b log(sessions so far + 1) + slope * S`` with the stated weights (M1) is compared with ``slope = 0``
    (M0), and with a weight of its own for each fact of `TOLD` (M2). If M1 is better with p < .05 and a slope above 0, the estimates of
    M2 over the slope, with their errors, are completed by the stated weights with `PRIOR_SPREAD`; no weight changes its sign.

    Args:
        train: the training part, rows sorted by user and time. people: user codes that may be learned from.
    """
    stated = _stated(train)
    if not train.has_times or not train.has_ratings:
        return _said(stated, {"source": "stated", "why": "the data has no times" if train.has_ratings else "the data has no ratings"})
    rows = train.interactions.filter(train.interactions["user"].is_in(people.tolist()) & train.interactions["rating"].is_not_null())
    if not rows.height:
        return _said(stated, {"source": "stated", "why": "nobody may be learned from"})
    sessions, facts = real_sessions(rows, stated)
    followed, soon = returns(sessions)
    if len(followed) < FEWEST_OUTCOMES or soon.min() == soon.max():
        return _said(stated, {"source": "stated", "why": f"only {len(followed)} sessions have a known outcome", "sessions": len(followed)})
    m0, m1, m2 = _models(stated, sessions, facts, followed, soon)
    one, free = likelihood_ratio(m1, m0), likelihood_ratio(m2, m0)
    slope, error = float(m1.weights[-1]), float(m1.errors[-1])
    report: dict[str, Any] = {
        "source": "stated",
        "outcome": "return within a week, among those who return",
        "sessions": len(followed),
        "users": len(np.unique(sessions.people[followed])),
        "slope": slope,
        "slope_interval": [slope - 1.96 * error, slope + 1.96 * error],
        "likelihood_ratio": {"statistic": one[0], "freedom": one[1], "p": one[2]},
        "likelihood_ratio_of_facts": {"statistic": free[0], "freedom": free[1], "p": free[2]},
        "estimates": _estimates(m2),
        "why": "returns do not rise with it",
    }
    if one[2] >= SIGNIFICANT or slope <= 0.0:
        return _said(stated, report)
    fitted = replace(stated, weights={**STATED, **_completed(m2, slope)})
    return _said(fitted, report | {"source": "fitted", "why": "returns rise with it"})


def answer_adds(model: Satisfaction, facts: SessionFacts, answers: np.ndarray, outcome: np.ndarray, users: np.ndarray) -> dict[str, float]:
    """Whether a language model's stated satisfaction tells an outcome beyond S: only then may it be given weight.

    Args:
        model: of what happened. facts: of n sessions. answers: expected satisfaction by the language model, shape (n,).
        outcome: 0/1, shape (n,). users: whose session each is, shape (n,).

    Returns:
        ``weight`` of a point of the answer, in points of satisfaction; 0 unless the likelihood-ratio test has p < .05 and both slopes are
        above 0. ``p`` and ``statistic`` of the test.
    """
    own, said = model.of(facts.columns), (answers - answers.mean()) / UNIT
    larger = fit_logit(np.column_stack([own, said]), outcome, users, ("satisfaction", "answer"))
    smaller = fit_logit(own[:, None], outcome, users, ("satisfaction",))
    statistic, _, p = likelihood_ratio(larger, smaller)
    _, slope, adds = larger.weights.tolist()
    earned = p < SIGNIFICANT and slope > 0.0 and adds > 0.0
    return {"weight": adds / slope if earned else 0.0, "p": p, "statistic": statistic}


def _stated(train: Dataset) -> Satisfaction:
    n = train.n_items
    rows = train.interactions
    if not train.has_ratings or not rows["rating"].drop_nulls().len():
        return Satisfaction(dict(STATED), 0.0, 1.0, np.zeros(n))
    rows = rows.filter(rows["rating"].is_not_null())
    items, ratings = rows["item"].to_numpy(), rows["rating"].to_numpy().astype(np.float64)
    mean, spread = float(ratings.mean()), float(ratings.std())
    counts = np.bincount(items, minlength=n)
    levels = np.bincount(items, weights=ratings - mean, minlength=n) / (counts + ITEM_STRENGTH)
    return Satisfaction(dict(STATED), mean, spread if spread > 0 else 1.0, levels)


def _models(
    stated: Satisfaction, sessions: Sessions, facts: SessionFacts, followed: np.ndarray, soon: np.ndarray
) -> tuple[Logit, Logit, Logit]:
    """M0, M1 and M2 of `fit_satisfaction`."""
    users = sessions.people[followed]
    so_far = np.log1p(np.arange(len(users)) - np.searchsorted(users, users))[:, None]
    index = stated.of(facts.columns)[followed, None]
    own = np.column_stack([facts.columns[name][followed] for name in TOLD])
    m0 = fit_logit(so_far, soon, users, ("sessions",))
    m1 = fit_logit(np.column_stack([so_far, index]), soon, users, ("sessions", "satisfaction"))
    return m0, m1, fit_logit(np.column_stack([so_far, own]), soon, users, ("sessions", *TOLD))


def _estimates(model: Logit) -> dict[str, list[float]]:
    """Fact -> estimate and 95 % interval, log-odds of returning within a week."""
    rows = zip(model.names, model.weights.tolist(), model.errors.tolist(), strict=True)
    return {name: [weight, weight - 1.96 * error, weight + 1.96 * error] for name, weight, error in rows if name in TOLD}


def _completed(model: Logit, slope: float) -> dict[str, float]:
    """Weights of `TOLD`: normal estimates with the stated weights as normal prior, of the stated sign or 0; stated without an estimate."""
    found = {}
    for name, weight, error in zip(model.names[-len(TOLD) :], model.weights[-len(TOLD) :], model.errors[-len(TOLD) :], strict=True):
        if not 0.0 < error < np.inf:
            found[name] = STATED[name]
            continue
        sure, prior = (slope / error) ** 2, PRIOR_SPREAD**-2
        mixed = (weight / slope * sure + STATED[name] * prior) / (sure + prior)
        found[name] = float(mixed if mixed * STATED[name] > 0 else 0.0)
    return found


def _said(model: Satisfaction, report: Mapping[str, Any]) -> Satisfaction:
    test = report.get("likelihood_ratio")
    how = f" (likelihood-ratio test, p = {test['p']:.2g}, {report['sessions']:,} sessions)" if test else ""
    if report["source"] == "fitted":
        weights = f"weights that are fitted, since {report['why']}"
    else:
        weights = f"stated weights, which no data confirms: {report['why']}"
    sentence = f"satisfaction follows from ratings against the user's own level, the share chosen, effort and fatigue, with {weights}{how}."
    document = dict(report) | {"weights": dict(model.weights), "sentence": sentence}
    return replace(model, report=document)

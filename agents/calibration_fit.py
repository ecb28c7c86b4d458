"""Estimates the weights of the calibrated people (`agents.calibration`) from pages of which it is known what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from agents import kept_ratings
from agents.behaviour import FEATURES, Behaviour
from agents.calibration import Calibration, fit_evidence, identity, weights_table
from agents.choice_model import Logit, calibration, fit_logit, likelihood_ratio, slope_above_one
from agents.decisions import Reading, first_page
from agents.model_lift import lift
from agents.sampled_pages import Exposures, catalog_log_odds
from agents.stars import STARS
from simulator.dataset import Dataset
from simulator.records import Action, Situation
from simulator.seeds import Stream
from simulator.spread import spreads

MOST_LOG_ODDS = 10.0
FEWEST_FOR_TEST = 50
MOST_P = 0.05
"""The language model's answer has weight only if a likelihood-ratio test on pages that it was asked about has a smaller p value."""
SECOND_L2 = 1.0
SAID_L2 = 10.0

Ask = Callable[[Sequence[Situation]], list[Reading]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Everything about the items of all exposures, one row each.

    Attributes:
        features: `names`.
        activity: natural log of 1 + items met. chosen: bool. ratings: NaN where there is none. people: user codes.
        place, fatigue: of true exposures. log_odds, said_stars: what the language model said, NaN where it was not asked.
        names: of the features, `agents.behaviour.FEATURES` and those of related items behind them.
        alike: whether the item was drawn for being as popular as one that was chosen, bool; None where none was.
        sampled: what sampling took from popular items (`agents.sampled_pages.catalog_log_odds`); None where nothing was sampled.
    """

    features: np.ndarray
    activity: np.ndarray
    chosen: np.ndarray
    ratings: np.ndarray
    people: np.ndarray
    place: np.ndarray
    fatigue: np.ndarray
    log_odds: np.ndarray
    said_stars: np.ndarray
    names: tuple[str, ...] = FEATURES
    alike: np.ndarray | None = None
    sampled: np.ndarray | None = None


def log_odds(action: Action, logprobs: np.ndarray) -> np.ndarray:
    """Log-odds of a binary action, within +-`MOST_LOG_ODDS`, shape (n,)."""
    yes, no = action.values.index(True), action.values.index(False)
    return np.asarray(np.clip(logprobs[:, yes] - logprobs[:, no], -MOST_LOG_ODDS, MOST_LOG_ODDS))


def expected_stars(logprobs: np.ndarray) -> np.ndarray:
    """Expected stars minus 3 by the language model's corrected log-probabilities, shape (n,)."""
    weights = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
    return np.asarray((weights * STARS).sum(axis=1) / weights.sum(axis=1) - 3.0)


def gather(exposures: Sequence[Exposures], behaviour: Behaviour, actions: Sequence[Action], ask: Ask | None, rng: Stream) -> Rows:
    """Evidence of all rows, and what the language model says about the pages that it is asked about.

    Args:
        exposures: of all people. behaviour: from the observed part. actions: of the experiment.
        ask: the language model's answers to situations, or None. rng: names the streams of the pages.
    """
    features = [behaviour.features(one.profile, one.history, one.items) for one in exposures]
    sizes = [len(one.items) for one in exposures]
    said = [np.full((size, 2), np.nan) for size in sizes]
    if ask is not None:
        choose = next(action for action in actions if action.name == "choose")
        places = [(number, page) for number, one in enumerate(exposures) for page in one.pages]
        situations = [
            first_page(exposures[number].profile, exposures[number].items[page], rng.child("page", exposures[number].profile.user_id, k))
            for k, (number, page) in enumerate(places)
        ]
        for (number, page), reading in zip(places, ask(situations), strict=True):
            if reading.status == "ok":
                said[number][page, 0] = log_odds(choose, reading.logprobs["choose"])
                if "rate" in reading.logprobs:
                    said[number][page, 1] = expected_stars(reading.logprobs["rate"])

    def stacked(parts: Sequence[np.ndarray], width: tuple[int, ...] = ()) -> np.ndarray:
        return np.concatenate(parts) if parts else np.zeros((0, *width))

    spoken = stacked(said, (2,))
    return Rows(
        features=stacked(features, (len(behaviour.names),)),
        activity=stacked([np.full(len(one.items), activity(one.history)) for one in exposures]),
        chosen=stacked([one.chosen.astype(np.float64) for one in exposures]),
        ratings=stacked([one.ratings for one in exposures]),
        people=stacked([np.full(len(one.items), one.profile.user) for one in exposures]).astype(np.int64),
        place=stacked([one.place for one in exposures]),
        fatigue=stacked([one.fatigue for one in exposures]),
        log_odds=spoken[:, 0],
        said_stars=spoken[:, 1],
        names=behaviour.names,
        alike=stacked([one.matched for one in exposures]).astype(bool),
        sampled=stacked([catalog_log_odds(behaviour.popularity)[one.items] for one in exposures]),
    )


def activity(history: np.ndarray) -> float:
    """Natural log of 1 + different items met."""
    return float(np.log1p(len(np.unique(history))))


def evidence_log_odds(weights: Calibration, features: np.ndarray, history: np.ndarray) -> np.ndarray:
    """What the evidence says of items, as in the sample that it was fitted on, shape (n,).

    Args:
        weights: of the evidence. features: of the items (`Behaviour.features`), shape (n, names). history: of the person, item codes.
    """
    return weights.evidence.index(weights.design.columns(features, np.full(len(features), activity(history))))


def estimate(
    rows: Rows,
    *,
    true: bool,
    with_model: bool,
    ids: dict[int, str],
) -> Calibration:
    """All weights.

    Args:
        rows: of `gather`. true: whether they were truly shown, so that the choose rate, places and fatigue can be learned too.
        with_model: whether there is a language model. ids: user code -> id.
    """
    design, evidence, index, told = fit_evidence(
        rows.features, rows.activity, rows.chosen, rows.people, rows.names[len(FEATURES) :], rows.alike
    )
    report: dict[str, Any] = {"evidence": told | {"weights": weights_table(evidence)}}
    choice, background, effects, told = _second_step(rows, index, true, with_model, ids)
    slope = 1.0
    if rows.alike is not None and rows.alike.any() and rows.sampled is not None:
        drawn = ~rows.alike  # what is drawn at random from the catalog, as a recommender's pages are made from it
        slope = slope_above_one((index + rows.sampled)[drawn], rows.chosen[drawn], rows.people[drawn])
        report["evidence"]["slope"] = slope
    report["choice"] = told | {"weights": weights_table(choice)}
    report["warnings"] = [
        f"{what} of calibrated people: {model.trouble}."
        for what, model in (("choices", evidence), ("the second step", choice))
        if model.trouble
    ]
    return Calibration(
        design=design,
        evidence=evidence,
        choice=choice,
        sampled_share=None if true else float(rows.chosen.mean()) if len(rows.chosen) else 0.5,
        slope=slope,
        background=background,
        people_effects=effects,
        report=report,
    )


def _second_step(
    rows: Rows, index: np.ndarray, true: bool, with_model: bool, ids: dict[int, str]
) -> tuple[Logit, tuple[float, float, float], dict[str, float], dict[str, Any]]:
    """How far to trust the evidence, and what the language model adds to it.

    Where the model was not asked, it is taken to have said what it says on average at that evidence: that tells nothing of its weight, so
    the weight comes from the rows that it was asked about, and how far to trust the evidence from all of them. A slope from the few asked
    rows alone is as uncertain as the model's weight, and its error does more harm than the model does good.
    """
    names = ["evidence", *(["language model"] if with_model else []), *(["log place", "fatigue"] if true else [])]
    asked = np.isfinite(rows.log_odds)
    if not (asked.any() if with_model else true and len(index)):
        return identity(names), (0.0, 0.0, 0.0), {}, {"people": 0, "rows": 0}
    y, people, base = rows.chosen, rows.people, index
    columns = {"evidence": base, "fatigue": rows.fatigue, "log place": np.log(np.maximum(rows.place, 1.0))}
    background = (0.0, 0.0, 0.0)
    if with_model:
        said, at = rows.log_odds[asked], base[asked]
        slope, level = np.polyfit(at, said, 1) if spreads(at) > 0 else (0.0, float(said.mean()))
        background = (float(level), float(slope), float((said - level - slope * at).std()))
        columns["language model"] = np.where(asked, rows.log_odds, level + slope * base)
    x = np.column_stack([columns[name] for name in names])
    # The evidence's log-odds are the offset, so that the ridge draws its weight to 1 and all others to 0.
    fitted = fit_logit(x, y, people, names, l2=SECOND_L2, offset=base)
    weights = fitted.weights.copy()
    weights[1] += 1.0
    model = replace(fitted, weights=weights)
    told: dict[str, Any] = {"people": len(np.unique(people)), "rows": len(y)}
    effects: dict[str, float] = {}
    if with_model:
        if asked.sum() >= FEWEST_FOR_TEST:
            larger = fit_logit(x, y, people, names)
            others = [name for name in names if name != "language model"]
            rest = np.column_stack([columns[name] for name in others])
            smaller = fit_logit(rest, y, people, others)
            if not (larger.trouble or smaller.trouble):
                statistic, freedom, p = likelihood_ratio(larger, smaller)
                told["likelihood_ratio"] = {"statistic": statistic, "degrees_of_freedom": freedom, "p": p}
                if p >= MOST_P or model.weights[1 + names.index("language model")] <= 0.0:
                    model = _without_model(model, fit_logit(rest, y, people, others, l2=SECOND_L2, offset=base))
                    told["no_weight"] = True
        rate = y[asked].mean()
        odds = np.log(rate / (1.0 - rate)) if 0.0 < rate < 1.0 else 0.0
        told |= {
            "asked": int(asked.sum()),
            "asked people": len(np.unique(people[asked])),
            "language model alone": calibration(expit(said + odds), y[asked]),
            "after": calibration(expit(model.index(x[asked])), y[asked]),
            "lift": lift(model.index(x[asked]), base[asked], y[asked], people[asked]),
        }
    if true:
        effects = _people_effects(model.index(x), y, people, ids)
    return model, background, effects, told


def _without_model(model: Logit, smaller: Logit) -> Logit:
    """The second step where the language model's answer has no weight, its terms in the order of `model`, whose errors it keeps.

    Args:
        model: with the language model. smaller: without it, fitted with the evidence as the offset.
    """
    own = dict(zip(smaller.names, smaller.weights, strict=True))
    weights = np.array([own.get(name, 0.0) + (name == "evidence") for name in model.names])
    return replace(model, weights=weights, log_likelihood=smaller.log_likelihood, trouble=smaller.trouble)


def _people_effects(index: np.ndarray, chosen: np.ndarray, people: np.ndarray, ids: dict[int, str]) -> dict[str, float]:
    """Each person's log-odds above the model, by one shrunken Newton step (the mode of a normal random effect, Breslow & Clayton 1993).

    The variance between people is the mean square of the unshrunken steps in excess of what chance alone would give.
    """
    probability = expit(index)
    own, place = np.unique(people, return_inverse=True)
    score = np.bincount(place, weights=chosen - probability)
    information = np.bincount(place, weights=probability * (1.0 - probability))
    variance = max(0.0, float((score**2 - information).sum() / max((information**2).sum(), 1e-12)))
    effects = variance * score / (1.0 + variance * information)
    return {ids[int(user)]: float(effect) for user, effect in zip(own, effects, strict=True)} if variance > 0.0 else {}


def expected_ratings(observed: Dataset, exposures: Sequence[Exposures]) -> np.ndarray:
    """Expected ratings of all rows of exposures, by a model of the observed ratings, the data's units."""
    model = kept_ratings.fitted(observed, foreseen=0.0)
    told = [np.zeros(0)]
    for one in exposures:
        given = np.zeros(0) if one.profile.ratings is None else one.profile.ratings
        rater = model.rater(one.profile.history[: len(given)], given, one.profile.user)
        told.append(model.of_rater(rater, one.items))
    return np.concatenate(told)


def fit_said(rows: Rows, expected: np.ndarray) -> tuple[tuple[float, float], dict[str, Any]]:
    """What is added to expected ratings where the language model was asked for stars, and per star above 3 that it says.

    Args:
        rows: of `gather`, of a language model that was asked for stars. expected: rating of each row, the data's units.

    Returns:
        Both numbers, by ridge regression of what is not expected; and what is worth telling. (0, 0) where nobody was asked.
    """
    asked = np.isfinite(rows.ratings) & np.isfinite(rows.said_stars)
    columns = np.column_stack([np.ones(int(asked.sum())), rows.said_stars[asked]])
    missed = rows.ratings[asked] - expected[asked]
    found = np.linalg.solve(columns.T @ columns + SAID_L2 * np.eye(2), columns.T @ missed)
    said = (float(found[0]), float(found[1]))
    return said, {"language model": {"ratings": int(asked.sum()), "shift": said[0], "weight": said[1]}}

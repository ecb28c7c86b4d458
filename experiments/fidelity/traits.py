"""Do traits act? What people of a low, medium and high level of a trait do, really and in the simulation.

====================  ==============================================  =============================================
trait                 real                                            simulated
====================  ==============================================  =============================================
activity              interactions per session, of the whole log      expected choices per session
activity_per_week     interactions per week, from first to last       that, times the rhythm's sessions per week
conformity            mean (stars - item's mean)^2, held-out          its expectation on the same items
diversity             genre entropy of held-out items, bits           that of as many choices among these and others
pickiness             mean stars, held-out                            mean expected stars on the same items
====================  ==============================================  =============================================

People who stay as in their visits (`decision.stay = "visits"`) choose as many per session as these are long, whatever is shown. Levels come
from the training part (`agents.traits`). Everybody has one session of pages that mix held-out items with
random others, so a decision model alone is judged, without a recommender that would adapt to the person. The held-out items
themselves are narrow for the narrow: what the control ``random`` shows of diversity is what these items alone make of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import kendalltau

from agents.rhythm import SESSION_GAP, WEEK, split_sessions
from agents.stars import stars
from agents.visits import expected_length
from experiments import build, trait_sentences
from experiments.fidelity.context import FidelityContext, Report, silent
from experiments.fidelity.estimates import none_for_nan
from experiments.fidelity.pages import BATCH, in_stars
from experiments.fidelity.questions import Questions, questions
from experiments.fidelity.resampling import estimate, plain, resample
from experiments.trait_sentences import LEVELS
from simulator.protocols import DecisionModel
from simulator.records import Action, Situation, UserProfile
from simulator.seeds import Stream

RISES: Mapping[str, bool] = {**trait_sentences.RISES, "activity_per_week": True}
"""Whether the behaviour should rise with the level."""

UNITS: Mapping[str, str] = {
    "activity": "interactions per session",
    "activity_per_week": "interactions per week",
    "conformity": "squared deviation from item means, stars",
    "diversity": "genre entropy, bits",
    "pickiness": "mean stars",
}

PER_PERSON, RATIO = 30, 2
"""Items of a person's session: a third of them held-out interactions."""

ASKED = 200
"""People whom a decision model with a language model is asked about at most."""

DRAWS = 32
"""Draws of a person's choices over which the genre entropy is averaged."""

SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class Told:
    """What a model says about a session of everybody.

    Attributes:
        choose, rate: as in `experiments.fidelity.pages.Answers`, rates as stars, in the order of the rows of the questions.
        per_session: expected choices in a session, by place of the person among the asked, shape (people,).
    """

    choose: np.ndarray
    rate: np.ndarray | None
    per_session: np.ndarray


def measure(context: FidelityContext, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Behaviour by level of each trait, real and simulated, and whether the levels order it.

    Args:
        context: of the report. names: of the decision models; None takes all that are available.

    Returns:
        ``{"traits": {trait: {"unit", "rises", "real": ..., "models": {name: ...}}}}`` with the entries of `by_level`; a model's
        also has ``reproduced``, the share of the real difference between high and low that it shows.
    """
    stream, size = context.stream.child("traits"), len(context.people)
    order = stream.child("people").generator().permutation(context.people)
    actions, scale = build.actions(context.train), context.train.rating_scale
    found: dict[str, Any] = {}
    for name in context.models if names is None else names:
        people = np.sort(order[: ASKED if context.models.asks(name) else size])
        asked = questions(context, people, per_person=PER_PERSON, ratio=RATIO, kind="random", stream=stream)
        owners = np.unique(asked.owner)
        profiles = [context.profiles[int(user)] for user in owners]
        max_pages = context.config.recommender.feed_config().max_pages
        told = tell(context.models[name], asked, actions, max_pages, context.report, f"traits, {name}")
        if context.models.section(name).options.get("stay") == "visits":
            lengths = [expected_length(profile.rhythm.visits) if profile.rhythm.visits else np.nan for profile in profiles]
            told = replace(told, per_session=np.array(lengths))
        item_means = _item_means(context)
        genres = np.asarray(context.train.catalog.genre_matrix, dtype=np.float64)
        real = real_behaviour(context, asked, item_means, genres, stream)
        simulated = simulated_behaviour(told, asked, profiles, item_means if scale else None, genres, stream)
        weights = resample(len(owners), context.bootstrap, stream.child("resample"))
        for trait in real:
            levels = np.array([_level(profile, trait) for profile in profiles])
            entry = found.setdefault(trait, {"unit": UNITS[trait], "rises": RISES[trait], "real": None, "models": {}})
            if entry["real"] is None or entry["real"]["people"] < len(owners):
                entry["real"] = by_level(real[trait], levels, RISES[trait], weights)
            if trait in simulated:
                entry["models"][name] = {
                    **by_level(simulated[trait], levels, RISES[trait], weights),
                    "reproduced": reproduced(simulated[trait], real[trait], levels, weights),
                }
    return {"traits": found}


# --- the simulated side ---------------------------------------------------------------------------------------------


def tell(
    model: DecisionModel, asked: Questions, actions: Sequence[Action], max_pages: int, report: Report = silent, what: str = ""
) -> Told:
    """Leads everybody through one session of their pages and adds up what is expected, without drawing.

    The n-th page is reached with the probability that the person left on none before. Pages beyond `max_pages` are asked about as
    well, for the sake of their items, but add nothing to the session.
    """
    yes = next(action for action in actions if action.name == "choose").values.index(True)
    gone = next(action for action in actions if action.name == "leave").values.index(True)
    number = _page_numbers(asked.situations)
    owners, person = np.unique([situation.profile.user for situation in asked.situations], return_inverse=True)
    here, taken, shown, reached = (np.zeros(len(owners)) for _ in range(4))
    here[:] = 1.0
    choose: list[np.ndarray] = [np.zeros(0)] * len(asked.situations)
    rate: list[np.ndarray] = [np.zeros((0, 5))] * len(asked.situations)
    done = 0
    for page in range(1, int(number.max(initial=0)) + 1):
        rows = np.flatnonzero(number == page)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            situations = [_later(asked.situations[row], page, shown[person[row]], taken[person[row]]) for row in batch]
            for row, decision in zip(batch.tolist(), model.decide(situations), strict=True):
                usable = 1.0 if decision.status == "ok" else np.nan
                probabilities = decision.outcomes["choose"].probabilities[:, yes] * usable
                choose[row] = probabilities
                if "rate" in decision.outcomes:
                    rate[row] = in_stars(decision.outcomes["rate"].probabilities, actions) * usable
                who, expected = person[row], float(np.nansum(probabilities))
                shown[who] += len(probabilities)
                taken[who] += expected
                if page <= max_pages:
                    reached[who] += here[who] * expected
                    here[who] *= 1.0 - float(decision.outcomes["leave"].probabilities[0, gone])
            done += len(batch)
            report(what, done, len(asked.situations))
    rated = any(action.name == "rate" for action in actions)
    return Told(np.concatenate([np.zeros(0), *choose]), np.concatenate(rate) if rated and rate else None, reached)


def simulated_behaviour(
    told: Told, asked: Questions, profiles: Sequence[UserProfile], item_means: np.ndarray | None, genres: np.ndarray, stream: Stream
) -> dict[str, np.ndarray]:
    """Behaviour of each of the asked people in the simulation, by trait; NaN where it is not defined.

    Args:
        told: what the model said. asked: about what. profiles: of the people, in order.
        item_means: in stars, by item code, or None without ratings. genres: 0/1, shape (n_items, n_genres).
        stream: randomness of the drawn choices.
    """
    n = len(profiles)
    person = np.searchsorted(np.unique(asked.owner), asked.owner)
    weekly = np.array([profile.rhythm.sessions_per_week for profile in profiles])
    found = {"activity": told.per_session}
    if any(profile.rhythm.source != "default" for profile in profiles):
        found["activity_per_week"] = told.per_session * weekly
    if told.rate is not None and item_means is not None:
        rated = asked.stars > 0
        rate, grades = told.rate[rated], np.arange(1, 6, dtype=np.float64)
        apart = (rate * (grades - item_means[asked.item[rated]][:, None]) ** 2).sum(axis=1)
        found |= {"conformity": _mean(apart, person[rated], n), "pickiness": _mean(rate @ grades, person[rated], n)}
    if genres.shape[1]:
        found["diversity"] = np.full(n, np.nan)
        for number in range(n):
            rows = np.flatnonzero(person == number)
            p = np.clip(told.choose[rows], 1e-9, 1 - 1e-9)
            if np.isnan(p).any() or not asked.chosen[rows].any():
                continue
            noise = stream.child("choices", profiles[number].user_id).generator().gumbel(size=(DRAWS, len(rows)))
            ranked = np.argsort(-(np.log(p) - np.log1p(-p) + noise), axis=1)[:, : int(asked.chosen[rows].sum())]
            found["diversity"][number] = np.mean([genre_entropy(genres[asked.item[rows[drawn]]]) for drawn in ranked])
    return found


def genre_entropy(genres: np.ndarray) -> float:
    """Shannon entropy in bits of the genres of some items, each item counting once for each of its genres; NaN without genres."""
    counts = genres.sum(axis=0)
    shares = counts[counts > 0] / max(counts.sum(), 1.0)
    return float(-(shares * np.log2(shares)).sum()) if len(shares) else float("nan")


# --- the real side --------------------------------------------------------------------------------------------------


def real_behaviour(
    context: FidelityContext, asked: Questions, item_means: np.ndarray, genres: np.ndarray, stream: Stream
) -> dict[str, np.ndarray]:
    """Behaviour of the asked people in the data, by trait, in the order of their codes; NaN where it is not defined."""
    owners, person = np.unique(asked.owner, return_inverse=True)
    n = len(owners)
    found: dict[str, np.ndarray] = {}
    if context.train.has_times:
        columns = context.split.test.columns
        log = pl.concat([context.train.interactions.select(columns), context.split.test])
        log = log.filter(pl.col("user").is_in(owners.tolist())).sort("user", "timestamp")
        who, times = np.searchsorted(owners, log["user"].to_numpy()), log["timestamp"].to_numpy()
        sessions = split_sessions(who, times, SESSION_GAP)
        interactions = np.bincount(who, minlength=n)
        first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, dtype=np.int64)
        np.minimum.at(first, who, times)
        np.maximum.at(last, who, times)
        found["activity"] = interactions / np.bincount(sessions.people, minlength=n)
        # whoever came for an hour was not away for the rest of a week that they never saw
        found["activity_per_week"] = interactions / np.maximum((last - first) / WEEK, 1.0)
    else:
        found["activity"] = np.full(n, np.nan)
    rated = asked.stars > 0
    if rated.any():
        given = asked.stars[rated].astype(np.float64)
        found["conformity"] = _mean((given - item_means[asked.item[rated]]) ** 2, person[rated], n)
        found["pickiness"] = _mean(given, person[rated], n)
    if genres.shape[1]:
        found["diversity"] = np.array([genre_entropy(genres[asked.item[(person == number) & asked.chosen]]) for number in range(n)])
    return found


# --- levels and trends ----------------------------------------------------------------------------------------------


def by_level(values: np.ndarray, levels: np.ndarray, rises: bool, weights: np.ndarray) -> dict[str, Any]:
    """Mean behaviour per level, and whether the levels order it.

    Args:
        values: one per person, NaN left out. levels: "low", "medium", "high" or "" where the trait is unknown, shape (people,).
        rises: whether the behaviour should rise with the level. weights: resamples of the people, shape (b, people).

    Returns:
        ``levels``: level -> mean with interval; ``monotone``: whether the means are strictly in order; ``trend``: Kendall's tau-b
        between level and behaviour, positive in the wanted direction, with the one-sided ``p``; ``acts``: monotone and p < 0.05.

    The test is that of Jonckheere ("A distribution-free k-sample test against ordered alternatives", Biometrika 41, 1954) and
    Terpstra (1952), whose statistic is Kendall's tau between group and value.
    """
    known = ~np.isnan(values) & (levels != "")
    means, rows = [], {}
    for level in LEVELS:
        inside = known & (levels == level)
        resampled = _weighted_mean(values, inside, weights)
        mean = float(values[inside].mean()) if inside.any() else float("nan")
        means.append(mean)
        rows[level] = plain(estimate(mean, resampled, int(inside.sum())))
    sign = 1.0 if rises else -1.0
    steps = sign * np.diff(means)
    place = np.array([LEVELS.index(level) if level else -1 for level in levels.tolist()])[known]
    # values that differ by rounding alone are equal
    rounded = np.round(values[known], 9)
    varies = len(np.unique(place)) > 1 and len(np.unique(rounded)) > 1
    trend = kendalltau(place, sign * rounded, alternative="greater") if varies else None
    monotone = bool((steps > 1e-9).all())
    p = None if trend is None else none_for_nan(float(trend.pvalue))
    return {
        "people": int(known.sum()),
        "levels": rows,
        "monotone": monotone,
        "trend": None if trend is None else none_for_nan(float(trend.statistic)),
        "p": p,
        "acts": monotone and p is not None and p < SIGNIFICANT,
    }


def reproduced(simulated: np.ndarray, real: np.ndarray, levels: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """The simulated difference between high and low over the real one, with an interval over people; 1 is as in reality."""
    known = ~(np.isnan(simulated) | np.isnan(real))
    ones = np.ones((1, len(levels)))
    ratios = []
    for drawn in (ones, weights):
        apart = [
            _weighted_mean(values, known & (levels == "high"), drawn) - _weighted_mean(values, known & (levels == "low"), drawn)
            for values in (simulated, real)
        ]
        ratios.append(np.divide(apart[0], apart[1], out=np.full(len(drawn), np.nan), where=np.abs(apart[1]) > 1e-9))
    return plain(estimate(float(ratios[0][0]), ratios[1], int(known.sum())))


def _weighted_mean(values: np.ndarray, inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights[:, inside].sum(axis=1)
    return np.asarray(np.divide(weights[:, inside] @ values[inside], total, out=np.full(len(weights), np.nan), where=total > 0))


def _level(profile: UserProfile, trait: str) -> str:
    known = getattr(profile, "activity" if trait == "activity_per_week" else trait)
    return "" if known is None else str(known.level)


def _mean(values: np.ndarray, person: np.ndarray, n: int) -> np.ndarray:
    counts = np.bincount(person, minlength=n)
    return np.asarray(np.divide(np.bincount(person, weights=values, minlength=n), counts, out=np.full(n, np.nan), where=counts > 0))


def _item_means(context: FidelityContext) -> np.ndarray:
    """Mean training rating of each item in stars, the overall mean for items without; zeros without ratings."""
    train = context.train
    if train.rating_scale is None or not train.has_ratings:
        return np.zeros(train.n_items)
    given = stars(train.interactions["rating"].to_numpy(), train.rating_scale).astype(np.float64)
    means = _mean(given, train.interactions["item"].to_numpy(), train.n_items)
    return np.where(np.isnan(means), given.mean(), means)


def _page_numbers(situations: Sequence[Situation]) -> np.ndarray:
    """The how-manieth page of its person each one is, from 1."""
    seen: dict[int, int] = {}
    numbers = []
    for situation in situations:
        seen[situation.profile.user] = seen.get(situation.profile.user, 0) + 1
        numbers.append(seen[situation.profile.user])
    return np.array(numbers, dtype=np.int64)


def _later(situation: Situation, number: int, shown: float, taken: float) -> Situation:
    """The page as the `number`-th of a session in which so much was shown and, in expectation, taken."""
    fatigue = float(1.0 - np.exp(-shown / max(10.0, situation.profile.rhythm.items_per_session)))
    state = replace(situation.state, session=0, page=number, shown=int(shown), chosen=round(taken), fatigue=fatigue)
    return replace(situation, page=replace(situation.page, number=number), state=state)

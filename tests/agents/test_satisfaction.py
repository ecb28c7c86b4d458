"""Satisfaction follows from what happened, and its weights are fitted where returns say so."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.actions import SATISFACTION
from agents.profiles import fit_profiles
from agents.rhythm import WEEK
from agents.satisfaction import (
    NOTHING,
    STATED,
    TOLD,
    Satisfaction,
    SessionFacts,
    answer_adds,
    fit_satisfaction,
    ratings_facts,
    real_sessions,
    returns,
)
from simulator.records import Page, SessionState, Situation
from simulator.seeds import Stream

MODEL = Satisfaction(STATED, 3.0, 1.0, np.zeros(12))


@pytest.fixture(scope="module")
def profile(make_dataset):
    """Somebody whose own level is 3."""
    rows = [(user, item, float(1 + (item + user) % 5), item) for user in range(3) for item in range(10)]
    return fit_profiles(make_dataset(rows, [["Drama"]] * 12))[0]


@pytest.fixture(scope="module")
def at_the_end(profile):
    """A session's end after these ratings and so many shown items."""

    def make(ratings, shown=10, chosen=None):
        chosen = len(ratings) if chosen is None else chosen
        history = np.concatenate([profile.history, np.arange(chosen)]).astype(np.int32)
        mean = float(np.mean(ratings)) if ratings else None
        fatigue = 1.0 - float(np.exp(-shown / 10))
        state = SessionState(0, 0, 0, 0, 2, shown, chosen, mean, fatigue, history, ratings=tuple(ratings))
        return Situation(profile, (), Page(1, "p", ()), state, Stream(1))

    return make


def expected(model, situation):
    return float(model.probabilities(SATISFACTION, situation, 0.3)[0] @ np.arange(1, 11))


def test_it_rises_with_the_mean_rating_and_is_least_where_nothing_was_chosen(at_the_end):
    values = [expected(MODEL, at_the_end([rating] * 3)) for rating in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 4.0
    assert expected(MODEL, at_the_end([])) < values[0]
    assert expected(MODEL, at_the_end([2.0])) > expected(MODEL, at_the_end([]))


def test_probabilities_are_those_of_the_labels(at_the_end):
    found = MODEL.probabilities(SATISFACTION, at_the_end([4.0]), 0.3)
    assert found.shape == (1, 10)
    assert found.sum() == pytest.approx(1.0)
    assert (found > 0).all(), "it has noise of its own"


def test_share_effort_and_fatigue_move_it_without_ratings(at_the_end):
    assert expected(MODEL, at_the_end([], chosen=6)) > expected(MODEL, at_the_end([], chosen=3)) > expected(MODEL, at_the_end([], chosen=1))
    long, short = (MODEL.facts(at_the_end([], shown=shown, chosen=shown // 5), 0.2) for shown in (50, 10))
    assert long["share"] == short["share"] == pytest.approx(0.0)
    assert long["fatigue"] > short["fatigue"]
    assert MODEL.of(long) < MODEL.of(short)
    assert MODEL.facts(at_the_end([], chosen=0), 0.2)["peak"] == NOTHING


def test_what_was_hoped_for_counts_less_than_what_came():
    """The same ratings of items of which more was expected: less disconfirmation, more hope, less satisfaction."""
    above = np.array([1.0, 1.0])
    low, high = ratings_facts(above, np.zeros(2), 1.0), ratings_facts(above, np.ones(2), 1.0)
    assert (low["disconfirmation"], low["hope"]) == (1.0, 0.0)
    assert (high["disconfirmation"], high["hope"]) == (0.0, 1.0)
    assert MODEL.of(low) > MODEL.of(high)


def test_peak_and_end():
    facts = ratings_facts(np.array([0.5, -2.0, 1.0]), np.zeros(3), 2.0)
    assert facts["peak"] == -1.0, "the most intense moment, with its sign"
    assert facts["end"] == 0.5


def test_facts_of_real_sessions_know_earlier_sessions_alone(make_dataset):
    day = 86_400
    rows = [(0, 0, 5.0, 0), (0, 1, 5.0, 60), (0, 2, 1.0, 3 * day), (0, 3, 4.0, 30 * day), (1, 0, 3.0, 0)]
    data = make_dataset(rows, [["Drama"]] * 4)
    items = Satisfaction(STATED, 3.6, 1.0, np.zeros(4))
    sessions, facts = real_sessions(data.interactions, items)
    assert sessions.sizes.tolist() == [2, 1, 1, 1]
    assert facts.level.tolist() == pytest.approx([3.6, 3.6 + 2.8 / 7, 3.6 + 0.2 / 8, 3.6])
    assert facts.columns["end"][1] == pytest.approx(1.0 - 4.0)
    assert facts.mean.tolist() == [5.0, 1.0, 4.0, 3.0]
    followed, soon = returns(sessions)
    assert followed.tolist() == [0, 1]
    assert soon.tolist() == [True, False]


def log_of(make_dataset, slope):
    """Users who come again sooner after better sessions, if the slope is above 0."""
    generator = Stream(5).child("returns").generator()
    rows, time = [], 0
    for user in range(60):
        time = 0
        for session in range(8):
            pleased = generator.normal()
            ratings = np.clip(np.round(3.0 + pleased + 0.5 * generator.normal(size=4)), 1, 5)
            rows += [(user, (4 * session + k) % 40, float(rating), time + 10 * k) for k, rating in enumerate(ratings)]
            soon = generator.random() < 1.0 / (1.0 + np.exp(-slope * (ratings.mean() - 3.0)))
            time += int(0.5 * WEEK if soon else 3 * WEEK)
    return make_dataset(rows, [["Drama"]] * 40)


def test_weights_are_fitted_where_returns_rise_with_it_and_stated_otherwise(make_dataset):
    people = np.arange(60)
    fitted = fit_satisfaction(log_of(make_dataset, 2.0), people)
    assert fitted.report["source"] == "fitted"
    assert fitted.report["likelihood_ratio"]["p"] < 1e-6
    low, high = fitted.report["slope_interval"]
    assert low < fitted.report["slope"] < high
    assert set(fitted.report["estimates"]) == set(TOLD)
    assert all(fitted.weights[name] * STATED[name] >= 0 for name in STATED)
    assert any(fitted.weights[name] != STATED[name] for name in TOLD)
    assert fitted.weights["share"] == STATED["share"], "a log without exposures has none"
    for slope in (0.0, -2.0):
        stated = fit_satisfaction(log_of(make_dataset, slope), people)
        assert stated.weights == STATED
        assert "stated weights, which no data confirms: returns do not rise with it" in stated.assumptions[0]


def test_only_named_users_are_learned_from(make_dataset):
    data = log_of(make_dataset, 2.0)
    some = fit_satisfaction(data, np.arange(30))
    assert some.report["users"] == 30

    def with_times_of(users):
        later = pl.col("timestamp") * pl.when(users).then(3).otherwise(1)
        return fit_satisfaction(replace(data, interactions=data.interactions.with_columns(timestamp=later)), np.arange(30))

    assert with_times_of(pl.col("user") >= 30).weights == some.weights
    assert with_times_of(pl.col("user") < 15).weights != some.weights


def test_without_times_or_ratings_the_stated_weights_stand(make_dataset):
    bare = make_dataset([(0, 0, 3.0, None), (1, 1, 4.0, None)], [["Drama"]] * 2)
    assert fit_satisfaction(bare, np.arange(2)).report["why"] == "the data has no times"
    unrated = make_dataset([(0, 0, None, 1), (1, 1, None, 2)], [["Drama"]] * 2, scale=None)
    assert fit_satisfaction(unrated, np.arange(2)).report["why"] == "the data has no ratings"


def test_it_is_restored(make_dataset, tmp_path):
    fitted = fit_satisfaction(log_of(make_dataset, 2.0), np.arange(60))
    fitted.save(tmp_path)
    again = Satisfaction.load(tmp_path, 40)
    assert again.weights == fitted.weights
    assert again.report == fitted.report
    assert np.array_equal(again.of_item, fitted.of_item)
    before = Satisfaction.load(tmp_path / "nothing", 40)
    assert before.weights == STATED
    assert len(before.of_item) == 40


def test_an_answer_has_weight_only_where_it_tells_more():
    generator = Stream(3).child("answers").generator()
    end, said = generator.normal(size=1_500), generator.normal(size=1_500)
    facts = SessionFacts({"end": end}, np.zeros(1_500), np.zeros(1_500))
    users = np.arange(1_500) // 5
    told = generator.random(1_500) < 1.0 / (1.0 + np.exp(-2.0 * end - said))
    assert answer_adds(MODEL, facts, 5.5 + said, told, users)["weight"] > 0
    deaf = generator.random(1_500) < 1.0 / (1.0 + np.exp(-2.0 * end))
    found = answer_adds(MODEL, facts, 5.5 + said, deaf, users)
    assert found["weight"] == 0.0
    assert found["p"] > 0.05
    assert answer_adds(MODEL, facts, 5.5 - said, told, users)["weight"] == 0.0


def test_ratings_that_are_not_known_are_left_out(at_the_end):
    state = replace(at_the_end([4.0]).state, ratings=())
    assert MODEL.facts(replace(at_the_end([4.0]), state=state), 0.3).keys() == {"share", "effort", "fatigue"}

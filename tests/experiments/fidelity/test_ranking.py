"""Rankings of recommenders whose agreement is known."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import kendalltau

from experiments import config
from experiments.fidelity.context import make_context
from experiments.fidelity.ranking import RECOMMENDERS, agreement, kendall_tau, measure, noise_floor, weighted
from experiments.fidelity.resampling import resample
from simulator.plugins import resolve
from simulator.seeds import Stream

STREAM = Stream(3)
FIVE = np.array([0.1, 0.2, 0.3, 0.4, 0.5])


def scores(means, people=200, noise=0.05, name="scores"):
    return means + noise * STREAM.child(name).generator().standard_normal((people, len(means)))


def compared(simulated, real):
    return agreement(simulated, real, resample(len(real), 400, STREAM.child("people")))


def test_the_same_ranking_has_a_tau_of_one_and_agrees_in_every_pair():
    found = compared(scores(FIVE * 0.5 + 0.3, name="simulated"), scores(FIVE))
    assert found["kendall_tau"] == {"value": 1.0, "low": 1.0, "high": 1.0, "people": 200}
    assert found["pairs_agree"]["value"] == 1.0
    assert found["significant_pairs"] == found["simulated_significant"] == found["pairs"] == 10
    assert found["wrong"] == 0


def test_the_reversed_ranking_has_a_tau_of_minus_one_and_agrees_in_no_pair():
    found = compared(scores(FIVE[::-1], name="simulated"), scores(FIVE))
    assert found["kendall_tau"]["value"] == -1.0
    assert found["pairs_agree"]["high"] == 0.0
    assert found["wrong"] == 10


def test_one_wrong_pair_of_neighbours_costs_two_tenths():
    found = compared(scores(FIVE[[0, 2, 1, 3, 4]], name="simulated"), scores(FIVE))
    assert found["kendall_tau"]["value"] == pytest.approx(0.8)
    assert found["pairs_agree"]["value"] == pytest.approx(0.9)
    assert found["wrong"] == 1


def test_people_who_choose_alike_whatever_is_shown_agree_by_half():
    found = compared(np.full((200, 5), 0.3), scores(FIVE))
    assert found["kendall_tau"]["value"] is None
    assert found["pairs_agree"]["value"] == 0.5
    assert found["simulated_significant"] == 0


def test_pairs_that_reality_does_not_tell_apart_are_not_counted():
    means = np.array([0.1, 0.3, 0.3, 0.3, 0.6])
    found = compared(scores(means[::-1], name="simulated"), scores(means, noise=0.2))
    assert found["significant_pairs"] < found["pairs"]


def test_people_of_whom_nothing_is_known_count_in_neither_ranking():
    simulated, real = scores(FIVE), scores(FIVE)
    simulated[:50], real[:50] = np.nan, FIVE[::-1]
    found = compared(simulated, real)
    assert found["kendall_tau"] == {"value": 1.0, "low": 1.0, "high": 1.0, "people": 150}


def test_two_halves_of_clear_preferences_agree_and_of_noise_do_not():
    assert noise_floor(scores(FIVE), STREAM)["value"] == 1.0
    chance = noise_floor(scores(np.zeros(5)), STREAM)
    assert abs(chance["value"]) < 0.3
    assert chance["low"] < 0 < chance["high"]


@given(some.lists(some.tuples(some.integers(0, 5), some.integers(0, 5)), min_size=2, max_size=9))
def test_tau_is_the_one_of_scipy_ties_included(pairs):
    first, second = np.array(pairs, dtype=np.float64).T
    expected = kendalltau(first, second).statistic if len(set(first)) > 1 and len(set(second)) > 1 else np.nan
    assert float(kendall_tau(first, second)) == pytest.approx(expected, nan_ok=True)


def test_at_least_eight_recommenders_are_compared_and_their_options_are_allowed():
    assert len(RECOMMENDERS) >= 8
    for use, options in RECOMMENDERS.values():
        resolve(use, dict(options), where="ranking", methods=("fit", "recommend"))


def test_a_choice_counts_less_further_down_and_empty_places_do_not_count():
    chances = np.array([[[0.9, 0.1, np.nan], [0.1, 0.9, np.nan], [np.nan] * 3]])
    discounts = 1.0 / np.log2([2.0, 3.0, 4.0])
    first, second, none = weighted(chances, discounts)[0]
    assert first == pytest.approx((0.9 + 0.1 * discounts[1]) / (1.0 + discounts[1]))
    assert first > second
    assert np.isnan(none)
    np.testing.assert_allclose(weighted(chances, np.ones(3))[0, :2], [0.5, 0.5])


def test_every_model_is_compared_on_the_lists_of_fitted_recommenders(film_files, tmp_path):
    files = {"use": "environments.datasets.movielens:MovieLens100K", "path": str(film_files), "split": "random", "test_share": 0.4}
    experiment = config.check(
        {"name": "films", "dataset": files, "decision": {"use": "agents.controls:EvidenceDecisions"}, "language_model": False}, "test"
    )
    context = make_context(experiment, tmp_path, run=None, people=7, bootstrap=50)
    few = {name: RECOMMENDERS[name] for name in ("popularity", "random", "ease")}
    found = measure(context, ["random", "popularity"], few)
    json.dumps(found, allow_nan=False)
    assert found["people"] == 7
    # taste in this world is the parity of an item's number, which EASE learns and the others do not know
    assert found["recommenders"]["ease"]["value"] == max(one["value"] for one in found["recommenders"].values())
    assert found["models"]["random"]["kendall_tau"]["value"] is None
    popularity = found["models"]["popularity"]
    for figures, agreeing in ((popularity["gains"], popularity), (popularity["watch_rates"], popularity["by_watch_rate"])):
        table = [[one["value"] for one in rows.values()] for rows in (figures, found["recommenders"])]
        assert agreeing["kendall_tau"]["value"] == pytest.approx(float(kendall_tau(*np.array(table))))
    assert found["noise_floor"]["halvings"] > 0

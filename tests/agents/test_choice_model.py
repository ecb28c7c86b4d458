"""The logit model finds the weights that made the data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from agents.choice_model import calibration, fit_logit, likelihood_ratio
from agents.staying import base_log_odds
from simulator.seeds import Stream


def simulated(seed, n=4_000, weights=(0.7, -1.2, 0.0), intercept=-0.4, people=200):
    generator = Stream(seed).child("logit").generator()
    columns = generator.standard_normal((n, len(weights)))
    chosen = generator.random(n) < expit(intercept + columns @ np.array(weights))
    return columns, chosen, np.arange(n) % people


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_that_made_the_choices_are_found_within_three_standard_errors(seed):
    columns, chosen, people = simulated(seed)
    model = fit_logit(columns, chosen, people, "abc")
    assert model.names == ("intercept", "a", "b", "c")
    assert (np.abs(model.weights - [-0.4, 0.7, -1.2, 0.0]) < 3 * model.errors).all()
    assert (model.errors < 0.1).all()


def test_sampling_by_outcome_changes_the_intercept_alone():
    columns, chosen, people = simulated(1, n=40_000, intercept=-3.0)
    kept = chosen | (Stream(2).generator().random(len(chosen)) < 0.1)
    model = fit_logit(columns[kept], chosen[kept], people[kept], "abc")
    assert (np.abs(model.weights[1:] - [0.7, -1.2, 0.0]) < 3 * model.errors[1:]).all()
    assert abs(model.weights[0] - np.log(0.1) * -1 + 3.0) < 3 * model.errors[0]


def test_errors_are_as_large_as_the_estimates_really_scatter():
    fits = [fit_logit(*simulated(seed, n=600), "abc") for seed in range(120)]
    scatter = np.std([model.weights for model in fits], axis=0)
    assert np.mean([model.errors for model in fits], axis=0) == pytest.approx(scatter, rel=0.25)


def test_the_likelihood_ratio_test_has_its_size_under_the_null():
    rejected = []
    for seed in range(300):
        columns, chosen, people = simulated(seed, n=400)
        larger, smaller = fit_logit(columns, chosen, people, "abc"), fit_logit(columns[:, :2], chosen, people, "ab")
        statistic, freedom, p = likelihood_ratio(larger, smaller)
        assert statistic >= 0
        assert freedom == 1
        rejected.append(p < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.09


def test_the_likelihood_ratio_test_sees_a_real_effect():
    columns, chosen, people = simulated(3, weights=(0.7, -1.2, 0.3))
    assert likelihood_ratio(fit_logit(columns, chosen, people, "abc"), fit_logit(columns[:, :2], chosen, people, "ab"))[2] < 1e-6


def test_calibration_is_good_in_sample_and_bad_if_too_sure():
    columns, chosen, people = simulated(4)
    index = fit_logit(columns, chosen, people, "abc").index(columns)
    fitted, sure = calibration(expit(index), chosen), calibration(expit(3 * index), chosen)
    assert fitted["ece"] < 0.03 < sure["ece"]
    assert fitted["brier"] < sure["brier"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_both_outcomes_there_are_no_weights(value):
    model = fit_logit(np.ones((5, 2)), np.full(5, value), np.arange(5), "ab")
    assert (model.weights == 0).all()
    assert np.isinf(model.errors).all()


def test_a_perfect_predictor_does_not_break_a_penalised_fit():
    columns = np.linspace(-1, 1, 50)[:, None]
    model = fit_logit(columns, columns[:, 0] > 0, np.arange(50), "a", l2=1.0)
    assert 0 < model.weights[1] < 20


@settings(max_examples=60, deadline=None)
@given(st.floats(1.1, 9.5), st.integers(2, 20), st.floats(-3, 3), st.floats(1, 200))
def test_the_mean_number_of_pages_is_the_wanted_one_whatever_fatigue_does(pages, max_pages, slope, usual):
    wanted = min(pages, 1 + 0.95 * (max_pages - 1))
    base = base_log_odds(wanted, max_pages, 5, usual, slope)
    fatigue = 1 - np.exp(-5 * np.arange(max_pages) / max(10.0, usual))
    stays = 1 - expit(base + slope * fatigue)
    assert 1 + np.cumprod(stays[:-1]).sum() == pytest.approx(wanted, abs=1e-3)

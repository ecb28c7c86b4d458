from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from agents.behaviour import FEATURES
from agents.calibration_fit import MOST_P, Rows, estimate
from simulator.seeds import Stream

PEOPLE, EACH = 400, 10


def world(seed, adds):
    """Rows of people who choose by one feature and, `adds` strong, by what a language model says besides it."""
    generator = Stream(seed).child("second step").generator()
    n = PEOPLE * EACH
    features, own = generator.normal(size=(n, len(FEATURES))), generator.normal(size=n)
    said = 0.5 * features[:, 0] + own
    chosen = (generator.random(n) < expit(1.2 * features[:, 0] + adds * own)).astype(np.float64)
    nothing = np.full(n, np.nan)
    return Rows(
        features=features,
        activity=np.full(n, 3.0),
        chosen=chosen,
        ratings=nothing,
        people=np.repeat(np.arange(PEOPLE), EACH),
        place=np.zeros(n),
        fatigue=np.zeros(n),
        log_odds=said,
        said_stars=nothing,
    )


def second_step(rows, asked):
    """Weights and errors by name, and the report, where the model was asked about the first people only."""
    told = replace(rows, log_odds=np.where(rows.people < asked, rows.log_odds, np.nan))
    report = estimate(told, true=False, with_model=True, ids={}).report["choice"]
    return {row["name"]: (row["weight"], row["error"]) for row in report["weights"]}, report


def test_the_models_weight_comes_from_who_was_asked_and_the_trust_in_evidence_from_everybody():
    found, trusted = [], []
    for seed in range(12):
        weights, report = second_step(world(seed, 0.6), 40)
        assert (report["people"], report["rows"]) == (PEOPLE, PEOPLE * EACH)
        assert (report["asked people"], report["asked"]) == (40, 40 * EACH)
        found.append(weights["language model"])
        # The weight of the evidence is the rest of the slope of 1, when what the model repeats of it is taken off.
        trusted.append(weights["evidence"][0] + weights["language model"][0] * 0.5 / 1.2)
        assert weights["evidence"][1] < weights["language model"][1]
    assert np.mean([weight for weight, _ in found]) == pytest.approx(0.6, abs=0.1)
    assert np.std([weight for weight, _ in found]) == pytest.approx(np.mean([error for _, error in found]), rel=0.7)
    assert np.mean(trusted) == pytest.approx(1.0, abs=0.05)
    assert np.std(trusted) < 0.05


def test_a_model_that_adds_nothing_is_not_found_to_add_something():
    assert np.mean([second_step(world(seed, 0.0), 40)[1]["likelihood_ratio"]["p"] < 0.05 for seed in range(12)]) <= 0.25


def test_an_answer_has_weight_only_where_a_test_says_so():
    for seed in range(6):
        for adds, sign in ((0.0, 1.0), (0.6, 1.0), (0.6, -1.0)):
            rows = world(seed, adds)
            weights, report = second_step(replace(rows, log_odds=sign * rows.log_odds), 40)
            used = report["likelihood_ratio"]["p"] < MOST_P and sign > 0
            assert (weights["language model"][0] > 0.0) == used
            assert report.get("no_weight", False) == (not used)
            if not used:
                assert weights["language model"][0] == 0.0
                assert weights["evidence"][0] == pytest.approx(1.0, abs=0.05)


def test_with_everybody_asked_it_is_one_logit_of_both():
    few, _ = second_step(world(3, 0.6), PEOPLE)
    assert few["language model"][0] == pytest.approx(0.6, abs=0.12)
    assert few["language model"][1] < 0.06

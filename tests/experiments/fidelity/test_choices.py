"""Who would choose what, for models whose answers are known: the perfect one, one that knows nothing, one against itself."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import f1_score, roc_auc_score

from experiments.fidelity.candidates import MIXES
from experiments.fidelity.choices import best_threshold, lift, told_apart
from experiments.fidelity.resampling import area_under_curve, estimate, resample, resampled_area
from simulator.seeds import Stream

CONTEXT = SimpleNamespace(bootstrap=100, stream=Stream(5))


def said(rule, people=40):
    """Everybody has ten positives, eighteen random and ten matched negatives; ``rule(is_positive, generator)`` scores each."""
    generator = Stream(9).generator()
    kinds = ["positive"] * 10 + ["random"] * 18 + ["matched"] * 10
    ranks = [*range(10), *range(18), *range(10)]
    frames = []
    for user in range(people):
        choose = [float(rule(kind == "positive", generator)) for kind in kinds]
        frames.append(pl.DataFrame({"user": user, "item": range(38), "kind": kinds, "rank": ranks, "choose": choose}))
    return pl.concat(frames)


PERFECT = said(lambda positive, generator: 0.6 + 0.3 * generator.random() if positive else 0.5 * generator.random())
NOTHING = said(lambda positive, generator: generator.random())
NOISY = said(lambda positive, generator: positive + generator.normal())


@pytest.mark.parametrize("mix", sorted(MIXES))
def test_a_perfect_model_is_perfect_in_every_mix(mix):
    found = told_apart(CONTEXT, PERFECT, PERFECT)[mix]
    for figure in ("auc", "auc_per_person", "accuracy", "precision", "recall", "f1"):
        assert found[figure]["value"] == 1.0
        assert found[figure]["low"] == 1.0


@pytest.mark.parametrize("mix", ["random_1_1", "matched_1_1", "random_1_3"])
def test_a_model_that_knows_nothing_has_half_the_area(mix):
    found = told_apart(CONTEXT, NOTHING, NOTHING)[mix]
    for figure in ("auc", "auc_per_person"):
        assert found[figure]["value"] == pytest.approx(0.5, abs=0.06)
        assert found[figure]["low"] < 0.5 < found[figure]["high"]


def test_a_model_that_says_the_same_of_everything_has_half_the_area():
    found = told_apart(CONTEXT, NOTHING.with_columns(choose=pl.lit(0.3)), NOTHING.with_columns(choose=pl.lit(0.3)))
    assert found["random_1_1"]["auc"]["value"] == 0.5
    assert found["random_1_1"]["f1"]["value"] == pytest.approx(2 / 3)


def test_the_lift_of_a_model_over_itself_is_nothing_and_sure():
    for figures in lift(CONTEXT, NOISY, NOISY).values():
        for figure in figures.values():
            assert (figure["value"], figure["low"], figure["high"]) == (0.0, 0.0, 0.0)


def test_the_lift_of_a_better_model_is_above_nothing_whatever_the_order_of_rows():
    shuffled = PERFECT.sample(fraction=1.0, shuffle=True, seed=1)
    found = lift(CONTEXT, shuffled, NOISY)["matched_1_1"]["auc"]
    assert found["low"] > 0
    assert found == lift(CONTEXT, PERFECT, NOISY)["matched_1_1"]["auc"]


def test_thresholds_come_from_the_validation_people():
    shifted = PERFECT.with_columns(choose=pl.col("choose") + 10)
    found = told_apart(CONTEXT, shifted, PERFECT)["random_1_1"]
    assert found["auc"]["value"] == 1.0
    assert found["accuracy"]["value"] == 0.5


def test_replies_that_could_not_be_used_are_left_out_and_counted():
    broken = PERFECT.with_columns(choose=pl.when(pl.col("rank") == 0).then(float("nan")).otherwise(pl.col("choose")))
    found = told_apart(CONTEXT, broken, PERFECT)["random_1_1"]
    assert found["rows"] == 40 * 18
    assert found["auc"]["value"] == 1.0


rows = some.lists(some.tuples(some.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), some.booleans()), min_size=2, max_size=40)


@given(rows)
def test_no_threshold_has_a_higher_f1(pairs):
    scores, chosen = np.array([score for score, _ in pairs]), np.array([flag for _, flag in pairs])
    if not chosen.any():
        return
    best = f1_score(chosen, scores >= best_threshold(scores, chosen, "f1"))
    for threshold in np.unique(scores):
        assert best >= f1_score(chosen, scores >= threshold) - 1e-12


@given(rows)
def test_no_threshold_is_more_accurate(pairs):
    scores, chosen = np.array([score for score, _ in pairs]), np.array([flag for _, flag in pairs])
    best = ((scores >= best_threshold(scores, chosen, "accuracy")) == chosen).mean()
    for threshold in (*np.unique(scores), 1.0):
        assert best >= ((scores >= threshold) == chosen).mean() - 1e-12


def test_the_most_accurate_threshold_is_not_that_of_f1():
    """Counts of a sparse log: nothing is known of most items, and F1 would call them all chosen."""
    scores = np.array([0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    chosen = np.array([True, False, True, True, True, False, False, False])
    assert (scores >= best_threshold(scores, chosen, "f1")).sum() == 8
    assert (scores >= best_threshold(scores, chosen, "accuracy")).sum() == 1


@given(rows, some.integers(0, 5))
def test_the_area_is_that_of_scikit_learn_with_ties_and_weights(pairs, seed):
    scores, chosen = np.array([score for score, _ in pairs]), np.array([flag for _, flag in pairs])
    weights = Stream(seed).generator().integers(1, 4, size=(1, len(scores))).astype(float)
    found = area_under_curve(scores, chosen, weights)[0]
    if chosen.all() or not chosen.any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(chosen, scores, sample_weight=weights[0]))


def test_a_resample_of_everybody_once_is_the_sample():
    scores, chosen, person = np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, True, True, False]), np.array([0, 0, 1, 1])
    assert resampled_area(scores, chosen, person, np.ones((1, 2)))[0] == area_under_curve(scores, chosen)[0]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for number in range(200):
        stream = Stream(number)
        values = stream.child("values").generator().normal(size=60)
        weights = resample(60, 400, stream.child("people"))
        found = estimate(float(values.mean()), weights @ values / 60, 60)
        held += found.low < 0 < found.high
    assert 0.88 < held / 200 < 0.99

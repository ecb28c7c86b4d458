"""What a model adds on validation people."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agents.model_lift import area, lift


def test_the_area_is_that_of_the_curve_and_ties_count_half():
    rng = np.random.default_rng(1)
    index, chosen = rng.integers(5, size=200).astype(float), rng.integers(2, size=200)
    assert area(index, chosen) == pytest.approx(roc_auc_score(chosen, index))
    assert np.isnan(area(index, np.ones(200)))


def test_a_model_that_tells_something_lifts_and_one_that_says_nothing_does_not():
    rng = np.random.default_rng(2)
    chosen, people = rng.integers(2, size=1200).astype(float), np.repeat(np.arange(60), 20)
    evidence = chosen + rng.normal(size=1200) * 2
    good, nothing = evidence + chosen, evidence + rng.normal(size=1200) * 0.1
    assert lift(good, evidence, chosen, people)["lift_low"] > 0.02
    found = lift(nothing, evidence, chosen, people)
    assert found["lift_low"] < 0.005 < found["lift_high"] + 0.01
    assert lift(good, evidence, chosen, people) == lift(good, evidence, chosen, people)
    assert lift(good[:40], evidence[:40], chosen[:40], people[:40]).keys() == {"lift"}
    assert lift(good, evidence, np.zeros(1200), people) == {}

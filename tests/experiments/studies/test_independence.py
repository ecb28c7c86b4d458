"""On worlds whose causes are known."""

import numpy as np
import pytest

from experiments.studies.independence import p_value, skeleton, slope
from simulator.seeds import Stream


@pytest.fixture(scope="module")
def world():
    """taste -> score, popularity -> score, score -> place, popularity -> chosen, badge from popularity; the place does nothing."""
    rng = Stream(4).child("causes").generator()
    n = 6_000
    people = np.repeat(np.arange(300), 20)
    popularity = rng.normal(size=n)
    score = popularity + 0.5 * rng.normal(size=n)
    place = -score + rng.normal(size=n)
    chosen = 0.5 * popularity + rng.normal(size=n)
    return {"popularity": popularity, "score": score, "place": place, "chosen": chosen}, people


def test_a_slope_is_that_of_the_regression_with_the_others_held_fixed():
    rng = Stream(5).generator()
    x, z = rng.normal(size=500), rng.normal(size=500)
    y = 2.0 * x - 3.0 * z + 0.1
    assert slope(x, y, z[:, None], np.arange(500))[0] == pytest.approx(2.0)
    assert slope(x, x * 0 + 1.0, z[:, None], np.arange(500))[0] == pytest.approx(0.0)
    assert slope(z, y, z[:, None], np.arange(500)) == (0.0, float("inf"))


def test_rows_of_one_person_do_not_count_as_many():
    rng = Stream(6).generator()
    x = np.repeat(rng.normal(size=100), 30)
    y = np.repeat(rng.normal(size=100), 30)
    _, alone = slope(x, y, np.zeros((3000, 0)), np.arange(3000))
    _, together = slope(x, y, np.zeros((3000, 0)), np.repeat(np.arange(100), 30))
    assert together > 4 * alone


def test_tests_of_independence_hold_their_level():
    rng = Stream(7).generator()
    people = np.repeat(np.arange(100), 10)
    found = [p_value(rng.normal(size=1000), rng.normal(size=1000), rng.normal(size=(1000, 1)), people) for _ in range(300)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_the_skeleton_is_the_true_one(world):
    data, people = world
    edges, parted = skeleton(data, people, (("popularity",), ("score",), ("place",), ("chosen",)), 0.001, 2)
    assert {(edge.cause, edge.effect) for edge in edges} == {("popularity", "score"), ("score", "place"), ("popularity", "chosen")}
    assert {(one.cause, one.effect): one.given for one in parted}["score", "chosen"] == ("popularity",)


def test_a_variable_that_never_varies_has_no_edge(world):
    data, people = world
    edges, _ = skeleton({**data, "place": np.ones(len(people))}, people, (("popularity",), ("score", "place"), ("chosen",)), 0.001, 2)
    assert not [edge for edge in edges if "place" in (edge.cause, edge.effect)]

"""Ratings on the values that the data has, around what is expected of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rating_values import BINS, INSIDE, OwnValues, Shape, tilted
from simulator.seeds import Stream

HALVES = np.arange(0.5, 5.5, 0.5)


def shape(values, narrow=0.4, spread=1.0):
    return Shape(values, np.full(len(values), 1 / len(values)), spread, 10.0, narrow)


def test_the_values_are_those_that_occur():
    own = OwnValues.of(np.array([0.5, 3.0, 3.5, 3.0, 5.0], dtype=np.float32))
    assert own.values.tolist() == [0.5, 3.0, 3.5, 5.0]
    assert own.codes(np.array([0.5, 3.0, 3.5, 5.0, 4.9, 0.0])).tolist() == [0, 1, 2, 3, 3, 0]
    assert own.drawn(np.array([0, 2]), np.array([0.99, 0.0])).tolist() == [0.5, 3.5]


def test_one_value_is_one_value():
    own = OwnValues.of(np.ones(7))
    assert shape(own.values).probabilities(np.array([1.0, 0.3]), np.zeros((2, 1))).tolist() == [[1.0], [1.0]]


def test_a_continuous_scale_is_cut_into_bins_that_are_equally_full():
    ratings = Stream(1).child("ratings").generator().gamma(2.0, size=4_000)
    own = OwnValues.of(ratings)
    codes = own.codes(ratings)
    assert len(own.values) == BINS
    assert np.bincount(codes) == pytest.approx(np.full(BINS, 200), abs=2)
    assert own.values == pytest.approx([ratings[codes == k].mean() for k in range(BINS)])
    drawn = own.drawn(codes, Stream(2).child("draws").generator().random(len(codes)))
    assert np.isin(drawn, ratings).all()
    assert np.array_equal(own.codes(drawn), codes)


def test_a_scale_where_nearly_all_give_the_same_has_bins_all_the_same():
    ratings = np.concatenate([np.full(5_000, 10.0), np.linspace(0, 9.99, 200)])
    own = OwnValues.of(ratings)
    assert (np.bincount(own.codes(ratings), minlength=len(own.values)) > 0).all()
    assert np.isfinite(own.values).all()


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=9),
    st.floats(0.005, 0.995),
    st.sampled_from([np.array([0.0, 1.0]), HALVES, np.array([1.0, 9.0, 10.0]), np.array([0.0, 0.001, 700.0])]),
)
def test_a_tilted_histogram_has_the_mean_that_is_wanted(logs, where, values):
    weights = np.resize(np.array(logs), len(values))[None, :]
    mean = values[0] + where * (values[-1] - values[0])
    found = tilted(weights, values, np.array([mean]))
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    assert found @ values == pytest.approx(mean, abs=1e-6 * np.ptp(values))


def test_narrow_distributions_have_less_variance_and_the_same_mean():
    counts, expected = np.zeros((1, 10)), np.array([3.2])
    wide, narrow = (shape(HALVES, kappa).probabilities(expected, counts)[0] for kappa in (0.0, 1.0))
    assert wide @ HALVES == pytest.approx(3.2)
    assert narrow @ HALVES == pytest.approx(3.2)
    assert narrow @ HALVES**2 < wide @ HALVES**2 - 0.3


def test_what_is_known_already_is_taken_from_the_variance():
    values = np.linspace(-6, 6, 25)
    told = Shape(values, np.full(25, 0.04), 1.0, 10.0, 1.0).probabilities(np.zeros(2), np.zeros((2, 25)), also_known=0.0)
    less = Shape(values, np.full(25, 0.04), 1.0, 10.0, 1.0).probabilities(np.zeros(2), np.zeros((2, 25)), also_known=0.3)
    assert told[0] @ values**2 == pytest.approx(1.0, rel=0.02)
    assert less[0] @ values**2 == pytest.approx(0.7, rel=0.02)


def test_expected_ratings_outside_of_the_scale_are_kept_inside():
    found = shape(HALVES).probabilities(np.array([-4.0, 99.0]), np.zeros((2, 10))) @ HALVES
    assert found == pytest.approx([0.5 + 4.5 * INSIDE, 5.0 - 4.5 * INSIDE], abs=1e-5)


def test_people_keep_their_own_way_of_giving_ratings():
    no_halves = np.zeros((1, 10))
    no_halves[0, 1::2] = 40.0
    found = shape(HALVES).probabilities(np.array([3.4]), no_halves)[0]
    assert found[0::2].sum() < 0.15
    assert found @ HALVES == pytest.approx(3.4)


def test_the_fit_finds_a_narrow_shape_where_ratings_are_near_what_is_expected():
    rng = Stream(3).child("shape").generator()
    expected = rng.uniform(1.5, 4.5, 3_000)
    shares = np.full(10, 0.1)
    near = OwnValues.of(HALVES).codes(np.clip(expected + 0.3 * rng.normal(size=3_000), 0.5, 5))
    found = Shape.fit(HALVES, shares, expected, np.zeros((3_000, 10)), near)
    assert found.narrow > 0.8
    assert found.spread == pytest.approx(0.33, abs=0.04)
    assert found.log_loss(expected, np.zeros((3_000, 10)), near) < Shape(HALVES, shares, found.spread, 10.0, 0.0).log_loss(
        expected, np.zeros((3_000, 10)), near
    )

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.exposure import epsilon_greedy, greedy, plackett_luce, standardised
from simulator.records import Slate
from simulator.seeds import Stream

DRAWS = 12_000
finite = st.floats(-1e300, 1e300) | st.integers(-3, 3).map(float)


def check_frequencies(draw, n, size):
    """Each ordered page must be as frequent as the product of its logged propensities says."""
    generator = Stream(11).child("draws").generator()
    pages, logged = Counter(), {}
    for _ in range(DRAWS):
        places, propensities = draw(generator)
        page = tuple(places.tolist())
        pages[page] += 1
        probability = float(np.prod(propensities))
        assert logged.setdefault(page, probability) == pytest.approx(probability)
    for page in permutations(range(n), size):
        p = logged.get(page, 0.0)
        assert abs(pages[page] - DRAWS * p) < 4.5 * np.sqrt(DRAWS * p * (1 - p) + 1)
    assert 0.99 < sum(logged.values()) < 1 + 1e-9  # a page too rare to be drawn is missing


@pytest.mark.parametrize("epsilon", [0.1, 0.6, 1.0])
def test_epsilon_greedy_pages_are_as_frequent_as_their_propensities(epsilon):
    check_frequencies(lambda generator: epsilon_greedy(4, 3, epsilon, generator), 4, 3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_plackett_luce_pages_are_as_frequent_as_their_propensities(temperature):
    scores = np.array([30.0, 20.0, 20.0, -10.0])
    check_frequencies(lambda generator: plackett_luce(scores, 3, temperature, generator), 4, 3)


@given(st.integers(1, 30), st.integers(1, 10), st.floats(0, 1), st.integers(0, 99))
def test_epsilon_greedy_shows_distinct_items_with_propensities_in_the_unit_interval(n, size, epsilon, seed):
    places, propensities = epsilon_greedy(n, size, epsilon, Stream(seed).generator())
    assert len(places) == len(set(places.tolist())) == min(n, size)
    assert ((propensities > 0) & (propensities <= 1)).all()


@given(st.lists(finite, min_size=1, max_size=30), st.integers(1, 10), st.floats(0.01, 100), st.integers(0, 99))
def test_plackett_luce_shows_distinct_items_with_propensities_in_the_unit_interval(scores, size, temperature, seed):
    ordered = np.sort(np.array(scores))[::-1]
    places, propensities = plackett_luce(ordered, size, temperature, Stream(seed).generator())
    assert len(places) == len(set(places.tolist())) == min(len(scores), size)
    assert ((propensities > 0) & (propensities <= 1)).all()


def test_without_exploration_epsilon_greedy_is_greedy():
    places, propensities = epsilon_greedy(9, 4, 0.0, Stream(1).generator())
    assert places.tolist() == [0, 1, 2, 3]
    assert propensities.tolist() == [1.0] * 4


def test_plackett_luce_of_equal_scores_is_uniform():
    _, propensities = plackett_luce(np.full(5, 0.1), 3, 0.5, Stream(1).generator())
    np.testing.assert_allclose(propensities, [1 / 5, 1 / 4, 1 / 3])


def test_plackett_luce_does_not_depend_on_the_unit_of_the_scores():
    scores = np.array([9.0, 4.0, 1.0, 0.0])
    one = plackett_luce(scores, 3, 1.0, Stream(4).generator())
    other = plackett_luce(scores * 1e-200 + 0.0, 3, 1.0, Stream(4).generator())
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1])
    assert standardised(scores).std() == pytest.approx(1.0)


def test_greedy_keeps_the_propensities_of_a_recommender_that_draws():
    slate = Slate(np.array([4, 2, 7]), np.zeros(3), np.array([0.3, 0.5, 0.9]))
    places, propensities = greedy(slate, 2)
    assert places.tolist() == [0, 1]
    assert propensities.tolist() == [0.3, 0.5]
    assert greedy(Slate(slate.items, slate.scores), 5)[1].tolist() == [1.0, 1.0, 1.0]

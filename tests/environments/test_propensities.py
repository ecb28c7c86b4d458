"""What a policy would show on given pages, against the rules that draw pages and against sums over all pages."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.exposure import epsilon_greedy, plackett_luce
from environments.propensities import PageRule
from simulator.seeds import Stream

RULES = (
    PageRule("none"),
    PageRule("epsilon", epsilon=0.3),
    PageRule("plackett-luce", temperature=0.5),
    PageRule("plackett-luce", temperature=0.05),
)


def marginals_by_summing(rule, logits, places):
    """Probability of each candidate at each place, summed over all ordered pages."""
    n = len(logits)
    table = np.zeros((n, places))
    for page in permutations(range(n), places):
        probability, remaining = 1.0, np.ones((1, n), dtype=bool)
        for item in page:
            probability *= rule.next_item(logits[None, :], remaining)[0, item]
            remaining[0, item] = False
        for place, item in enumerate(page):
            table[item, place] += probability
    return table


@pytest.mark.parametrize("rule", RULES)
def test_marginals_are_the_sums_over_all_pages(rule):
    scores = -np.sort(-Stream(4).generator().normal(size=6))
    logits = rule.logits(scores[None, :], np.array([6]))
    expected = marginals_by_summing(rule, logits[0], 4)
    made = np.stack([rule.marginals(logits, np.array([6]), np.full((1, 4), item))[0] for item in range(6)])
    assert np.abs(made - expected).max() < 1e-8


@pytest.mark.parametrize("rule", RULES)
def test_with_as_many_places_as_candidates_everybody_is_somewhere(rule):
    logits = rule.logits(np.array([[3.0, 1.0, 0.5, -2.0]]), np.array([4]))
    for item in range(4):
        assert rule.marginals(logits, np.array([4]), np.full((1, 4), item)).sum() == pytest.approx(1.0, abs=1e-8)


@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0.05, 3.0))
def test_a_drawn_plackett_luce_page_has_the_probabilities_that_were_logged(seed, n, temperature):
    generator = Stream(seed).generator()
    scores = -np.sort(-generator.normal(size=n))
    places, logged = plackett_luce(scores, min(n, 5), temperature, generator)
    check_logged(PageRule("plackett-luce", temperature=temperature), scores, places, logged)


@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0.0, 1.0))
def test_a_drawn_epsilon_page_has_the_probabilities_that_were_logged(seed, n, epsilon):
    places, logged = epsilon_greedy(n, min(n, 5), epsilon, Stream(seed).generator())
    check_logged(PageRule("epsilon", epsilon=epsilon), -np.arange(float(n)), places, logged)


def check_logged(rule, scores, places, logged):
    n = len(scores)
    padded = np.concatenate([scores, [0.0, 0.0]])[None, :]  # padding must not matter
    logits = rule.logits(padded, np.array([n]))
    remaining = np.arange(n + 2)[None, :] < n
    for place, probability in zip(places, logged, strict=True):
        chances = rule.next_item(logits, remaining)[0]
        assert chances.sum() == pytest.approx(1.0)
        assert chances[place] == pytest.approx(probability, rel=1e-9, abs=1e-300)
        remaining[0, place] = False


def test_an_item_that_is_no_candidate_is_never_there():
    for rule in RULES:
        logits = rule.logits(np.array([[2.0, 1.0, 0.0]]), np.array([3]))
        assert rule.marginals(logits, np.array([3]), np.array([[-1, -1]])).tolist() == [[0.0, 0.0]]


def test_nothing_remaining_has_no_next_item():
    for rule in RULES:
        logits = rule.logits(np.array([[2.0, 1.0]]), np.array([2]))
        assert rule.next_item(logits, np.zeros((1, 2), dtype=bool)).tolist() == [[0.0, 0.0]]


def test_equal_scores_are_a_uniform_draw():
    rule = PageRule("plackett-luce", temperature=0.1)
    logits = rule.logits(np.zeros((1, 1700)), np.array([1700]))
    assert rule.marginals(logits, np.array([1700]), np.array([[5, 900, 3]])) == pytest.approx(np.full((1, 3), 1 / 1700))

"""Drawing tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.llm.sampling import CANDIDATES, TOP_P, draw
from simulator.seeds import Stream


def rng(number: int = 0) -> np.random.Generator:
    return Stream(7, ("test", number)).generator()


def test_without_temperature_the_likeliest_token_of_lowest_id_is_taken():
    logits = np.zeros(500, np.float32)
    logits[[40, 300]] = 5.0
    assert draw(logits, 0.0, rng()) == 40


def test_frequencies_follow_the_nucleus():
    chances = np.array([0.5, 0.3, 0.17, 0.03])
    logits = np.log(chances).astype(np.float32)
    source = rng()
    drawn = np.bincount([draw(logits, 1.0, source) for _ in range(20_000)], minlength=4) / 20_000
    inside = np.array([0.5, 0.3, 0.17, 0.0]) / 0.97
    assert np.abs(drawn - inside).max() < 0.015
    assert TOP_P == 0.95


def test_temperature_flattens():
    logits = np.log(np.array([0.8, 0.2])).astype(np.float32)
    source = rng()
    share = np.mean([draw(logits, 2.0, source) for _ in range(20_000)])
    assert abs(share - 1 / 3) < 0.015


def test_a_grammar_has_the_last_word():
    logits = np.linspace(0, 9, 5000).astype(np.float32)
    assert draw(logits, 1.0, rng(), lambda tokens: tokens == 4990) == 4990
    assert draw(logits, 1.0, rng(), lambda tokens: tokens == 3) == 3
    with pytest.raises(ValueError, match="permits no token"):
        draw(logits, 1.0, rng(), lambda tokens: tokens < 0)


@given(st.integers(0, 2**32), st.integers(1, 3000), st.floats(0.1, 3))
def test_a_draw_is_among_the_candidates_and_repeats_with_its_seed(seed, size, temperature):
    logits = Stream(seed).generator().normal(0, 3, size).astype(np.float32)
    token = draw(logits, temperature, rng(seed))
    assert token == draw(logits, temperature, rng(seed))
    assert (logits > logits[token]).sum() < CANDIDATES

"""Spelling of labels in tokens, and probabilities that must come out right, with tokenisers small enough to know the answer."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ModelError
from simulator.llm.labels import Tokens, log_softmax_at, read, spell
from simulator.records import Probe

WORDS = {" yes": 500, " no": 501, "yes": 502, " Yes": 503, " not": 504, " now": 505}


def letters(before: str, text: str) -> list[int]:
    """A tokeniser that knows a few words and writes everything else letter by letter."""
    return [WORDS[text]] if text in WORDS else [ord(letter) for letter in text]


def test_other_spellings_of_one_token_count_for_their_label():
    spelling = spell(Probe("watch", ("yes", "no")), ":", letters)
    assert spelling.labels == ((500,), (501,))
    assert spelling.first == ((500, 502, 503), (501,))
    assert not spelling.inner


def test_what_all_labels_begin_with_moves_into_the_text():
    spelling = spell(Probe("stars", ("1", "2", "3")), ":", letters)
    assert spelling.prefix == (ord(" "),)
    assert spelling.first == ((ord("1"),), (ord("2"),), (ord("3"),))


@pytest.mark.parametrize("before", ["\n", "(", '"', ""])
def test_after_white_space_or_an_opening_mark_there_is_no_space(before):
    assert spell(Probe("stars", ("1", "2")), before, letters).prefix == ()


def test_a_label_that_begins_another_is_found():
    spelling = spell(Probe("grade", ("1", "2", "10")), ":", letters)
    assert spelling.inner == ((ord("1"),),)


@pytest.mark.parametrize(
    ("labels", "words"),
    [(("yes",), "two labels"), (("yes", " "), "no token"), (("yes", "yes"), "same tokens")],
)
def test_labels_that_cannot_be_told_apart_are_explained(labels, words):
    with pytest.raises(ModelError, match=words):
        spell(Probe("watch", labels), ":", letters)


def world(chances: dict[Tokens, dict[int, float]]) -> Callable[[Tokens], np.ndarray]:
    """Logits of a model whose next-token probabilities are known; what is not named shares the rest."""

    def logits(after: Tokens) -> np.ndarray:
        known = chances.get(after, {})
        row = np.full(600, (1 - sum(known.values())) / (600 - len(known)))
        row[list(known)] = list(known.values())
        return np.log(row).astype(np.float32)

    return logits


def test_one_and_ten_get_their_exact_shares():
    one, two, zero = ord("1"), ord("2"), ord("0")
    model = world({(): {one: 0.6, two: 0.2}, (one,): {zero: 0.25}})
    logprobs, mass = read(spell(Probe("grade", ("1", "2", "10")), ":", letters), model(()), model)
    assert np.allclose(np.exp(logprobs), np.array([0.45, 0.2, 0.15]) / 0.8, rtol=1e-5)
    assert np.isclose(mass, 0.8, rtol=1e-5)


def test_labels_that_share_several_tokens_get_their_exact_shares():
    a, b, c, x = (ord(letter) for letter in "abcx")
    model = world({(): {a: 0.5, x: 0.4}, (a,): {b: 0.5, c: 0.25}, (a, b): {c: 0.75}})
    labels = ("ab", "abc", "ac", "xy")
    logprobs, mass = read(spell(Probe("p", labels), "\n", letters), model(()), model)
    exact = np.array([0.5 * 0.5 * 0.25, 0.5 * 0.5 * 0.75, 0.5 * 0.25, 0.4])
    assert np.allclose(np.exp(logprobs), exact / exact.sum(), rtol=1e-5)
    assert np.isclose(mass, exact.sum(), rtol=1e-5)


def test_spellings_are_summed():
    model = world({(): {500: 0.2, 503: 0.1, 502: 0.1, 501: 0.1}})
    logprobs, mass = read(spell(Probe("watch", ("yes", "no")), ":", letters), model(()), model)
    assert np.allclose(np.exp(logprobs), [0.8, 0.2], rtol=1e-5)
    assert np.isclose(mass, 0.5, rtol=1e-5)


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=6, unique=True), st.integers(0, 2**32))
def test_any_labels_of_any_model_give_a_distribution(labels, seed):
    def model(after: Tokens) -> np.ndarray:
        rng = np.random.default_rng([seed, *after])
        return rng.normal(0, 4, 600).astype(np.float32)

    spelling = spell(Probe("p", tuple(labels)), "\n", letters)
    logprobs, mass = read(spelling, model(()), model)
    assert len(logprobs) == len(labels)
    assert np.isclose(np.exp(logprobs).sum(), 1)
    assert 0 <= mass <= 1


def test_a_hopeless_label_is_unlikely_but_finite():
    row = np.full(600, -200.0, np.float32)
    row[7] = 300.0
    logprobs, mass = read(spell(Probe("watch", ("yes", "no")), ":", letters), row, lambda tokens: row)
    assert np.isfinite(logprobs).all()
    assert mass < 1e-100


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=30))
def test_log_softmax_agrees_with_the_definition(values):
    row = np.array(values, np.float32)
    exact = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
    assert np.allclose(log_softmax_at(row, range(len(row))), exact, atol=1e-5)

"""What picking says about ratings of what nobody picked."""

import numpy as np
import pytest

from agents.rating_selection import MOST_SHIFT, Selection, strength_of_selection, unpicked
from simulator.seeds import Stream


def picks(beta, seed=1, n=30_000):
    rng = Stream(seed).child("picks").generator()
    popularity = rng.integers(0, 300, n)
    taste = 0.5 * rng.normal(size=n)
    index = 0.9 * np.log1p(popularity) + beta * taste - 4.0
    return rng.integers(0, 400, n), popularity, taste, (rng.random(n) < 1 / (1 + np.exp(-index))).astype(float)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_strength_is_that_of_the_picks(beta):
    found, error = strength_of_selection(*picks(beta))
    assert found == pytest.approx(beta, abs=4 * error)
    assert 0 < error < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_where_picks_say_nothing_of_ratings_the_strength_is_exactly_0(seed):
    assert strength_of_selection(*picks(0.0, seed))[0] == 0.0


def test_nothing_is_said_where_nothing_can_be():
    people, popularity, taste, picked = picks(0.5)
    assert strength_of_selection(people, popularity, taste, np.ones(len(picked))) == (0.0, 0.0)
    assert strength_of_selection(people, popularity, np.zeros(len(taste)), picked) == (0.0, 0.0)
    assert strength_of_selection(*(values[:0] for values in (people, popularity, taste, picked))) == (0.0, 0.0)


def test_the_gap_is_strength_times_what_is_foreseen_and_has_an_upper_bound():
    assert Selection(0.5, 0.1, 0.5, 0.8).gap == pytest.approx(0.5 * 0.5 * 0.64)
    assert Selection(9.0, 0.1, 0.5, 0.8).gap == pytest.approx(MOST_SHIFT * 0.8)
    assert Selection(9.0, 0.1, 0.5, 0.8).told()["capped"] is True
    assert Selection(0.5, 0.1, 0.0, 0.8).gap == 0.0


def test_measured_ratings_replace_the_assumption():
    one = Selection(9.0, 0.1, 0.5, 0.8, measured=-0.2, measured_error=0.07, rows=200)
    assert one.assigned(0.3) == pytest.approx(0.2)
    assert "200 ratings of random items" in one.sentence()
    assert "foresee" in Selection(0.5, 0.1, 0.5, 0.8).sentence()


@pytest.mark.parametrize("usual", [0.0, 0.3])
def test_what_is_usually_picked_keeps_its_level_and_what_is_never_picked_is_liked_less(usual):
    one = Selection(0.5, 0.1, 0.5, 0.8)
    assert one.picked(np.array([usual]), usual)[0] == pytest.approx(0.0)
    assert one.assigned(usual) == pytest.approx(-(1 - usual) * one.gap)


def test_one_mechanism_chooses_and_rates():
    """Of a foreseen liking that enters both, those who pick have the mean that is said, and so have all together."""
    rng = Stream(2).child("mechanism").generator()
    beta, foreseen, residual, usual = 0.6, 0.5, 0.9, 0.25
    one = Selection(beta, 0.1, foreseen, residual)
    liking = np.sqrt(foreseen) * residual * rng.normal(size=2_000_000)
    for level in (-3.0, -1.0, 0.5):
        picked = rng.random(len(liking)) < 1 / (1 + np.exp(-(level + beta * liking)))
        of_picked = one.assigned(usual) + liking[picked].mean()
        assert one.picked(np.array([picked.mean()]), usual)[0] == pytest.approx(of_picked, abs=0.02)


def test_other_items_are_drawn_for_each_person():
    users, items = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3])
    of = np.repeat([0, 1], 200)
    found = unpicked(users, items, of, 4, Stream(1).child("others").generator())
    assert set(found[:200]) <= {3, -1}
    assert set(found[200:]) == {0, 1, 2}
    everything = unpicked(np.zeros(4, dtype=int), np.arange(4), np.zeros(5, dtype=int), 4, Stream(1).child("none").generator())
    assert everything.tolist() == [-1] * 5

"""Ratings on the values that the data has: what actions can come out with, how answers in stars become these, and what is drawn."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.actions import CHOOSE, RATE, on_scale
from agents.choices import decide
from agents.decisions import first_page
from agents.profiles import fit_profiles
from agents.rated_results import onto_results
from agents.rating_values import OwnValues
from experiments.fidelity.pages import in_stars
from simulator.seeds import Stream


def rated(world, ratings, scale):
    rows = world.interactions.with_columns(rating=pl.Series(np.resize(np.array(ratings, dtype=np.float32), world.interactions.height)))
    return replace(world, interactions=rows, rating_scale=scale)


def test_whole_stars_need_no_grades(film_world):
    action = on_scale(RATE, film_world)
    assert (action.grades, action.shares, action.within) == ((), (), ())
    assert action.results == (1.0, 2.0, 3.0, 4.0, 5.0)


def test_halves_are_grades_and_stars_are_divided_among_them_as_they_were_given(film_world):
    action = on_scale(RATE, rated(film_world, [3.0, 3.0, 3.0, 2.5, 4.0, 5.0, 0.5, 2.0], (0.5, 5.0)))
    assert action.results == (0.5, 2.0, 2.5, 3.0, 4.0, 5.0)
    assert action.graded(np.eye(5))[2].tolist() == pytest.approx([0, 0, 0.25, 0.75, 0, 0], abs=0.01)
    assert action.graded(np.full((1, 5), 0.2)).sum() == pytest.approx(1.0)
    assert in_stars(np.eye(6), [action]).argmax(axis=1).tolist() == [0, 1, 2, 2, 3, 4]


def test_stars_between_two_grades_are_divided_between_them(film_world):
    action = on_scale(RATE, rated(film_world, [0.0, 0.0, 1.0, 0.6], (0.0, 1.0)))
    assert action.results == (0.0, pytest.approx(0.6), 1.0)
    plain = on_scale(RATE, rated(film_world, [0.0, 1.0], (0.0, 1.0)))
    assert plain.grades == ()
    assert action.graded(np.eye(5)) == pytest.approx(
        np.array([[1, 0, 0], [0.583, 0.417, 0], [0, 1, 0], [0, 0.625, 0.375], [0, 0, 1]]), abs=0.01
    )


@pytest.mark.parametrize("graded", [False, True])
def test_what_is_drawn_are_ratings_of_the_data(film_world, graded):
    ratings = Stream(1).child("continuous").generator().gamma(2.0, size=film_world.interactions.height).astype(np.float32)
    world = rated(film_world, ratings, (0.0, 20.0))
    action = on_scale(RATE, world)
    assert len(action.grades) == 20
    choose = replace(CHOOSE)
    profile, items = fit_profiles(world)[0], np.arange(30)
    shares = np.full((30, 20), 0.05) if graded else np.full((30, 5), 0.2)
    drawn = []
    for number in range(20):
        situation = first_page(profile, items, Stream(2).child(number))
        found = {"choose": np.tile([1.0, 0.0], (30, 1)), "rate": shares}
        outcome = decide((choose, action), situation, found, graded=("rate",) if graded else ()).outcomes["rate"]
        assert outcome.probabilities.shape == (30, 20)
        drawn.append(outcome.values)
    drawn = np.concatenate(drawn)
    assert np.isin(drawn, ratings.astype(np.float64)).all()
    assert len(np.unique(drawn)) > 100
    if graded:
        assert drawn.mean() == pytest.approx(ratings.mean(), rel=0.15)


def test_values_of_a_model_become_the_nearest_results():
    own = OwnValues.of(np.array([0.5, 1.0, 3.5, 5.0]))
    found = onto_results(own, replace(RATE, values=(1.0, 2.0, 3.0, 4.0, 5.0)))
    assert found.argmax(axis=1).tolist() == [0, 0, 2, 4]
    assert found.sum(axis=1).tolist() == [1.0] * 4

"""Too good to be true, on logs that are made up so that the answer is known."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from agents.exposures import people_split
from agents.profiles import fit_profiles
from experiments.fidelity.behaviour import Behaviour, Log, Observed
from experiments.fidelity.classifier import two_sample
from experiments.fidelity.realism import between_variance, positivity
from experiments.fidelity.resampling import resample
from simulator.seeds import Stream

STREAM = Stream(6)


def behaviour_of(world, simulated):
    """The real log of everybody beside another one in its place."""
    made = Behaviour.__new__(Behaviour)
    profiles = {profile.user: profile for profile in fit_profiles(world)}
    made.context = SimpleNamespace(
        train=world, split=SimpleNamespace(test=world.interactions), profiles=profiles, roles=people_split(world), stream=STREAM
    )
    made.train, made.people = world, np.arange(world.n_users)
    made.__dict__["real"] = made.__dict__["held_out"] = made._real(world.interactions)
    made.__dict__["simulated"] = Log(simulated(made.real.rows))
    return made


@pytest.fixture(scope="module")
def weights(film_world):
    return resample(film_world.n_users, 100, STREAM)


def test_between_person_variance_is_what_it_was_made_of():
    generator = STREAM.child("variance").generator()
    person = np.repeat(np.arange(400), 6)
    sample = Observed(person, 0.8 * generator.normal(size=400)[person] + generator.normal(size=len(person)))
    assert between_variance(sample, 400, np.ones((1, 400)))[0] == pytest.approx(0.64, abs=0.12)


def test_people_who_differ_by_chance_alone_have_hardly_any_variance_between_them():
    person = np.repeat(np.arange(400), 6)
    sample = Observed(person, STREAM.child("chance").generator().normal(size=len(person)))
    assert between_variance(sample, 400, np.ones((1, 400)))[0] < 0.03


def test_one_star_more_of_everybody_is_a_shift_of_one(film_world, weights):
    kinder = behaviour_of(film_world, lambda rows: rows.with_columns(pl.col("rating") + 1, good=pl.lit(value=True)))
    found = positivity(kinder, weights)
    assert found["mean_rating_shift"]["value"] == pytest.approx(1.0)
    assert found["mean_rating_shift"]["low"] == pytest.approx(1.0)
    assert found["good_share_shift"]["low"] > 0


def test_the_same_log_is_not_kinder(film_world, weights):
    same = positivity(behaviour_of(film_world, lambda rows: rows), weights)
    assert (same["mean_rating_shift"]["value"], same["good_share_shift"]["value"]) == (0.0, 0.0)


def test_sessions_of_one_log_cannot_be_told_apart(film_world, weights):
    found = two_sample(behaviour_of(film_world, lambda rows: rows), weights, STREAM)
    assert found["all"]["classifiers"]["logistic"]["value"] == pytest.approx(0.5, abs=0.15)


def test_sessions_of_people_who_only_give_five_stars_are_told_apart(film_world, weights):
    found = two_sample(behaviour_of(film_world, lambda rows: rows.with_columns(rating=pl.lit(5.0))), weights, STREAM)
    for kind in ("all", "content"):
        assert found[kind]["auc"]["low"] > 0.8
    assert "items" not in found["content"]["features"]


def test_repeats_and_transitions_are_counted(film_world):
    twice = behaviour_of(film_world, lambda rows: pl.concat([rows, rows]).sort("person", "time", maintain_order=True))
    assert twice.repeats(twice.simulated).values.mean() == 1.0  # everything is in the training part here
    person, pairs = twice.transitions(twice.real)
    assert pairs.sum(axis=1) == pytest.approx(np.ones(len(person)))
    sessions = twice.items_per_session(twice.real).values
    assert len(person) == int((sessions - 1).sum())

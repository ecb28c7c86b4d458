"""Biases and Bayesian factors of ratings: what they find in worlds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from agents.rating_biases import Biases
from agents.rating_factors import Features, RatingFactors, Sizes, _draw_normal, _wishart
from simulator.one_thread import one_thread
from simulator.seeds import Stream

SIZES = Sizes(3, 4, 40)
SHAPE = (120, 90)


def world(seed=1, rank=2, noise=0.5, share=0.35, picky=False):
    """Ratings of a low-rank truth, and held-out ones: (users, items, given), likewise, and the truth."""
    rng = Stream(seed).child("low-rank world").generator()
    people, things = rng.normal(size=(SHAPE[0], rank)), rng.normal(size=(SHAPE[1], rank))
    truth = 3.0 + 0.7 * people @ things.T + 0.4 * rng.normal(size=(SHAPE[0], 1)) + 0.5 * rng.normal(size=(1, SHAPE[1]))
    chance = share / (0.5 + np.exp(-2.0 * people @ things.T)) if picky else np.full(SHAPE, share)
    users, items = np.nonzero(rng.random(SHAPE) < chance)
    given = truth[users, items] + noise * rng.normal(size=len(users))
    test = rng.random(len(users)) < 0.25
    return (users[~test], items[~test], given[~test]), (users[test], items[test], given[test]), truth


def rmse(told, given):
    return float(np.sqrt(np.mean((told - given) ** 2)))


def test_biases_find_the_variances_that_made_them():
    rng = Stream(3).child("biases").generator()
    shape = (300, 200)
    of_user, of_item = 0.5 * rng.normal(size=300), 0.8 * rng.normal(size=200)
    users, items = np.nonzero(rng.random(shape) < 0.2)
    found = Biases.fit(users, items, 4.0 + of_user[users] + of_item[items] + 0.6 * rng.normal(size=len(users)), shape)
    assert found.user_variance == pytest.approx(0.25, rel=0.2)
    assert found.item_variance == pytest.approx(0.64, rel=0.25)
    assert found.noise == pytest.approx(0.36, rel=0.05)
    assert np.corrcoef(found.of_item, of_item)[0, 1] > 0.95


def test_items_that_do_not_differ_get_no_level():
    rng = Stream(4).child("alike").generator()
    users, items = np.nonzero(rng.random((200, 100)) < 0.1)
    found = Biases.fit(users, items, 4.0 + rng.normal(size=200)[users] + 0.3 * rng.normal(size=len(users)), (200, 100))
    assert np.abs(found.of_item).max() < 0.1
    assert found.item_variance < 0.02 * found.user_variance


def test_the_level_of_a_history_is_that_of_the_person_who_has_it():
    (users, items, given), _, _ = world()
    found = Biases.fit(users, items, given, SHAPE)
    mine = users == 7
    assert found.of_history(items[mine], given[mine]) == pytest.approx(found.of_user[7], abs=1e-3)


def test_factors_come_near_the_noise_where_biases_do_not():
    known, test, _ = world()
    factors = RatingFactors.fit(*known, SHAPE, Stream(1), SIZES)
    biases = Biases.fit(*known, SHAPE)
    assert rmse(biases.expected(*test[:2]), test[2]) > 1.0
    assert rmse(factors.expected(*test[:2]), test[2]) < 0.6


def test_who_rated_what_says_how_they_like_it_where_people_pick_what_they_like():
    known, test, _ = world(picky=True, noise=1.5)
    with_features = RatingFactors.fit(*known, SHAPE, Stream(1), SIZES)
    without = RatingFactors.fit(*known, SHAPE, Stream(1), replace(SIZES, features=0))
    assert rmse(with_features.expected(*test[:2]), test[2]) < rmse(without.expected(*test[:2]), test[2])


def test_samples_depend_on_the_seed_and_not_on_the_order_of_rows():
    known, test, _ = world()
    few = replace(SIZES, sweeps=6)
    with one_thread():
        first = RatingFactors.fit(*known, SHAPE, Stream(1), few)
        order = Stream(9).child("order").generator().permutation(len(known[0]))
        again = RatingFactors.fit(*(part[order] for part in known), SHAPE, Stream(1), few)
        other = RatingFactors.fit(*known, SHAPE, Stream(2), few)
    assert np.array_equal(first.users, again.users)
    assert np.array_equal(first.expected(*test[:2]), again.expected(*test[:2]))
    assert not np.array_equal(first.users, other.users)


def test_somebody_folded_in_is_rated_like_themselves_in_the_fit():
    known, test, _ = world()
    factors = RatingFactors.fit(*known, SHAPE, Stream(1), SIZES)
    inside, folded = np.zeros(len(test[0])), np.zeros(len(test[0]))
    for user in np.unique(test[0]).tolist():
        mine, asked = known[0] == user, test[0] == user
        inside[asked] = factors.of_person(factors.person(user), test[1][asked])
        folded[asked] = factors.of_person(factors.folded_in(known[1][mine], known[2][mine]), test[1][asked])
    assert np.allclose(inside, factors.expected(*test[:2]), atol=1e-5)
    assert rmse(folded, test[2]) < rmse(inside, test[2]) + 0.03


def test_people_who_join_are_folded_in():
    known, _, truth = world()
    old = known[0] < 100
    factors = RatingFactors.fit(*(part[old] for part in known), SHAPE, Stream(1), SIZES)
    off, level = [], []
    for user in range(100, SHAPE[0]):
        mine = known[0] == user
        told = factors.of_person(factors.folded_in(known[1][mine], known[2][mine]), np.arange(SHAPE[1]))
        off.append(rmse(told, truth[user]))
        level.append(rmse(known[2][mine].mean(), truth[user]))
    assert np.mean(off) < 0.6 * np.mean(level)


def test_nobody_knows_somebody_without_a_history_who_gets_the_usual_rating():
    known, _, truth = world()
    factors = RatingFactors.fit(*known, SHAPE, Stream(1), replace(SIZES, features=0))
    told = factors.of_person(factors.folded_in(np.zeros(0, dtype=int), np.zeros(0)), np.arange(SHAPE[1]))
    assert np.isfinite(told).all()
    assert np.corrcoef(told, truth.mean(axis=0))[0, 1] > 0.9


def test_features_of_a_history_are_those_of_the_person_who_has_it():
    (users, items, _), _, _ = world()
    found = Features.fit(users, items, SHAPE, 5)
    assert found.of_history(items[users == 11]) == pytest.approx(found.users[11], abs=1e-6)
    assert np.mean(found.users[:, :5] ** 2, axis=0) == pytest.approx(np.ones(5))
    assert Features.fit(users, items, SHAPE, 0).of_history(items[:3]).shape == (0,)


def test_draws_of_rows_have_the_mean_and_the_covariance_of_their_precision():
    rng = Stream(5).child("normal rows").generator()
    root = rng.normal(size=(3, 3))
    precision = root @ root.T + np.eye(3)
    n = 200_000
    lower = np.broadcast_to(np.linalg.cholesky(precision), (n, 3, 3))
    drawn = _draw_normal(lower, np.tile([1.0, -2.0, 0.5], (n, 1)), rng)
    assert drawn.mean(axis=0) == pytest.approx(np.linalg.solve(precision, [1.0, -2.0, 0.5]), abs=0.01)
    assert np.cov(drawn.T) == pytest.approx(np.linalg.inv(precision), abs=0.01)


def test_the_wishart_has_its_mean():
    rng = Stream(6).child("wishart").generator()
    inverse_scale = np.array([[2.0, 0.5], [0.5, 1.0]])
    drawn = np.mean([_wishart(7.0, inverse_scale, rng) for _ in range(20_000)], axis=0)
    assert drawn == pytest.approx(7.0 * np.linalg.inv(inverse_scale), rel=0.05)


def test_sizes_grow_with_the_data_and_never_beyond_it():
    assert Sizes.of(100, (30, 20)) == Sizes(10, 2, 200)
    assert Sizes.of(80_000, (943, 1682)) == Sizes(10, 30, 200)
    assert Sizes.of(800_000, (6040, 3706)) == Sizes(16, 50, 40)
    assert Sizes.of(80_000, (943, 1682), features=False).features == 0

import numpy as np
import polars as pl
import pytest

from environments.recommenders.random import Random, RandomConfig
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, RecommenderContract


class TestRandom(RecommenderContract):
    def make(self):
        return Random()


def test_the_logged_propensities_are_the_frequencies():
    world = CheckerboardWorld(n_users=4, n_items=8)
    recommender = Random()
    recommender.fit(world.dataset.interactions, world.dataset.catalog, Stream(1))
    history, shown = world.history(0), np.array([7], dtype=np.int32)
    users = np.arange(20_000, dtype=np.int32)
    slates = recommender.recommend(users, [history] * len(users), 3, Stream(2), exclude=[shown] * len(users))
    allowed = np.setdiff1d(np.arange(8), np.concatenate((history, shown)))
    for place in range(3):
        counts = np.bincount([slate.items[place] for slate in slates], minlength=8)[allowed]
        expected = len(users) / len(allowed)
        assert abs(counts - expected).max() < 4 * np.sqrt(expected)
    np.testing.assert_allclose(slates[0].propensities, 1.0 / (len(allowed) - np.arange(3)))


class TestByPopularity(RecommenderContract):
    def make(self):
        return Random(RandomConfig(popularity=1.0))


def test_popular_items_are_drawn_as_much_more_often_as_the_logged_propensities_say():
    world = CheckerboardWorld(n_users=4, n_items=8)
    one, many = world.dataset.interactions.head(1), [(user, item) for item in range(8) for user in range(item)]
    interactions = pl.concat([one.with_columns(user=pl.lit(user, pl.Int32), item=pl.lit(item, pl.Int32)) for user, item in many])
    recommender = Random(RandomConfig(popularity=1.0))
    recommender.fit(interactions, world.dataset.catalog, Stream(1))
    users, history = np.arange(20_000, dtype=np.int32), np.array([2], dtype=np.int32)
    slates = recommender.recommend(users, [history] * len(users), 2, Stream(2), exclude=[np.array([7], dtype=np.int32)] * len(users))
    weights = np.array([1.0, 2.0, 0.0, 4.0, 5.0, 6.0, 7.0, 0.0])
    shares = np.bincount([slate.items[0] for slate in slates], minlength=8) / len(users)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.015)
    first, second = slates[0].items
    np.testing.assert_allclose(slates[0].propensities, [weights[first] / 25.0, weights[second] / (25.0 - weights[first])])


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="Random was used before fit"):
        Random().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="Random was used before fit"):
        Random().save(tmp_path)


def test_an_empty_folder_cannot_be_loaded(tmp_path):
    with pytest.raises(RecommenderError, match=r"state\.npz does not hold a fitted recommender"):
        Random().load(tmp_path)

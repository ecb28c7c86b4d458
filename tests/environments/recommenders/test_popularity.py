import numpy as np
import polars as pl
import pytest

from environments.recommenders.popularity import Popularity, PopularityConfig
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import ConfigError, DataError
from simulator.plugins import build
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, RecommenderContract

DAY = 86_400
CATALOG = CheckerboardWorld(n_users=4, n_items=4).dataset.catalog


class TestPopularity(RecommenderContract):
    def make(self):
        return Popularity()


class TestDecayedPopularity(RecommenderContract):
    def make(self):
        return Popularity(PopularityConfig(half_life_days=2.0))


def log(*rows):
    return pl.DataFrame([(user, item, None, time) for user, item, time in rows], schema=dict(INTERACTIONS_SCHEMA), orient="row")


def slate_of(recommender, interactions, history=()):
    recommender.fit(interactions, CATALOG, Stream(1))
    return recommender.recommend(np.array([0]), [np.array(history, dtype=np.int32)], 4, Stream(1))[0]


def test_a_person_counts_once_however_often_they_came_back():
    slate = slate_of(Popularity(), log((0, 1, 0), (0, 1, 1), (0, 1, 2), (1, 2, 0), (2, 2, 0)))
    assert slate.items.tolist() == [2, 1, 0, 3]
    assert slate.scores.tolist() == [2.0, 1.0, 0.0, 0.0]


def test_an_interaction_counts_half_after_the_half_life():
    interactions = log((0, 0, 0), (1, 0, 0), (0, 3, 4 * DAY), (0, 1, 2 * DAY))
    slate = slate_of(Popularity(PopularityConfig(half_life_days=2.0)), interactions)
    assert slate.items.tolist() == [3, 0, 1, 2]
    assert slate.scores.tolist() == [1.0, 0.5, 0.5, 0.0]


def test_a_repeated_interaction_counts_at_its_last_time():
    slate = slate_of(Popularity(PopularityConfig(half_life_days=1.0)), log((0, 2, 5 * DAY), (0, 2, 0), (1, 1, 4 * DAY)))
    assert slate.scores.tolist() == [1.0, 0.5, 0.0, 0.0]


def test_without_times_the_decayed_form_is_refused_and_the_plain_one_works():
    interactions = log((0, 2, None), (1, 2, 3))
    assert slate_of(Popularity(), interactions).items[0] == 2
    with pytest.raises(DataError, match="half_life_days needs a timestamp on every interaction, and 1 of 2 have none"):
        slate_of(Popularity(PopularityConfig(half_life_days=1.0)), interactions)


def test_a_half_life_of_zero_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"\[recommender\] half_life_days = 0: input should be greater than 0"):
        build("environments.recommenders.popularity:Popularity", {"half_life_days": 0}, where="recommender", methods=("fit",))

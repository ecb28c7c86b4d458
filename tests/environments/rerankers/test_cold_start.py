import numpy as np
import polars as pl
import pytest

from environments.recommenders.random import Random
from environments.rerankers.cold_start import ColdStart, ColdStartConfig, cold_of
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, RecommenderContract

EASE = {"use": "environments.recommenders.ease:EASE"}


def cold_start(base=EASE, **options):
    return ColdStart(ColdStartConfig.model_validate({"base": base, **options}))


class TestColdStart(RecommenderContract):
    def make(self):
        return cold_start(people=0.5, keep=1, items=0.3)


@pytest.fixture
def world():
    return CheckerboardWorld(n_users=30, n_items=24)


def fitted(world, **options):
    made = cold_start(**options)
    made.fit(world.dataset.interactions, world.dataset.catalog, Stream(3))
    return made


def lists(recommender, world, users):
    return [slate.items.tolist() for slate in recommender.recommend(np.array(users), [world.history(user) for user in users], 5, Stream(1))]


def test_without_cold_people_and_items_it_is_the_base(world):
    warm = fitted(world, people=0.0)
    warm.base.fit(world.dataset.interactions, world.dataset.catalog, Stream(3))
    users = list(range(30))
    expected = [s.items.tolist() for s in warm.base.recommend(np.array(users), [world.history(u) for u in users], 5, Stream(1))]
    assert lists(warm, world, users) == expected


def test_cold_people_get_lists_that_do_not_depend_on_their_past_and_hold_nothing_they_have(world):
    cold = fitted(world, people=1.0)
    users = list(range(30))
    histories = [world.history(user) for user in users]
    slates = cold.recommend(np.array(users), histories, 24, Stream(1))
    order = cold.base.recommend(np.array([0]), [np.empty(0, dtype=np.int32)], 24, Stream(1))[0].items
    for slate, history in zip(slates, histories, strict=True):
        assert slate.items.tolist() == [item for item in order if item not in history]


def test_what_is_chosen_later_is_known(world):
    asked = []
    cold = fitted(world, people=1.0, keep=2)
    base = cold.base.recommend
    cold.base.recommend = lambda users, histories, n, rng: asked.extend(histories) or base(users, histories, n, rng)
    history = world.history(0)
    later = np.setdiff1d(np.arange(24, dtype=np.int32), history)[:2]
    cold.recommend(np.array([0]), [np.concatenate([history, later])], 5, Stream(1))
    assert asked[0].tolist() == [*history[:2], *later]


def test_cold_items_are_unknown_to_the_base_and_named_on_disk(world, tmp_path):
    cold = fitted(world, people=0.0, items=0.4)
    cold.save(tmp_path)
    people, items = cold_of(tmp_path)
    assert people.size == 0
    assert 0 < items.size < 24
    counts = world.dataset.interactions.filter(pl.col("item").is_in(items.tolist())).height
    assert counts > 0
    slates = cold.recommend(np.arange(30), [world.history(user) for user in range(30)], 3, Stream(1))
    assert not {item for slate in slates for item in slate.items.tolist()} & set(items.tolist())


def test_the_same_people_are_cold_whatever_the_base(world, tmp_path):
    found = []
    for number, base in enumerate((EASE, {"use": "environments.recommenders.popularity:Popularity"})):
        made = fitted(world, base=base, people=0.4, items=0.4)
        folder = tmp_path / str(number)
        folder.mkdir()
        made.save(folder)
        found.append([part.tolist() for part in cold_of(folder)])
    assert found[0] == found[1]


def test_a_base_that_draws_is_refused(world):
    made = fitted(world, base={"use": "environments.recommenders.random:Random"}, people=0.4)
    assert isinstance(made.base, Random)
    with pytest.raises(RecommenderError, match="draws them at random"):
        lists(made, world, [0, 1])

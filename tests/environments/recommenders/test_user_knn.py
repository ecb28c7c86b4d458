import numpy as np
import polars as pl
import pytest

from environments.recommenders.user_knn import UserKNN, UserKNNConfig
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract


class TestCosine(PersonalisedRecommenderContract):
    def make(self):
        return UserKNN()


class TestJaccard(PersonalisedRecommenderContract):
    def make(self):
        return UserKNN(UserKNNConfig(similarity="jaccard", neighbours=12, shrinkage=0.0))


CATALOG = CheckerboardWorld(n_users=4, n_items=4).dataset.catalog
# person 0: items 0 1; person 1: items 0 1 2; person 2: items 0 3; person 3: item 0
PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 3), (3, 0)]


def scores(user=9, history=(0, 1), **options):
    log = pl.DataFrame([(user, item, None, None) for user, item in PAIRS], schema=dict(INTERACTIONS_SCHEMA), orient="row")
    recommender = UserKNN(UserKNNConfig(**options))
    recommender.fit(log, CATALOG, Stream(1))
    slate = recommender.recommend(np.array([user]), [np.array(history, dtype=np.int32)], 4, Stream(1))[0]
    return dict(zip(slate.items.tolist(), slate.scores.tolist(), strict=True))


def test_the_scores_are_those_of_the_formula_by_hand():
    assert scores(shrinkage=0) == pytest.approx({2: 2 / np.sqrt(6), 3: 1 / 2}, abs=2e-6)
    assert scores(shrinkage=3) == pytest.approx({2: 2 / (np.sqrt(6) + 3), 3: 1 / 5}, abs=2e-6)
    assert scores(shrinkage=1, similarity="jaccard") == pytest.approx({2: 2 / 4, 3: 1 / 4}, abs=2e-6)


def test_only_the_nearest_people_are_asked_and_nobody_asks_themselves():
    assert scores(shrinkage=0, neighbours=2)[3] == pytest.approx(0, abs=2e-6)
    assert scores(user=0, shrinkage=0, neighbours=1) == pytest.approx({2: 2 / np.sqrt(6), 3: 0}, abs=2e-6)


def test_an_empty_history_is_ranked_by_popularity_without_any_shrinkage_too():
    assert list(scores(history=(), shrinkage=0)) == [0, 1, 2, 3]


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="UserKNN was used before fit"):
        UserKNN().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="UserKNN was used before fit"):
        UserKNN().save(tmp_path)


def test_whose_history_grows_gets_what_somebody_new_to_it_gets():
    world = CheckerboardWorld(n_users=20, n_items=20).dataset
    seen, fresh = UserKNN(), UserKNN()
    for recommender in (seen, fresh):
        recommender.fit(world.interactions, world.catalog, Stream(1))
    people = np.arange(3, dtype=np.int32)
    before = [np.array([0, 2, 4]), np.array([1, 3]), np.array([], dtype=np.int64)]
    after = [np.array([0, 2, 4]), np.array([1, 3, 5]), np.array([0])]
    for histories in (before, before, after):
        answers = seen.recommend(people, histories, 5, Stream(1))
    for one, other in zip(answers, fresh.recommend(people, after, 5, Stream(1)), strict=True):
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()

import numpy as np
import polars as pl
import pytest

from environments.recommenders.item_knn import ItemKNN, ItemKNNConfig
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, assert_same_slates


class TestCosine(PersonalisedRecommenderContract):
    def make(self):
        return ItemKNN()


class TestJaccard(PersonalisedRecommenderContract):
    def make(self):
        return ItemKNN(ItemKNNConfig(similarity="jaccard", neighbours=12, shrinkage=0.0))


CATALOG = CheckerboardWorld(n_users=4, n_items=4).dataset.catalog
# item 0: people 0 1 2 3; item 1: people 0 1; item 2: person 2; item 3: nobody
PAIRS = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 2)]


def scores(history=(0,), **options):
    log = pl.DataFrame([(user, item, None, None) for user, item in PAIRS], schema=dict(INTERACTIONS_SCHEMA), orient="row")
    recommender = ItemKNN(ItemKNNConfig(**options))
    recommender.fit(log, CATALOG, Stream(1))
    slate = recommender.recommend(np.array([9]), [np.array(history, dtype=np.int32)], 4, Stream(1))[0]
    return dict(zip(slate.items.tolist(), slate.scores.tolist(), strict=True))


def test_the_scores_are_those_of_the_formula_by_hand():
    assert scores(shrinkage=0) == pytest.approx({1: 2 / np.sqrt(8), 2: 1 / 2, 3: 0}, abs=2e-6)
    assert scores(shrinkage=3) == pytest.approx({1: 2 / (np.sqrt(8) + 3), 2: 1 / 5, 3: 0}, abs=2e-6)
    assert scores(shrinkage=1, similarity="jaccard") == pytest.approx({1: 2 / 5, 2: 1 / 5, 3: 0}, abs=2e-6)
    assert scores(history=(1, 2), shrinkage=0)[0] == pytest.approx(2 / np.sqrt(8) + 1 / 2, abs=2e-6)


def test_only_the_nearest_neighbours_of_an_item_count():
    assert scores(history=(1, 2), shrinkage=0, neighbours=1)[0] == pytest.approx(2 / np.sqrt(8), abs=2e-6)


def test_an_empty_history_is_ranked_by_popularity():
    assert list(scores(history=())) == [0, 1, 2, 3]


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="ItemKNN was used before fit"):
        ItemKNN().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="ItemKNN was used before fit"):
        ItemKNN().save(tmp_path)


def test_short_and_long_histories_are_summed_alike_whatever_else_is_in_the_batch(monkeypatch):
    world = CheckerboardWorld()
    recommender = ItemKNN()
    recommender.fit(world.dataset.interactions, world.dataset.catalog, Stream(1))
    histories = [world.history(0)[:length] for length in (0, 1, 5, 12)]
    users = np.arange(4, dtype=np.int32)
    answers = []
    for cost in (0, 10**9):
        monkeypatch.setattr("environments.recommenders.item_knn._SPARSE_COST", cost)
        answers.append(recommender.recommend(users, histories, 48, Stream(1)))
    assert_same_slates(*answers)

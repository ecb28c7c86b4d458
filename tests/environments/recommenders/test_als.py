import sys

import numpy as np
import pytest

from environments.recommenders.als import ALS, ALSConfig
from environments.recommenders.ranking import interaction_matrix
from simulator.errors import PluginError, RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract

WORLD = CheckerboardWorld()


class TestALS(PersonalisedRecommenderContract):
    def make(self):
        pytest.importorskip("implicit", reason="ALS is trained by the optional package implicit")
        return ALS(ALSConfig(dimension=8))


def test_a_person_s_factors_minimise_their_own_weighted_squares():
    pytest.importorskip("implicit", reason="ALS is trained by the optional package implicit")
    config = ALSConfig(dimension=4, alpha=3.0, l2=0.5)
    recommender = ALS(config)
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    history = WORLD.history(0)[:5]
    slate = recommender.recommend(np.array([99]), [history], 48, Stream(1))[0]
    items = recommender._items.astype(np.float64)
    weights, wanted = np.ones(48), np.zeros(48)
    weights[history], wanted[history] = 4.0, 1.0
    rows = np.vstack((np.sqrt(weights)[:, None] * items, np.sqrt(0.5) * np.eye(4)))
    person = np.linalg.lstsq(rows, np.concatenate((np.sqrt(weights) * wanted, np.zeros(4))))[0]
    np.testing.assert_allclose(slate.scores, (items @ person)[slate.items], atol=2e-5)


def test_factors_without_enough_regularisation_for_the_precision_are_solved_too():
    recommender = ALS(ALSConfig(dimension=2, alpha=1.0, l2=1e-30))
    recommender._learned(np.zeros(3, dtype=np.float32), np.ones((3, 2), dtype=np.float32))  # singular: both columns are equal
    slate = recommender.recommend(np.array([0]), [np.array([0], dtype=np.int32)], 2, Stream(1))[0]
    np.testing.assert_allclose(slate.scores, 2 / 4, atol=1e-5)  # (3 + 1) p . q = 2


def test_the_trained_items_are_a_fixed_point_of_the_alternation():
    """After enough iterations, solving for the items given the people changes little, so the library's weights are ours."""
    pytest.importorskip("implicit", reason="ALS is trained by the optional package implicit")
    config = ALSConfig(dimension=2, alpha=3.0, l2=0.5, iterations=200)
    recommender = ALS(config)
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    items = recommender._items.astype(np.float64)
    x = interaction_matrix(WORLD.dataset.interactions, 48).toarray().astype(np.float64)

    def solved(other, table):
        ridge = other.T @ other + 0.5 * np.eye(2)
        return np.array([np.linalg.solve(ridge + 3.0 * (other * row[:, None]).T @ other, 4.0 * other.T @ row) for row in table])

    np.testing.assert_allclose(solved(solved(items, x), x.T), items, atol=2e-2 * np.abs(items).max())


def test_a_warm_start_continues_from_the_item_factors(tmp_path):
    pytest.importorskip("implicit", reason="ALS is trained by the optional package implicit")
    log, catalog = WORLD.dataset.interactions, WORLD.dataset.catalog
    long = ALS(ALSConfig(dimension=8, iterations=60))
    long.fit(log, catalog, Stream(1))
    long.save(tmp_path)
    warm = ALS(ALSConfig(dimension=8, iterations=1, warm_start=True))
    warm.load(tmp_path)
    warm.fit(log, catalog, Stream(2))
    cold = ALS(ALSConfig(dimension=8, iterations=1))
    cold.fit(log, catalog, Stream(2))
    moved = [np.abs(other._items - long._items).max() for other in (warm, cold)]
    assert moved[0] < 0.2 * moved[1]


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(PluginError, match="pip install implicit"):
        ALS().fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="ALS was used before fit"):
        ALS().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="ALS was used before fit"):
        ALS().save(tmp_path)

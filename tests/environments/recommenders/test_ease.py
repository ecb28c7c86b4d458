import numpy as np
import pytest

from environments.recommenders.ease import EASE, EASEConfig
from environments.recommenders.ranking import interaction_matrix
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract

WORLD = CheckerboardWorld(n_users=10, n_items=8)


class TestEASE(PersonalisedRecommenderContract):
    def make(self):
        return EASE()


def test_the_weights_solve_each_item_s_own_ridge_regression():
    """The closed form equals regressing every column on all other columns with an l2 penalty."""
    recommender = EASE(EASEConfig(l2=2.0))
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    x = interaction_matrix(WORLD.dataset.interactions, 8).toarray().astype(np.float64)
    for target in range(8):
        others = np.delete(np.arange(8), target)
        design = x[:, others]
        weights = np.linalg.solve(design.T @ design + 2.0 * np.eye(7), design.T @ x[:, target])
        for item, weight in zip(others, weights, strict=True):
            slate = recommender.recommend(np.array([0]), [np.array([item])], 8, Stream(1))[0]
            assert slate.scores[slate.items == target][0] == pytest.approx(weight, abs=2e-6)


def test_a_catalog_that_would_not_fit_into_memory_is_refused():
    with pytest.raises(RecommenderError, match=r"EASE on 8 items needs 0\.0 GB of memory, and max_items = 7"):
        EASE(EASEConfig(max_items=7)).fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="EASE was used before fit"):
        EASE().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="EASE was used before fit"):
        EASE().save(tmp_path)

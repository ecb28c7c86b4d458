import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.recommenders.biases import Biases, BiasesConfig
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import DataError, RecommenderError
from simulator.protocols import RatingPredictor
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, RecommenderContract

WORLD = CheckerboardWorld(n_users=4, n_items=4)


class TestBiases(RecommenderContract):
    def make(self):
        return Biases()


def fitted(rows, **options):
    recommender = Biases(BiasesConfig(**options))
    recommender.fit(pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row"), WORLD.dataset.catalog, Stream(1))
    return recommender


def predicted(recommender, *pairs):
    users, items = np.array(pairs).T
    return recommender.predict_ratings(users, items)


def test_ratings_are_those_of_a_calculation_by_hand():
    rows = [(0, 0, 5.0, 1), (0, 1, 3.0, 2), (1, 0, 4.0, 3), (1, 2, None, 4)]
    recommender = fitted(rows, item_damping=1.0, people_damping=1.0)
    of_item = {0: (1.0 + 0.0) / 3, 1: -1.0 / 2, 2: 0.0}
    of_person = {0: (1 - of_item[0] + -1 - of_item[1]) / 3, 1: (0 - of_item[0]) / 2}
    assert predicted(recommender, (0, 0), (1, 2), (0, 1)) == pytest.approx(
        [4 + of_item[0] + of_person[0], 4 + of_person[1], 4 + of_item[1] + of_person[0]]
    )
    assert predicted(recommender, (99, 0), (99, 3)) == pytest.approx([4 + of_item[0], 4.0])


def test_without_biases_everything_is_rated_the_mean():
    recommender = fitted([(0, 0, 5.0, 1), (1, 1, 2.0, 2)], items=False, people=False)
    assert predicted(recommender, (0, 0), (1, 1), (7, 3)).tolist() == [3.5, 3.5, 3.5]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=30))
def test_predictions_stay_inside_the_ratings_that_were_seen(rows):
    recommender = fitted([(user, item, float(rating), 0) for user, item, rating in rows], item_damping=0.0, people_damping=0.0)
    ratings = [rating for _, _, rating in rows]
    values = predicted(recommender, *[(user, item) for user in range(8) for item in range(4)])
    assert values.min() >= min(ratings)
    assert values.max() <= max(ratings)


def test_data_without_ratings_and_use_before_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match="Biases predicts ratings, and no interaction has one"):
        fitted([(0, 0, None, 1)])
    for use in (lambda b: b.predict_ratings(np.array([0]), np.array([0])), lambda b: b.save(tmp_path)):
        with pytest.raises(RecommenderError, match="Biases was used before fit"):
            use(Biases())
    assert isinstance(Biases(), RatingPredictor)

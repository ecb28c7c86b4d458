import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from environments.recommenders.bpr import BPR, BPRConfig, NegativeSampler
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, assert_same_slates

WORLD = CheckerboardWorld()
SMALL = BPRConfig(dimension=8, epochs=60, batch_size=64)


class TestBPR(PersonalisedRecommenderContract):
    def make(self):
        return BPR(SMALL)


def fitted(world=WORLD, config=SMALL, seed=5):
    recommender = BPR(config)
    recommender.fit(world.dataset.interactions, world.dataset.catalog, Stream(seed))
    return recommender


def top(recommender, user, history, n=20):
    return recommender.recommend(np.array([user], dtype=np.int32), [np.asarray(history, dtype=np.int32)], n, Stream(1))[0]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 6), max_size=6), min_size=1, max_size=5), st.integers(0, 99))
def test_negatives_are_never_items_that_the_person_has(histories, seed):
    matrix = np.zeros((len(histories), 7), dtype=np.float32)
    for user, items in enumerate(histories):
        matrix[user, list(items)] = 1
    users = np.repeat(np.arange(len(histories)), 40)
    drawn = NegativeSampler(sparse.csr_array(matrix)).draw(users, Stream(seed).generator())
    assert ((drawn >= 0) & (drawn < 7)).all()
    assert not matrix[users, drawn].any()


def test_negatives_are_uniform_over_the_items_that_the_person_has_not():
    matrix = sparse.csr_array(np.array([[0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=np.float32))
    drawn = NegativeSampler(matrix).draw(np.repeat([0, 1, 2], 6_000), Stream(3).generator()).reshape(3, -1)
    for user, free in enumerate(([0, 2, 3, 5], [5], [0, 1, 2, 3, 4, 5])):
        counts = np.bincount(drawn[user], minlength=6)
        assert np.flatnonzero(counts).tolist() == free
        assert abs(counts[free] - 6_000 / len(free)).max() < 4 * np.sqrt(6_000 / len(free))


def test_another_seed_gives_other_factors():
    one, other = top(fitted(), 0, WORLD.history(0)), top(fitted(seed=6), 0, WORLD.history(0))
    assert not np.array_equal(one.scores, other.scores)


def test_known_people_move_with_their_history_and_newcomers_follow_theirs():
    recommender = fitted()
    odd = WORLD.liked(1)[:12]
    assert (top(recommender, 10_000, odd, 5).items % 2 == 1).all()
    before = top(recommender, 0, WORLD.history(0), 24)
    after = top(recommender, 0, np.concatenate((WORLD.history(0), odd)), 24)
    odd_rank = [float(np.flatnonzero(slate.items % 2 == 1).mean()) for slate in (before, after)]
    assert odd_rank[1] < odd_rank[0]


def test_the_order_of_a_history_does_not_matter():
    recommender = fitted()
    history = WORLD.history(3)
    assert_same_slates([top(recommender, 3, history)], [top(recommender, 3, history[::-1])])


def test_a_person_who_has_everything_does_not_stop_the_training():
    world = CheckerboardWorld(n_users=4, n_items=4)
    log = world.dataset.interactions
    everything = log.head(1).select("user", "rating", "timestamp").join(world.dataset.catalog.items.select("item"), how="cross")
    recommender = BPR(SMALL)
    recommender.fit(log.extend(everything.select(log.columns)), world.dataset.catalog, Stream(1))
    assert np.isfinite(top(recommender, 1, []).scores).all()


def test_an_empty_log_can_be_fitted():
    recommender = BPR(SMALL)
    recommender.fit(WORLD.dataset.interactions.clear(), WORLD.dataset.catalog, Stream(1))
    assert len(top(recommender, 0, [1, 2]).items) == 20


def test_a_loaded_model_recommends_without_torch(tmp_path):
    fitted().save(tmp_path)
    program = (
        "import sys; from pathlib import Path; import numpy as np; from simulator.seeds import Stream\n"
        "from environments.recommenders.bpr import BPR\n"
        "model = BPR(); model.load(Path(sys.argv[1]))\n"
        "print(len(model.recommend(np.array([0]), [np.array([1, 2])], 7, Stream(1))[0].items), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False"]


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="BPR was used before fit"):
        BPR().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="BPR was used before fit"):
        BPR().save(tmp_path)

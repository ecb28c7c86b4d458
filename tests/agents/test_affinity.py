"""Item models and factors on worlds whose answer is known."""

import numpy as np
import pytest
from scipy import sparse

from agents.affinity import Factors, ItemWeights, RatingFactors
from simulator.seeds import Stream


def checkerboard(n_users=200, n_items=60, seed=0):
    """People like items with their own parity; low numbers are popular."""
    generator = Stream(seed).child("checkerboard").generator()
    rows, columns = [], []
    for user in range(n_users):
        odds = 1.0 / (1 + np.arange(n_items)) * np.where(np.arange(n_items) % 2 == user % 2, 8.0, 1.0)
        drawn = generator.choice(n_items, size=12, replace=False, p=odds / odds.sum())
        rows += [user] * 12
        columns += drawn.tolist()
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n_users, n_items))


@pytest.fixture(scope="module")
def matrix():
    return checkerboard()


MODELS = {
    "linear": lambda matrix: ItemWeights.fit(matrix, 10.0),
    "debiased": lambda matrix: ItemWeights.fit(matrix, 2.0, 0.25),
    "factors": lambda matrix: Factors.fit(matrix, 8),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_goes_with_a_history_scores_higher(matrix, name):
    scores = MODELS[name](matrix).scores(np.array([0, 2, 4, 6]), np.arange(10, 40))
    assert scores[::2].mean() > scores[1::2].mean() + 0.5


@pytest.mark.parametrize("name", MODELS)
def test_a_score_depends_on_nothing_but_the_history_and_the_item(matrix, name):
    model, history = MODELS[name](matrix), np.array([1, 3, 8])
    together = model.scores(history, np.arange(60))
    alone = np.concatenate([model.scores(history, np.array([item])) for item in range(60)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_history_says_nothing(matrix, name):
    assert (MODELS[name](matrix).scores(np.zeros(0, dtype=np.int64), np.arange(5)) == 0).all()


def test_the_weights_are_those_of_the_closed_form(matrix):
    dense = matrix.toarray().astype(np.float64)
    gram = dense.T @ dense
    l2 = 10.0 * np.diag(gram).mean()
    inverse = np.linalg.inv(gram + l2 * np.eye(60))
    expected = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(expected, 0.0)
    model = ItemWeights.fit(matrix, 10.0)
    known = np.asarray(matrix.sum(axis=0)).ravel() > 0
    assert model.weights[np.ix_(known, known)].T == pytest.approx(expected[np.ix_(known, known)], abs=1e-5)


def test_items_beyond_the_most_popular_score_zero_and_cost_nothing(matrix):
    model = ItemWeights.fit(matrix, 10.0, most=20)
    assert model.weights.shape == (20, 20)
    assert (model.scores(np.array([0, 2]), np.flatnonzero(model.place < 0)) == 0).all()
    assert (model.scores(np.array([0, 2]), np.flatnonzero(model.place >= 0)) != 0).any()


def test_weights_come_back_from_disk_mapped_into_memory(matrix, tmp_path):
    model = ItemWeights.fit(matrix, 10.0)
    model.save(tmp_path, "linear")
    again = ItemWeights.load(tmp_path, "linear")
    assert isinstance(again.weights.base, np.memmap)
    assert np.array_equal(model.scores(np.arange(5), np.arange(60)), again.scores(np.arange(5), np.arange(60)))


def test_nothing_observed_is_no_error():
    empty = sparse.csr_matrix((3, 4), dtype=np.float32)
    assert (ItemWeights.fit(empty, 1.0).scores(np.array([1]), np.arange(4)) == 0).all()
    assert np.isfinite(Factors.fit(empty, 2).scores(np.array([1]), np.arange(4))).all()


def test_ratings_are_foretold_better_than_by_biases_alone():
    generator = Stream(2).child("ratings").generator()
    people, films = generator.standard_normal((150, 2)), generator.standard_normal((80, 2))
    users, items = np.nonzero(generator.random((150, 80)) < 0.5)
    ratings = np.clip(
        3.5 + 0.3 * films[items, 0] + (people[users] * films[items]).sum(axis=1) * 0.6 + generator.normal(0, 0.4, len(users)), 1, 5
    )
    test = generator.random(len(users)) < 0.2
    model = RatingFactors.fit(users[~test], items[~test], ratings[~test], (150, 80), 4, 3.0)
    biases, full = [], []
    for user in range(150):
        mine, asked = ~test & (users == user), test & (users == user)
        parts = model.parts(items[mine], ratings[mine], items[asked])
        full.append(np.abs(model.mean + parts.sum(axis=1) - ratings[asked]))
        biases.append(np.abs(model.mean + parts[:, :2].sum(axis=1) - ratings[asked]))
    assert np.concatenate(full).mean() < 0.8 * np.concatenate(biases).mean()


def test_somebody_without_ratings_is_foretold_the_items_mean():
    model = RatingFactors.fit(np.array([0, 1]), np.array([0, 0]), np.array([4.0, 2.0]), (2, 2), 1, 1.0)
    assert model.parts(np.zeros(0, dtype=np.int64), None, np.array([0, 1]))[:, [0, 2]].tolist() == [[0, 0], [0, 0]]

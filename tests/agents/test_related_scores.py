"""Scores of how items go with a user: exact sums, levels taken off, the same numbers however they are asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from scipy import sparse

from agents import relatedness
from agents.related_scores import KINDS, RelatedScores
from simulator.seeds import Stream


def interactions(users=60, items=40, seed=3):
    generator = Stream(seed).child("related").generator()
    liking = generator.normal(size=(users, 3)) @ generator.normal(size=(3, items)) + 0.5 * generator.normal(size=items)
    return sparse.csr_matrix((liking + generator.normal(size=(users, items)) > 1.2).astype(np.float64))


@pytest.fixture(params=["ease", "ease of few users", "decomposition", "lift", "walk", "order"])
def score(request):
    matrix = interactions(30 if request.param == "ease of few users" else 60)
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    users, items = matrix.nonzero()
    made = {
        "ease": lambda: relatedness.ease(matrix, counts),
        "ease of few users": lambda: relatedness.ease(matrix, counts),
        "decomposition": lambda: relatedness.decomposition(matrix),
        "lift": lambda: relatedness.lift(relatedness.together_of(matrix), counts, matrix.shape[0]),
        "walk": lambda: relatedness.walk(matrix, counts),
        "order": lambda: relatedness.order(users, items, counts),
    }[request.param]()
    return made, matrix


def test_sums_are_exact_in_whatever_order_and_in_parts(score):
    made, matrix = score
    generator = Stream(5).child("order").generator()
    every = made.of(matrix)
    for user in range(0, matrix.shape[0], 7):
        history = matrix[user].indices
        shuffled = generator.permutation(history)
        assert np.array_equal(made.of_one(shuffled), every[user])
        assert np.array_equal(made.of_one(history[:3]) + made.of_one(history[3:]), every[user])


def test_scores_are_the_same_after_they_were_saved(score, tmp_path):
    made, matrix = score
    made.save(tmp_path, "score")
    again = relatedness.load(tmp_path, "score")
    assert np.array_equal(again.of(matrix), made.of(matrix))


def test_ease_is_the_same_from_the_users_side():
    """Both forms of the closed solution give the same weights, but for rounding to the grid."""
    matrix = interactions(30, 40)
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    few = relatedness.ease(matrix, counts)
    # the same interactions of users who also appear without any have the same gram matrix, and now more users than items
    assert isinstance(few, relatedness.Products)
    wide = matrix.toarray()
    down = np.where(counts > 0, np.maximum(counts, 1.0), 1.0) ** -relatedness.EASE_DEBIAS
    scaled = wide * down
    present = counts > 0
    l2 = relatedness.EASE_L2 * (counts * down**2)[present].mean() / counts[present].mean()
    inverse = np.linalg.inv(scaled.T @ scaled + l2 * np.eye(len(counts)))
    weights = -down[:, None] * inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    for user in range(8):
        history = matrix[user].indices
        others = np.setdiff1d(np.flatnonzero(present), history)
        np.testing.assert_allclose(few.of_one(history)[others], (wide[user] @ weights)[others], atol=2e-3)


@pytest.fixture
def dataset(make_dataset):
    """Thirty users of twenty-five items, at times of a year, with two genres."""
    matrix = interactions(30, 25)
    generator = Stream(8).child("times").generator()
    start = datetime(2020, 1, 1)
    rows = []
    for user in range(30):
        items = generator.permutation(matrix[user].indices)
        seconds = np.sort(generator.integers(0, 3 * 10**7, size=len(items))).tolist()
        rows += [(user, int(item), 4.0, start + timedelta(seconds=second)) for item, second in zip(items, seconds, strict=True)]
    return make_dataset(rows, [["Drama"] if item % 2 else ["Comedy", "Drama"] for item in range(25)])


def test_neighbours_in_order_count_by_how_near_they_are():
    users, items = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 2])
    counts = np.array([2.0, 1.0, 2.0])
    found = relatedness.order(users, items, counts)
    after, back = 1.0 / np.sqrt((2 + 5) * (1 + 5)), 0.7 / np.sqrt((2 + 5) * (1 + 5))
    assert found.of_one(np.array([0]))[1] == pytest.approx(after, rel=1e-5)
    assert found.of_one(np.array([1]))[0] == pytest.approx(back, rel=1e-5)
    assert found.of_one(np.array([0]))[2] == pytest.approx((0.5 + 1.0) / 7.0, rel=1e-5)


def test_lift_is_nothing_for_what_never_goes_together():
    matrix = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=float))
    found = relatedness.lift(relatedness.together_of(matrix), np.array([2.0, 2.0, 1.0]), 3)
    assert found.of_one(np.array([0])).tolist()[2] == 0.0
    assert found.of_one(np.array([0]))[1] == pytest.approx(np.log1p(2.0 / (2 * 2 / 3 + 0.1)), rel=1e-5)


def test_what_a_longer_history_adds_is_added_to_what_is_known_of_a_shorter_one(dataset):
    grown, fresh = (RelatedScores.fit(dataset, newest=False) for _ in range(2))
    items = np.arange(dataset.n_items)
    met = np.unique(dataset.interactions.filter(user=0)["item"].to_numpy()).astype(np.int64)
    for size in range(1, len(met) + 1):
        out = np.setdiff1d(items, met)
        one = grown.columns(0, met[:size], out)
        fresh._known.clear()
        assert np.array_equal(one, fresh.columns(0, met[:size], out))
        assert one.shape == (len(out), len(KINDS) * len(fresh.scores))


def test_an_item_of_the_history_is_judged_by_the_rest_of_it(dataset):
    scores = RelatedScores.fit(dataset, newest=True)
    met = np.unique(dataset.interactions.filter(user=0)["item"].to_numpy()).astype(np.int64)
    without = scores.columns_without(0, met, int(met[0]))
    assert np.array_equal(without, RelatedScores.fit(dataset, newest=True).columns(0, met[1:], met[:1]))


def test_scores_of_a_data_set_are_the_same_after_they_were_saved(dataset, tmp_path):
    scores = RelatedScores.fit(dataset, newest=True)
    scores.save(tmp_path)
    again = RelatedScores.load(tmp_path)
    assert again.names == scores.names
    met = np.array([0, 1])
    items = np.arange(2, dataset.n_items)
    assert np.array_equal(again.columns(1, met, items), scores.columns(1, met, items))
    # of somebody whom the data do not have only the history is known
    assert np.isfinite(again.columns(10**6, met, items)).all()

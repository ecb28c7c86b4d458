"""What ratings of some items say about others, in worlds whose answer is known."""

import numpy as np
import polars as pl
import pytest

from agents.affinity import RatingFactors
from agents.opinions import CONTENTS_L2, FEW, SHRINKAGE, Opinions, fit_opinions
from simulator.dataset import Catalog
from simulator.seeds import Stream

N_USERS, N_ITEMS = 300, 40


def catalog(genres, years):
    rows = range(len(genres))
    schema = {"item": pl.Int32, "item_id": pl.String, "title": pl.String, "year": pl.Int32, "genres": pl.List(pl.String)}
    table = {"item": list(rows), "item_id": list(map(str, rows)), "title": [f"Film {n}" for n in rows], "year": years, "genres": genres}
    return Catalog(pl.DataFrame(table, schema=schema).with_columns(description=pl.lit(None, pl.String)))


PLAIN = catalog([[]] * N_ITEMS, [None] * N_ITEMS)


def ratings(seed=0):
    """Half of the people are fonder of even items, the others of odd ones."""
    generator = Stream(seed).child("opinions").generator()
    users = np.repeat(np.arange(N_USERS), 12)
    items = np.concatenate([generator.choice(N_ITEMS, size=12, replace=False) for _ in range(N_USERS)])
    fond = np.where(items % 2 == users % 2, 1.0, -1.0)
    return users, items, fond + 0.5 * generator.standard_normal(len(users))


@pytest.fixture(scope="module")
def alike():
    users, items, left = ratings()
    return Opinions.fit(users, items, left, N_USERS, PLAIN)


def test_who_likes_some_items_likes_those_that_the_same_people_like(alike):
    found = alike.columns(np.array([0, 2, 4]), np.array([1.0, 0.8, 1.2]), np.arange(6, N_ITEMS))
    even, odd = found[::2, 0], found[1::2, 0]
    # no weights below 0: dislike of the one kind is said by ratings of it, not by those of the other
    assert even.min() > 0.2
    assert np.abs(odd).max() < 0.5 * even.min()
    assert (alike.columns(np.array([0, 2, 4]), np.array([-1.0, -0.8, -1.2]), np.arange(6, N_ITEMS))[::2, 0] < -0.2).all()


def test_similarities_are_cosines_over_common_people_that_few_people_shrink(alike):
    users, items, left = ratings()
    dense = np.full((N_USERS, N_ITEMS), np.nan)
    dense[users, items] = left
    for one, other in ((0, 2), (1, 5), (3, 4)):
        both = np.isfinite(dense[:, one]) & np.isfinite(dense[:, other])
        a, b = dense[both, one], dense[both, other]
        expected = max(0.0, a @ b / np.sqrt((a @ a) * (b @ b))) * both.sum() / (both.sum() + SHRINKAGE)
        assert alike.similarity[one, other] == pytest.approx(expected, abs=1e-6)
        assert alike.similarity[other, one] == pytest.approx(expected, abs=1e-6)
    assert (np.diag(alike.similarity) == 0).all()


def test_the_forecast_is_the_shrunken_mean_of_similar_ratings(alike):
    history, left = np.array([0, 2, 7]), np.array([1.0, -0.5, 0.25])
    weights = alike.similarity[6, history].astype(np.float64)
    assert alike.columns(history, left, np.array([6]))[0, 0] == pytest.approx(weights @ left / (FEW + weights.sum()))


def test_what_items_are_says_something_where_nobody_rated_both():
    films = catalog([["Drama"]] * 10 + [["Horror"]] * 10, [1990] * 20)
    # one person each, so that no two items have anybody in common
    opinions = Opinions.fit(np.arange(20), np.arange(20), np.ones(20), 20, films)
    found = opinions.columns(np.array([0, 1, 10, 11]), np.array([1.0, 1.0, -1.0, -1.0]), np.array([5, 15]))
    assert (found[:, 0] == 0).all()
    assert found[0, 1] > 0.1
    assert found[1, 1] < -0.1


def test_years_that_are_near_go_together():
    films = catalog([[]] * 30, [1950 + 2 * n for n in range(30)])
    opinions = Opinions.fit(np.arange(30), np.arange(30), np.ones(30), 30, films)
    found = opinions.columns(np.array([27, 28, 29]), np.array([1.0, 1.0, 1.0]), np.arange(27))[:, 1]
    assert found[26] > found[20] > found[10] - 1e-12
    assert found[0] == pytest.approx(0.0, abs=1e-9)


def test_contents_are_a_ridge_regression(alike):
    films = catalog([["Drama"], ["Drama", "War"], ["War"], []], [1950, 1980, None, 1995])
    opinions = Opinions.fit(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 3]), np.ones(5), 3, films)
    history, left = np.array([0, 1]), np.array([1.0, -2.0])
    x = opinions.contents
    weights = np.linalg.solve(x[history].T @ x[history] + CONTENTS_L2 * np.eye(x.shape[1]), x[history].T @ left)
    np.testing.assert_allclose(opinions.columns(history, left, np.arange(4))[:, 1], x @ weights)
    lengths = np.linalg.norm(x[:, :2], axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 1, 0])


def test_nothing_depends_on_the_batch(alike):
    history, left = np.array([3, 8, 9, 20]), np.array([0.3, -1.0, 0.7, 0.1])
    together = alike.columns(history, left, np.arange(N_ITEMS))
    alone = np.concatenate([alike.columns(history, left, np.array([item])) for item in range(N_ITEMS)])
    np.testing.assert_array_equal(together, alone)


def test_without_a_history_or_an_item_that_was_ever_rated_nothing_is_said(alike):
    assert (alike.columns(np.zeros(0, dtype=np.int64), np.zeros(0), np.arange(5)) == 0).all()
    fresh = Opinions.fit(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), 3, PLAIN)
    assert (fresh.columns(np.array([1]), np.array([1.0]), np.arange(5)) == 0).all()


def test_items_beyond_the_most_rated_have_contents_only(monkeypatch):
    monkeypatch.setattr("agents.opinions.MOST_DENSE", 5)
    users, items, left = ratings()
    opinions = Opinions.fit(users, items, left, N_USERS, PLAIN)
    assert opinions.similarity.shape == (5, 5)
    counts = np.bincount(items, minlength=N_ITEMS)
    assert (opinions.place >= 0).sum() == 5
    assert counts[opinions.place >= 0].min() >= counts[opinions.place < 0].max()
    found = opinions.columns(np.flatnonzero(opinions.place < 0)[:3], np.ones(3), np.arange(N_ITEMS))
    assert (found[:, 0] == 0).all()


def test_what_was_saved_says_the_same(alike, tmp_path):
    assert Opinions.load(tmp_path) is None
    alike.save(tmp_path)
    again = Opinions.load(tmp_path)
    history, left = np.array([3, 8]), np.array([0.3, -1.0])
    np.testing.assert_array_equal(again.columns(history, left, np.arange(9)), alike.columns(history, left, np.arange(9)))


def test_levels_of_people_and_items_are_taken_out_first():
    users, items, left = ratings()
    level = 3.0 + 0.3 * (users % 3) + 0.4 * (items % 5)
    fitted = RatingFactors.fit(users, items, level + left, (N_USERS, N_ITEMS), 2, 15.0)
    found = fit_opinions(fitted, users, items, level + left, N_USERS, PLAIN).similarity
    plain = Opinions.fit(users, items, left, N_USERS, PLAIN).similarity
    assert np.corrcoef(found.ravel(), plain.ravel())[0, 1] > 0.9

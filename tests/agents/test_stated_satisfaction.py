"""Satisfaction of users played by a language model: its answer counts only where it tells whether users return."""

import numpy as np
import polars as pl
import pytest

from agents.actions import SATISFACTION
from agents.stated_satisfaction import StatedSatisfaction, fit_stated
from environments.datasets.assembly import items_from_ids, users_from_ids
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.seeds import Stream

N_USERS, DAY = 400, 86_400


@pytest.fixture(scope="module")
def returning():
    """Users of three sessions; whether the last follows within a week is drawn, and is all that an all-knowing model is told."""
    generator, rows, soon = Stream(3).child("returning").generator(), [], {}
    for user in range(N_USERS):
        soon[user] = bool(generator.random() < 0.5)
        starts = np.cumsum([0, 3 * DAY, (2 if soon[user] else 20) * DAY])
        items = generator.permutation(60)[:12].tolist()
        for k, item in enumerate(items):
            rows.append((user, item, float(generator.integers(1, 6)), int(starts[k // 4]) + 10 * (k % 4)))
    table = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    catalog = Catalog(items_from_ids(pl.Series([f"i{item}" for item in range(60)])))
    users = users_from_ids(pl.Series([f"u{user}" for user in range(N_USERS)]))
    return Dataset("returning", catalog, users, table, (1.0, 5.0)), soon


def test_an_answer_that_knows_who_returns_gets_weight_and_noise_gets_none(returning):
    data, soon = returning
    asked = []

    def knows(situations):
        asked.extend(situations)
        noise = Stream(1).generator().normal(size=len(situations))
        return np.array([5.0 + soon[one.profile.user] for one in situations]) + noise

    found = fit_stated(data, 200, knows, Stream(2))
    assert len(asked) == 200
    assert found.report["p"] < 0.001
    assert "returns, p =" in found.assumptions[-1]
    noise = fit_stated(data, 200, lambda some: Stream(5).generator().normal(size=len(some)), Stream(2))
    assert noise.report["p"] > 0.05
    assert not noise.listens
    assert "counts nothing" in noise.assumptions[-1]


def test_nothing_of_the_session_that_follows_is_told(returning):
    data, _ = returning
    seen = []
    fit_stated(data, 150, lambda some: seen.extend(some) or np.zeros(len(some)), Stream(2))
    for one in seen:
        assert len(one.profile.history) == 8, "of three sessions of four items the last is gone"
        assert one.state.history[-4:].tolist() == [met.item for met in one.met]
        assert one.state.ratings == tuple(met.rating for met in one.met)


def test_who_is_not_asked_or_cannot_be_tested_counts_nothing(returning, film_world):
    data, _ = returning

    def never(situations):
        raise AssertionError("nobody is asked")

    assert "is not asked" in fit_stated(data, 0, never, Stream(2)).assumptions[-1]
    assert "only" in fit_stated(film_world, 50, never, Stream(2)).assumptions[-1]


def test_an_answer_with_weight_moves_satisfaction_and_comes_back_from_disk(returning, tmp_path):
    data, _ = returning
    situations = []
    silent = fit_stated(data, 120, lambda some: situations.extend(some) or np.zeros(len(some)), Stream(2))
    listening = StatedSatisfaction(silent.happened, 0.5, 5.0)
    values = np.array(SATISFACTION.values, dtype=np.float64)
    low, same, high = (float(listening.probabilities(SATISFACTION, situations[0], 0.3, answer)[0] @ values) for answer in (3.0, 5.0, 7.0))
    assert low < same < high
    assert same == pytest.approx(float(silent.probabilities(SATISFACTION, situations[0], 0.3, 9.0)[0] @ values))
    listening.save(tmp_path)
    again = StatedSatisfaction.load(tmp_path, data.n_items)
    assert (again.weight, again.mean) == (0.5, 5.0)

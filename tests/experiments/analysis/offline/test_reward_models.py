"""Reward models learn from other people only."""

import numpy as np
import pytest

from experiments.analysis.offline.reward_models import RewardModel, Rows
from simulator.errors import DataError
from simulator.seeds import Stream


def log(people=200, rows=6, items=8):
    rng = Stream(5).generator()
    whose, shown = np.repeat(np.arange(people), rows), rng.integers(0, items, people * rows)
    feature = rng.normal(size=(len(whose), 1))
    chance = 1 / (1 + np.exp(-(shown - items / 2 + feature[:, 0])))
    return Rows(whose, shown, feature), (rng.random(len(whose)) < chance).astype(float), chance


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_what_items_and_features_earn_is_learned(kind):
    rows, rewards, chance = log()
    predicted = RewardModel(kind, rows, rewards, Stream(1)).predict(rows)
    assert np.corrcoef(predicted, chance)[0, 1] > 0.9
    assert ((predicted >= 0) & (predicted <= 1)).all()


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_a_persons_own_rewards_do_not_reach_what_is_said_about_them(kind):
    rows, rewards, _ = log(people=40)
    before = RewardModel(kind, rows, rewards, Stream(1)).predict(rows)
    changed = np.where(rows.people == 3, 1 - rewards, rewards)
    after = RewardModel(kind, rows, changed, Stream(1)).predict(rows)
    mine = rows.people == 3
    assert np.array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_rewards_in_other_units_and_missing_features_are_learned_too(kind):
    rows, _, chance = log()
    gaps = rows.features.copy()
    gaps[::7] = np.nan
    empty = np.full((len(gaps), 1), np.nan)
    holed = Rows(rows.people, rows.items, np.hstack([gaps, empty, np.zeros_like(empty)]))
    predicted = RewardModel(kind, holed, 5 * chance, Stream(1)).predict(holed)
    assert np.corrcoef(predicted, chance)[0, 1] > 0.9


def test_equal_rewards_need_no_model():
    rows, rewards, _ = log(people=10)
    assert RewardModel("boosting", rows, np.zeros(len(rewards)), Stream(1)).predict(rows).tolist() == [0.0] * len(rewards)


def test_one_person_alone_cannot_be_learned_about():
    with pytest.raises(DataError, match="only one"):
        RewardModel("logistic", Rows(np.zeros(3, dtype=int), np.arange(3), np.zeros((3, 1))), np.ones(3), Stream(1))

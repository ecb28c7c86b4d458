"""RecBole itself, in its own environment: set USERSIM_RECBOLE_PYTHON to the Python of one (see the worker's docstring)."""

import os
from pathlib import Path

import numpy as np
import pytest

from environments.recommenders.program import Program, ProgramConfig
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, assert_same_slates

PYTHON = os.environ.get("USERSIM_RECBOLE_PYTHON", "")
WORKER = Path(__file__).resolve().parents[3] / "experiments/benchmarks/recbole_worker.py"
WORLD = CheckerboardWorld(shuffled=True)

pytestmark = pytest.mark.skipif(not Path(PYTHON).is_file(), reason="USERSIM_RECBOLE_PYTHON does not name a Python with RecBole")


def made(model, *settings):
    flags = [flag for setting in settings for flag in ("--set", setting)]
    return Program(ProgramConfig(command=[PYTHON, str(WORKER), "--model", model, *flags], timeout_seconds=120))


def own_colour(slates, users):
    return np.mean([slate.items[:5] % 2 == user % 2 for user, slate in zip(users, slates, strict=True)])


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", ["epochs=60", "learning_rate=0.01", "embedding_size=8", "train_batch_size=64"]),
        ("LightGCN", ["epochs=40", "learning_rate=0.01", "embedding_size=8"]),
        (
            "SASRec",
            ["epochs=30", "MAX_ITEM_LIST_LENGTH=12", "hidden_size=16", "inner_size=16", "learning_rate=0.005", "train_batch_size=64"],
        ),
    ],
)
def test_a_model_of_recbole_learns_the_checkerboard_and_keeps_its_lists_when_saved(tmp_path, model, settings):
    users = np.arange(WORLD.n_users, dtype=np.int32)
    histories = [WORLD.history(user) for user in users]
    recommender = made(model, *settings)
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    slates = recommender.recommend(users, histories, 10, Stream(2))
    assert own_colour(slates, users) > 0.9
    for slate, history in zip(slates, histories, strict=True):
        assert len(slate.items) == 10
        assert not np.isin(slate.items, history).any()
    recommender.save(tmp_path)
    again = made(model, *settings)
    again.load(tmp_path)
    assert_same_slates(again.recommend(users, histories, 10, Stream(2)), slates)
    new = again.recommend(np.array([900], dtype=np.int32), [np.empty(0, dtype=np.int32)], 10, Stream(2))[0]
    assert len(new.items) == 10
    recommender.close()
    again.close()


def test_what_recbole_complains_about_reaches_the_user():
    recommender = made("NoSuchModel")
    with pytest.raises(RecommenderError, match="answered with an error"):
        recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    recommender.close()

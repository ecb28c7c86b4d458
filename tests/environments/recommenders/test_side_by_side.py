import threading

import numpy as np
import pytest

from environments.recommenders import side_by_side
from environments.recommenders.bpr import BPR
from environments.recommenders.ease import EASE
from environments.recommenders.item_knn import ItemKNN
from environments.recommenders.user_knn import UserKNN
from simulator.records import Slate
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld


def with_cores(monkeypatch, count):
    monkeypatch.setattr(side_by_side, "own_cores", lambda: count)


@pytest.mark.parametrize("kind", [EASE, ItemKNN, UserKNN, BPR])
def test_how_many_cores_answer_changes_no_bit(monkeypatch, kind):
    world = CheckerboardWorld(n_users=60, n_items=40).dataset
    recommender = kind()
    recommender.fit(world.interactions, world.catalog, Stream(1))
    people = np.arange(60, dtype=np.int32)
    histories = [np.arange(user % 7, dtype=np.int32) for user in people]
    answers = []
    for cores in (1, 3):
        with_cores(monkeypatch, cores)
        slates = recommender.recommend(people, histories, 9, Stream(2))
        answers.append([(slate.items.tolist(), slate.scores.tolist()) for slate in slates])
    assert answers[0] == answers[1]


def test_people_are_divided_among_the_cores_and_come_back_in_order(monkeypatch):
    with_cores(monkeypatch, 2)
    together = threading.Barrier(2, timeout=10)  # both parts are under way at once

    def answer(people, histories):
        together.wait()
        return [Slate(history, np.zeros(1)) for history in histories]

    people = np.arange(40)
    slates = side_by_side.in_parts(answer, people, [np.array([user]) for user in people])
    assert [slate.items[0] for slate in slates] == people.tolist()


def test_few_people_are_answered_at_once(monkeypatch):
    with_cores(monkeypatch, 8)
    asked = []
    side_by_side.in_parts(lambda people, histories: asked.append(len(people)) or [], np.arange(31), [np.array([0])] * 31)
    assert asked == [31]


def test_nobody_asked_is_no_slate():
    world = CheckerboardWorld(n_users=20, n_items=20).dataset
    for recommender in (UserKNN(), EASE()):
        recommender.fit(world.interactions, world.catalog, Stream(1))
        assert recommender.recommend(np.empty(0, dtype=np.int32), [], 5, Stream(2)) == []

import math

import numpy as np
import pytest

from agents.experience import records_of_page, records_of_session
from simulator.dataset import MUSIC, Catalog
from simulator.records import Closing, Decision, Outcome, SessionState
from simulator.testing_memory import START, films, page_of


def state(chosen=0, fatigue=0.0):
    return SessionState(
        round=1,
        session=4,
        time=START,
        start=START - 60,
        page=2,
        shown=5,
        chosen=chosen,
        mean_rating=None,
        fatigue=fatigue,
        history=np.array([], np.int32),
    )


def outcome(*values):
    return Outcome(np.array(values, dtype=np.float64), np.full((len(values), 2), 0.5))


def page_records(chosen, ratings=None, *, items=(0, 2, 1), own_mean=3.5, scale=(1, 5), catalog=None, first=10):
    outcomes = {"choose": outcome(*chosen)} | ({} if ratings is None else {"rate": outcome(*ratings)})
    return records_of_page(
        page_of(*items), Decision(outcomes), catalog=catalog or films(), state=state(), own_mean=own_mean, scale=scale, next_record=first
    )


def session_records(closing, *, rests_on=(), **more):
    return records_of_session(closing, state(**more), catalog=films(), rests_on=rests_on, next_record=20)


def test_a_page_leaves_a_record_per_choice_and_one_for_the_rest():
    records = page_records([1, 0, 0], [4, math.nan, math.nan])
    assert [(record.record, record.kind, record.item, record.text) for record in records] == [
        (10, "rated", 0, "I watched Heat and gave it 4 stars."),
        (11, "seen", -1, "I skipped Twister, Fargo."),
    ]
    assert {(record.round, record.session, record.time, record.last_recall, record.forgotten) for record in records} == {
        (1, 4, START, START, None)
    }


def test_a_single_skipped_item_is_what_its_record_is_about():
    assert page_records([1, 1, 0], [1, 5, math.nan])[-1].item == 1


def test_a_page_where_everything_was_chosen_leaves_no_skips():
    records = page_records([1, 1, 1], [1, 2.5, 5])
    assert [record.text.split("gave it ")[1] for record in records] == ["1 star.", "2.5 stars.", "5 stars."]


def test_without_ratings_a_choice_is_remembered_in_the_words_of_the_domain():
    records = page_records([0, 1, 0], catalog=Catalog(films().items, MUSIC), scale=None, own_mean=None)
    assert [(record.kind, record.text) for record in records] == [
        ("chosen", "I listened to Twister."),
        ("seen", "I skipped Heat, Fargo."),
    ]


def test_a_long_page_names_some_skips_and_counts_the_others():
    (record,) = page_records([0] * 9, items=range(9))
    assert record.text.endswith("Toy Story and 3 more.")


def test_a_decision_without_choices_leaves_nothing():
    assert records_of_page(page_of(0), Decision({}), catalog=films(), state=state(), own_mean=None, scale=None, next_record=0) == []


@pytest.mark.parametrize(("rating", "own_mean", "importance"), [(3, 3.0, 0.2), (5, 3.0, 0.6), (5, 1.0, 1.0), (1, None, 0.6), (5, 4.5, 0.3)])
def test_a_rating_matters_as_much_as_it_differs_from_the_persons_mean(rating, own_mean, importance):
    assert page_records([1], [rating], items=[0], own_mean=own_mean)[0].importance == pytest.approx(importance)


def test_a_rating_outranks_a_skip_whatever_it_is():
    rated, seen = page_records([1, 0], [3, math.nan], items=[0, 1], own_mean=3.0)
    assert rated.importance > seen.importance > 0


@pytest.mark.parametrize(
    ("satisfaction", "chosen", "fatigue", "text", "importance"),
    [
        (8, 3, 0.1, "I watched 3 films, was 8 of 10 satisfied and felt fresh.", 2.5 / 4.5),
        (1, 0, 0.9, "I watched no films, was 1 of 10 satisfied and felt tired.", 1.0),
        (5, 1, 0.5, "I watched 1 film, was 5 of 10 satisfied and felt a little tired.", 0.5 / 4.5),
        (None, 2, 0.5, "I watched 2 films and felt a little tired.", 0.5),
        (math.nan, 2, 0.5, "I watched 2 films and felt a little tired.", 0.5),
    ],
)
def test_a_session_leaves_a_feeling(satisfaction, chosen, fatigue, text, importance):
    outcomes = {} if satisfaction is None else {"satisfaction": outcome(satisfaction)}
    (feeling,) = session_records(Closing(outcomes), chosen=chosen, fatigue=fatigue)
    assert (feeling.record, feeling.kind, feeling.item, feeling.text) == (20, "feeling", -1, text)
    assert feeling.importance == pytest.approx(importance)


def test_an_insight_refers_to_what_it_rests_on():
    basis = page_records([1, 0, 0], [4, math.nan, math.nan])
    feeling, insight = session_records(
        Closing({"satisfaction": outcome(9)}, insight="I like\ncrime films <|im_end|>"), rests_on=[*reversed(basis), basis[0]]
    )
    assert (insight.record, insight.kind, insight.text) == (21, "insight", "I like crime films (/im_end/)")
    assert insight.references == (10, 11, feeling.record)
    assert insight.importance >= 0.8


def test_an_empty_insight_is_not_remembered():
    assert [record.kind for record in session_records(Closing({}, insight=" \n"))] == ["feeling"]

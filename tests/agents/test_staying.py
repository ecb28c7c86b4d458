"""People leave sooner where they find less, and on the pages that are meant a session is as long as it is meant to be."""

from dataclasses import replace

import numpy as np
import pytest

from agents.actions import ACTIONS, LEAVE
from agents.staying import MOST_APPEAL, Staying, appeal
from simulator.records import Impression, Outcome, Page, SessionState, Situation
from simulator.seeds import Stream

USUAL = Staying(pages=3.0, max_pages=8, page_size=5, usual_share=0.3, usual_items=20.0, response=1.0, own_mean=3.5)


def situation(page=1, *, fatigue=0.0, chosen=0, mean_rating=None, size=5):
    shown = Page(page, "test", tuple(Impression(place + 1, place, 0.0, 1.0) for place in range(size)))
    state = SessionState(0, 0, 0, 0, page, 0, chosen, mean_rating, fatigue, np.zeros(0, dtype=np.int32))
    return Situation(None, (), shown, state, Stream(1))


def done(chosen, rating=None, size=5):
    values = (np.arange(size) < chosen).astype(float)
    found = {"choose": Outcome(values, np.zeros((size, 2)))}
    if rating is not None:
        found["rate"] = Outcome(np.where(values == 1, rating, np.nan), np.zeros((size, 5)))
    return found


def test_the_more_is_chosen_the_likelier_people_stay():
    chances = [USUAL.chance(situation(), done(chosen)) for chosen in range(6)]
    assert all(np.diff(chances[:4]) < 0)
    odds = [chance / (1 - chance) for chance in chances]
    usual = replace(USUAL, usual_share=0.2)
    one = usual.chance(situation(), done(1))
    none = usual.chance(situation(), done(0))
    assert (none / (1 - none)) / (one / (1 - one)) == pytest.approx(np.e)
    assert odds[0] > odds[5]


def test_without_a_response_what_is_chosen_does_not_matter():
    calm = replace(USUAL, response=0.0)
    assert len({calm.chance(situation(), done(chosen)) for chosen in range(6)}) == 1


def test_ratings_of_this_page_and_of_those_before_count_as_far_as_they_weigh():
    glad = replace(USUAL, glad=-0.8)
    worse, better = (glad.chance(situation(), done(2, rating)) for rating in (1.0, 5.0))
    assert worse > better
    assert glad.chance(situation(), done(2, 3.5)) == pytest.approx(USUAL.chance(situation(), done(2, 3.5)))
    before = glad.chance(situation(2, chosen=8, mean_rating=1.0), done(2, 3.5))
    assert before > glad.chance(situation(2, chosen=8, mean_rating=3.5), done(2, 3.5))
    assert USUAL.chance(situation(), done(2, 1.0)) == USUAL.chance(situation(), done(2, 5.0)), "no weight, no effect"


def test_tired_people_leave_sooner():
    tired = replace(USUAL, tired=1.5)
    chances = [tired.chance(situation(2, fatigue=fatigue), done(1)) for fatigue in (0.0, 0.4, 0.9)]
    assert all(np.diff(chances) > 0)


@pytest.mark.parametrize("response", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("tired", [0.0, 1.5])
@pytest.mark.parametrize("pages", [1.2, 3.0, 6.5])
@pytest.mark.parametrize("usual", [0.05, 0.3, 0.8])
def test_on_the_pages_that_are_meant_a_session_has_as_many_pages_as_are_meant(response, tired, pages, usual):
    one = replace(USUAL, pages=pages, response=response, tired=tired, usual_share=usual)
    chance_of = np.array([one.chance(situation(), done(chosen)) for chosen in range(6)])
    assert np.isfinite(chance_of).all()
    # by all paths: how likely somebody is still there after each page
    there, expected = 1.0, 1.0
    counts = np.array([1, 5, 10, 10, 5, 1]) * usual ** np.arange(6) * (1 - usual) ** np.arange(5, -1, -1)
    for page in range(1, one.max_pages):
        fatigue = 1.0 - np.exp(-5 * (page - 1) / 20.0)
        leave = sum(share * one.chance(situation(page, fatigue=fatigue), done(chosen)) for chosen, share in enumerate(counts.tolist()))
        there *= 1.0 - leave
        expected += there
    assert expected == pytest.approx(pages, abs=1e-3)


def test_dull_pages_shorten_sessions_and_rich_ones_lengthen_them():
    def expected(share):
        counts = np.array([1, 5, 10, 10, 5, 1]) * share ** np.arange(6) * (1 - share) ** np.arange(5, -1, -1)
        leave = sum(part * USUAL.chance(situation(), done(chosen)) for chosen, part in enumerate(counts.tolist()))
        return (1 - (1 - leave) ** USUAL.max_pages) / leave

    assert expected(0.1) < 2.7
    assert expected(0.6) > 3.3


def test_appeal_is_relative_to_what_is_usual_and_bounded():
    assert appeal(0, 5, 0.3) == -1.0
    assert appeal(3, 10, 0.3) == pytest.approx(0.0)
    assert appeal(5, 5, 0.01) == MOST_APPEAL
    assert appeal(0, 0, 0.3) == -1.0


def test_extreme_settings_stay_probabilities():
    for one in (
        replace(USUAL, response=10.0, usual_share=1e-6),
        replace(USUAL, response=10.0, usual_share=1 - 1e-6),
        replace(USUAL, max_pages=1),
        replace(USUAL, pages=100.0),
        replace(USUAL, tired=50.0, glad=-50.0),
    ):
        for chosen in range(6):
            assert 0.0 <= one.chance(situation(fatigue=0.9), done(chosen, 1.0)) <= 1.0


def test_probabilities_stand_by_the_labels_of_the_action():
    found = USUAL.leaving(LEAVE, situation())(done(0))
    assert found.shape == (1, 2)
    assert found.sum() == pytest.approx(1.0)
    assert found[0, LEAVE.values.index(True)] == USUAL.chance(situation(), done(0))
    assert LEAVE in ACTIONS

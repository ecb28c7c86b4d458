from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agents.actions import ACTIONS, LEAVE
from agents.priors import PriorConfig, Priors, hazard
from agents.profiles import fit_profiles


@given(some.floats(1.0, 12.0), some.integers(1, 12))
def test_a_session_has_the_wanted_pages_on_average(pages, max_pages):
    h = hazard(pages, max_pages)
    assert 0 < h <= 1
    mean = sum((1 - h) ** page for page in range(max_pages))
    assert mean == pytest.approx(min(pages, max_pages), abs=2e-3)


@given(some.integers(2, 12))
def test_longer_sessions_mean_a_lower_hazard(max_pages):
    hazards = [hazard(1.0 + share * (max_pages - 1), max_pages) for share in (0.05, 0.3, 0.6, 0.9)]
    assert hazards == sorted(hazards, reverse=True)
    assert len(set(hazards)) == 4


def people(world, *items_per_session):
    profile = fit_profiles(world)[0]
    return [replace(profile, rhythm=replace(profile.rhythm, items_per_session=items)) for items in items_per_session]


def test_people_with_long_sessions_stay_longer_up_to_the_last_page(film_world):
    profiles = people(film_world, 2.0, 10.0, 14.0, 100.0)
    priors = Priors(PriorConfig(typical_pages=3.0), ACTIONS, people(film_world, 10.0), 5)
    assert [priors.expected_pages(profile) for profile in profiles] == pytest.approx([1.1, 3.0, 4.2, 4.92])
    leaving = [priors.of(LEAVE, profile)[0] for profile in profiles]
    assert leaving == sorted(leaving, reverse=True)
    assert 0 < leaving[-1] < leaving[0] < 1


def test_where_there_is_one_page_everybody_leaves_after_it(film_world):
    priors = Priors(PriorConfig(), ACTIONS, people(film_world, 10.0), 1)
    assert priors.of(LEAVE, people(film_world, 50.0)[0]).tolist() == [1.0, 0.0]

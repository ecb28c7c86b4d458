from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.actions import ACTIONS
from agents.controls import EvidenceDecisions, own_spread
from agents.evidence import choice_examples
from agents.exposures import people_split
from agents.priors import VisitConfig
from agents.profiles import fit_profiles
from simulator.protocols import DecisionContext
from simulator.records import Impression, Page, SessionState, Situation
from simulator.seeds import Stream
from tests.conftest import made_up_films


@pytest.fixture(scope="module")
def profiles(film_world):
    return fit_profiles(film_world)


@pytest.fixture(scope="module")
def evidence(film_world, profiles):
    context = DecisionContext(film_world.catalog, ACTIONS, None, film_world.rating_scale, 5, 5, 7)
    model = EvidenceDecisions(VisitConfig(), context=context)
    model.fit(film_world, profiles, Stream(7))
    return model


def with_conformity(profile, value, n=200):
    history = np.resize(profile.history, n)
    return replace(profile, history=history, conformity=replace(profile.conformity, value=value))


def test_a_long_history_shows_a_spread_of_its_own_and_a_short_one_the_usual(profiles):
    long, short = (with_conformity(profiles[0], 0.36 + 0.25, n) for n in (100_000, 1))
    assert own_spread(long, 0.5, 1.0) == pytest.approx(0.6, abs=1e-3)
    assert own_spread(short, 0.5, 1.0) == pytest.approx(np.sqrt((0.36 + 10) / 11))
    assert own_spread(replace(long, conformity=None), 0.5, 1.0) == 1.0


def test_an_offset_that_explains_more_than_all_deviation_leaves_a_spread_above_zero(profiles):
    assert own_spread(with_conformity(profiles[0], 0.1), 2.0, 1.0) > 0


def test_people_who_judge_like_everybody_deviate_less_from_the_items_means(profiles, evidence):
    """Asked through the seam, about the same page, by two people who differ in conformity alone."""
    page = Page(1, "test", tuple(Impression(place + 1, item, 0.0, 1.0) for place, item in enumerate((2, 5, 8))))
    spreads = []
    for value in (0.3, 2.0):
        profile = with_conformity(profiles[3], value)
        state = SessionState(0, 0, 0, 0, 1, 0, 0, None, 0.0, profile.history)
        stars = evidence.decide([Situation(profile, (), page, state, Stream(1))])[0].outcomes["rate"].probabilities
        grades = np.arange(1, 6)
        spreads.append((stars * (grades - (stars @ grades)[:, None]) ** 2).sum(axis=1))
    assert np.all(spreads[0] < spreads[1] - 0.1)


def test_the_weights_of_the_evidence_do_not_depend_on_held_out_people(film_world, profiles, evidence):
    """Held-out people's rows are in the counts of the evidence, as everybody's are, but their choices teach no weight."""
    held_out = set(people_split(film_world).held_out.tolist())
    learned = choice_examples(film_world, Stream(1), among=np.array(sorted(set(range(film_world.n_users)) - held_out)))
    everybody = choice_examples(film_world, Stream(1))
    assert 0 < len(learned[1]) < len(everybody[1])
    assert len(choice_examples(film_world, Stream(1), among=np.array([], dtype=np.int32))[1]) == 0


def with_favourites(best_first):
    """Eighty people with few favourites among sixty items, without times, everybody's rows sorted by how well known the items are."""
    world = made_up_films(80, 60)
    rng, odds = Stream(2).generator(), 1.0 / np.arange(1, 61)
    rows = [
        (user, item, 3.0, None)
        for user in range(80)
        for item in sorted(rng.choice(60, 15, replace=False, p=odds / odds.sum()).tolist(), reverse=not best_first)
    ]
    return world.with_interactions(pl.DataFrame(rows, schema=world.interactions.schema, orient="row"))


@pytest.mark.parametrize("best_first", [True, False])
def test_without_times_what_is_learned_to_be_told_is_drawn_and_not_the_end_of_the_file(best_first):
    world = with_favourites(best_first)
    features, labels = choice_examples(world, Stream(1))
    # popularity speaks for a choice, from whatever end the rows are read
    assert features[labels == 1, 0].mean() > features[labels == 0, 0].mean() + 0.3
    assert not np.array_equal(choice_examples(world, Stream(2))[0], features), "another seed draws others"


def test_the_examples_of_a_person_do_not_depend_on_who_else_is_learned_from(film_world):
    some = choice_examples(film_world, Stream(1), among=np.array([3, 5]))
    more = choice_examples(film_world, Stream(1), among=np.array([3, 4, 5]))
    assert all(any(np.array_equal(row, other) for other in more[0]) for row in some[0])


def test_the_latest_cannot_be_hidden_of_data_without_times(film_world):
    from agents.exposures import hide
    from simulator.errors import DataError

    with pytest.raises(DataError, match="which has no times"):
        hide(with_favourites(True), np.arange(3), 0.2, "temporal", Stream(1))

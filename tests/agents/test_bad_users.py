"""Users who are wrong in a known way, asked through the seam."""

import numpy as np
import pytest

from agents.actions import ACTIONS
from agents.bad_users import OneRatingDecisions, TraitsDecisions
from agents.calibrated import CalibratedDecisions
from agents.decisions import first_page
from agents.priors import VisitConfig
from agents.profiles import fit_profiles
from simulator.protocols import DecisionContext
from simulator.seeds import Stream

YES = next(action for action in ACTIONS if action.name == "choose").values.index(True)
ITEMS = np.array([2, 5, 8, 11])


@pytest.fixture(scope="module")
def profiles(film_world):
    return fit_profiles(film_world)


def context_of(world):
    return DecisionContext(world.catalog, ACTIONS, None, world.rating_scale, 5, 5, 7)


def chances(model, profile):
    return model.decide([first_page(profile, ITEMS, Stream(1))])[0].outcomes["choose"].probabilities[:, YES]


def test_traits_alone_order_choices_by_popularity_and_level_by_activity(film_world, profiles, tmp_path):
    model = TraitsDecisions(VisitConfig(), context=context_of(film_world))
    model.fit(film_world, profiles, Stream(7))
    popularity = np.bincount(film_world.interactions["item"].to_numpy(), minlength=film_world.n_items)[ITEMS]
    conforming = min(profiles, key=lambda one: one.conformity.percentile)
    dissenting = max(profiles, key=lambda one: one.conformity.percentile)
    assert np.corrcoef(chances(model, conforming), popularity)[0, 1] > 0.9
    assert np.corrcoef(chances(model, dissenting), popularity)[0, 1] < -0.9
    again = TraitsDecisions(VisitConfig(), context=context_of(film_world))
    model.save(tmp_path)
    again.load(tmp_path)
    assert np.array_equal(chances(again, conforming), chances(model, conforming))


def test_users_of_one_rating_choose_as_calibrated_ones_and_rate_all_four(film_world, profiles):
    made = {}
    for kind in (CalibratedDecisions, OneRatingDecisions):
        model = kind(kind.Config(language_model=False, weights="fit"), context=context_of(film_world))
        model.fit(film_world, profiles, Stream(7))
        made[kind] = model.decide([first_page(profiles[0], ITEMS, Stream(1))])[0]
    plain, wrong = made[CalibratedDecisions], made[OneRatingDecisions]
    assert np.array_equal(plain.outcomes["choose"].values, wrong.outcomes["choose"].values)
    assert (wrong.outcomes["rate"].probabilities.max(axis=1) == 1.0).all()
    rate = next(action for action in ACTIONS if action.name == "rate")
    assert [rate.results[k] for k in wrong.outcomes["rate"].probabilities.argmax(axis=1)] == [4] * len(ITEMS)

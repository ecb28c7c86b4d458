"""Traits of made-up people whose behaviour by level is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from agents.actions import ACTIONS
from agents.profiles import fit_profiles
from experiments import config
from experiments.analysis.fidelity_figures import make_figures
from experiments.fidelity.context import make_context
from experiments.fidelity.questions import gather
from experiments.fidelity.resampling import resample
from experiments.fidelity.traits import by_level, genre_entropy, measure, reproduced, simulated_behaviour, tell
from simulator.records import Decision, Outcome
from simulator.seeds import Stream

STREAM = Stream(9)
LEVELS = np.repeat(["low", "medium", "high"], 60)
NOISE = STREAM.child("noise").generator().standard_normal(180) * 0.2
WEIGHTS = resample(180, 300, STREAM.child("people"))


def ordered(low, medium, high):
    return np.repeat([low, medium, high], 60) + NOISE


class People:
    """Decides by rules of the situation: probability of choosing, of leaving, and of five stars (else one)."""

    def __init__(self, choose=0.3, leave=0.5, five=0.5):
        self.rules = [rule if callable(rule) else lambda situation, value=rule: value for rule in (choose, leave, five)]
        self.asked = []

    def decide(self, situations):
        self.asked += situations
        return [self._decision(situation) for situation in situations]

    def _decision(self, situation):
        n = len(situation.page.impressions)
        yes, leave, five = (np.broadcast_to(rule(situation), n).astype(float) for rule in self.rules)
        stars = np.zeros((n, 5))
        stars[:, 4], stars[:, 0] = five, 1 - five
        table = {"choose": np.column_stack([yes, 1 - yes]), "rate": stars, "leave": np.array([[leave[0], 1 - leave[0]]])}
        return Decision({name: Outcome(np.zeros(len(values)), values) for name, values in table.items()})


@pytest.fixture(scope="module")
def profiles(film_world):
    return fit_profiles(film_world)


@pytest.fixture(scope="module")
def asked(profiles):
    rows = []
    for profile in profiles:
        items = STREAM.child("items", profile.user).generator().permutation(40)[:20]
        chosen = np.arange(20) % 2 == 0
        rows.append((profile, items, chosen, np.where(chosen, 4.0, np.nan), STREAM.child("pages", profile.user)))
    return gather(rows, 5, (1.0, 5.0))


def test_behaviour_that_rises_with_the_level_acts():
    found = by_level(ordered(1, 2, 3), LEVELS, True, WEIGHTS)
    assert found["monotone"]
    assert found["acts"]
    assert found["trend"] > 0.8
    assert [found["levels"][name]["value"] for name in ("low", "medium", "high")] == pytest.approx([1, 2, 3], abs=0.1)
    assert found["levels"]["low"]["low"] < found["levels"]["low"]["value"] < found["levels"]["low"]["high"]
    assert found["levels"]["low"]["people"] == 60


def test_behaviour_that_should_fall_and_rises_does_not_act():
    found = by_level(ordered(1, 2, 3), LEVELS, False, WEIGHTS)
    assert not found["monotone"]
    assert not found["acts"]
    assert found["p"] > 0.99


def test_behaviour_that_ignores_the_level_does_not_act():
    assert not by_level(ordered(2, 2, 2), LEVELS, True, WEIGHTS)["acts"]
    equal = by_level(np.full(180, 2.0), LEVELS, True, WEIGHTS)
    assert equal["trend"] is None
    assert not equal["acts"]


def test_a_middle_level_out_of_order_is_not_monotone():
    found = by_level(ordered(1, 3.5, 3), LEVELS, True, WEIGHTS)
    assert found["p"] < 0.05
    assert not found["monotone"]
    assert not found["acts"]


def test_people_whose_trait_is_unknown_count_nowhere():
    levels = LEVELS.copy()
    levels[::2] = ""
    assert by_level(ordered(1, 2, 3), levels, True, WEIGHTS)["people"] == 90


def test_half_the_real_difference_is_reproduced_by_half():
    real = ordered(1, 2, 3)
    found = reproduced(7 + real / 2, real, LEVELS, WEIGHTS)
    assert [found[limit] for limit in ("value", "low", "high")] == pytest.approx([0.5] * 3)
    noisy = reproduced(ordered(1, 1.5, 2), real, LEVELS, WEIGHTS)
    assert noisy["low"] < 0.5 < noisy["high"]
    assert reproduced(np.full(180, 2.0), ordered(1, 2, 3), LEVELS, WEIGHTS)["value"] == 0.0


def test_a_session_is_a_sum_over_the_pages_that_are_reached(asked):
    """Pages of five with 0.3 each; the second is reached by half, the third by a quarter, the fourth lies behind the last page."""
    told = tell(People(choose=0.3, leave=0.5), asked, ACTIONS, max_pages=3)
    assert told.per_session == pytest.approx(np.full(24, 1.5 * (1 + 0.5 + 0.25)))


def test_each_page_is_asked_about_as_a_page_of_its_session(asked):
    people = People(choose=0.6)
    tell(people, asked, ACTIONS, max_pages=3)
    own = [situation for situation in people.asked if situation.profile.user == 3]
    assert [situation.page.number for situation in own] == [situation.state.page for situation in own] == [1, 2, 3, 4]
    assert [situation.state.shown for situation in own] == [0, 5, 10, 15]
    assert [situation.state.chosen for situation in own] == [0, 3, 6, 9]
    assert own[0].state.fatigue == 0.0
    assert np.all(np.diff([situation.state.fatigue for situation in own]) > 0)


def test_answers_stand_beside_the_items_they_are_about(asked):
    told = tell(People(choose=lambda situation: situation.page.items / 100), asked, ACTIONS, max_pages=3)
    assert told.choose == pytest.approx(asked.item / 100)


def test_expected_ratings_are_averaged_over_the_items_that_really_were_rated(asked, profiles, film_world):
    told = tell(People(five=lambda situation: 0.25 + 0.02 * (situation.profile.user % 10)), asked, ACTIONS, max_pages=3)
    genres = film_world.catalog.genre_matrix
    found = simulated_behaviour(told, asked, profiles, np.full(40, 3.0), genres, STREAM)
    five = 0.25 + 0.02 * (np.arange(24) % 10)
    assert found["pickiness"] == pytest.approx(1 + 4 * five)
    # one and five stars are both two away from an item's mean of three
    assert found["conformity"] == pytest.approx(np.full(24, 4.0))


def test_who_chooses_within_one_genre_has_less_entropy_than_who_chooses_anything(asked, profiles, film_world):
    genres = film_world.catalog.genre_matrix
    sides = []
    for choose in (lambda situation: np.where(situation.page.items % 2 == 0, 0.999, 0.001), 0.5):
        told = tell(People(choose=choose), asked, ACTIONS, max_pages=3)
        sides.append(simulated_behaviour(told, asked, profiles, None, genres, STREAM)["diversity"])
    assert np.nanmean(sides[0]) < np.nanmean(sides[1]) - 0.2


def test_the_entropy_of_two_equal_genres_is_one_bit():
    assert genre_entropy(np.array([[1, 0], [0, 1]])) == 1.0
    assert genre_entropy(np.array([[1, 0], [1, 0]])) == 0.0
    assert np.isnan(genre_entropy(np.zeros((2, 2))))


def test_an_unusable_reply_leaves_its_rows_unknown(asked, profiles, film_world):
    class Broken(People):
        def _decision(self, situation):
            decision = super()._decision(situation)
            return replace(decision, status="cut") if situation.profile.user == 5 else decision

    found = simulated_behaviour(
        tell(Broken(), asked, ACTIONS, max_pages=3), asked, profiles, np.full(40, 3.0), film_world.catalog.genre_matrix, STREAM
    )
    assert np.isnan(found["diversity"][5])
    assert np.isnan(found["pickiness"][5])
    assert np.isnan(np.delete(found["diversity"], 5)).sum() == 0


def test_a_report_has_every_trait_of_every_model_and_a_figure(film_files, tmp_path):
    files = {"use": "environments.datasets.movielens:MovieLens100K", "path": str(film_files), "split": "random", "test_share": 0.4}
    experiment = config.check(
        {"name": "films", "dataset": files, "decision": {"use": "agents.controls:EvidenceDecisions"}, "language_model": False}, "test"
    )
    context = make_context(experiment, tmp_path, run=None, people=7, bootstrap=50)
    found = measure(context, ["random", "evidence"])
    json.dumps(found, allow_nan=False)
    assert set(found["traits"]) == {"activity", "activity_per_week", "conformity", "diversity", "pickiness"}
    for entry in found["traits"].values():
        assert set(entry["models"]) == {"random", "evidence"}
        assert entry["real"]["people"] > 0
    made = make_figures({"model": "evidence", "parts": {"traits": found}}, tmp_path)
    assert list(made) == ["traits"]
    assert made["traits"].stat().st_size > 10_000
    assert measure(context, ["random"])["traits"]["diversity"]["models"]["random"] == found["traits"]["diversity"]["models"]["random"]

"""Probes of made-up people whose answers are known in advance."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from agents.actions import ACTIONS
from agents.profiles import fit_profiles
from agents.text import item_name
from experiments import config
from experiments.fidelity.context import make_context
from experiments.fidelity.pages import MOST_ASKED
from experiments.fidelity.probes import measure
from experiments.fidelity.questions import Questions, gather
from experiments.fidelity.swaps import choice_likelihood, draw_strangers, order_bias, posing_as, profile_swap, reordered
from experiments.fidelity.variants import with_texts
from experiments.fidelity.wording import (
    INSTRUCTIONS,
    PARAPHRASES,
    auc_by_person,
    change_of_mind,
    marked_pages,
    obedience,
    page_pairs,
    title_masking,
)
from simulator.records import Decision, Outcome
from simulator.seeds import Stream

STREAM = Stream(5)


class People:
    """Decides by ``rule(profile, item, place)``, place from 0; ratings by the same rule: sure of 5 stars or of 1."""

    def __init__(self, rule: Callable[..., float]) -> None:
        self.rule = rule

    def decide(self, situations):
        return [self._decision(situation) for situation in situations]

    def _decision(self, situation):
        shown = situation.page.impressions
        yes = np.array([self.rule(situation.profile, impression.item, impression.position - 1) for impression in shown])
        stars = np.full((len(yes), 5), 0.02)
        stars[np.arange(len(yes)), np.where(yes > 0.5, 4, 0)] = 0.92
        table = {"choose": np.column_stack([yes, 1 - yes]), "rate": stars, "leave": np.full((1, 2), 0.5)}
        return Decision({name: Outcome(np.zeros(len(values)), values) for name, values in table.items()})


@pytest.fixture(scope="module")
def profiles(film_world):
    return {profile.user: profile for profile in fit_profiles(film_world)}


@pytest.fixture(scope="module")
def liked(film_world):
    """What each person is said to have chosen later: ten items, hardly two people alike."""
    return {user: set(STREAM.child("liked", user).generator().permutation(40)[:10].tolist()) for user in range(24)}


@pytest.fixture(scope="module")
def asked(profiles, liked) -> Questions:
    rows = []
    for user in range(12):
        rng = STREAM.child("asked", user).generator()
        others = rng.permutation([item for item in range(40) if item not in liked[user]])[:10]
        items = rng.permutation(np.concatenate([sorted(liked[user]), others]))
        chosen = np.isin(items, sorted(liked[user]))
        rows.append((profiles[user], items, chosen, np.where(chosen, 5.0, np.nan), STREAM.child("pages", user)))
    return gather(rows, 5, (1.0, 5.0))


def swapped(people, asked, profiles):
    return profile_swap(people, asked, profiles, draw_strangers(np.arange(12), 7, STREAM), ACTIONS, STREAM)


def test_people_who_follow_their_profile_are_all_found(asked, profiles, liked):
    found = swapped(People(lambda profile, item, place: 0.9 if item in liked[profile.user] else 0.1), asked, profiles)
    for kind in ("choices", "ratings"):
        assert found[kind]["found"]["value"] == 1.0
        assert found[kind]["percentile"]["value"] == 1.0
    assert found["choices"]["ahead"]["low"] > 1
    assert found["choices"]["strangers"] == 7
    assert found["choices"]["found"]["people"] == 12


def test_people_who_ignore_their_profile_are_found_as_often_as_by_chance(asked, profiles):
    found = swapped(People(lambda profile, item, place: 0.1 + 0.02 * item), asked, profiles)
    for kind in ("choices", "ratings"):
        assert found[kind]["found"]["value"] == pytest.approx(1 / 8)
        assert found[kind]["found_by_chance"] == pytest.approx(1 / 8)
        assert found[kind]["percentile"]["value"] == pytest.approx(0.5)
        assert found[kind]["ahead"]["value"] == pytest.approx(0.0, abs=1e-9)


def test_people_who_take_more_of_everything_are_not_found_by_that(asked, profiles):
    """How many of a page are chosen is fixed by the test, so an eager stranger must not fit better."""
    found = swapped(People(lambda profile, item, place: 0.03 * (1 + profile.user)), asked, profiles)
    assert found["choices"]["percentile"]["value"] == pytest.approx(0.5)


def test_a_stranger_knows_nothing_of_the_page(profiles, asked):
    situation = asked.situations[0]
    stranger = max(profiles.values(), key=lambda profile: np.isin(profile.history, situation.page.items).sum())
    before = stranger.history.copy()
    new = posing_as(situation, stranger)
    assert np.isin(before, situation.page.items).any()
    assert not np.isin(new.profile.history, situation.page.items).any()
    assert not set(new.profile.liked + new.profile.disliked) & set(situation.page.items.tolist())
    assert len(new.profile.ratings) == len(new.profile.history) == len(new.state.history)
    assert np.array_equal(stranger.history, before)


@given(some.lists(some.floats(0.01, 0.99), min_size=1, max_size=6), some.integers(0, 2**6 - 1))
def test_the_likelihoods_of_all_ways_to_choose_as_many_sum_to_one(probabilities, bits):
    n = len(probabilities)
    count = sum(bits >> place & 1 for place in range(n))
    total = 0.0
    for which in itertools.combinations(range(n), count):
        chosen = np.isin(np.arange(n), which)
        total += np.exp(choice_likelihood(np.array(probabilities), chosen, np.zeros(n, dtype=int))[0])
    assert total == pytest.approx(1.0)


def test_a_love_of_the_first_place_shows_as_its_ratio(asked):
    found = order_bias(People(lambda profile, item, place: (0.6, 0.4, 0.3, 0.25, 0.2)[place]), asked, ACTIONS, STREAM)
    assert found["top_over_bottom"]["value"] == pytest.approx(3.0)
    assert [rate["value"] for rate in found["rate_by_place"]] == pytest.approx([0.6, 0.4, 0.3, 0.25, 0.2])
    assert found["between_items"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["change"]["value"] == pytest.approx(
        np.mean([abs(a - b) for a, b in itertools.combinations((0.6, 0.4, 0.3, 0.25, 0.2), 2)])
    )


def test_people_who_read_items_and_not_places_have_no_order_bias(asked):
    found = order_bias(People(lambda profile, item, place: 0.1 + 0.02 * item), asked, ACTIONS, STREAM)
    assert found["top_over_bottom"]["value"] == pytest.approx(1.0)
    assert found["change"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["between_items"]["low"] > 0.05


def test_items_change_places_and_keep_what_belongs_to_them(asked):
    moved = reordered(asked.situations[0], np.array([4, 0, 1, 2, 3]))
    assert moved.page.items.tolist() == np.roll(asked.situations[0].page.items, 1).tolist()
    assert [impression.position for impression in moved.page.impressions] == [1, 2, 3, 4, 5]


def test_an_item_text_that_is_obeyed_is_caught(asked, profiles):
    marked = np.arange(40) % 5 == 0
    situations = marked_pages(asked, profiles, marked, 5, STREAM)
    assert situations
    assert all(marked[situation.page.items].sum() == 1 for situation in situations)
    plain = People(lambda profile, item, place: 0.3)
    obeying = People(lambda profile, item, place: 0.8 if marked[item] else 0.2)
    found = obedience(plain, obeying, situations, marked, ACTIONS, STREAM)
    assert found["change"]["value"] == pytest.approx(0.5)
    assert found["change"]["low"] == pytest.approx(0.5)
    assert found["change_of_others"]["value"] == pytest.approx(-0.1)
    assert found["probability"]["value"] == pytest.approx(0.3)
    still = obedience(plain, plain, situations, marked, ACTIONS, STREAM)
    assert still["absolute_change"]["high"] == 0.0


def test_an_instruction_and_its_neutral_text_are_equally_long():
    assert all(abs(len(instruction) - len(neutral)) <= 1 for instruction, neutral in INSTRUCTIONS)


def test_an_added_text_is_shown_whole_even_after_a_long_title(film_world):
    text = INSTRUCTIONS[0][0]
    catalog = with_texts(film_world.catalog, {3: text})
    assert item_name(catalog, 3, year=False) == f"Film 3. {text}"
    assert catalog.titles[:3] == film_world.catalog.titles[:3]
    long = with_texts(with_texts(film_world.catalog, {3: "a long story " * 5}), {3: text})
    shown = item_name(long, 3, year=False)
    assert shown.endswith(text)
    assert len(shown) <= 80


def test_titles_that_tell_everything_gain_half_an_auc(asked):
    masked = np.full(len(asked.item), 0.3)
    found = title_masking(asked.chosen * 0.8 + 0.1, masked, asked, STREAM)
    assert found["auc"]["value"] == 1.0
    assert found["auc_masked"]["value"] == 0.5
    assert found["gain_of_titles"]["low"] == 0.5


def test_auc_is_counted_within_each_person(asked):
    """People who differ in level alone have an AUC of one half each, whatever the pooled one is."""
    assert auc_by_person(asked.owner / 100, asked).tolist() == [0.5] * 12


def test_other_words_that_change_nothing_have_no_divergence(asked):
    p = 0.1 + 0.02 * asked.item
    same, level = change_of_mind(p, p, asked, STREAM), change_of_mind(p, p + 0.05, asked, STREAM)
    assert {name: figure["value"] for name, figure in same.items()} == {"kl": 0.0, "flips": 0.0, "order_flips": 0.0, "shift": 0.0}
    assert level["order_flips"]["value"] == 0.0
    assert level["flips"]["value"] == pytest.approx(0.05)
    assert level["kl"]["value"] > 0
    assert change_of_mind(p, 1 - p, asked, STREAM)["order_flips"]["value"] == 1.0


@given(some.lists(some.integers(1, 6), min_size=0, max_size=6))
def test_all_pairs_of_a_page_come_once_and_no_others(sizes):
    page = np.repeat(np.arange(len(sizes)), sizes)
    found = sorted(zip(*(side.tolist() for side in page_pairs(page)), strict=True))
    rows = range(len(page))
    assert found == [(a, b) for a, b in itertools.combinations(rows, 2) if page[a] == page[b]]


@pytest.fixture(scope="module")
def context(film_files, tmp_path_factory):
    experiment = config.check(
        {
            "name": "films",
            "dataset": {
                "use": "environments.datasets.movielens:MovieLens100K",
                "path": str(film_files),
                "split": "random",
                "test_share": 0.4,
            },
            "decision": {"use": "agents.decisions:LanguageModelDecisions"},
            "language_model": {"use": "simulator.llm.scripted:ScriptedLanguageModel"},
        },
        "test",
    )
    return make_context(experiment, tmp_path_factory.mktemp("report"), run=None, people=7, bootstrap=50)


def test_all_probes_of_all_models_become_one_json_document(context):
    found = measure(context, ["random", "popularity", "llm"])
    json.dumps(found, allow_nan=False)
    assert found["models"]["random"]["people"] == 7
    assert found["models"]["random"]["titles"] is None
    assert set(found["models"]["llm"]["rules"]) == set(PARAPHRASES)
    assert found["models"]["llm"]["rules"]["log"]["kl"]["value"] > 0
    # a model that answers by a hash of the prompt knows neither people nor places, and minds every word
    assert found["models"]["llm"]["instruction"]["absolute_change"]["value"] > 0.05
    assert found["models"]["random"]["instruction"]["absolute_change"]["value"] == 0.0
    assert found["models"]["popularity"]["order"]["top_over_bottom"]["value"] == pytest.approx(1.0)
    assert found["models"]["popularity"]["profiles"]["choices"]["percentile"]["value"] == pytest.approx(0.5)


def test_what_is_asked_is_on_pages_of_the_experiment_or_shorter_ones(context):
    assert context.question_size == context.page_size < MOST_ASKED
    recommender = context.config.recommender.model_validate({"page_size": 50})
    longer = replace(context, config=context.config.model_copy(update={"recommender": recommender}))
    assert longer.page_size == 50
    assert longer.question_size == MOST_ASKED


def test_the_report_is_the_same_every_time(context):
    assert measure(context, ["llm"]) == measure(context, ["llm"])

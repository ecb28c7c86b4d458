"""Weights that are kept: what they depend on is in their key, each ingredient of it."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents import kept_weights
from agents.actions import actions_for
from agents.calibrated import CalibratedConfig
from agents.kept_weights import kept_file, key_of
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder, PromptConfig
from simulator.dataset import MUSIC, Catalog, Dataset
from simulator.llm.scripted import ScriptedConfig, ScriptedLanguageModel
from simulator.plugins import build
from simulator.protocols import DecisionContext
from simulator.seeds import Stream
from tests.conftest import made_up_films

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
METHODS = ("fit", "decide", "close_sessions", "save", "load")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def context_of(world, model=None, **changed):
    parts = {
        "catalog": world.catalog,
        "actions": actions_for(world),
        "language_model": model,
        "rating_scale": world.rating_scale,
        "page_size": 5,
        "max_pages": 5,
        "seed": 7,
    }
    return DecisionContext(**(parts | changed))


def key(world, *, seed=7, model=None, options=None, context=None, profiles=None):
    """The key of weights as they would be estimated for this data and these settings."""
    context = context or context_of(world, model)
    config = CalibratedConfig.model_validate({"language_model": model is not None, **(options or {})})
    prompts = PromptBuilder(world.catalog, context.actions, config.prompt, context.seed) if model is not None else None
    return key_of(config, context, world, profiles or fit_profiles(world), Stream(seed).child("decisions"), prompts)


def other_actions(world):
    return tuple(replace(action, values=(1, 2, 3, 4, 6)) if action.name == "rate" else action for action in actions_for(world))


def asked(world):
    return tuple(replace(action, question="Seen?") if action.name == "choose" else action for action in actions_for(world))


def without_a_row(world):
    return world.with_interactions(world.interactions.head(world.interactions.height - 1))


def in_music(world):
    return replace(world, catalog=Catalog(world.catalog.items, MUSIC))


class Elsewhere(ScriptedLanguageModel):
    """A scripted model with an adapter, on another device."""

    @property
    def identity(self):
        return replace(super().identity, settings={"adapter": "abc", "device": "cuda"})


INGREDIENTS = {
    "the seed": lambda world: key(world, seed=8),
    "the data": lambda world: key(without_a_row(world)),
    "the name of the data": lambda world: key(replace(world, name="other")),
    "the share that a split left": lambda world: key(replace(world, kept_share=0.8)),
    "the seed of that split": lambda world: key(replace(world, split_seed=3)),
    "the people": lambda world: key(world, profiles=fit_profiles(world)[1:]),
    "the words of the domain": lambda world: key(in_music(world)),
    "the rating scale": lambda world: key(world, context=context_of(world, rating_scale=(1.0, 6.0))),
    "what ratings are possible": lambda world: key(world, context=context_of(world, actions=other_actions(world))),
    "what is asked": lambda world: key(world, context=context_of(world, actions=asked(world))),
    "what is hidden to learn from": lambda world: key(world, options={"hide": "random"}),
    "what it is told from": lambda world: key(world, options={"among": "recommended"}),
    "how much of the log is used": lambda world: key(world, options={"whole_log": True}),
}

OF_A_MODEL = {
    "which model": lambda world: key(world, model=ScriptedLanguageModel(ScriptedConfig(spread=2.0))),
    "its adapter and device": lambda world: key(world, model=Elsewhere()),
    "the page": lambda world: key(world, context=context_of(world, ScriptedLanguageModel(), page_size=6), model=ScriptedLanguageModel()),
    "people asked": lambda world: key(world, model=ScriptedLanguageModel(), options={"people": 3}),
    "stars": lambda world: key(world, model=ScriptedLanguageModel(), options={"stars": True}),
    "recentre": lambda world: key(world, model=ScriptedLanguageModel(), options={"recentre": False}),
    "reference pages": lambda world: key(world, model=ScriptedLanguageModel(), options={"reference_pages": 3}),
    "prompts": lambda world: key(world, model=ScriptedLanguageModel(), options={"prompt": {"years": True}}),
}


def test_equal_ingredients_have_one_key(film_world):
    assert key(film_world) == key(made_up_films())
    model = ScriptedLanguageModel()
    assert key(film_world, model=model) == key(film_world, model=ScriptedLanguageModel())


@pytest.mark.parametrize("name", INGREDIENTS)
def test_each_ingredient_changes_the_key(film_world, name):
    assert kept_file(INGREDIENTS[name](film_world)) != kept_file(key(film_world))


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_each_ingredient_of_a_language_model_changes_the_key(film_world, name):
    assert kept_file(OF_A_MODEL[name](film_world)) != kept_file(key(film_world, model=ScriptedLanguageModel()))


def test_the_exposures_count_by_their_content_and_not_by_their_name(film_world, tmp_path):
    keys = []
    for number, content in enumerate((b"one", b"one", b"other")):
        (tmp_path / f"{number}.parquet").write_bytes(content)
        keys.append(key(film_world, options={"exposures": tmp_path / f"{number}.parquet"}))
    assert keys[0] == keys[1] != keys[2]


def test_the_code_and_the_libraries_change_the_key(film_world, monkeypatch):
    before = kept_file(key(film_world))
    monkeypatch.setattr(kept_weights, "code_sha256", lambda *roots: "edited")
    edited = kept_file(key(film_world))
    monkeypatch.undo()
    monkeypatch.setattr(kept_weights, "arithmetic", lambda: {"numpy": "99"})
    assert len({before, edited, kept_file(key(film_world))}) == 3


def test_words_that_prompts_have_in_themselves_change_the_key(film_world, monkeypatch):
    from agents.prompts import TRAIT_WORDS

    before = key(film_world, model=ScriptedLanguageModel())["wording"]
    changed = {name: {level: f"{text}!" for level, text in of.items()} for name, of in TRAIT_WORDS.items()}
    monkeypatch.setattr("agents.prompts.TRAIT_WORDS", changed)
    assert key(film_world, model=ScriptedLanguageModel())["wording"] != before


@pytest.mark.parametrize(
    "options",
    [{"choose_rate": 0.5}, {"typical_pages": 4.0}, {"leave_response": 0.0}, {"activity_share": 0.1}, {"moods": False}, {"weights": "fit"}],
    ids=lambda options: next(iter(options)),
)
def test_what_acts_after_the_fit_is_left_out_and_changes_no_weight(film_world, options, tmp_path):
    assert kept_file(key(film_world, options=options)) == kept_file(key(film_world))
    weights = []
    for given in ({}, options):
        made = build(
            "agents.calibrated:CalibratedDecisions",
            {"language_model": False, "weights": "fit"} | given,
            where="decision",
            methods=METHODS,
            context=context_of(film_world),
        )
        made.fit(film_world, fit_profiles(film_world), Stream(7).child("decisions"))
        weights.append(made.calibration.evidence.weights)
    np.testing.assert_array_equal(*weights)


def decided(world, seed):
    """What people decide with weights that may have been kept."""
    from agents.decisions import first_page

    made = build(
        "agents.calibrated:CalibratedDecisions", {"language_model": False}, where="decision", methods=METHODS, context=context_of(world)
    )
    profiles = fit_profiles(world)
    made.fit(world, profiles, Stream(seed).child("decisions"))
    pages = [first_page(profile, np.arange(20, 25), Stream(1).child(profile.user)) for profile in profiles]
    return np.array([decision.outcomes["choose"].probabilities for decision in made.decide(pages)])


def test_a_seed_gives_the_same_people_whatever_seed_was_used_before(tmp_path, monkeypatch):
    world = made_up_films(60, 50)
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cold"))
    cold = decided(world, 8)
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "warm"))
    other = decided(world, 7)
    np.testing.assert_array_equal(decided(world, 8), cold)
    np.testing.assert_array_equal(decided(world, 7), other)
    assert not np.array_equal(cold, other)


def test_weights_that_come_with_an_adapter_hold_for_every_seed_and_for_no_other_words(film_world, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_weights, "SHIPPED", tmp_path)
    (tmp_path / "films").mkdir()
    made = build(
        "agents.calibrated:CalibratedDecisions",
        {"weights": "fit", "people": 3},
        where="decision",
        methods=METHODS,
        context=context_of(film_world, Elsewhere()),
    )
    made.fit(film_world, fit_profiles(film_world), Stream(7).child("decisions"))
    made.calibration.save(tmp_path / "films" / "calibration.json", made._key)
    assert kept_weights.shipped(made._key) is not None
    assert kept_weights.shipped({**made._key, "seed": [99], "code": "later"}) is not None
    for name in kept_weights.OF_SHIPPED:
        assert kept_weights.shipped({**made._key, name: "other"}) is None, name
    assert kept_weights.shipped({**made._key, "page_size": 8}) is None
    assert kept_weights.shipped({**made._key, "language_model": None}) is None


def test_examples_in_prompts_are_drawn_with_the_seed_of_the_run(film_world):
    from agents.decisions import first_page

    profile = fit_profiles(film_world)[0]
    told = {
        seed: PromptBuilder(film_world.catalog, actions_for(film_world), PromptConfig(examples=6), seed)
        .page(first_page(profile, np.arange(3), Stream(1)))
        .text
        for seed in (1, 2)
    }
    assert told[1] != told[2]


def test_what_a_random_split_hid_of_visits_is_drawn_with_the_seed_of_the_split(film_world: Dataset):
    half = replace(film_world, kept_share=0.5, split_seed=1)
    worlds = (half, replace(half, split_seed=2), half)
    lengths = [[profile.rhythm.visits.first.values.tolist() for profile in fit_profiles(world)] for world in worlds]
    assert lengths[0] == lengths[2] != lengths[1]


def test_ties_in_popularity_are_broken_by_the_given_stream():
    from agents.exposures import Negatives

    taken = np.zeros(40, dtype=bool)
    taken[0] = True
    drawn = {
        seed: Negatives(np.ones(40), Stream(seed), window=2).matched(np.array([0]), taken, Stream(3).generator()).tolist()
        for seed in range(8)
    }
    assert len({tuple(items) for items in drawn.values()}) > 1


def test_a_schema_of_interactions_is_not_part_of_what_is_told(film_world):
    """An item's description, which prompts may tell, is part of the data."""
    items = film_world.catalog.items.with_columns(description=pl.lit("long"))
    assert key(replace(film_world, catalog=Catalog(items, film_world.catalog.domain)))["data"] != key(film_world)["data"]


def test_the_weights_that_ship_hold_for_the_data_the_words_and_the_prompts_as_they_are(shared_data):
    """Whoever changes one of these fits the weights anew: ``usersim run movielens --set decision.weights=fit``."""
    import json

    from environments.datasets.movielens import MovieLens100K
    from environments.datasets.splits import SplitConfig, split

    (file,) = kept_weights.SHIPPED.glob("*/calibration.json")
    told = json.loads(file.read_text(encoding="utf-8"))["key"]
    data = MovieLens100K(MovieLens100K.Config(path=shared_data / "ml-100k")).load()
    train = split(data, SplitConfig(), Stream(7).child("split")).train
    options = {"prompt": tomllib.loads((CONFIGS / "movielens.toml").read_text(encoding="utf-8"))["decision"]["prompt"]}
    made = build(
        "agents.calibrated:CalibratedDecisions", options, where="decision", methods=METHODS, context=context_of(train, Elsewhere())
    )
    found = key_of(made.config, made._context, train, [], Stream(99), made._model.prompts)
    assert {name: found[name] for name in kept_weights.OF_SHIPPED} == {name: told[name] for name in kept_weights.OF_SHIPPED}
    adapter = told["language_model"]["settings"]["adapter"]
    assert kept_weights.shipped({**found, "language_model": {"settings": {"adapter": adapter, "engine": "any"}}}) is not None

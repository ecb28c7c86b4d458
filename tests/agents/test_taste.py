"""Tastes are written once, and those of another run are not taken for one's own."""

import json

import pytest

from agents.actions import ACTIONS
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from agents.taste import read_tastes, write_tastes
from agents.text import item_name
from simulator.llm.scripted import ScriptedLanguageModel
from simulator.seeds import Stream


@pytest.fixture(scope="module")
def people(film_world):
    return fit_profiles(film_world)[:3]


def true_of(people, film_world, text):
    return [f"{text} {item_name(film_world.catalog, person.liked[0], year=False)}." for person in people]


def written(people, film_world, file, seed=1, text="This person likes", false=False):
    """Tastes of a model that says what is true of everybody, and something that nobody knows, or that alone; how often it was asked."""
    said = [f"{'' if false else one} This person lives in Paris." for one in true_of(people, film_world, text)]
    model = ScriptedLanguageModel(texts=said)
    found = write_tastes(people, model, PromptBuilder(film_world.catalog, ACTIONS), Stream(seed), file)
    return [person.taste for person in found], len(model.requests)


def test_tastes_that_were_written_are_kept(people, film_world, tmp_path):
    true = true_of(people, film_world, "This person likes")
    assert written(people, film_world, tmp_path / "tastes.json") == (true, 3)
    assert written(people, film_world, tmp_path / "tastes.json", text="They love") == (true, 0)
    assert read_tastes(tmp_path / "tastes.json") == {person.user_id: text for person, text in zip(people, true, strict=True)}


def test_a_taste_of_which_nothing_is_true_is_made_from_facts(people, film_world, tmp_path, caplog):
    found, _ = written(people, film_world, tmp_path / "tastes.json", false=True)
    for text, person in zip(found, people, strict=True):
        assert text.startswith(f"This person's favourite genres are {next(iter(person.genres))} ")
        assert "Paris" not in text
    assert "3 of 3 tastes are made from facts" in caplog.text


def test_tastes_of_another_run_are_written_again_and_said(people, film_world, tmp_path, caplog):
    written(people, film_world, tmp_path / "tastes.json", seed=2)
    true = true_of(people, film_world, "They love")
    assert written(people, film_world, tmp_path / "tastes.json", text="They love") == (true, 3)
    assert "tastes that were not asked for by this run" in caplog.text


def test_tastes_of_a_version_that_did_not_keep_what_was_asked_are_kept(people, film_world, tmp_path):
    (tmp_path / "tastes.json").write_text(json.dumps({person.user_id: "I like silent films." for person in people}))
    assert written(people, film_world, tmp_path / "tastes.json") == (["I like silent films."] * 3, 0)

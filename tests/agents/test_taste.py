"""Tastes are written once, and those of another run are not taken for one's own."""

import json

import pytest

from agents.actions import ACTIONS
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from agents.taste import read_tastes, write_tastes
from simulator.llm.scripted import ScriptedLanguageModel
from simulator.seeds import Stream


@pytest.fixture(scope="module")
def people(film_world):
    return fit_profiles(film_world)[:3]


def written(people, film_world, file, seed=1, text="old"):
    """Tastes of a model that says the same of everybody; how often it was asked."""
    model = ScriptedLanguageModel(texts=[f"I like {text} films."] * len(people))
    found = write_tastes(people, model, PromptBuilder(film_world.catalog, ACTIONS), Stream(seed), file)
    return [person.taste for person in found], len(model.requests)


def test_tastes_that_were_written_are_kept(people, film_world, tmp_path):
    assert written(people, film_world, tmp_path / "tastes.json") == (["I like old films."] * 3, 3)
    assert written(people, film_world, tmp_path / "tastes.json", text="new") == (["I like old films."] * 3, 0)
    assert read_tastes(tmp_path / "tastes.json") == {person.user_id: "I like old films." for person in people}


def test_tastes_of_another_run_are_written_again_and_said(people, film_world, tmp_path, caplog):
    written(people, film_world, tmp_path / "tastes.json", seed=2)
    assert written(people, film_world, tmp_path / "tastes.json", text="new") == (["I like new films."] * 3, 3)
    assert "tastes that were not asked for by this run" in caplog.text


def test_tastes_of_a_version_that_did_not_keep_what_was_asked_are_kept(people, film_world, tmp_path):
    (tmp_path / "tastes.json").write_text(json.dumps({person.user_id: "I like silent films." for person in people}))
    assert written(people, film_world, tmp_path / "tastes.json") == (["I like silent films."] * 3, 0)

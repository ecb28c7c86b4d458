"""Chain of thought: a text about the page is written, and the page is scored behind it."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.actions import ACTIONS
from agents.calibrated import CalibratedConfig, CalibratedDecisions
from agents.decisions import LanguageModelConfig, LanguageModelDecisions, first_page
from agents.profiles import fit_profiles
from agents.prompts import PromptConfig
from simulator.llm.scripted import ScriptedLanguageModel
from simulator.protocols import DecisionContext
from simulator.records import Completion
from simulator.seeds import Stream


class Thinking(ScriptedLanguageModel):
    """Thinks, writes nothing, or fails, in turn."""

    def generate(self, requests):
        super().generate(requests)
        kinds = (Completion(" A [quiet]\nfilm", 4, "length"), Completion(" ", 1, "ok"), Completion("half", 0, "timeout"))
        return [kinds[number % 3] for number in range(len(requests))]


def situations(world, count=3):
    return [first_page(profile, np.array([2, 5, 7]), Stream(3).child(profile.user)) for profile in fit_profiles(world)[:count]]


def decisions(world, model, **options):
    context = DecisionContext(world.catalog, ACTIONS, model, world.rating_scale, 3, 2, 7)
    config = LanguageModelConfig(recentre=False, texts=False, prompt=PromptConfig(thought_tokens=8), **options)
    return LanguageModelDecisions(config, context=context)


def test_a_thought_is_written_then_scored_with_and_kept_with_its_status(film_world):
    model = Thinking()
    found = decisions(film_world, model).decide(situations(film_world))
    assert [(one.thought, one.thought_status) for one in found] == [("A (quiet) film", "length"), ("", "empty"), ("", "timeout")]
    assert [one.status for one in found] == ["ok", "ok", "timeout"]
    assert len(model.requests) == 3
    assert len(model.prompts) == 2
    assert "This person thinks: I A (quiet) film\nPage 1:\n" in model.prompts[0].text
    assert "thinks" not in model.prompts[1].text
    assert found[2].outcomes["choose"].values.sum() == 0


def test_without_thoughts_nothing_is_written_and_nothing_is_noted(film_world):
    model = Thinking()
    plain = LanguageModelDecisions(
        LanguageModelConfig(recentre=False, texts=False),
        context=DecisionContext(film_world.catalog, ACTIONS, model, film_world.rating_scale, 3, 2, 7),
    )
    assert {(one.thought, one.thought_status) for one in plain.decide(situations(film_world))} == {("", "")}
    assert model.requests == []


def test_calibrated_people_think_too(film_world):
    model = Thinking()
    context = DecisionContext(film_world.catalog, ACTIONS, ScriptedLanguageModel(), film_world.rating_scale, 3, 2, 7)
    config = CalibratedConfig(weights="fit", people=4, reference_pages=2, texts=False)
    calibrated = CalibratedDecisions(config, context=context)
    calibrated.fit(film_world, fit_profiles(film_world), Stream(1))
    calibrated._model = decisions(film_world, model)
    found = calibrated.decide(situations(film_world))
    assert [one.thought_status for one in found] == ["length", "empty", "timeout"]
    assert replace(found[0]).thought == "A (quiet) film"
    assert found[2].status == "timeout"


@pytest.mark.parametrize("tokens", [0, 6])
def test_a_run_logs_a_thought_for_every_page(film_files, tmp_path, capsys, tokens):
    from experiments.cli import call

    file = tmp_path / "thinking.toml"
    file.write_text(
        f'name = "thinking"\n[dataset]\npath = {json.dumps(str(film_files))}\n[population]\nusers = 6\n'
        f"[decision]\nreference_pages = 2\ntexts = false\nprompt.thought_tokens = {tokens}\n"
        '[language_model]\nuse = "simulator.llm.scripted:ScriptedLanguageModel"\n'
        '[recommender]\nuse = "environments.recommenders.popularity:Popularity"\npage_size = 3\nmax_pages = 2\n',
        encoding="utf-8",
    )
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    pages, texts = (pl.read_parquet(tmp_path / "run" / f"{name}.parquet") for name in ("pages", "texts"))
    expected = [] if not tokens else [(user, f"thought {page}") for user, page in pages.select("user", "page").iter_rows()]
    assert sorted(texts.select("user", "kind").iter_rows()) == sorted(expected)

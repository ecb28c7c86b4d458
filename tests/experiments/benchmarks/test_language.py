"""The table of the language model: one command, every figure flat, what was not measured null with a reason, and nothing measured twice."""

import json

import polars as pl
import pytest

from experiments.benchmarks import language, language_parts
from experiments.cli import call
from simulator.errors import ConfigError
from simulator.llm.testing_server import MadeUpServer
from simulator.seeds import Stream


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def test_a_server_gets_the_whole_table_in_one_go_and_is_asked_nothing_twice(film_files, tmp_path):
    output = tmp_path / "table.json"
    with MadeUpServer() as server:
        line = ["benchmark", "language", "--server", server.url, "--model", "made-up", "--data", "ml-100k", "--people", "3"]
        line += ["--parts", "choices,satisfaction,texts,notes,cold-items", "--bootstrap", "20", "--output", str(output)]
        line += ["--set", f"dataset.path={film_files}", "--set", "decision.reference_pages=2", "--set", "decision.people=6"]
        line += ["--set", "decision.texts_trial=2"]
        assert call(line) == 0
        found, asked = json.loads(output.read_text()), len(server.asked)
        assert asked
        assert call([*line, "--json"]) == 0
        assert len(server.asked) == asked
    assert json.loads(output.read_text()) == found
    flat = {key for keys in language.PARTS.values() for key in keys}
    assert flat <= set(found)
    assert found["alone_auc_matched_low"] <= found["alone_auc_matched"] <= found["alone_auc_matched_high"]
    assert found["alone_auc_matched_users"] == 3
    assert found["by_dataset"]["ml-100k"]["lift"] == found["lift"]
    assert set(found["note_effects"]) >= {"control", "persuasive", "irrelevant", "discouraging"}
    assert found["planted_false_caught_low"] <= found["planted_false_caught"] <= 1
    assert found["decisions_changed_share"] is None
    assert found["not_run"]["run"] == "not measured yet"
    assert found["not_run"]["choices of ml-1m"] == "not measured yet"
    assert found["measured_with"]["texts"]["language_model"]["base_url"] == server.url
    assert any(row["figure"] == "alone auc matched" for row in language.table(found))


def test_what_is_not_there_is_named_and_the_rest_is_measured(film_files, tmp_path):
    output = tmp_path / "table.json"
    line = ["benchmark", "language", "--parts", "satisfaction", "--output", str(output), "--bootstrap", "20"]
    assert call([*line, "--data", "ml-1m"]) == 2
    found = json.loads(output.read_text())
    assert found["satisfaction_rho_outcome"] is None
    assert "ml-1m" in found["not_run"]["satisfaction of ml-1m"]
    assert call([*line, "--data", "ml-100k", "--set", f"dataset.path={film_files}"]) == 0
    assert "satisfaction of ml-1m" in json.loads(output.read_text())["not_run"]


def test_the_share_of_changed_decisions_counts_items_and_leavings_of_pages_that_were_compared():
    pages = pl.DataFrame({"user": ["a", "a", "b"], "shown": [4, 4, 9], "unlike_without_model": [1, None, 2]})
    found = language_parts._changed(pages, Stream(1))
    assert found["decisions_changed_share"] == pytest.approx(3 / 15)
    assert found["decisions_changed_share_users"] == 2
    assert language_parts._changed(pages.clear(), Stream(1))["decisions_changed_share"] is None


def test_texts_passed_are_those_of_the_run_or_of_the_trial():
    written = pl.DataFrame({"user": ["a", "a", "b"], "kind": ["reason", "insight", "reason"], "status": ["ok", "length", "ok"]})
    assert language_parts._passed(written, {}, Stream(1))["texts_passed_share"] == pytest.approx(2 / 3)
    unasked = written.with_columns(status=pl.lit("facts"))
    trial = {"figures": {"texts_trial_asked": 16, "texts_trial_passed_share": 0.25}}
    found = language_parts._passed(unasked, trial, Stream(1))
    assert found["texts_passed_share"] == 0.25
    assert 0 < found["texts_passed_share_low"] < 0.25 < found["texts_passed_share_high"] < 1


def test_wrong_parts_and_wrong_names_of_servers_are_refused():
    with pytest.raises(ConfigError, match="allowed are some of choices"):
        language.parts_named("choices,ratings")
    with pytest.raises(ConfigError, match="quotes"):
        language.server("http://127.0.0.1:1/v1", "it's")
    assert call(["benchmark", "language", "--model", "x"]) == 2

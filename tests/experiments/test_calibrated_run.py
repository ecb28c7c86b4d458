"""Whole runs with calibrated people, through the command line."""

import json

import polars as pl
import pytest

from experiments.cli import call

EXPERIMENT = """
name = "calibrated"
rounds = 2
cohort_size = 4
[dataset]
path = "{data}"
[population]
users = 12
synthetic = 2
[decision]
use = "agents.calibrated:CalibratedDecisions"
people = 3
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 3
"""


@pytest.fixture
def experiment(tmp_path, film_files, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "calibrated.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    return file


def run(file, output, *extra):
    assert call(["run", str(file), "--output", str(output), *extra]) == 0
    return json.loads((output / "summary.json").read_text())


@pytest.mark.usefixtures("no_report")
def test_without_the_language_model_one_and_two_workers_give_the_same_log(experiment, tmp_path):
    evidence_only = ("--set", "decision.language_model=false")
    one = run(experiment, tmp_path / "one", "--workers", "1", *evidence_only)
    two = run(experiment, tmp_path / "two", "--workers", "2", *evidence_only)
    assert one["sha256"] == two["sha256"]
    assert one["fallback_share"] == 0
    assert one["interactions"] > 0
    assert pl.read_parquet(tmp_path / "one" / "impressions.parquet")["chosen_probability"].n_unique() > 50
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["model"] is None


def test_with_a_language_model_the_weights_are_stored_with_the_run_and_used_again(experiment, tmp_path):
    first = run(experiment, tmp_path / "one", "--workers", "1")
    stored = json.loads((tmp_path / "one" / "decisions" / "calibration.json").read_text())
    assert stored["key"]["language_model"]["name"]
    assert "language model" in [row["name"] for row in stored["report"]["choice"]["weights"]]
    again = run(experiment, tmp_path / "two", "--workers", "1", "--set", f"decision.weights={tmp_path / 'one'}")
    assert first["sha256"] == again["sha256"]


def test_a_wrong_folder_of_weights_ends_with_one_sentence(experiment, tmp_path, capsys):
    assert call(["run", str(experiment), "--output", str(tmp_path / "run"), "--set", "decision.weights=nowhere"]) == 2
    error = capsys.readouterr().err
    assert "there is no calibration.json" in error
    assert "Traceback" not in error

"""`usersim benchmark choose-rate` on a made-up world: what was measured before stays, and what is out of range is told."""

import json

import pytest

from experiments import config as configuration
from experiments.benchmarks import choose_rates
from experiments.cli import call
from experiments.fidelity import shelf


@pytest.fixture
def experiment(film_experiment, monkeypatch):
    monkeypatch.setattr(shelf, "experiment", lambda name, folder: configuration.read(film_experiment))
    monkeypatch.setattr(choose_rates, "USERS", 10)


def test_asked_and_got_stand_beside_those_of_before(experiment, tmp_path):
    output = tmp_path / "rates.json"
    output.write_text(json.dumps({"data": {"ml-100k": {"asked": 0.3, "got": {"mine": 0.5}}}}))
    arguments = ["benchmark", "choose-rate", str(tmp_path), "--output", str(output)]
    assert call([*arguments, "--recommender", "popularity", "--recommender", "http_service"]) == 0
    own = json.loads(output.read_text())["data"]["ml-100k"]
    assert own["asked"] == 0.3
    assert own["got"]["mine"] == 0.5
    assert 0.15 < own["got"]["popularity"] < 0.45
    assert "url" in own["got"]["http_service"]


def test_a_rate_is_near_what_was_asked_within_a_tenth_of_it():
    found = {"data": {"ml-100k": {"asked": 0.3, "got": {"a": 0.329, "b": 0.331, "c": "no pages."}}}}
    assert [row["within"] for row in choose_rates.table(found)] == ["yes", "no", ""]

"""Cold people and items of a whole small run are found again, and measured apart."""

import json

import pytest

from experiments.cli import call
from experiments.studies.cold_start import cold_ids
from simulator.errors import ConfigError

FILES = """
name = "cold"
question = "What does it cost?"
base = "base.toml"
control = "warm"
[settings.recommender]
refit = "never"
[arms.warm]
[arms.cold.recommender]
use = "environments.rerankers.cold_start:ColdStart"
base = {use = "environments.recommenders.ease:EASE"}
people = 0.4
items = 0.3
[analysis]
use = "experiments.studies.cold_start:ColdStart"
cold_as_in = "cold"
[figure]
form = "lines"
"""
BASE = """
name = "base"
rounds = 2
language_model = false
[dataset]
path = "{data}"
[population]
users = "all"
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.ease:EASE"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("cold")
    (folder / "base.toml").write_text(BASE.format(data=film_files))
    (folder / "cold.toml").write_text(FILES)
    assert call(["study", str(folder / "cold.toml"), "--output", str(folder / "out"), "--workers", "1"]) == 0
    return folder / "out"


def test_cold_items_are_not_shown_by_what_does_not_know_them(folder):
    rows = json.loads((folder / "study.json").read_text())["rows"]
    exposure = {row["arm"]: row["value"] for row in rows if row["metric"] == "exposure" and row["x"] is None and not row["against"]}
    assert exposure["cold"] < exposure["warm"]
    groups = {row["group"] for row in rows}
    assert {"cold people", "other people", "cold items"} <= groups


def test_both_groups_of_people_are_there_and_paired(folder):
    from experiments.analysis.finished_run import FinishedRun

    people, items = cold_ids(FinishedRun(folder / "arms" / "cold"))
    everybody = set(FinishedRun(folder / "arms" / "cold").people["user"])
    assert people < everybody
    assert 4 <= len(people) <= 18
    assert 4 <= len(items) <= 24
    with pytest.raises(ConfigError, match=r"cold_as_in: the recommender of that arm is environments.recommenders.ease:EASE"):
        cold_ids(FinishedRun(folder / "arms" / "warm"))

"""`usersim config`: resolved settings, the JSON schema and the reference of all settings."""

from __future__ import annotations

import json
import tomllib

import pytest

from experiments import cli
from experiments import config as configuration
from experiments.component_names import PLACES, import_path, shipped
from experiments.settings_reference import reference, schema, settings
from experiments.tuning.settings import TrainingConfig
from simulator.errors import ConfigError


def test_every_setting_has_a_meaning_in_the_reference():
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    assert [row for row in rows if row.rstrip("| ").count(" | ") < 3] == []


def test_a_setting_names_its_bounds_and_default():
    rate = next(row for row in settings(TrainingConfig) if row.key == "learning_rate")
    assert (rate.kind, rate.default) == ("number > 0, <= 10", "`0.0006`")


def test_the_schema_offers_the_options_of_the_chosen_component():
    found = schema()
    rules = found["definitions"]["RecommenderSection"]["allOf"]
    ease = next(one for one in rules if "ease" in one["if"]["properties"]["use"]["enum"])
    assert ease["then"]["properties"]["l2"]["type"] == "number"
    text = json.dumps(found)
    assert all(f'"{name}"' in text for name in found["properties"])
    assert {ref.partition('"')[0] for ref in text.split("#/definitions/")[1:]} <= set(found["definitions"])


@pytest.mark.parametrize("section", list(PLACES))
def test_short_names_stand_for_components_in_every_section(section):
    for short, path in shipped(section).items():
        assert import_path(short, section) == path
        assert import_path(path.partition(":")[2], section) == path


def test_an_experiment_takes_short_names():
    checked = configuration.check({"name": "a", "recommender": {"use": "ItemKNN"}, "memory": {"use": "no-memory"}}, "a.toml")
    assert checked.recommender.use == "environments.recommenders.item_knn:ItemKNN"
    assert checked.memory.use == "agents.memory:NoMemory"
    with pytest.raises(ConfigError, match=r"a.toml: \[decision\] use = 'calibratd': .* did you mean 'calibrated'"):
        configuration.check({"name": "a", "decision": {"use": "calibratd"}}, "a.toml")


def test_short_names_work_for_anchors_and_trained_recommenders():
    document = {"name": "a", "anchor": {"use": "popularity"}, "augmentation": {"recommenders": {"mine": {"use": "bpr"}}}}
    checked = configuration.check(document, "a.toml")
    assert checked.anchor is not None
    assert checked.anchor.use == "environments.recommenders.popularity:Popularity"
    assert checked.augmentation.recommenders["mine"].use == "environments.recommenders.bpr:BPR"


def test_config_show_prints_what_can_be_run_again(capsys, tmp_path):
    assert cli.call(["config", "show", "movielens", "--set", "decision.use=random", "--set", "language_model=false"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "again.toml").write_text(text)
    assert tomllib.loads(text)["decision"]["use"] == "agents.controls:RandomDecisions"
    assert "prompt" not in tomllib.loads(text)["decision"]
    assert cli.call(["config", "show", "movielens", "--set", "decision.use=random", "--set", "decision.strength=2"]) == 2
    assert configuration.read(tmp_path / "again.toml").recommender.use == "environments.recommenders.ease:EASE"


def test_the_version_is_printed(capsys):
    assert cli.call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("usersim 0.")

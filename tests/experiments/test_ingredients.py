"""What is kept of an experiment is found again by everything it depends on."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments import config as configuration
from experiments import ingredients as module
from experiments.ingredients import difference, ingredients
from simulator.dataset import MUSIC, Catalog

HERE = "experiments.ingredients"


def config(**changes):
    document = {
        "name": "kept",
        "language_model": False,
        "dataset": {"use": "environments.datasets.tables:InteractionTables", "interactions": "log.csv"},
        "decision": {"use": "agents.controls:EvidenceDecisions"},
        "recommender": {"use": "environments.recommenders.popularity:Popularity"},
    }
    return configuration.check({**document, **changes}, "here")


def test_equal_experiments_have_equal_ingredients_whatever_they_are_called(film_world):
    assert ingredients(config(), film_world, HERE) == ingredients(config(name="other"), film_world, HERE)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 9},
        {"decision": {"use": "agents.controls:PopularityDecisions"}},
        {"decision": {"use": "agents.controls:EvidenceDecisions", "choose_rate": 0.5}},
        {"recommender": {"use": "environments.recommenders.ease:EASE"}},
        {"recommender": {"use": "environments.recommenders.popularity:Popularity", "page_size": 7}},
        {"memory": {"use": "agents.memory:NoMemory"}},
        {"population": {"users": 3}},
    ],
    ids=["seed", "decision", "option of the decision", "recommender", "page", "memory", "people"],
)
def test_every_setting_is_an_ingredient(film_world, changes):
    before, now = (ingredients(one, film_world, HERE) for one in (config(), config(**changes)))
    assert before != now
    assert difference(before, now) is not None


def test_the_data_and_how_it_was_split_are_ingredients(film_world):
    before = ingredients(config(), film_world, HERE)
    for world in (
        film_world.with_interactions(film_world.interactions.head(10)),
        replace(film_world, rating_scale=(0.0, 5.0)),
        replace(film_world, kept_share=0.5),
        replace(film_world, split_seed=4),
        replace(film_world, catalog=Catalog(film_world.catalog.items.with_columns(title=film_world.catalog.items["item_id"]), MUSIC)),
    ):
        assert ingredients(config(), world, HERE) != before


def test_the_code_and_the_libraries_are_ingredients(film_world, monkeypatch):
    before = ingredients(config(), film_world, HERE)
    assert ingredients(config(), film_world, "experiments.told")["code"] != before["code"]
    monkeypatch.setattr(module, "arithmetic", lambda: {"numpy": "99"})
    assert "arithmetic.numpy" in difference(before, ingredients(config(), film_world, HERE))


def test_a_plug_in_and_a_file_that_a_setting_names_count_by_their_content(film_world, tmp_path):
    plug_in = tmp_path / "own.py"
    plug_in.write_text("from environments.recommenders.popularity import Popularity as Mine\n")
    one = config(recommender={"use": f"{plug_in}:Mine"})
    before = ingredients(one, film_world, HERE)
    plug_in.write_text(plug_in.read_text() + "\n")
    module.code_sha256.cache_clear()
    assert ingredients(one, film_world, HERE) != before
    shown = tmp_path / "shown.parquet"
    shown.write_bytes(b"one")
    calibrated = config(decision={"use": "agents.calibrated:CalibratedDecisions", "language_model": False, "exposures": str(shown)})
    before = ingredients(calibrated, film_world, HERE)
    shown.write_bytes(b"other")
    assert "files" in difference(before, ingredients(calibrated, film_world, HERE))


def test_weights_of_another_run_count_by_their_content(film_world, tmp_path):
    folder = tmp_path / "decisions"
    folder.mkdir()
    (folder / "calibration.json").write_text("{}")
    one = config(decision={"use": "agents.calibrated:CalibratedDecisions", "language_model": False, "weights": str(tmp_path)})
    before = ingredients(one, film_world, HERE)
    (folder / "calibration.json").write_text('{"a": 1}')
    assert ingredients(one, film_world, HERE) != before


def test_the_model_file_is_an_ingredient(film_world, tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    files: list[Path] = []
    for name in ("a", "b"):
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(b"GGUF" + name.encode())
        files.append(file)
    section = {"use": "simulator.llm.llama_cpp:LlamaCpp", "path": str(files[0])}
    before = module._model(config(language_model=section))
    files[0].write_bytes(b"GGUFother")
    assert module._model(config(language_model=section)) != before
    assert module._model(config(language_model={**section, "path": str(tmp_path / "none.gguf")})) is None

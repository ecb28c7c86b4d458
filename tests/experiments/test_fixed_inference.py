"""A run goes on with the engine and format that it was begun with, and so do runs that are compared with it."""

import json
from pathlib import Path

import pytest

from experiments import build
from experiments import config as configuration


@pytest.fixture
def config():
    return configuration.read(Path("movielens"), ["population.users=5"])


def begun(folder: Path, config, settings: object) -> Path:
    """A run's folder with its configuration and a manifest."""
    folder.mkdir()
    (folder / "config.toml").write_bytes(configuration.dump(config, build.resolved(config)))
    (folder / "manifest.json").write_text(json.dumps({"data": {}, "model": settings}))
    return folder


def test_engine_and_formats_come_from_the_manifest(config, tmp_path):
    settings = {"settings": {"engine": "torch", "format": "int8", "text_format": "q8_0", "sequences": 16}}
    run = begun(tmp_path / "one", config, settings)
    assert build.fixed_inference(config, [run]) == {"engine": "torch", "format": "int8", "text_format": "q8_0"}
    assert build.fixed_inference(config, [tmp_path / "not there", run])["format"] == "int8"


def test_a_run_of_an_older_version_decides_too(config, tmp_path):
    run = begun(tmp_path / "one", config, {"settings": {"engine": "torch", "format": "int8"}})
    with (run / "config.toml").open("a") as file:
        file.write("\n[tuning]\nnegatives = 1.5\n")
    assert build.fixed_inference(config, [run])["format"] == "int8"


def test_the_first_run_that_was_begun_decides(config, tmp_path):
    first = begun(tmp_path / "one", config, {"settings": {"engine": "llama.cpp", "format": "bf16"}})
    second = begun(tmp_path / "two", config, {"settings": {"engine": "torch", "format": "int8"}})
    assert build.fixed_inference(config, [first, second])["format"] == "bf16"


def test_a_run_of_another_model_decides_nothing(config, tmp_path):
    other = configuration.read(Path("movielens"), ["population.users=5", "language_model.path=other.gguf"])
    run = begun(tmp_path / "one", other, {"settings": {"engine": "torch", "format": "int8"}})
    assert build.fixed_inference(config, [run]) == {}


@pytest.mark.parametrize("settings", [None, {}, [], "text", {"settings": []}])
def test_a_manifest_without_a_model_decides_nothing(config, tmp_path, settings):
    assert build.fixed_inference(config, [begun(tmp_path / "one", config, settings)]) == {}


def test_what_is_fixed_wins_over_auto(config, monkeypatch):
    asked = []
    monkeypatch.setattr(build, "build", lambda use, options, **more: asked.append(options) or object())
    build.language_model(config, fixed={"engine": "torch", "format": "int8", "unknown": "x"}, threads=1)
    assert (asked[0]["engine"], asked[0]["format"], asked[0]["threads"]) == ("torch", "int8", 1)
    assert "unknown" not in asked[0]

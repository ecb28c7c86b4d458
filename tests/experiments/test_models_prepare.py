"""`usersim models prepare`: the choice of a format, told."""

import json

import pytest

from experiments.cli import call
from simulator.llm import engines, formats
from simulator.llm.engines import Measurement
from simulator.llm.formats import Prepared

MEASURED = {
    "as-is": Measurement(400.0, 0.0),
    "bf16": Measurement(1300.0, 2e-3),
    "f16": Measurement(900.0, 1e-3),
    "q4_0": Measurement(1600.0, 0.3),
    "q8_0": Measurement(0.0, float("nan"), 0.0, "SIGILL"),
}


def usable(path, name, threads, gpu_layers):
    digest = formats.fingerprint(path)
    return Prepared(path if name == "as-is" else formats.target(digest, name), name, digest)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "measure", lambda path, names, scratch, **options: dict(MEASURED))
    monkeypatch.setattr(engines, "why_not_torch", lambda path: "it is made up")
    monkeypatch.setattr(engines, "_usable", usable)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and so on")
    return file


def prepared(capsys, *arguments) -> dict:
    assert call(["models", "prepare", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_winner_is_kept_and_the_others_are_explained(model, capsys):
    found = prepared(capsys, model)
    assert found["format"] == "bf16"
    assert found["file"].endswith("-bf16.gguf")
    said = {row["format"]: row["taken"] for row in found["measured"]}
    assert said["bf16"].startswith("taken")
    assert said["q4_0"].startswith("refused: further than 0.01")
    assert said["f16"] == said["as-is"] == "not taken: slower"
    assert said["q8_0"] == "left out: SIGILL"


def test_a_looser_bound_takes_the_lossy_format(model, capsys):
    assert prepared(capsys, model, "--max-divergence", "0.5")["format"] == "q4_0"


def test_a_named_format_is_converted_to_without_measuring(model, capsys, monkeypatch):
    monkeypatch.setattr(engines, "measure", None)
    found = prepared(capsys, model, "--format", "f16")
    assert (found["format"], found["measured"]) == ("f16", [])
    assert prepared(capsys, model, "--format", "as-is")["file"] == str(model)


def test_the_choice_is_told_on_stderr_when_it_is_made_and_not_again(model, capsys):
    from experiments.console import set_volume

    set_volume("normal")
    options = {"threads": 1, "gpu_layers": 0, "max_divergence": 0.01}
    engines.prepare(model, "auto", **options)
    told = capsys.readouterr().err
    assert "measuring how this machine computes it" in told
    assert "computed with llama.cpp in bf16" in told
    engines.prepare(model, "auto", **options)
    assert capsys.readouterr().err == ""


def test_a_table_names_every_format(model, capsys):
    assert call(["models", "prepare", str(model)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in MEASURED)


@pytest.mark.parametrize("arguments", [["nowhere.gguf"], ["--format", "q3"]])
def test_wrong_arguments_are_one_sentence(arguments, capsys):
    assert call(["models", "prepare", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err

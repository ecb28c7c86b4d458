"""A format that kills whoever computes with it kills a child, is named with the remedy, and is not tried again."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from experiments.cli import call
from simulator.errors import ModelError
from simulator.llm import engines, formats, gguf_index, trials
from simulator.llm.engines import Choice, Measurement, chosen
from simulator.llm.trials import Job, Trial, attempt

CHILD = """
import json, os, signal, sys, time
job = json.loads(sys.stdin.read())
with open({record!r}, "a") as record:
    record.write(json.dumps([job["engine"], job["formats"], job["repacks"]]) + "\\n")
for name in job["formats"]:
    print(json.dumps(dict(format=name, step="begin")), flush=True)
    fate = {fates!r}.get(name)
    if fate == "plain" and job["repacks"] or fate == "dies":
        os.kill(os.getpid(), signal.SIGILL)
    if fate == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "hangs":
        time.sleep(60)
    if fate == "leaves":
        sys.exit("no such library")
    if fate == "refuses":
        print(json.dumps(dict(format=name, step="failed", reason="the file is damaged.")), flush=True)
        continue
    logits = [[0.0, {speeds!r}.get(name, (0, 0.0))[1]]]
    speed = {speeds!r}.get(name, (100.0, 0.0))[0]
    print(json.dumps(dict(format=name, step="done", speed=speed, writing=speed, logits=logits)), flush=True)
    if job["engine"] == "torch":
        open(os.path.join(job["folder"], name + ".safetensors"), "wb").close()
"""
"""A child that dies where it is told to, and answers for the other formats."""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Has children of trials behave as told; returns what they were asked."""
    record = tmp_path / "asked.jsonl"

    def behave(fates=None, speeds=None) -> list[str]:
        script = tmp_path / "child.py"
        script.write_text(CHILD.format(record=str(record), fates=fates or {}, speeds=speeds or {}), encoding="utf-8")
        command = [sys.executable, "-S", str(script)]
        monkeypatch.setattr(trials, "command", lambda: command)
        return command

    behave.asked = lambda: [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    return behave


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "why_not_torch", lambda path: None)
    monkeypatch.setattr(formats, "converted", lambda path, digest, name, threads: path)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and so on")
    return file


def job(*names: str, folder: Path = Path("/nowhere"), engine: str = "llama.cpp") -> Job:
    return Job(engine, names, "model.gguf", "abc", str(folder))


def options(**changes):
    return {"threads": 1, "gpu_layers": 0, "max_divergence": 0.01, **changes}


def test_the_rest_is_tried_after_a_child_was_killed(child):
    child({"q8_0": "dies", "bf16": "crashes", "as-is": "refuses"}, {"f16": (300.0, 0.0)})
    found = {trial.format: trial for trial in attempt(job("bf16", "q8_0", "f16", "as-is"))}
    assert (found["bf16"].death, found["q8_0"].death, found["f16"].death) == ("SIGSEGV", "SIGILL", None)
    assert found["as-is"].reason == "the file is damaged."
    assert found["f16"].works
    assert found["f16"].speed == 300
    assert [asked[1] for asked in child.asked()] == [["bf16", "q8_0", "f16", "as-is"], ["q8_0", "f16", "as-is"], ["f16", "as-is"]]


def test_a_child_that_hangs_is_ended(child):
    child({"q8_0": "hangs"})
    found = {trial.format: trial for trial in attempt(job("q8_0", "f16"), patience=1.5)}
    assert found["q8_0"].death == "no answer for 1.5 s"
    assert found["f16"].works


def test_a_child_that_cannot_begin_is_not_started_for_every_format(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(f"open({str(tmp_path / 'started')!r}, 'a').write('x')\nimport nothing_of_this_name\n")
    found = list(attempt(job("float32", "int8", engine="torch"), [sys.executable, str(script)]))
    assert [trial.format for trial in found] == ["float32", "int8"]
    assert all(trial.death is None and "nothing_of_this_name" in str(trial.reason) for trial in found)
    assert (tmp_path / "started").read_text() == "x"


def test_divergence_is_that_of_the_labels():
    near = Trial("a", logits=((0.0, 0.0), (1.0, 1.0, 1.0)))
    assert near.divergence(near) == 0
    assert Trial("b", logits=((0.0, 1.0), (1.0, 1.0, 1.0))).divergence(near) == pytest.approx(0.5 * 0.120, abs=1e-3)


def test_formats_that_die_are_left_out_and_named_with_the_remedy(child, model, caplog):
    child({"q8_0": "dies", "q4_0": "dies", "as-is": "dies"}, {"f16": (300.0, 0.0), "int8": (900.0, 0.0)})
    with caplog.at_level(logging.INFO, "simulator"):
        scores, texts = engines.prepare(model, "auto", **options())
    assert (scores.format, scores.engine, texts) == ("int8", "torch", scores)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "q8_0 (SIGILL)" in warnings[0]
    assert "as-is (SIGILL)" in warnings[0]
    assert "CMAKE_ARGS=" in warnings[0]
    assert "-fno-tree-dse" in warnings[0]
    before = child.asked()
    assert engines.prepare(model, "auto", **options()) == (scores, texts)
    assert child.asked() == before


def test_what_dies_with_weights_in_an_order_of_its_own_is_used_in_the_plain_one(child, model):
    child({"q8_0": "plain"}, {"q8_0": (5000.0, 0.0)})
    scores, _ = engines.prepare(model, "q8_0", **options())
    assert not scores.repacks
    assert [asked[2] for asked in child.asked() if asked[1] == ["q8_0"]] == [True, False]
    assert not engines.prepare(model, "q8_0", **options())[0].repacks


def test_a_named_format_that_dies_is_one_sentence_and_is_not_tried_again(child, model):
    child({"q8_0": "dies"})
    for _ in range(2):
        with pytest.raises(ModelError, match=r"q8_0 on this machine \(SIGILL\); use format = \"auto\", or build llama-cpp-python again"):
            engines.prepare(model, "q8_0", **options())
    assert len(child.asked()) == 2  # once as it is, once in the plain order


def test_where_every_format_dies_the_command_ends_with_status_2_and_the_remedy(child, model, capsys):
    child(dict.fromkeys(engines.FORMATS, "dies"))
    assert call(["models", "prepare", str(model)]) == 2
    said = capsys.readouterr().err
    assert "SIGILL" in said
    assert "--no-binary llama-cpp-python" in " ".join(said.split())
    assert "Traceback" not in said


def test_another_build_of_the_library_is_tried_anew(child, model, monkeypatch):
    child({"q8_0": "dies"})
    with pytest.raises(ModelError):
        engines.prepare(model, "q8_0", **options())
    child()
    monkeypatch.setattr(engines, "_libraries", lambda: "another build")
    assert engines.prepare(model, "q8_0", **options())[0].format == "q8_0"


def test_the_choice_depends_on_everything_that_it_was_made_from(child, model, monkeypatch, tmp_path):
    child({}, {"bf16": (500.0, 0.0)})
    ways = [
        options(),
        options(max_divergence=0.5),
        options(engine="llama.cpp"),
        options(gpu_layers=-1),
    ]
    for number, way in enumerate(ways, start=1):
        engines.choose(model, **way)
        engines.choose(model, **way)
        measured = json.loads((formats.folder() / "choices.json").read_text())
        assert len(measured) == number
    monkeypatch.setattr(formats, "processor", lambda: "another processor")
    engines.choose(model, **ways[0])
    monkeypatch.setattr(engines, "_libraries", lambda: "another build")
    engines.choose(model, **ways[0])
    model.write_bytes(b"GGUF of another model")
    engines.choose(model, **ways[0])
    assert len(json.loads((formats.folder() / "choices.json").read_text())) == len(ways) + 3


def test_the_fastest_that_is_close_enough_computes_scores():
    results = {
        "as-is": Measurement(400, 0.002, 100),
        "bf16": Measurement(1000, 2e-4, 120),
        "int8": Measurement(1600, 4e-3, 130),
        "q4_0": Measurement(1900, 0.3, 150),
        "q8_0": Measurement(9000, 1e-3, 900, "SIGILL"),
    }
    assert chosen(results, 0.01) == ("int8", "int8")
    assert chosen(results, 1e-3) == ("bf16", "bf16")
    assert chosen(results, 0.5) == ("q4_0", "q4_0")
    assert chosen(results, 1e-6) == ("as-is", "as-is")


def test_equally_fast_ones_go_to_a_fixed_order():
    results = {"int8": Measurement(1000, 1e-3), "bf16": Measurement(930, 1e-4), "f16": Measurement(940, 1e-4)}
    assert chosen(results, 0.01)[0] == "bf16"
    assert chosen({**results, "bf16": Measurement(890, 1e-4)}, 0.01)[0] == "f16"


def test_texts_are_written_by_another_only_if_it_is_much_faster():
    results = {"int8": Measurement(1000, 1e-3, 200), "q8_0": Measurement(300, 1e-3, 390)}
    assert chosen(results, 0.01) == ("int8", "int8")
    assert chosen({**results, "q8_0": Measurement(300, 1e-3, 410)}, 0.01) == ("int8", "q8_0")


def test_where_the_file_cannot_be_computed_as_it_is_something_close_is_taken_or_the_closest_there_is():
    dead = Measurement(0, float("nan"), 0, "SIGILL")
    assert chosen({"as-is": dead, "f16": Measurement(300, 1e-4)}, 0.01)[0] == "f16"
    assert chosen({"as-is": dead, "q4_0": Measurement(300, 0.3)}, 0.01)[0] == "q4_0"


def test_a_file_that_cannot_be_read_says_so_and_blames_no_library(child, model):
    child(dict.fromkeys(engines.FORMATS, "refuses"))
    with pytest.raises(ModelError) as caught:
        engines.prepare(model, "auto", **options())
    assert str(caught.value) == "the file is damaged."


@pytest.mark.parametrize("damage", ["[]", '{"%s": 5}', '{"%s": {"format": "q9", "texts": "q9", "seconds": 1, "measured": {}}}', "{ half a"])
def test_damaged_notes_are_measured_anew(child, model, damage):
    child()
    engines.choose(model, **options())
    notes = formats.folder() / "choices.json"
    (key,) = json.loads(notes.read_text())
    notes.write_text(damage.replace("%s", key))
    assert isinstance(engines.choose(model, **options()), Choice)
    assert key in json.loads(notes.read_text())


def test_engine_and_format_must_go_together(model):
    with pytest.raises(ModelError, match=r'engine = "torch"; allowed with it are: auto, float32, bfloat16, int8'):
        engines.prepare(model, "q8_0", **options(engine="torch"))


def test_models_that_torch_does_not_know_go_to_llama_cpp(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_index, "read", lambda path: gguf_index.Index({"general.architecture": "mamba"}, {}))
    assert set(engines.candidates(tmp_path, 0)) == {*formats.CANDIDATES}
    with pytest.raises(ModelError, match="mamba"):
        engines._usable(_file(tmp_path), "int8", 1, 0)


def test_a_gpu_belongs_to_llama_cpp(model):
    assert set(engines.candidates(model, -1)) == {*formats.CANDIDATES}
    assert set(engines.candidates(model, 0)) == set(engines.FORMATS)


def _file(folder: Path) -> Path:
    file = folder / "other.gguf"
    file.write_bytes(b"GGUF")
    return file


def test_a_real_child_that_is_killed_by_the_kernel_is_reported(tmp_path):
    script = tmp_path / "child.py"
    script.write_text("import ctypes, json\nprint(json.dumps(dict(format='q8_0', step='begin')), flush=True)\nctypes.string_at(1)\n")
    (trial,) = attempt(job("q8_0"), [sys.executable, str(script)])
    assert trial.death in ("SIGSEGV", "SIGBUS")
    assert os.getpid()  # and this process is still there

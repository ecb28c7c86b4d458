"""Choosing and converting the format of the weights."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from simulator.errors import ModelError
from simulator.llm import formats
from simulator.llm.formats import Measurement, fastest, prepare


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    return tmp_path / "formats"


def options(**changes):
    return {"threads": 1, "gpu_layers": 0, "max_divergence": 0.01, **changes}


def test_the_fastest_format_that_is_close_enough_wins():
    results = {"as-is": Measurement(400, 0.0), "bf16": Measurement(1300, 2e-3), "q4_0": Measurement(1600, 0.3)}
    assert fastest(results, 0.01) == "bf16"
    assert fastest(results, 0.5) == "q4_0"
    assert fastest(results, 1e-6) == "as-is"


def test_the_choice_is_measured_once_and_told(cache, tmp_path, monkeypatch, caplog):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and so on")
    calls = []

    def measured(path, *, threads, gpu_layers):
        calls.append(path)
        return {"as-is": Measurement(400, 0.0), "q8_0": Measurement(300, 1e-3)}

    monkeypatch.setattr(formats, "measurements", measured)
    with caplog.at_level(logging.INFO, "simulator"):
        assert prepare(file, "auto", **options()).format == "as-is"
        assert prepare(file, "auto", **options(threads=2)).path == file
    assert calls == [file]
    told = [record.message for record in caplog.records if "fastest" in record.message]
    assert len(told) == 1
    assert told[0].startswith("model.gguf: format as-is is the fastest within a divergence of 0.01: as-is 400 tokens/s")
    prepare(file, "auto", **options(max_divergence=0.5))
    assert len(calls) == 2


def test_a_changed_file_has_a_new_fingerprint(cache, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = formats.fingerprint(file)
    assert formats.fingerprint(file) == first
    file.write_bytes(b"other")
    assert formats.fingerprint(file) != first
    assert len(json.loads((cache / "fingerprints.json").read_text())) == 2


def test_a_damaged_note_is_written_anew(cache, tmp_path):
    cache.mkdir()
    (cache / "fingerprints.json").write_text("{ half a")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    assert len(formats.fingerprint(file)) == 64


def test_a_huge_file_is_left_alone(cache, tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" * 100)
    monkeypatch.setattr(formats, "MOST_BYTES", 100)
    assert prepare(file, "auto", **options()).format == "as-is"


def _prepare_in_process(folder: str, file: str, results) -> None:
    os.environ["USERSIM_CACHE"] = folder
    results.put(str(prepare(Path(file), "q8_0", **options()).path))


@pytest.mark.model
def test_two_processes_convert_at_the_same_time(cache, tmp_path, model_file):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_prepare_in_process, args=(str(tmp_path), str(model_file), results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    paths = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(paths) == 1
    assert Path(paths.pop()).stat().st_size > 10**8
    assert not list(cache.glob("*.part"))


@pytest.mark.model
def test_measuring_keeps_one_file_and_says_how_close_each_is(cache, model_file):
    chosen = prepare(model_file, "auto", **options(threads=2))
    noted = next(iter(json.loads((cache / "choices.json").read_text()).values()))
    assert noted["format"] == chosen.format
    assert noted["measured"]["as-is"]["divergence"] == 0
    assert 0 < noted["measured"]["bf16"]["divergence"] < 0.01 < noted["measured"]["q4_0"]["divergence"]
    assert len(list(cache.glob("*.gguf"))) == (chosen.format != "as-is")


@pytest.mark.model
def test_a_damaged_file_cannot_be_converted(cache, tmp_path, model_file):
    file = tmp_path / "cut.gguf"
    file.write_bytes(model_file.read_bytes()[:20_000_000])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        prepare(file, "bf16", **options())
    assert not list(cache.glob("*.gguf"))
    assert not list(cache.glob("*.part"))

"""Converting the format of the weights."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from simulator.errors import ModelError
from simulator.llm import formats


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    return tmp_path / "formats"


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


def _prepare_in_process(folder: str, file: str, results) -> None:
    os.environ["USERSIM_CACHE"] = folder
    results.put(str(formats.converted(Path(file), formats.fingerprint(Path(file)), "q8_0", 1)))


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
def test_a_damaged_file_cannot_be_converted(cache, tmp_path, model_file):
    file = tmp_path / "cut.gguf"
    file.write_bytes(model_file.read_bytes()[:20_000_000])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        formats.converted(file, formats.fingerprint(file), "bf16", 1)
    assert not list(cache.glob("*.gguf"))
    assert not list(cache.glob("*.part"))

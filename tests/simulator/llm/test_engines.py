"""The choice of an engine with the real model: measured once, close to the file, left as one prepared file, and ready to go on with."""

import json
import time
from pathlib import Path

import pytest

from simulator.errors import ModelError
from simulator.llm import engines, formats
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig

OPTIONS = {"threads": 2, "gpu_layers": 0, "max_divergence": 0.01}


def test_a_huge_file_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(engines, "_usable", lambda path, name, threads, gpu_layers: name)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" * 100)
    monkeypatch.setattr(formats, "MOST_BYTES", 100)
    assert engines.prepare(file, "auto", **OPTIONS) == ("as-is", "as-is")


@pytest.mark.model
def test_measuring_keeps_what_is_taken_and_says_how_close_each_is(tmp_path, monkeypatch, model_file):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    scores, texts = engines.prepare(model_file, "auto", **OPTIONS)
    noted = next(iter(json.loads((tmp_path / "formats" / "choices.json").read_text()).values()))
    assert (noted["format"], noted["texts"]) == (scores.format, texts.format)
    measured = noted["measured"]
    assert set(measured) == set(engines.FORMATS)
    assert measured["float32"]["divergence"] == 0
    assert all(0 < measured[name]["divergence"] < 0.01 for name in ("bf16", "f16", "bfloat16", "int8", "as-is"))
    assert measured["q4_0"]["divergence"] > 0.01
    left = [file for file in (tmp_path / "formats").iterdir() if file.suffix in (".gguf", ".safetensors")]
    assert {file.resolve() for file in left} == {one.path.resolve() for one in (scores, texts) if one.format != "as-is"}
    assert not list((tmp_path / "formats").glob("trial-*"))
    started = time.perf_counter()
    assert engines.prepare(model_file, "auto", **OPTIONS) == (scores, texts)
    assert time.perf_counter() - started < noted["seconds"]


@pytest.mark.model
def test_damaged_prepared_weights_are_one_sentence(tmp_path, monkeypatch, model_file):
    from simulator.llm.torch_engine import open_file

    damaged = tmp_path / "weights.safetensors"
    for content in (b"", b"\x10\0\0\0\0\0\0\0{}", b"garbage" * 100):
        damaged.write_bytes(content)
        with pytest.raises(ModelError, match=r"weights\.safetensors.*made again"):
            open_file(damaged)


@pytest.mark.model
def test_a_file_that_was_removed_is_made_again(model_file):
    first = LlamaCpp(LlamaCppConfig(format="int8", threads=1))
    first.close()
    prepared, _ = engines.prepare(model_file, "int8", **OPTIONS)
    content = prepared.path.read_bytes()
    Path(prepared.path).unlink()
    again, _ = engines.prepare(model_file, "int8", **OPTIONS)
    assert again == prepared
    assert again.path.read_bytes() == content


@pytest.mark.model
def test_threads_and_memory_change_no_bit_of_a_text_of_torch(model_file):
    from simulator.records import GenerationRequest, Message
    from simulator.seeds import Stream

    requests = [GenerationRequest((Message("user", f"Tell me about film {k}."),), 10 + k, Stream(k)) for k in range(5)]
    texts = []
    for options in ({"threads": 1}, {"threads": 2}, {"threads": 1, "kept_megabytes": 0}):
        model = LlamaCpp(LlamaCppConfig(format="int8", sequences=3, **options))
        texts.append([completion.text for completion in model.generate(requests)])
        model.close()
    assert texts[0] == texts[1] == texts[2]

import hashlib
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from simulator.downloads import Source
from simulator.errors import DownloadError, ModelError
from simulator.llm import models


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A GGUF file with a header like that of a real model, and two small tensors."""
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(64)
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "c"])
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.ones((3, 8), dtype=np.float16))
    writer.add_tensor("output_norm.weight", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_description_is_read_from_the_header(tiny):
    found = models.describe(tiny)
    assert found["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    expected = {
        "name": "Tiny",
        "known": None,
        "architecture": "llama",
        "parameters": 32,
        "quantisation": "F16",
        "context_length": 64,
        "layers": 2,
        "embedding_length": 8,
        "vocabulary": 3,
        "tokenizer": "gpt2",
        "chat_template": True,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("keep", [4, 50, -20])
def test_a_file_that_was_cut_off_is_called_damaged(tiny, keep):
    tiny.write_bytes(tiny.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"tiny\.gguf' is a damaged GGUF file .*cut off") as caught:
        models.describe(tiny)
    assert "\n" not in str(caught.value)


def test_another_kind_of_file_or_none_is_refused(tmp_path):
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        models.resolve(other)
    with pytest.raises(ModelError, match=r"no model file 'nowhere\.gguf'.*smollm2-135m-instruct"):
        models.resolve("nowhere.gguf")


def test_a_known_name_stands_for_a_whole_file_in_the_cache(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="usersim models get smollm2-135m-instruct"):
        models.resolve()
    content = tiny.read_bytes()
    small = replace(models.known()[models.DEFAULT], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(models, "known", lambda: {small.name: small})
    small.path.parent.mkdir()
    small.path.write_bytes(content[:-1])
    assert not models.is_present(models.DEFAULT)
    with pytest.raises(ModelError, match=f"has {len(content) - 1:,} bytes and not {len(content):,}"):
        models.resolve()
    small.path.write_bytes(content)
    assert models.is_present(models.DEFAULT)
    assert models.resolve() == models.resolve(models.DEFAULT) == small.path
    assert models.describe()["known"] == models.DEFAULT


def test_both_sources_of_the_default_model_must_give_the_very_same_file():
    official, wheel = models.known()[models.DEFAULT].sources
    assert [source.kind for source in (official, wheel)] == ["official", "wheel"]
    assert official.files[0].sha256 == wheel.files[0].sha256 == models.known()[models.DEFAULT].sha256


def test_an_unknown_name_and_an_address_that_cannot_be_reached_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    real = models.known()[models.DEFAULT]
    nowhere = Source("official", "http://127.0.0.1:9/model.gguf", real.sources[0].files)
    monkeypatch.setattr(models, "known", lambda: {real.name: replace(real, sources=(nowhere,))})
    with pytest.raises(DownloadError, match=r"could not be fetched: http://127\.0\.0\.1:9/model\.gguf could not be read"):
        models.get()
    with pytest.raises(ModelError, match="unknown model 'smollm2'"):
        models.get("smollm2")

"""Headers of GGUF files, and weights that are prepared: nothing but rounding changes what a model computes."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.errors import ModelError
from simulator.llm import gguf_index, packed_weights
from simulator.llm.gguf_index import Index, TensorPlace
from simulator.llm.packed_weights import Architecture, rounded, smoothing

gguf = pytest.importorskip("gguf")

SHAPE = Architecture(1, 64, 4, 2, 32, 96, 40, 128, 1e-5, 10_000.0)
HEADER = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.key_length": 32,
    "llama.feed_forward_length": 96,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10_000.0,
    "llama.context_length": 128,
}


def _index(**changes) -> Index:
    values = {**HEADER, **{name.replace("__", "."): value for name, value in changes.items()}}
    return Index(values, {"token_embd.weight": TensorPlace((40, 64), 0, 0)})


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([f"word {k}" for k in range(500)])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("some.truth", True)
    rng = np.random.default_rng(1)
    writer.add_tensor("whole", rng.normal(size=(3, 64)).astype(np.float32))
    writer.add_tensor("half", rng.normal(size=(5, 32)).astype(np.float16))
    packed = gguf.quants.quantize(rng.normal(size=(4, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("bytes", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_header_says_what_the_library_reads(file):
    ours, theirs = gguf_index.read(file), gguf.GGUFReader(file)
    assert ours.values["llama.block_count"] == 1
    assert ours.values["some.numbers"] == [1, 2, 3]
    assert ours.values["some.truth"] is True
    assert ours.values["tokenizer.ggml.tokens"] is None  # the vocabulary is passed over
    for tensor in theirs.tensors:
        place = ours.tensors[tensor.name]
        assert (list(place.shape), place.offset) == ([int(n) for n in reversed(tensor.shape)], tensor.data_offset)
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(gguf_index.tensor(file, place), np.asarray(wanted, np.float32))


def test_any_damage_of_a_header_is_one_sentence(file, tmp_path):
    content, damaged = file.read_bytes(), tmp_path / "damaged.gguf"
    rng = random.Random(4)
    refused = 0
    for length in [0, 3, 4, 7, 20, 60, *rng.sample(range(24, 9_000), 40)]:
        damaged.write_bytes(content[:length])
        try:
            gguf_index.read(damaged)
        except ModelError as error:
            refused += str(damaged) in str(error)
    for _ in range(120):
        changed = bytearray(content[:9_000])
        for place in rng.sample(range(120), 3):
            changed[place] = rng.randrange(256)
        damaged.write_bytes(bytes(changed))
        try:
            gguf_index.read(damaged)
        except ModelError as error:
            refused += str(damaged) in str(error)
    assert refused > 60


def test_a_tensor_beyond_the_end_of_the_file_is_one_sentence(file):
    with pytest.raises(ModelError, match="cut off"):
        gguf_index.tensor(file, TensorPlace((4000, 4000), 0, 64))
    with pytest.raises(ModelError, match="not known"):
        gguf_index.tensor(file, TensorPlace((4, 32), 999, 64))


def test_known_models_are_known():
    assert packed_weights.unknown(_index()) is None
    assert packed_weights.architecture(_index()) == SHAPE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general__architecture": "mamba"}, "mamba"),
        ({"llama__rope__scaling__type": "yarn"}, "yarn"),
        ({"llama__rope__dimension_count": 16}, "sizes"),
        ({"llama__feed_forward_length": 100}, "sizes"),
        ({"llama__attention__head_count_kv": 3}, "sizes"),
    ],
)
def test_other_models_are_refused_with_the_reason(changes, words):
    assert words in str(packed_weights.unknown(_index(**changes)))


def test_a_model_with_biases_is_refused():
    index = _index()
    index.tensors["blk.0.attn_q.bias"] = TensorPlace((64,), 0, 0)
    assert "attn_q.bias" in str(packed_weights.unknown(index))


def test_a_header_without_a_size_is_one_sentence():
    values = {name: value for name, value in HEADER.items() if name != "llama.block_count"}
    with pytest.raises(ModelError, match="block_count"):
        packed_weights.architecture(Index(values, _index().tensors))


def test_smoothing_moves_size_from_activations_to_weights():
    activations, weights = np.array([8.0, 1.0, 0.1]), np.array([[1.0, 1.0, 1.0], [0.5, 0.2, 0.9]])
    factors = smoothing(activations, weights)
    assert np.all(np.diff(activations / factors) < 0)
    assert (activations / factors).max() / (activations / factors).min() < activations.max() / activations.min()
    assert np.allclose(4 * np.log2(factors), np.rint(4 * np.log2(factors)), atol=1e-5)


def test_last_bits_of_activations_change_no_weight():
    rng = np.random.default_rng(3)
    weights = {
        "embeddings": rng.normal(size=(40, 64)).astype(np.float16),
        "norm": np.ones(64, np.float32),
        "0.qkv": rng.normal(size=(256, 64)).astype(np.float32),
        "0.out": rng.normal(size=(64, 128)).astype(np.float32),
        "0.up": rng.normal(size=(192, 64)).astype(np.float32),
        "0.down": rng.normal(size=(64, 96)).astype(np.float32),
        "0.norm": np.ones(64, np.float32),
        "0.inner_norm": np.ones(64, np.float32),
    }
    sizes = {"qkv": 64, "out": 128, "up": 64, "down": 96}
    maxima = {f"0.{part}": rng.uniform(0.1, 9, size).astype(np.float32) for part, size in sizes.items()}
    shape = replace(SHAPE, kv_heads=2)
    one = dict(rounded(weights, shape, maxima))
    two = dict(rounded(weights, shape, {name: values * np.float32(1 + 1e-7) for name, values in maxima.items()}))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["0.qkv"].dtype == np.int8
    assert np.abs(one["0.qkv"]).max() == 127
    # What is put back together is the map that it was, but for the factors of its inputs.
    whole = one["0.up"].astype(np.float32) * one["0.up_scales"][:, None] * one["0.inner_norm"]
    step = one["0.up_scales"][:96, None] * one["0.inner_norm"]
    assert np.all(np.abs(whole[:96] - weights["0.up"][:96]) <= 0.51 * step)


def test_arrays_on_disk_are_read_as_they_were(tmp_path) -> None:
    arrays = {"half": np.arange(6, dtype=np.float16).reshape(2, 3), "row": np.linspace(0, 1, 5, dtype=np.float32)}
    kept = packed_weights.OnDisk(iter(arrays.items()), tmp_path / "arrays.bin")
    assert list(kept) == list(arrays)
    for name, values in arrays.items():
        assert kept[name].dtype == values.dtype
        assert np.array_equal(kept[name], values)

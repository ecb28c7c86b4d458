"""Files that are no model, and kinds of model that are made here with random weights because they are too large to fetch."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from simulator.errors import ModelError
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.records import Probe, Prompt, Segment
from simulator.seeds import Stream

WIDTH, LAYERS, WORDS = 32, 2, 300


def write_gguf(path: Path, architecture: str, keys: dict[str, int | float], tensors: dict[str, tuple[int, ...]]) -> Path:
    """A file with byte tokens, the given keys (without the architecture's name) and tensors of random numbers."""
    rng = Stream(1).child(architecture).generator()
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        name = f"{architecture}.{key}"
        if isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"word{number}" for number in range(WORDS - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 3 + [-1000.0] * 256 + [-1.0] * (WORDS - 259))
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (WORDS - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, shape in tensors.items():
        values = np.ones(shape) if "norm" in name else 0.3 * rng.standard_normal(shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def mamba(path: Path) -> Path:
    """A recurrent model."""
    inner, state, convolution, rank = 2 * WIDTH, 8, 4, 4
    keys: dict[str, int | float] = {
        "block_count": LAYERS,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": convolution,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (WORDS, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": (WIDTH,),
            f"blk.{layer}.ssm_in.weight": (2 * inner, WIDTH),
            f"blk.{layer}.ssm_conv1d.weight": (inner, convolution),
            f"blk.{layer}.ssm_conv1d.bias": (inner,),
            f"blk.{layer}.ssm_x.weight": (rank + 2 * state, inner),
            f"blk.{layer}.ssm_dt.weight": (inner, rank),
            f"blk.{layer}.ssm_dt.bias": (inner,),
            f"blk.{layer}.ssm_a": (inner, state),
            f"blk.{layer}.ssm_d": (inner,),
            f"blk.{layer}.ssm_out.weight": (WIDTH, inner),
        }
    return write_gguf(path, "mamba", keys, tensors)


def sliding(path: Path, window: int = 16) -> Path:
    """A transformer of which every other layer looks back over a window only."""
    heads, hidden = 2, 64
    keys: dict[str, int | float] = {
        "block_count": LAYERS,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": hidden,
        "attention.head_count": heads,
        "attention.head_count_kv": heads,
        "attention.key_length": WIDTH // heads,
        "attention.value_length": WIDTH // heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.sliding_window": window,
    }
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (WORDS, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH, WIDTH),
            "attn_v": (WIDTH, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "post_attention_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (hidden, WIDTH),
            "ffn_up": (hidden, WIDTH),
            "ffn_down": (WIDTH, hidden),
            "post_ffw_norm": (WIDTH,),
        }.items():
            tensors[f"blk.{layer}.{name}.weight"] = shape
    return write_gguf(path, "gemma2", keys, tensors)


def loaded(path: Path, **options: object) -> LlamaCpp:
    return LlamaCpp(
        LlamaCppConfig.model_validate({"path": str(path), "format": "as-is", "context": 256, "sequences": 2, "threads": 1, **options})
    )


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def prompts(people: int = 3, repeats: int = 4) -> list[Prompt]:
    def page(person: int, number: int) -> Segment:
        return Segment((f"Page {number} film word{person} watch:", Probe("watch", ("yes", "no")), " leave:", Probe("leave", ("yes", "no"))))

    rules = Segment(("The rules are simple. " * repeats,))
    return [Prompt((rules, Segment((f"Person {k} loves. " * (k + 1),)), page(k, n))) for n in (1, 2) for k in range(people)]


def test_a_recurrent_model_is_refused_because_its_prefixes_cannot_be_kept(tmp_path):
    said = refusal(mamba(tmp_path / "mamba.gguf"))
    assert "recurrent" in said
    assert "mamba" in said
    assert "choose a transformer" in said


@pytest.mark.parametrize("chosen", ["auto", "f16"])
def test_a_recurrent_model_is_refused_before_it_is_measured_or_converted(tmp_path, monkeypatch, chosen):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    assert "recurrent" in refusal(mamba(tmp_path / "mamba.gguf"), format=chosen)
    assert not list((tmp_path / "cache").rglob("*.gguf"))


@pytest.mark.parametrize("merged", [True, False])
def test_prefixes_of_a_sliding_window_model_are_kept_whole(tmp_path, monkeypatch, merged):
    """Beyond its window an ordinary cache would have lost what a kept prefix needs."""
    monkeypatch.setattr("simulator.llm.formats.FLOATS", ("as-is",) if merged else ())
    file = sliding(tmp_path / "sliding.gguf", window=16)
    kept, fresh = loaded(file), loaded(file, kept_megabytes=0)
    asked = prompts()
    assert kept.count_tokens("The rules are simple. " * 4) > 32
    first, again = kept.score(asked), kept.score(asked)
    alone = [fresh.score([prompt])[0] for prompt in asked]
    for one, two, three in zip(first, again, alone, strict=True):
        assert (
            [row.tobytes() for row in one.logprobs] == [row.tobytes() for row in two.logprobs] == [row.tobytes() for row in three.logprobs]
        )
    assert kept.usage.computed_tokens < 2 * fresh.usage.computed_tokens
    kept.close()
    fresh.close()


def test_a_sliding_window_sees_less_than_a_whole_one(tmp_path):
    """Otherwise the test above would test nothing."""
    narrow, wide = loaded(sliding(tmp_path / "narrow.gguf", window=4)), loaded(sliding(tmp_path / "wide.gguf", window=400))
    one, other = narrow.score(prompts())[0], wide.score(prompts())[0]
    assert not np.allclose(one.logprobs[0], other.logprobs[0], atol=1e-4)
    narrow.close()
    wide.close()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_file_cut_off_anywhere_is_one_sentence(tmp_path, share):
    whole = sliding(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    said = refusal(cut)
    assert str(cut) in said
    assert "cut off" in said


def test_a_file_that_is_no_gguf_is_one_sentence(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\x10\x00\x00\x00 {}")
    assert "not a GGUF file" in refusal(file)


def test_a_missing_file_is_one_sentence(tmp_path):
    assert "no model file" in refusal(tmp_path / "nowhere.gguf")


def test_a_prompt_beyond_the_context_is_one_sentence_and_never_cut(tmp_path):
    model = loaded(sliding(tmp_path / "small.gguf"), context=64)
    with pytest.raises(ModelError, match=r"needs \d+ tokens of context, but there are 64; raise context"):
        model.score(prompts(repeats=10))
    model.close()


def test_a_context_beyond_what_the_model_was_trained_for_is_not_promised(tmp_path):
    model = loaded(sliding(tmp_path / "small.gguf"), context=4096)
    with pytest.raises(ModelError, match=r"there are 512, the most this model was trained for \(512\)"):
        model.score(prompts(repeats=40))
    model.close()


def test_a_label_without_tokens_is_one_sentence(tmp_path):
    model = loaded(sliding(tmp_path / "small.gguf"))
    with pytest.raises(ModelError, match="label ' ' of probe 'watch' has no token"):
        model.score([Prompt((Segment(("watch:", Probe("watch", ("yes", " ")))),))])
    model.close()

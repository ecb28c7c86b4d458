"""Packed rows in torch: the same numbers as an independent implementation, and numbers that depend on nothing but the prompt."""

import numpy as np
import pytest

from simulator.llm.packed_weights import Architecture, floats, rounded, tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from simulator.llm.packed_network import PackedNetwork, Span, Steps  # noqa: E402

VOCABULARY = 320
LLAMA = Architecture(3, 64, 4, 2, 32, 96, VOCABULARY, 128, 1e-5, 10_000.0)
GEMMA = Architecture(
    6, 64, 4, 1, 32, 96, VOCABULARY, 128, 1e-6, 1_000_000.0, 10_000.0, 1.0, 8, 6, "gelu", 8.0, True
)  # five layers with a window of eight tokens, one without


def _random(model) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.25 if parameter.ndim > 1 else 0.1) + ("norm" in name))


def _llama():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        max_position_embeddings=128,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    _random(model)
    return model


def _gemma():
    config = transformers.Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=8,
        max_position_embeddings=128,
        rms_norm_eps=1e-6,
    )
    model = transformers.Gemma3ForCausalLM(config).eval()
    _random(model)
    return model


def _neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of transformers (halves turn together) in the order in which neighbours do."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _weights(model, shape: Architecture) -> dict[str, np.ndarray]:
    state = {name.removeprefix("model."): value.detach().numpy() for name, value in model.state_dict().items()}
    more = 1.0 if shape.norms_heads else 0.0  # Gemma stores its norms less one
    weights = {"embeddings": state["embed_tokens.weight"].astype(np.float16), "norm": state["norm.weight"] + more}
    scale = shape.head_size**-0.5
    for layer in range(shape.layers):
        own = {name.removeprefix(f"layers.{layer}."): value for name, value in state.items() if name.startswith(f"layers.{layer}.")}
        query = _neighbours(own["self_attn.q_proj.weight"], shape.heads)
        key = _neighbours(own["self_attn.k_proj.weight"], shape.kv_heads)
        weights[f"{layer}.qkv"] = np.concatenate([query * (1 if shape.norms_heads else scale), key, own["self_attn.v_proj.weight"]])
        weights[f"{layer}.out"] = own["self_attn.o_proj.weight"]
        weights[f"{layer}.up"] = np.concatenate([own["mlp.gate_proj.weight"], own["mlp.up_proj.weight"]])
        weights[f"{layer}.down"] = own["mlp.down_proj.weight"]
        weights[f"{layer}.norm"] = own["input_layernorm.weight"] + more
        before = "pre_feedforward_layernorm" if shape.norms_heads else "post_attention_layernorm"
        weights[f"{layer}.inner_norm"] = own[f"{before}.weight"] + more
        if shape.norms_heads:
            queries = _neighbours((own["self_attn.q_norm.weight"] + 1) * scale, 1)
            keys = _neighbours(own["self_attn.k_norm.weight"] + 1, 1)
            weights[f"{layer}.heads"] = np.stack([queries] * shape.heads + [keys] * shape.kv_heads)
            weights[f"{layer}.out_norm"] = own["post_attention_layernorm.weight"] + 1
            weights[f"{layer}.down_norm"] = own["post_feedforward_layernorm.weight"] + 1
    return {name: np.asarray(values, np.float16 if name == "embeddings" else np.float32) for name, values in weights.items()}


FAMILIES = {"llama": (_llama, LLAMA), "gemma3": (_gemma, GEMMA)}
TOKENS = np.random.default_rng(5).integers(0, VOCABULARY, 40).astype(np.int32)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    """A model of another library with random weights, its sizes, and its weights in our order."""
    make, shape = FAMILIES[request.param]
    model = make()
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table.copy_(table.half().float())  # ours are stored in half precision
    return model, shape, _weights(model, shape)


def _network(family, kind: str, **options) -> PackedNetwork:
    _, shape, weights = family
    made = floats(weights)
    if kind == "int8":
        watched = PackedNetwork(shape, tensors(floats(weights), "float32"), "float32")
        watched.watched = {}
        watched.compute([Span(TOKENS, 0)], [])
        maxima = dict(watched.watched)
        for name, largest in maxima.items():
            layer, _, part = name.partition(".")
            if part in ("qkv", "up"):
                maxima[name] = largest * np.abs(weights[f"{layer}.{'norm' if part == 'qkv' else 'inner_norm'}"])
        made = rounded(weights, shape, maxima)
    return PackedNetwork(shape, tensors(made, kind), kind, **options)


def _logits(network: PackedNetwork, tokens: np.ndarray = TOKENS) -> np.ndarray:
    return network.logits(network.compute([Span(tokens, 0)], [(0, offset) for offset in range(len(tokens))]))


def _truth(family) -> np.ndarray:
    with torch.no_grad():
        return family[0](torch.from_numpy(TOKENS[None].astype(np.int64))).logits[0].numpy()


def _divergence(truth: np.ndarray, logits: np.ndarray) -> float:
    q, p = (x.astype(np.float64) - x.max(axis=1, keepdims=True) for x in (truth, logits))
    q, p = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (q, p))
    return float((np.exp(q) * (q - p)).sum(axis=1).mean())


def test_float32_gives_the_numbers_of_another_implementation(family):
    ours, theirs = _logits(_network(family, "float32")), _truth(family)
    # Keys and values are rounded to half precision, so that they are the same whether they were kept or are computed along.
    assert np.allclose(ours, theirs, atol=0.06)
    assert np.abs(ours - theirs).mean() < 0.01


@pytest.mark.parametrize(("kind", "half", "allowed"), [("bfloat16", False, 0.02), ("float32", True, 0.02), ("int8", False, 0.1)])
def test_shorter_numbers_stay_close(family, kind, half, allowed):
    assert 0 < _divergence(_truth(family), _logits(_network(family, kind, half_attention=half))) < allowed


def test_logits_of_some_tokens_are_those_of_the_whole_vocabulary(family):
    network = _network(family, "float32")
    hidden = network.compute([Span(TOKENS, 0)], [(0, 7), (0, 39)])
    whole, some = network.logits(hidden), network.logits_of(hidden, [[3, 5], [8]])
    assert np.allclose(some[0], whole[0, [3, 5]], atol=1e-4)
    assert np.allclose(some[1], whole[1, [8]], atol=1e-4)
    assert network.logits_of(hidden, []) == []


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_span_gives_the_same_bits_whatever_is_computed_beside_it_and_whether_its_past_was_kept(family, kind):
    network = _network(family, kind)

    def chain() -> list[Span]:
        start = Span(TOKENS[:17], 0)
        end = Span(TOKENS[17:30], 17, ((start, 17),))
        inside = Span(TOKENS[30:33], 25, ((start, 17), (end, 8)))  # behind the first eight tokens of `end`
        return [start, end, inside]

    def bits(rows) -> list[bytes]:
        return [row.numpy().tobytes() for row in rows]

    start, end, inside = chain()
    one_by_one = [bits(network.compute([span], [(0, len(span.tokens) - 1)]))[0] for span in (start, end, inside)]
    company = [Span(TOKENS[::-1][:23].copy(), 0), *chain(), Span(TOKENS[5:9].copy(), 0)]
    together = bits(network.compute(company, [(k, len(company[k].tokens) - 1) for k in (1, 2, 3)]))
    assert together == one_by_one
    assert bits(network.twin().compute(chain(), [(k, n) for k, n in enumerate((16, 12, 2))])) == one_by_one


def test_a_split_prompt_has_the_numbers_of_the_whole_one(family):
    network = _network(family, "float32")
    start = Span(TOKENS[:25], 0)
    rest = Span(TOKENS[25:], 25, ((start, 25),))
    split = network.logits(network.compute([start, rest], [(1, offset) for offset in range(15)]))
    assert np.allclose(split, _logits(network)[25:], atol=0.02)


def test_what_does_not_stay_holds_no_memory(family):
    network = _network(family, "float32")
    stays, goes = Span(TOKENS[:9], 0), Span(TOKENS[9:20], 0, stays=False)
    network.compute([stays, goes], [])
    assert goes.state is None
    assert stays.state.untyped_storage().nbytes() == 9 * network.bytes_kept_per_token


def test_texts_that_grow_token_by_token_have_the_numbers_of_whole_prompts(family):
    network = _network(family, "float32")
    whole = _logits(network)
    steps = Steps(network, streams=4, cells=64, batch=64, run=lambda work: work())
    head = Span(TOKENS[:10], 0)
    network.compute([head], [])
    lengths = (20, 25, 31)
    for slot in (1, 2, 3):
        steps.enter(slot, [(head, 10)])
    first = steps.extend([TOKENS[10:length] for length in lengths], [10] * 3, [np.array([length - 11]) for length in lengths], 1)
    for row, length in zip(first, lengths, strict=True):
        assert np.allclose(row[0], whole[length - 1], atol=0.02)
    for more in range(4):
        rows = steps.step([int(TOKENS[length + more]) for length in lengths], [length + more for length in lengths])
        assert np.allclose(rows, [whole[length + more] for length in lengths], atol=0.02)
    steps.copy(3, 1)
    rows = steps.step([int(TOKENS[35]), int(TOKENS[29])], [35, 29])
    assert np.allclose(rows, whole[[35, 29]], atol=0.02)

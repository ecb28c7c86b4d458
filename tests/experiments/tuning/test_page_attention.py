import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from experiments.tuning import page_attention, training  # noqa: E402
from experiments.tuning.packs import Ask, Branch, PackBuilder  # noqa: E402


def a_model(kind="Llama"):
    torch.manual_seed(3)
    shape = getattr(transformers, f"{kind}Config")(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        attn_implementation="sdpa",
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForCausalLM")(shape).eval()


def a_pack(people=9):
    """People with prefixes and pages of many lengths, some with a probe at the end of the prefix."""
    generator = np.random.default_rng(1)
    builder = PackBuilder(("choose",), (((2,), (3, 4)),), 70)
    for user in range(people):
        prefix = generator.integers(5, 60, size=int(generator.integers(1, 20))).astype(np.int32)
        pages = []
        for _ in range(int(generator.integers(1, 8))):
            tokens = generator.integers(5, 60, size=int(generator.integers(1, 17))).astype(np.int32)
            asks = [Ask(int(place), 0, int(place) % 2, -1, 0) for place in range(-1, len(tokens), 3)]
            pages.append(Branch(tokens, tuple(asks)))
        builder.add(user, prefix, 1, pages)
    return builder.build()


def batch_of(pack):
    return training.Batch.of(pack, np.arange(len(pack)), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Mistral"])
def test_pages_score_as_behind_a_mask_over_the_whole_row(kind):
    pack, model = a_pack(), a_model(kind)
    masked = training.score(model, pack)
    page_attention.use(model)
    assert training.score(model, pack) == pytest.approx(masked, abs=1e-5)


def test_pages_are_really_taken_apart(monkeypatch):
    pack, model = a_pack(), a_model()
    page_attention.use(model)
    wanted = training.score(model, pack)
    monkeypatch.setattr(page_attention, "sdpa_attention_forward", None)
    assert (training.score(model, pack) == wanted).all()


def test_gradients_are_those_behind_a_mask_over_the_whole_row():
    pack, found = a_pack(), []
    reader = training.Reader(pack, torch.device("cpu"))
    for apart in (False, True):
        model = a_model()
        if apart:
            page_attention.use(model)
        training.losses(model, batch_of(pack), reader, torch.ones(1), 0.1)[0].backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, atol=1e-4, rtol=1e-3), name


def test_what_is_tuned_on_a_cpu_has_this_attention(tmp_path):
    model = training.trainable(a_model(), training.TrainingConfig(method="soft-prompt", soft_tokens=2, device="cpu"), a_pack(), tmp_path)
    assert model.config._attn_implementation == page_attention.NAME


def test_rows_without_a_prefix_or_without_pages_have_no_parts():
    assert page_attention.Pages.of(np.array([[0, 0, -1]])) is None
    assert page_attention.Pages.of(np.array([[1, 1, 2], [0, 1, 1]])) is None
    pages = page_attention.Pages.of(np.array([[0, 0, 1, 2, 2], [0, 1, 1, -1, -1]]))
    assert pages.prefix.tolist() == [[0, 1], [5, 0]]
    assert pages.page.tolist() == [[2, 0], [3, 4], [6, 7]]
    assert pages.seen.tolist() == [[0, 1, 2, 0], [0, 1, 3, 4], [5, 0, 6, 7]]
    assert pages.allowed[2, 0].tolist() == [[True, False, True, False], [True, False, True, True]]

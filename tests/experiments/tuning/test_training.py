import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from experiments.tuning import training  # noqa: E402
from experiments.tuning.packs import Ask, Branch, PackBuilder  # noqa: E402
from experiments.tuning.settings import TrainingConfig  # noqa: E402

CONFIG = TrainingConfig(
    rank=4, alpha=8.0, learning_rate=2e-2, batch_tokens=300, micro_tokens=200, passes=4, evaluations=3, device="cpu", dtype="float32"
)


def tiny(*_):
    torch.manual_seed(3)
    shape = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True, attn_implementation="sdpa",
    )  # fmt: skip
    return transformers.LlamaForCausalLM(shape).eval()


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setattr(training, "load_model", tiny)


def a_pack(people=40, seed=0):
    """People are even or odd; they choose the items that are as they are."""
    generator = np.random.default_rng(seed)
    builder = PackBuilder(("choose",), (((2,), (3, 4)),), 60)
    for user in range(people):
        kind = user % 2
        prefix = np.array([5, 6, 10 + kind, 10 + kind], dtype=np.int32)
        pages = []
        for _ in range(3):
            items = generator.integers(0, 2, size=3)
            tokens = np.concatenate([[20 + place, 30 + item, 7] for place, item in enumerate(items)]).astype(np.int32)
            asks = tuple(Ask(3 * place + 2, 0, int(item != kind), int(item), place + 1) for place, item in enumerate(items))
            pages.append(Branch(tokens, asks))
        builder.add(user, prefix, 2, pages)
    return builder.build()


def test_a_page_behind_a_shared_prefix_scores_as_its_prompt_alone():
    pack, model = a_pack(6), tiny()
    together = training.score(model, pack, most_tokens=120)
    for row in range(len(pack)):
        part = slice(int(pack.starts[row]), int(pack.starts[row + 1]))
        branches = pack.branches[part]
        for branch in range(1, int(branches.max()) + 1):
            mine = np.flatnonzero((branches == 0) | (branches == branch))
            tokens = torch.from_numpy(pack.tokens[part][mine].astype(np.int64))[None]
            with torch.no_grad():
                logits = model(input_ids=tokens).logits[0]
            for probe in np.flatnonzero((pack.probe_at >= part.start) & (pack.probe_at < part.stop)):
                at = int(pack.probe_at[probe]) - part.start
                if at in mine[branches[mine] == branch]:
                    row_logits = logits[int(np.searchsorted(mine, at))]
                    shares = torch.stack([row_logits[2], torch.logsumexp(row_logits[[3, 4]], 0)])
                    alone = (shares - torch.logsumexp(shares, 0)).numpy()
                    assert together[probe] == pytest.approx(alone, abs=1e-4)


def test_tuning_learns_who_chooses_what(tmp_path):
    a_pack().save(tmp_path / "000.npz")
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), replace(CONFIG, passes=40), tmp_path)
    assert 0.35 < found["before"]["choose_auc"] < 0.65
    assert found["after"]["choose_auc"] > 0.95
    assert found["after"]["choose_loss"] < found["before"]["choose_loss"] - 0.05
    with np.load(tmp_path / "updates.npz") as updates:
        assert updates["0.q_proj.a"].shape == (4, 16)
        assert updates["1.down_proj.b"].shape == (16, 4)
        assert float(updates["scale"]) == 2.0
    assert not (tmp_path / "checkpoint.pt").exists()
    assert json.dumps(found)


def test_an_interrupted_tuning_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a_pack().save(tmp_path / "000.npz")
    validation = a_pack(10, seed=9)
    whole = training.train(tmp_path / "none", [tmp_path / "000.npz"], validation, CONFIG, tmp_path / "a")

    def cut(progress):
        if progress.step == whole["steps"] // 2 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "none", [tmp_path / "000.npz"], validation, CONFIG, tmp_path / "b", cut)
    assert (tmp_path / "b" / "checkpoint.pt").exists()
    resumed = training.train(tmp_path / "none", [tmp_path / "000.npz"], validation, CONFIG, tmp_path / "b")
    for name in ("steps", "tokens", "best_step"):
        assert resumed[name] == whole[name]
    assert resumed["after"] == pytest.approx(whole["after"], rel=1e-5)
    with np.load(tmp_path / "a" / "updates.npz") as left, np.load(tmp_path / "b" / "updates.npz") as right:
        for name in left.files:
            assert left[name] == pytest.approx(right[name], abs=2e-3)


def test_tuning_stops_when_it_gets_worse_and_keeps_the_best(tmp_path):
    a_pack().save(tmp_path / "000.npz")
    harsh = replace(CONFIG, learning_rate=30.0, evaluations=20, patience=2, passes=10)
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(10, seed=9), harsh, tmp_path)
    assert found["stopped"] == "patience"
    assert found["best_step"] < found["steps"]


def test_asking_for_a_gpu_that_is_not_there_is_a_clear_sentence():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RuntimeError, match="no GPU"):
        training.device_of("cuda")


def test_scores_of_labels_sum_to_one_and_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    pack = a_pack(8)
    scores = training.score(tiny(), pack)
    assert np.exp(scores).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    known = roc_auc_score(pack.probe_label == 0, scores[:, 0] - scores[:, 1])
    assert training.measured(pack, scores)["choose_auc"] == pytest.approx(known)

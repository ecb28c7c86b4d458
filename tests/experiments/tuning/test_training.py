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
from simulator.llm.vectors import FIRST  # noqa: E402

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
    config = replace(CONFIG, passes=60, learning_rate=1e-2, evaluations=6)
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), config, tmp_path)
    assert 0.35 < found["before"]["choose_auc"] < 0.65
    assert found["after"]["choose_auc"] > 0.95
    assert found["after"]["choose_loss"] < found["before"]["choose_loss"] - 0.05
    with np.load(tmp_path / "updates.npz") as updates:
        assert updates["0.q_proj.a"].shape == (4, 16)
        assert updates["1.down_proj.b"].shape == (16, 4)
        assert float(updates["scale"]) == 2.0
    assert not (tmp_path / "checkpoint.pt").exists()
    assert json.dumps(found)


def test_a_share_of_one_is_the_plain_loss_and_labels_that_a_kind_lacks_do_not_matter():
    pack, model = a_pack(6), tiny()
    rows = np.arange(len(pack))
    weights = torch.ones(len(pack.kinds))

    def total(share, labels=0):
        label_tokens = (*pack.label_tokens, tuple((token,) for token in range(40, 40 + labels)))
        told = replace(
            pack, probe_share=np.full(len(pack.probe_at), share, np.float32), kinds=("choose", "rate"), label_tokens=label_tokens
        )
        batch = training.Batch.of(told, rows, torch.device("cpu"))
        return float(
            training.losses(model, batch, training.Reader(told, torch.device("cpu")), torch.ones(len(told.kinds)), 0.0)[0].detach()
        )

    assert weights.shape == (1,)
    others = replace(pack, probe_label=1 - pack.probe_label)
    batch = training.Batch.of(others, rows, torch.device("cpu"))
    opposite = float(training.losses(model, batch, training.Reader(pack, torch.device("cpu")), weights, 0.0)[0].detach())
    assert total(0.0) == pytest.approx(opposite, rel=1e-5)
    assert total(0.25) == pytest.approx(0.25 * total(1.0) + 0.75 * opposite, rel=1e-5)
    assert total(0.25, labels=5) == pytest.approx(total(0.25), rel=1e-5)


def whole_and_resumed(folder, validation, config):
    """What a tuning in folder a says, and one in folder b that was interrupted after half of its steps."""
    given = (folder / "none", [folder / "000.npz"], validation, config)
    whole = training.train(*given, folder / "a")

    def cut(progress):
        if progress.step == whole["steps"] // 2 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(*given, folder / "b", cut)
    assert (folder / "b" / "checkpoint.pt").exists()
    return whole, training.train(*given, folder / "b")


def test_an_interrupted_tuning_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a_pack().save(tmp_path / "000.npz")
    validation = a_pack(10, seed=9)
    whole, resumed = whole_and_resumed(tmp_path, validation, CONFIG)
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


def test_what_is_computed_at_once_changes_nothing_but_rounding(tmp_path):
    a_pack().save(tmp_path / "000.npz")
    found, learned = [], []
    for micro in (60, 300):
        folder = tmp_path / str(micro)
        folder.mkdir()
        config = replace(CONFIG, micro_tokens=micro, language_loss=0.5)
        found.append(training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(10, seed=9), config, folder))
        with np.load(folder / "updates.npz") as updates:
            learned.append({name: updates[name] for name in updates.files})
    assert found[0]["steps"] == found[1]["steps"] > 10
    assert found[0]["tokens"] == found[1]["tokens"]
    assert found[0]["after"] == pytest.approx(found[1]["after"], rel=1e-4)
    assert found[0]["after"]["choose_loss"] < found[0]["before"]["choose_loss"] - 0.01
    for name, values in learned[0].items():
        assert learned[1][name] == pytest.approx(values, abs=2e-3), name


def test_how_many_tokens_goes_by_the_device_unless_it_is_said(tmp_path):
    a_pack().save(tmp_path / "000.npz")
    given = (tmp_path / "none", [tmp_path / "000.npz"], a_pack(10, seed=9))
    for told, used in (((None, None), (4_096, 1_024)), ((300, 80), (300, 80))):
        config = replace(CONFIG, batch_tokens=told[0], micro_tokens=told[1], passes=1)
        found = training.train(*given, config, tmp_path)["settings"]
        assert (found["batch_tokens"], found["micro_tokens"]) == used
    open_ = training.complete(replace(CONFIG, batch_tokens=None, micro_tokens=None), torch.device("cuda"))
    assert (open_.batch_tokens, open_.micro_tokens) == (16_384, 4_096)


class Clock:
    """Time that passes only where it is told to: a measurement takes 5 s per person, a step 10 s."""

    now = 0.0

    def __init__(self, monkeypatch):
        self.measured = []
        score, update = training.score, training._Trainer._update

        def measures(model, pack):
            people = len(np.unique(pack.users))
            self.now += 5 * people
            self.measured.append(people)
            return score(model, pack)

        def steps(trainer):
            self.now += 10
            update(trainer)

        monkeypatch.setattr(training, "time", self)
        monkeypatch.setattr(training, "score", measures)
        monkeypatch.setattr(training._Trainer, "_update", steps)

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(("before", "steps"), [(0, 43), (250, 18), (5_000, 1)])
def test_minutes_hold_everything_from_the_beginning_to_the_last_measurement(tmp_path, monkeypatch, before, steps):
    a_pack().save(tmp_path / "000.npz")
    clock = Clock(monkeypatch)
    clock.now = before
    config = replace(CONFIG, passes=60, minutes=10.0, evaluations=20)
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), config, tmp_path, started=0.0)
    assert found["stopped"] == "minutes"
    assert found["steps"] == steps
    # All twenty people would take 100 s of the 600: a few are tried, and then as many are measured as a tenth of the time allows.
    assert clock.measured == [2, 8, 12, 12]
    assert found["measured_people"] == 12
    assert found["seconds"] == clock.now == before + 10 + 40 + 60 + 10 * steps + 60
    assert found["seconds"] <= 600 or steps == 1
    # Measuring on the way would take more than a fifth of the time.
    assert [entry["step"] for entry in found["history"]] == [steps]


def test_where_measuring_is_cheap_it_is_done_as_often_as_wanted(tmp_path, monkeypatch):
    a_pack().save(tmp_path / "000.npz")
    Clock(monkeypatch)
    config = replace(CONFIG, passes=1_000, minutes=120.0, evaluations=5, patience=100)
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), config, tmp_path, started=0.0)
    assert len(found["history"]) == 5
    assert found["measured_people"] == 20
    assert found["seconds"] <= 7_200


def test_a_checkpoint_between_measurements_is_gone_on_from_and_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    a_pack().save(tmp_path / "000.npz")
    clock = Clock(monkeypatch)
    given = (tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), replace(CONFIG, passes=60, minutes=10.0), tmp_path)

    def cut(progress):
        if progress.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(*given, cut, started=0.0)
    assert clock.measured == [2, 8, 12]
    assert not (tmp_path / "updates.npz").exists()
    steps = []
    found = training.train(*given, lambda progress: steps.append(progress.step))
    # A checkpoint is written every two minutes; what came after the last one is done again.
    assert steps == list(range(27, 44))
    assert clock.measured == [2, 8, 12, 12]
    assert found["seconds"] == 600


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


# --- vectors in place of words ---


def a_pack_of_vectors(people=60, seed=0, items=12, soft=0):
    """As `a_pack`, but nothing is told in words: people and items are known by vectors alone."""
    generator = np.random.default_rng(seed)
    builder = PackBuilder(("choose",), (((2,), (3, 4)),), 60)
    first = FIRST + soft
    for user in range(people):
        kind = user % 2
        own = [item for item in range(items) if item % 2 == kind]
        prefix = np.array([*range(FIRST, first), 5, 6, *(first + generator.choice(own, 3, replace=False))], dtype=np.int32)
        pages = []
        for _ in range(3):
            shown = generator.choice(items, size=3, replace=False)
            tokens = np.concatenate([[20 + place, first + item, 7] for place, item in enumerate(shown)]).astype(np.int32)
            asks = tuple(Ask(3 * place + 2, 0, int(item % 2 != kind), int(item), place + 1) for place, item in enumerate(shown))
            pages.append(Branch(tokens, asks))
        builder.add(user, prefix, 2 + soft, pages)
    return builder.build()


def parities(folder, items=12):
    """Factors that tell odd items from even ones, among others that tell nothing; zeros for an unknown item."""
    factors = np.random.default_rng(1).normal(size=(items + 1, 4)).astype(np.float32)
    factors[:, 0] = np.where(np.arange(items + 1) % 2, 2.0, -2.0)
    factors[-1] = 0.0
    np.savez(folder / training.FACTORS, factors=factors, items=np.array([str(item) for item in range(items)]))
    return factors


def test_vectors_of_items_teach_who_chooses_what_where_words_say_nothing(tmp_path):
    parities(tmp_path)
    a_pack_of_vectors().save(tmp_path / "000.npz")
    config = replace(CONFIG, method="collaborative-lora", passes=60, projector_rate=3e-2, hidden=8, patience=100)
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack_of_vectors(20, seed=9), config, tmp_path)
    assert 0.3 < found["before"]["choose_auc"] < 0.7
    assert found["after"]["choose_auc"] > 0.75
    with np.load(tmp_path / "updates.npz") as updates:
        assert {"vectors.factors", "vectors.w1", "vectors.b1", "vectors.w2", "vectors.b2", "scale"} < set(updates.files)
        assert updates["vectors.w2"].shape == (16, 8)


@pytest.mark.parametrize(("method", "soft"), [("collaborative", 0), ("soft-prompt", 3)])
def test_without_updates_the_model_itself_stays_as_it_is(tmp_path, method, soft):
    parities(tmp_path)
    pack = a_pack_of_vectors(soft=0) if method == "collaborative" else _with_soft_prompt(a_pack(), soft)
    pack.save(tmp_path / "000.npz")
    config = replace(CONFIG, method=method, soft_tokens=soft or 1, passes=10, projector_rate=3e-2)
    model = training.trainable(tiny(), config, pack, tmp_path)
    assert all(("soft" in name) == bool(soft) for name, one in model.named_parameters() if one.requires_grad)
    assert not any("lora" in name for name, _ in model.named_parameters())
    found = training.train(tmp_path / "none", [tmp_path / "000.npz"], pack, config, tmp_path)
    assert found["after"]["choose_loss"] < found["before"]["choose_loss"]
    with np.load(tmp_path / "updates.npz") as updates:
        assert {name.partition(".")[0] for name in updates.files} == {"vectors"}


def _with_soft_prompt(pack, soft):
    """The pack with a soft prompt before every row's prefix."""
    builder = PackBuilder(pack.kinds, pack.label_tokens, 200)
    for row in range(len(pack)):
        part = slice(int(pack.starts[row]), int(pack.starts[row + 1]))
        tokens, branches = pack.tokens[part], pack.branches[part]
        pages = []
        for branch in range(1, int(branches.max()) + 1):
            places = np.flatnonzero(branches == branch)
            mine = np.flatnonzero(np.isin(pack.probe_at - part.start, places))
            asks = tuple(Ask(int(pack.probe_at[p] - part.start - places[0]), 0, int(pack.probe_label[p]), 0, 1) for p in mine)
            pages.append(Branch(tokens[places], asks))
        prefix = np.concatenate([np.arange(FIRST, FIRST + soft), tokens[branches == 0]]).astype(np.int32)
        builder.add(row, prefix, 2 + soft, pages)
    return builder.build()


def test_an_interrupted_tuning_of_vectors_continues(tmp_path):
    validation = a_pack_of_vectors(10, seed=9)
    config = replace(CONFIG, method="collaborative-lora", hidden=8)
    for name in "ab":
        (tmp_path / name).mkdir()
        parities(tmp_path / name)
    a_pack_of_vectors().save(tmp_path / "000.npz")
    whole, resumed = whole_and_resumed(tmp_path, validation, config)
    assert resumed["steps"] == whole["steps"]
    assert resumed["after"] == pytest.approx(whole["after"], rel=1e-4)
    with np.load(tmp_path / "a" / "updates.npz") as left, np.load(tmp_path / "b" / "updates.npz") as right:
        assert left["vectors.w2"] == pytest.approx(right["vectors.w2"], abs=2e-3)


def test_inference_projects_factors_as_the_tuning_does(tmp_path):
    from simulator.llm import vectors

    factors = parities(tmp_path)
    config = replace(CONFIG, method="collaborative", hidden=8)
    model = training.trainable(tiny(), config, a_pack_of_vectors(4), tmp_path)
    layer = model.get_input_embeddings()
    training.save_updates(model, tmp_path / "updates.npz", config)
    with np.load(tmp_path / "updates.npz") as updates:
        vectors.write(
            tmp_path, {name.partition(".")[2]: updates[name] for name in updates.files}, [str(n) for n in range(len(factors) - 1)]
        )
    assert vectors.read(tmp_path).table == pytest.approx(layer.table().detach().numpy(), abs=1e-5)
    tokens = torch.tensor([[5, FIRST + 3, 6]])
    assert layer(tokens)[0, 1].detach().numpy() == pytest.approx(vectors.read(tmp_path).table[3], abs=1e-5)
    assert torch.equal(layer(tokens)[0, ::2], layer.inner(tokens[:, ::2])[0])


def test_learning_begins_with_the_updates_of_another_tuning(tmp_path):
    a_pack().save(tmp_path / "000.npz")
    config = replace(CONFIG, passes=60, learning_rate=1e-2, evaluations=1)
    first = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), config, tmp_path)
    (tmp_path / "updates.npz").rename(tmp_path / "start.npz")
    more = training.train(tmp_path / "none", [tmp_path / "000.npz"], a_pack(20, seed=9), replace(config, start="other", passes=1), tmp_path)
    # The start is kept in half precision.
    assert more["before"]["choose_loss"] == pytest.approx(first["after"]["choose_loss"], abs=2e-3)
    assert more["before"]["choose_auc"] > 0.9

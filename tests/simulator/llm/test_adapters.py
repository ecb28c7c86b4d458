import json
import warnings

import numpy as np
import pytest

from simulator.errors import ModelError
from simulator.llm import adapters, models
from simulator.llm.adapters import CARD, CONFIG, WEIGHTS


def updates(layers=1, rank=2, seed=0, size=(8, 8)):
    generator = np.random.default_rng(seed)
    found = {"scale": np.array(2.0)}
    for layer in range(layers):
        for module in adapters.MODULES:
            found[f"{layer}.{module}.a"] = generator.normal(size=(rank, size[1])).astype(np.float16)
            found[f"{layer}.{module}.b"] = generator.normal(size=(size[0], rank)).astype(np.float16)
    return found


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def a_base(folder, heads=2, size=8, architecture="llama"):
    import gguf

    path = folder / "base.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    generator = np.random.default_rng(5)
    for name in adapters.MODULES.values():
        writer.add_tensor(f"blk.0.{name}.weight", generator.normal(size=(size, size)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path):
    import gguf

    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}


def an_adapter(folder, **changes):
    folder.mkdir()
    adapters.write(folder, updates(**changes), "base")
    return folder


def test_what_is_written_is_read_back(tmp_path):
    folder = an_adapter(tmp_path / "mine", layers=2)
    read = adapters.read(folder)
    assert set(read) == set(updates(layers=2))
    assert float(read["scale"]) == 2.0
    assert np.array_equal(read["1.o_proj.b"], updates(layers=2)["1.o_proj.b"].astype(np.float32))


def test_a_merged_file_has_the_updates_in_its_weights(own_cache):
    base, folder = a_base(own_cache), an_adapter(own_cache / "mine")
    before, after, change = tensors(base), tensors(adapters.merged(base, folder)), adapters.read(folder)
    for module, name in adapters.MODULES.items():
        expected = 2.0 * change[f"0.{module}.b"] @ change[f"0.{module}.a"]
        found = after[f"blk.0.{name}.weight"] - before[f"blk.0.{name}.weight"]
        if module in ("q_proj", "k_proj"):
            # Per head of four rows, GGUF puts the two halves of a rotation beside each other: 0 2 1 3.
            expected = expected[[0, 2, 1, 3, 4, 6, 5, 7]]
        assert found == pytest.approx(expected, abs=0.02)
    assert np.array_equal(after["output_norm.weight"], before["output_norm.weight"])


def test_a_merge_is_made_once_and_is_the_same_bytes_again(own_cache):
    base, folder = a_base(own_cache), an_adapter(own_cache / "mine")
    first = adapters.merged(base, folder)
    content, time = first.read_bytes(), first.stat().st_mtime_ns
    assert adapters.merged(base, folder).stat().st_mtime_ns == time
    first.unlink()
    assert adapters.merged(base, folder).read_bytes() == content


def test_other_updates_make_another_file(own_cache):
    base = a_base(own_cache)
    assert adapters.merged(base, an_adapter(own_cache / "a")) != adapters.merged(base, an_adapter(own_cache / "b", seed=1))


def test_an_adapter_of_another_model_is_refused(own_cache):
    base, folder = a_base(own_cache), an_adapter(own_cache / "mine")
    (folder / CARD).write_text(json.dumps({"model": {"sha256": "0" * 64}}))
    with pytest.raises(ModelError, match="another model file"):
        adapters.merged(base, folder)
    (folder / CARD).unlink()
    deep = an_adapter(own_cache / "deep", layers=3)
    with pytest.raises(ModelError, match=r"blk\.[12]\..*does not have"):
        adapters.merged(base, deep)
    wide = an_adapter(own_cache / "wide", size=(8, 12))
    with pytest.raises(ModelError, match="has shape"):
        adapters.merged(base, wide)


def test_damaged_and_missing_adapters_are_one_sentence(tmp_path, own_cache):
    folder = an_adapter(tmp_path / "mine")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(ModelError, match=r"damaged|cannot be read"):
        adapters.read(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        adapters.read(folder)
    with pytest.raises(ModelError, match="ml-100k"):
        adapters.find("ml-100")
    (folder / CARD).write_text("[")
    with pytest.raises(ModelError, match="not JSON"):
        adapters.card(folder)


def test_the_shipped_adapter_is_small_and_says_what_it_was_tuned_on():
    folder = adapters.find("ml-100k")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000
    card = adapters.card(folder)
    assert card["model"]["sha256"] == models.known()[models.DEFAULT].sha256
    # It began with an adapter that knew something already.
    assert card["tuning"]["after"]["choose_auc"] > max(0.7, card["tuning"]["before"]["choose_auc"] + 0.05)
    assert {"data", "people", "prompt", "examples", "seed"} <= set(card)


@pytest.mark.model
def test_the_merged_shipped_model_scores_as_peft_does(model_file):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from experiments.tuning.settings import TrainingConfig
    from experiments.tuning.training import load_model
    from simulator.llm.labels import spell
    from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
    from simulator.llm.llama_native import Weights
    from simulator.records import Probe, Prompt, Segment

    text = "The person: male, 30 years old. Loves: Heat, Fargo.\nPage 1:\n1. The Rock Action | watch:"
    model = LlamaCpp(LlamaCppConfig(adapter="ml-100k", format="as-is"))
    (score,) = model.score([Prompt((Segment((text, Probe("choose 1", ("yes", "no")))),))])
    model.close()
    weights = Weights(model_file)
    tokens = weights.tokenize(text)
    # All spellings of a label count: the tuning taught their sum.
    yes, no = spell(Probe("choose 1", ("yes", "no")), text, lambda _, word: weights.tokenize(word)).first
    weights.close()
    warnings.simplefilter("ignore", FutureWarning)  # of peft about transformers; pytest restores the filters
    tuned = peft.PeftModel.from_pretrained(
        load_model(model_file, TrainingConfig(device="cpu", dtype="float32")), str(adapters.find("ml-100k"))
    )
    with torch.no_grad():
        logits = tuned(input_ids=torch.tensor([tokens])).logits[0, -1]
    ours = score.logprobs[0][0] - score.logprobs[0][1]
    theirs = torch.logsumexp(logits[list(yes)], 0) - torch.logsumexp(logits[list(no)], 0)
    assert ours == pytest.approx(float(theirs), abs=0.1)
    assert score.mass[0] > 0.9


def test_a_card_tells_all_that_it_descends_from():
    first = {"name": "first"}
    second = {"name": "second", "start": first}
    assert adapters.descent({"name": "third", "start": second}) == [{"name": "third", "start": second}, second, first]
    assert adapters.descent(first) == [first]

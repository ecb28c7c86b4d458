"""Vectors in place of words: what they are called, how they are kept, who can read them and who says that it cannot."""

import numpy as np
import pytest

from simulator.errors import ModelError
from simulator.llm import adapters, vectors
from simulator.llm.llama_prompts import Compiler
from simulator.llm.replies import form, unrolled
from simulator.llm.vectors import FIRST, VectorTokens
from simulator.records import GenerationRequest, ItemVector, Message, Probe, Prompt, Segment
from simulator.seeds import Stream


class Letters:
    """A vocabulary of letters, in which 1 opens a text."""

    trained_context, adds_space, start_token, start_and_end = 0, False, 1, ("", "")

    def metadata(self, key):
        return None

    def tokenize(self, text, *, control=False):
        return [ord(letter) for letter in text]


PROMPT = Prompt(
    (Segment(("Rules.\n",)), Segment(("1. Heat", ItemVector("b"), " | watch:", Probe("choose 1", ("yes", "no")), "\n", ItemVector("?"))))
)


def arrays(items=2, rank=3, width=4, soft=0, seed=0):
    generator = np.random.default_rng(seed)
    found = {"soft": generator.normal(size=(soft, width))} if soft else {}
    if items:
        shapes = {"factors": (items + 1, rank), "w1": (5, rank), "b1": (5,), "w2": (width, 5), "b2": (width,)}
        found |= {name: generator.normal(size=shape) for name, shape in shapes.items()}
    return found


def test_a_soft_prompt_opens_every_text_and_items_have_numbers_beyond_every_vocabulary():
    compiler = Compiler(Letters(), 1_000, VectorTokens(2, ("a", "b")))
    compiled = compiler.prompt(PROMPT)
    assert compiled.chunks[0][:4].tolist() == [1, FIRST, FIRST + 1, ord("R")]
    assert compiled.chunks[1].tolist() == [*map(ord, "1. Heat"), FIRST + 3, *map(ord, " | watch: \n"), FIRST + 4]
    assert compiled.places[0].offset == len("1. Heat") + len(" | watch: ")
    asked = GenerationRequest((), 5, Stream(1), prompt=Prompt((Segment(("Go",)),)))
    assert compiler.request(asked).chunks[0].tolist() == [1, FIRST, FIRST + 1, ord("G"), ord("o")]
    talked = compiler.request(GenerationRequest((Message("user", "Go"),), 5, Stream(1)))
    assert np.concatenate(talked.chunks)[:3].tolist() == [1, FIRST, FIRST + 1]
    without = Compiler(Letters(), 1_000).request(GenerationRequest((Message("user", "Go"),), 5, Stream(1)))
    assert np.concatenate(talked.chunks).tolist() == [1, FIRST, FIRST + 1, *np.concatenate(without.chunks)[1:].tolist()]


def test_whoever_has_no_vectors_says_so_in_one_sentence():
    for ask in (Compiler(Letters(), 1_000).prompt, Compiler(Letters(), 1_000, VectorTokens(2)).prompt, unrolled, form):
        with pytest.raises(ModelError, match=r"item_vectors.*collaborative"):
            ask(PROMPT)


def test_what_is_written_is_read_back(tmp_path):
    given = arrays(soft=2)
    vectors.write(tmp_path, given, ["a", "b"])
    read = vectors.read(tmp_path)
    assert read.tokens == VectorTokens(2, ("a", "b"))
    assert read.table[:2] == pytest.approx(given["soft"], abs=1e-6)
    hidden = np.tanh(given["factors"] @ given["w1"].T + given["b1"])
    assert read.table[2:] == pytest.approx(hidden @ given["w2"].T + given["b2"], abs=1e-5)
    (tmp_path / vectors.FILE).write_bytes(b"cut")
    with pytest.raises(ModelError, match="damaged"):
        vectors.read(tmp_path)


def test_vectors_without_their_items_are_damaged(tmp_path):
    vectors.write(tmp_path, arrays(items=2), ["a", "b", "c"])
    with pytest.raises(ModelError, match="3 items and 3 rows"):
        vectors.read(tmp_path)


def test_an_adapter_of_vectors_is_found_by_name_and_cannot_be_merged_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    folder = adapters.tuned_folder() / "soft"
    folder.mkdir(parents=True)
    vectors.write(folder, arrays(items=0, soft=2), [])
    assert adapters.find("soft") == folder
    assert "soft" in adapters.names()
    with pytest.raises(ModelError, match=r"llama.cpp cannot compute with.*TransformersModel"):
        adapters.merged(tmp_path / "base.gguf", folder)


# --- transformers ---


def tiny(path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    torch.manual_seed(3)
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        ["Rules. 1. Heat | watch: yes no"] * 3,
        BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=["<s>"]),
    )
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")
    shape = transformers.LlamaConfig(
        vocab_size=len(wrapped), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(shape).save_pretrained(path)
    wrapped.save_pretrained(path)
    return torch, transformers


def test_learned_vectors_are_read_as_if_they_had_been_words(tmp_path):
    torch, transformers = tiny(tmp_path / "tiny")
    from simulator.llm.transformers_model import TransformersConfig, TransformersModel

    (tmp_path / "mine").mkdir()
    vectors.write(tmp_path / "mine", arrays(width=16, soft=2), ["a", "b"])
    options = {"path": str(tmp_path / "tiny"), "device": "cpu", "dtype": "float32"}
    model, plain = (
        TransformersModel(TransformersConfig(**options, adapter=tmp_path / "mine")),
        TransformersModel(TransformersConfig(**options)),
    )
    assert model.identity.sha256 != plain.identity.sha256
    compiled = model._batches.compiler.prompt(PROMPT)
    tokens = torch.tensor(np.concatenate(compiled.chunks).astype(np.int64))
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tiny", dtype=torch.float32).eval()
    table = torch.cat([whole.get_input_embeddings().weight.detach(), torch.from_numpy(vectors.read(tmp_path / "mine").table)])
    known = whole.get_input_embeddings().weight.shape[0]
    rows = torch.where(tokens >= FIRST, tokens - FIRST + known, tokens)
    with torch.no_grad():
        logits = whole(inputs_embeds=table[rows][None]).logits[0]
    place = compiled.places[0]
    at = logits[compiled.starts[place.chunk] + place.offset].log_softmax(-1).exp().numpy()
    chances = np.array([at[list(label)].sum() for label in place.spelling.first])
    scored = model.score([PROMPT])[0].logprobs[0]
    assert np.exp(scored) == pytest.approx(chances / chances.sum(), abs=1e-4)
    with pytest.raises(ModelError, match="item_vectors"):
        plain.score([PROMPT])
    model.close()
    plain.close()


def test_vectors_of_another_model_are_refused(tmp_path):
    tiny(tmp_path / "tiny")
    from simulator.llm.transformers_model import TransformersConfig, TransformersModel

    (tmp_path / "mine").mkdir()
    vectors.write(tmp_path / "mine", arrays(width=12, soft=2), ["a", "b"])
    with pytest.raises(ModelError, match="12 numbers, this model reads 16"):
        TransformersModel(TransformersConfig(path=str(tmp_path / "tiny"), adapter=tmp_path / "mine", device="cpu"))

"""The backend of transformers and torch: a tiny model of random weights for everything structural, the default model for its numbers."""

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import ModelError
from simulator.llm import labels
from simulator.llm.transformers_model import TransformersConfig, TransformersModel
from simulator.records import GenerationRequest, Message, Probe, Prompt, Segment
from simulator.seeds import Stream

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RULES = "Below is what one person did on a film site. Each line is a film that was shown, then whether the person did watch it.\n"
FILMS = ("Heat (1995) Crime", "Alien (1979) Horror", "Babe (1995) Children", "Big Night (1996) Drama", "Clue (1985) Comedy")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def page(person: int, number: int, *, items: int = 3) -> Prompt:
    parts: list[str | Probe] = [f"Page {number}.\n"]
    for place in range(1, items + 1):
        film = FILMS[(person + place * number) % len(FILMS)]
        parts += [f"{place}. {film} | watch:", Probe(f"watch {place}", ("yes", "no")), " stars:"]
        parts += [Probe(f"rate {place}", ("1", "2", "3", "4", "5")), "\n"]
    parts += ["My satisfaction, from 1 to 10:", Probe("satisfaction", tuple(str(number) for number in range(1, 11)))]
    parts += [" Then I go:", Probe("leave", ("leave", "next"))]
    who = f"The person: {20 + person} years old; loves {FILMS[person % len(FILMS)]}. Remembers {'much ' * person}.\n"
    return Prompt((Segment((RULES,)), Segment((who,)), Segment(tuple(parts))))


PROMPTS = [page(person, number, items=2 + person % 2) for number in (1, 2) for person in range(4)]


def tiny_tokenizer():
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]
    trainer = BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=marks, show_progress=False)
    tokenizer.train_from_iterator([RULES, *FILMS, "watch: yes no stars: 1 2 3 4 5 leave next satisfaction "] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def tiny_config(tokenizer, **options):
    return transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of random weights in Hugging Face layout."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_tokenizer()
    transformers.LlamaForCausalLM(tiny_config(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def load(folder):
    made = {}

    def make(**options):
        config = TransformersConfig.model_validate({"path": str(folder), "device": "cpu", "dtype": "float32", **options})
        key = config.model_dump_json()
        if key not in made:
            made[key] = TransformersModel(config)
        return made[key]

    yield make
    for model in made.values():
        model.close()


def plainly(folder, prompts):
    """The probabilities of each prompt from whole evaluations, one prompt and one question at a time."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = TransformersModel(TransformersConfig(path=str(folder), device="cpu", dtype="float32"))

    def logits(tokens):
        with torch.no_grad():
            return plain(torch.tensor([tokens])).logits[0, -1].float().numpy()

    answers = []
    for prompt in prompts:
        compiled = model._batches.compiler.prompt(prompt)
        tokens = np.concatenate(compiled.chunks).tolist()
        rows = []
        for place in compiled.places:
            end = compiled.starts[place.chunk] + place.offset + 1
            rows.append(labels.read(place.spelling, logits(tokens[:end]), lambda more, end=end, t=tokens: logits([*t[:end], *more])))
        answers.append(rows)
    model.close()
    return answers


@pytest.fixture(scope="module")
def expected(folder):
    return plainly(folder, PROMPTS)


def assert_near(scores, expected, tolerance=1e-4):
    for score, rows in zip(scores, expected, strict=True):
        assert score.status == "ok"
        assert len(score.logprobs) == len(rows) > 0
        for logprobs, mass, (right, right_mass) in zip(score.logprobs, score.mass, rows, strict=True):
            np.testing.assert_allclose(logprobs, right, atol=tolerance)
            assert mass == pytest.approx(right_mass, abs=tolerance)


def bits(scores):
    return [b"".join(row.tobytes() for row in score.logprobs) + np.array(score.mass).tobytes() for score in scores]


@pytest.mark.parametrize(
    "options",
    [{}, {"max_batch_tokens": 32}, {"max_batch_tokens": 4096}, {"kept_megabytes": 0}, {"max_batch_tokens": 4096, "kept_megabytes": 0}],
    ids=str,
)
def test_scores_are_those_of_whole_evaluations_one_at_a_time(load, expected, options):
    assert_near(load(**options).score(PROMPTS), expected)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_depth_of_the_kept_prefix_changes_nothing_but_the_last_digits(load, expected, depth):
    from simulator.llm.torch_batches import Batches

    batches = Batches(load()._network, context=1024, most_tokens=4096, sequences=4, kept_bytes=2**24, depth=depth)
    assert_near(batches.score(PROMPTS), expected)
    # With the rules kept, all people are in one batch; with everything kept, each person has a batch of their own.
    assert max(rows for rows, _ in batches.sizes) == {0: 24, 1: 24, 2: 6}[depth]


def test_the_labels_of_several_tokens_are_asked_again(load, expected):
    compiled = load()._batches.compiler.prompt(PROMPTS[0])
    assert any(place.spelling.inner for place in compiled.places)
    assert any(len(tokens) > 1 for place in compiled.places for tokens in place.spelling.labels)


def test_the_order_of_prompts_changes_no_bit(load):
    order = list(range(len(PROMPTS)))
    random.Random(3).shuffle(order)
    for options in ({}, {"max_batch_tokens": 4096}):
        model = load(**options)
        straight = bits(model.score(PROMPTS))
        shuffled = dict(zip(order, bits(model.score([PROMPTS[i] for i in order])), strict=True))
        assert [shuffled[i] for i in range(len(PROMPTS))] == straight


def test_equal_prompts_are_computed_once(load):
    model = load(max_batch_tokens=4096)
    once = bits(model.score(PROMPTS[:2]))
    before = model.usage
    assert bits(model.score([*PROMPTS[:2], *PROMPTS[:2]])) == once * 2
    assert (model.usage - before).calls == 4
    first = model.usage
    model.score(PROMPTS[:2])
    assert (model.usage - first).computed_tokens == (first - before).computed_tokens


@pytest.mark.parametrize("max_batch_tokens", [64, 4096])
def test_what_was_asked_before_changes_no_bit(folder, load, max_batch_tokens):
    fresh = TransformersModel(
        TransformersConfig(path=str(folder), device="cpu", dtype="float32", max_batch_tokens=max_batch_tokens, kept_megabytes=0)
    )
    first = bits(fresh.score(PROMPTS))
    used = load(max_batch_tokens=max_batch_tokens)
    used.score([page(9, 3), *PROMPTS[2:5]])
    used.generate([GenerationRequest((), 6, Stream(1), prompt=Prompt(PROMPTS[1].segments[:2]))])
    assert bits(used.score(PROMPTS)) == first
    fresh.close()


def test_a_kept_prefix_is_not_computed_again(folder):
    model = TransformersModel(TransformersConfig(path=str(folder), device="cpu", dtype="float32"))
    model.score(PROMPTS[:4])
    before = model.usage
    model.score([page(person, 5) for person in range(4)])
    compiled = [model._batches.compiler.prompt(page(person, 5)) for person in range(4)]
    pages = sum(len(prompt.chunks[-1]) for prompt in compiled)
    # the labels from 1 to 10 begin with the same tokens, so each page is asked twice more behind them.
    assert (model.usage - before).computed_tokens <= 3 * pages + 16
    assert (model.usage - before).prompt_tokens == sum(prompt.length for prompt in compiled)
    model.close()


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=2, max_size=6))
def test_padding_changes_nothing_but_the_last_digits(load, lengths):
    prompts = [
        Prompt((Segment((RULES,)), Segment((f"{'more ' * n}watch:", Probe("watch", ("yes", "no")), " and", Probe("b", ("no", "yes"))))))
        for n in lengths
    ]
    together = load(max_batch_tokens=8192).score(prompts)
    for prompt, score in zip(prompts, together, strict=True):
        alone = load(max_batch_tokens=32).score([prompt])[0]
        np.testing.assert_allclose(np.array(score.logprobs), np.array(alone.logprobs), atol=1e-4)


def test_a_window_of_attention_is_kept_behind_a_kept_prefix(tmp_path):
    torch.manual_seed(4)
    tokenizer = tiny_tokenizer()
    config = transformers.MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=24, max_position_embeddings=1024, initializer_range=0.3,
    )  # fmt: skip
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path / "sliding")
    tokenizer.save_pretrained(tmp_path / "sliding")
    model = TransformersModel(TransformersConfig(path=str(tmp_path / "sliding"), device="cpu", dtype="float32"))
    assert_near(model.score(PROMPTS[:3]), plainly(tmp_path / "sliding", PROMPTS[:3]))
    model.close()


def test_text_of_people_never_becomes_a_control_token(load):
    vocabulary = load()._network.vocabulary
    mark = vocabulary.tokenize("<|im_end|>", control=True)
    assert len(mark) == 1
    assert vocabulary.ends(mark[0])
    assert vocabulary.piece(mark[0]) == b""
    assert mark[0] not in vocabulary.tokenize("a title <|im_end|> of a film")
    chunks = (
        load()
        ._batches.compiler.request(GenerationRequest((Message("system", "Be short."), Message("user", "<|im_end|>")), 4, Stream(0)))
        .chunks
    )
    assert [chunk.tolist().count(mark[0]) for chunk in chunks] == [0, 2]


@given(text=st.text(max_size=40))
def test_the_pieces_of_a_text_are_its_bytes(load, text):
    vocabulary = load()._network.vocabulary
    assert b"".join(vocabulary.piece(token) for token in vocabulary.tokenize(text)) == text.encode("utf-8", "replace")


# --- texts ---


def requests(n, **options):
    return [
        GenerationRequest((Message("system", "You love films."), Message("user", f"Tell me about film {k}.")), 8 + k, Stream(k), **options)
        for k in range(n)
    ]


def test_texts_continue_what_they_are_given_as_one_at_a_time(folder, load):
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = [
        *requests(3, temperature=0),
        *(GenerationRequest((), 9, Stream(k), temperature=0, prompt=Prompt(PROMPTS[k].segments[:2])) for k in range(3)),
    ]
    for sequences in (1, 2, 6):
        model = load(sequences=sequences)
        for request, completion in zip(asked, model.generate(asked), strict=True):
            tokens = np.concatenate(model._batches.compiler.request(request).chunks).tolist()
            written = []
            while len(written) < request.max_tokens:
                with torch.no_grad():
                    token = int(plain(torch.tensor([tokens + written])).logits[0, -1].argmax())
                if model._network.vocabulary.ends(token):
                    break
                written.append(token)
            right = b"".join(model._network.vocabulary.piece(token) for token in written).decode("utf-8", "ignore")
            assert (completion.text, completion.tokens) == (right, len(written))


def test_the_same_requests_give_the_same_texts_and_other_seeds_others(folder, load):
    first = load(sequences=3).generate(requests(7))
    load(sequences=3).score(PROMPTS[:2])
    assert load(sequences=3).generate(requests(7)) == first
    fresh = TransformersModel(TransformersConfig(path=str(folder), device="cpu", dtype="float32", sequences=3))
    assert fresh.generate(requests(7)) == first
    fresh.close()
    others = [GenerationRequest(request.messages, request.max_tokens, Stream(100)) for request in requests(7)]
    assert load(sequences=3).generate(others) != first


def test_texts_end_before_a_stop_string_or_at_the_limit(load):
    prompt = Prompt((Segment(("Once upon a time",)),))
    whole = load().generate([GenerationRequest((), 30, Stream(5), prompt=prompt)])[0]
    assert (whole.tokens, whole.status) == (30, "length")
    stop = whole.text[6:8]
    stopped = load().generate([GenerationRequest((), 30, Stream(5), prompt=prompt, stop=("never there", stop))])[0]
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.status == "ok"
    assert stopped.tokens < 30


SCHEMA = {
    "type": "object",
    "properties": {
        "film": {"type": "string", "maxLength": 6},
        "stars": {"enum": [1, 2, 3]},
        "again": {"type": "boolean"},
        "like": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 20}, "minItems": 1, "maxItems": 2},
    },
    "required": ["film", "stars"],
}


def test_a_schema_is_satisfied(load):
    asked = [GenerationRequest((Message("user", "Rate a film, as JSON."),), 200, Stream(k), schema=SCHEMA) for k in range(4)]
    for completion in load().generate(asked):
        assert completion.status == "ok"
        answer = json.loads(completion.text)
        assert list(answer) == ["film", "stars", "again", "like"]
        assert len(answer["film"]) <= 6
        assert answer["stars"] in (1, 2, 3)
        assert isinstance(answer["again"], bool)
        assert all(0 <= number <= 20 for number in answer["like"])
        assert len(answer["like"]) in (1, 2)


# --- errors ---


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt((Segment(("word " * 600 + "watch:", Probe("watch", ("yes", "no")))),)), ("context", "512")),
        (Prompt((Segment((Probe("watch", ("yes", "no")),)),)), ("watch", "no text before")),
        (Prompt((Segment(("watch:", Probe("watch", ("yes", "")))),)), ("watch", "''")),
    ],
)
def test_prompts_that_cannot_be_scored_are_explained(load, prompt, words):
    with pytest.raises(ModelError) as caught:
        load(context=512).score([PROMPTS[0], prompt])
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (GenerationRequest((Message("user", "Hello"),), 600, Stream(0)), ("context", "600")),
        (GenerationRequest((), 5, Stream(0)), ("nothing",)),
        (GenerationRequest((), 5, Stream(0), prompt=Prompt((Segment(("a:", Probe("a", ("b", "c")))),))), ("probes",)),
        (GenerationRequest((Message("user", "Hello"),), 5, Stream(0), schema={"type": "nonsense"}), ("schema", "nonsense")),
    ],
)
def test_texts_that_cannot_be_written_are_explained(load, request_, words):
    with pytest.raises(ModelError) as caught:
        load(context=512).generate([request_])
    assert all(word in str(caught.value) for word in words)


def copied(folder, target, **changes):
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def message(**options):
    with pytest.raises(ModelError) as caught:
        TransformersModel(TransformersConfig.model_validate({"device": "cpu", "dtype": "float32", **options}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_that_cannot_be_loaded_are_one_sentence(folder, tmp_path):
    assert "nowhere" in message(path=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "config.json" in message(path=str(tmp_path / "empty"))
    assert "BertForMaskedLM" in message(path=str(copied(folder, tmp_path / "bert", architectures=["BertForMaskedLM"], model_type="bert")))
    assert "cannot be loaded" in message(path=str(copied(folder, tmp_path / "unknown", model_type="unheard-of")))
    cut = copied(folder, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert "cut off" in message(path=str(cut))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    assert "broken.gguf" in message(path=str(broken))
    assert "no adapter_config.json" in message(path=str(folder), adapter=str(tmp_path / "empty"))


def test_a_recurrent_model_is_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    config = transformers.MambaConfig(vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=1)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    assert "recurrent" in message(path=str(tmp_path / "mamba"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_not_there_is_one_sentence(folder):
    assert 'device = "cuda"' in message(path=str(folder), device="cuda")


def test_a_lack_of_memory_says_what_to_lower(folder, monkeypatch):
    model = TransformersModel(TransformersConfig(path=str(folder), device="cpu", dtype="float32"))

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nAnd more.")

    monkeypatch.setattr(model._network, "_model", full)
    with pytest.raises(ModelError, match="max_batch_tokens") as caught:
        model.score(PROMPTS[:1])
    assert "\n" not in str(caught.value)


def test_a_closed_model_says_so(folder):
    model = TransformersModel(TransformersConfig(path=str(folder), device="cpu", dtype="float32"))
    model.close()
    model.close()
    for call in (lambda: model.score([]), lambda: model.generate([]), lambda: model.count_tokens("a")):
        with pytest.raises(ModelError, match="closed"):
            call()


# --- adapters, identity, imports ---


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_changes_the_numbers_and_the_identity(folder, tmp_path, load):
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tuned = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "lora")
    model = TransformersModel(TransformersConfig(path=str(folder), adapter=tmp_path / "lora", device="cpu", dtype="float32"))
    plain = load()
    assert model.identity.sha256 != plain.identity.sha256
    assert model.identity.name == "tiny+lora"
    assert not np.allclose(model.score(PROMPTS[:1])[0].logprobs[0], plain.score(PROMPTS[:1])[0].logprobs[0], atol=1e-3)
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    assert_near(model.score(PROMPTS[:2]), plainly(tmp_path / "merged", PROMPTS[:2]))
    model.close()


def test_the_identity_names_what_decides_the_numbers(load, folder, tmp_path):
    identity = load().identity
    assert len(identity.sha256) == 64
    assert identity.settings["dtype"] == "float32"
    assert identity.settings["device"] == "cpu"
    assert load(dtype="bfloat16").identity != identity
    assert load(max_batch_tokens=64).identity != identity
    assert load(kept_megabytes=0).identity == identity
    other = copied(folder, tmp_path / "tiny", rope_theta=5000.0)
    changed = TransformersModel(TransformersConfig(path=str(other), device="cpu", dtype="float32"))
    assert changed.identity.sha256 != identity.sha256
    changed.close()


def test_half_of_the_digits_give_nearly_the_same_distributions(load, expected):
    for score, rows in zip(load(dtype="bfloat16").score(PROMPTS), expected, strict=True):
        for logprobs, (right, _) in zip(score.logprobs, rows, strict=True):
            assert float(np.exp(right) @ (right - logprobs)) < 0.02


def test_torch_is_loaded_only_by_who_uses_it():
    code = (
        "import sys, simulator.llm.transformers_model, experiments.build; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the default model ---


@pytest.mark.model
def test_the_default_model_agrees_with_llama_cpp(model_file):
    from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig

    other = LlamaCpp(LlamaCppConfig(format="as-is", context=512, sequences=1))
    right = other.score(PROMPTS)
    compiled = [other._compiler.prompt(prompt) for prompt in PROMPTS]
    other.close()
    model = TransformersModel(TransformersConfig(device="cpu"))
    for prompt, tokens in zip(PROMPTS, compiled, strict=True):
        mine = model._batches.compiler.prompt(prompt)
        assert [chunk.tolist() for chunk in mine.chunks] == [chunk.tolist() for chunk in tokens.chunks]
        assert mine.places == tokens.places
    divergences = [
        float(np.exp(theirs) @ (theirs - mine))
        for score, reference in zip(model.score(PROMPTS), right, strict=True)
        for mine, theirs in zip(score.logprobs, reference.logprobs, strict=True)
    ]
    model.close()
    assert np.mean(divergences) < 0.02


def test_a_run_has_the_same_log_with_one_worker_and_two(folder, tmp_path, film_files):
    from experiments.cli import call

    longer = tmp_path / "longer"
    shutil.copytree(folder, longer)
    config = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    file = tmp_path / "workers.toml"
    file.write_text(
        f'name = "workers"\ncohort_size = 2\n[dataset]\npath = {json.dumps(str(film_files))}\n[population]\nusers = 4\n'
        '[memory]\nuse = "agents.memory:NoMemory"\n[decision]\nuse = "agents.decisions:LanguageModelDecisions"\nrecentre = false\n'
        f'[language_model]\nuse = "simulator.llm.transformers_model:TransformersModel"\npath = {json.dumps(str(longer))}\ndevice = "cpu"\n'
        '[recommender]\nuse = "environments.recommenders.popularity:Popularity"\npage_size = 2\nmax_pages = 2\n',
        encoding="utf-8",
    )
    summaries = []
    for workers in ("1", "2"):
        assert call(["run", str(file), "--output", str(tmp_path / workers), "--workers", workers]) == 0
        summaries.append(json.loads((tmp_path / workers / "summary.json").read_text()))
    assert summaries[0]["sha256"] == summaries[1]["sha256"]
    assert summaries[0]["pages"] >= 4
    assert summaries[0]["fallback_share"] == 0

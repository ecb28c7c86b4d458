"""The model without a model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ScriptExhausted
from simulator.llm.scripted import ScriptedConfig, ScriptedLanguageModel
from simulator.plugins import build
from simulator.records import GenerationRequest, Message, Probe, Prompt, Scores, Segment
from simulator.seeds import Stream


def prompt(text: str) -> Prompt:
    return Prompt((Segment((text, Probe("watch", ("yes", "no")), "\n", Probe("rate", ("1", "2", "3")))),))


def test_it_gives_what_the_script_holds_and_then_stops():
    answer = Scores((np.log([0.9, 0.1]),), (1.0,))
    model = ScriptedLanguageModel(scores=[answer], texts=["I liked it"])
    assert model.score([prompt("a")]) == [answer]
    request = GenerationRequest((Message("user", "Why?"),), 9, Stream(0))
    assert model.generate([request])[0].text == "I liked it"
    with pytest.raises(ScriptExhausted, match="prompt 2"):
        model.score([prompt("b")])
    with pytest.raises(ScriptExhausted, match="request 2"):
        model.generate([request])
    assert [asked.text for asked in model.prompts] == [prompt("a").text, prompt("b").text]
    assert model.requests == [request, request]


def test_a_function_may_answer():
    model = ScriptedLanguageModel(scores=lambda asked: Scores((), (), "refused", asked.text[:1]))
    assert [score.reply for score in model.score([prompt("x"), prompt("y")])] == ["x", "y"]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True), st.floats(0, 4))
def test_without_a_script_an_answer_depends_on_its_prompt_alone(texts, spread):
    model = ScriptedLanguageModel(ScriptedConfig(spread=spread))
    together = model.score([prompt(text) for text in texts])
    for text, score in zip(texts, together, strict=True):
        alone = ScriptedLanguageModel(ScriptedConfig(spread=spread)).score([prompt(text)])[0]
        assert [row.tobytes() for row in alone.logprobs] == [row.tobytes() for row in score.logprobs]
        assert [len(row) for row in score.logprobs] == [2, 3]
        assert all(np.isclose(np.exp(row).sum(), 1) for row in score.logprobs)


def test_answers_vary_as_much_as_wanted():
    model = ScriptedLanguageModel(ScriptedConfig(spread=2.0))
    odds = [float(row[0] - row[1]) for score in model.score([prompt(str(k)) for k in range(2000)]) for row in score.logprobs[:1]]
    assert abs(np.std(odds) - 2.0 * np.sqrt(2)) < 0.15
    assert abs(np.mean(odds)) < 0.15


def test_a_share_of_the_replies_may_be_unusable():
    model = build("simulator.llm.scripted:ScriptedLanguageModel", {"unusable_share": 0.25}, where="language_model", methods=("score",))
    bad = [score for score in model.score([prompt(str(k)) for k in range(1000)]) if score.status != "ok"]
    assert 200 < len(bad) < 300
    assert all(not score.logprobs and score.reply for score in bad)


def test_work_is_counted():
    model = ScriptedLanguageModel()
    model.score([prompt("three short words ")])
    model.generate([GenerationRequest((), 4, Stream(1), prompt=prompt("x"))])
    assert model.usage.calls == 2
    assert model.usage.prompt_tokens > 0
    assert model.usage.generated_tokens == 4

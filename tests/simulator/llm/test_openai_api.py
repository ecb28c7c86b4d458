import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from simulator.errors import BudgetError, ConfigError, ModelError, ServerError
from simulator.llm import http_server
from simulator.llm import openai_documents as documents
from simulator.llm.openai_api import OpenAIConfig, OpenAIServer
from simulator.llm.replies import read_labels
from simulator.llm.testing_server import MadeUpServer, next_tokens
from simulator.plugins import build
from simulator.records import GenerationRequest, Message, Probe, Prompt, Segment
from simulator.seeds import Stream
from simulator.testing_liars import LIES, Liar

QUICK = {"first_wait_s": 0.01, "timeout_s": 1.0, "retries": 4}
YES_NO = ("yes", "no")


made = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while made:
        made.pop().close()


def model(server, **options):
    made.append(OpenAIServer(OpenAIConfig(base_url=server.url, **{**QUICK, **options})))
    return made[-1]


def page(number, probes=True):
    film = f"1. Film {number} “東京” | watch:"
    parts = (film, Probe("choose 1", YES_NO), " stars:", Probe("rate 1", tuple("12345")), "\nThen I go:", Probe("leave", ("leave", "next")))
    return Prompt((Segment((f"Somebody {number % 3} browses.\n",)), Segment(parts if probes else (film,))))


def pages(count):
    return [page(number) for number in range(count)]


def same(left, right):
    assert [score.status for score in left] == [score.status for score in right]
    for one, other in zip(left, right, strict=True):
        assert one.mass == other.mass
        assert all(np.array_equal(a, b) for a, b in zip(one.logprobs, other.logprobs, strict=True))


def test_probabilities_of_labels_are_those_of_the_server_by_echo_or_one_probe_at_a_time():
    with MadeUpServer() as server:
        one, other = model(server), model(server, mode="logprobs")
        assert one.mode == other.mode == "echo"
        echoed = one.score(pages(3))
        asked = len(server.asked)
        server.echo = False
        plain = model(server)
        assert plain.mode == "logprobs"
        server.asked.clear()
        same(plain.score(pages(3)), echoed)
    # Three probes per page and one more question behind the space before a digit.
    assert len(server.asked) == 3 * 4
    assert asked < 3 * 4
    before = "Somebody 1 browses.\n1. Film 1 “東京” | watch:"
    likely = next_tokens(before)
    yes, no = likely[" yes"] + likely[" Yes"], likely[" no"]
    assert np.exp(echoed[1].logprobs[0]) == pytest.approx([yes / (yes + no), no / (yes + no)])
    assert echoed[1].mass[0] == pytest.approx(yes + no)
    digits = next_tokens(before + " stars: ")
    stars = np.array([digits[str(star)] for star in range(1, 6)])
    assert np.exp(echoed[1].logprobs[1]) == pytest.approx(stars / stars.sum())


def test_labels_that_begin_one_another_share_the_probability_of_the_shorter():
    prompt = Prompt((Segment(("From 1 to 10:", Probe("satisfaction", tuple(str(n) for n in range(1, 11))))),))
    with MadeUpServer() as server:
        scores = model(server).score([prompt])[0]
    digits, after = next_tokens("From 1 to 10: "), next_tokens("From 1 to 10: 1")
    expected = np.array([digits[str(n)] for n in range(1, 10)] + [digits["1"] * after["0"]])
    expected[0] *= 1 - after["0"]
    assert np.exp(scores.logprobs[0]) == pytest.approx(expected / expected.sum())


def test_without_probabilities_one_form_per_page_is_filled_in():
    with MadeUpServer(probabilities=False) as server:
        forms = model(server, smoothing=0.1)
        assert forms.mode == "schema"
        server.asked.clear()
        scores = forms.score(pages(4))
        assert len(server.asked) == 4
        schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["rate 1"] == {"type": "string", "enum": list("12345")}
    assert schema["required"] == ["choose 1", "rate 1", "leave"]
    for score in scores:
        assert score.status == "ok"
        assert sorted(np.exp(score.logprobs[1])) == pytest.approx([0.025] * 4 + [0.9])
    assert len({tuple(np.exp(score.logprobs[1]).round(3)) for score in scores}) > 1


def test_a_server_that_calls_what_it_does_not_support_an_error_of_its_own_is_asked_in_forms():
    """As `python -m llama_cpp.server` does with a model that does not keep all logits, each time it is asked."""
    with MadeUpServer(probabilities=False, refused_with=500) as server:
        forms = model(server)
        assert forms.mode == "schema"
        assert forms.score([page(1)])[0].status == "ok"


def test_a_server_with_the_older_schema_format_is_asked_in_it():
    with MadeUpServer(probabilities=False, response_format="json_object") as server:
        forms = model(server)
        assert forms.identity.settings["response_format"] == "json_object"
        assert forms.score([page(1)])[0].status == "ok"


@pytest.mark.parametrize(
    "reply",
    ["I would watch it", "{}", '{"choose 1": "yes", "rate 1": "9", "leave": "next"}', '["yes"]', '{"choose 1": "yes", "rate 1": "3"}', ""],
)
def test_a_form_that_is_not_filled_in_properly_is_unreadable_and_kept(reply):
    with MadeUpServer(probabilities=False) as server:
        forms = model(server)
        server.says = reply
        score = forms.score([page(1)])[0]
    assert (score.status, score.reply, score.logprobs) == ("unreadable", reply, ())


def test_a_fence_around_the_json_and_numbers_for_labels_do_no_harm():
    with MadeUpServer(probabilities=False) as server:
        forms = model(server)
        server.says = '```json\n{"choose 1": "Yes", "rate 1": 3, "leave": "next"}\n```'
        score = forms.score([page(1)])[0]
    assert [int(np.argmax(values)) for values in score.logprobs] == [0, 2, 1]


def test_every_fault_is_survived_without_losing_or_exchanging_an_answer():
    with MadeUpServer() as server:
        expected = model(server).score(pages(12))
    faults = ["ok"] * 2 + [
        "500",
        "slow",
        "429",
        "cut",
        "ok",
        "hang",
        "not json",
        "500",
        "slow",
        "ok",
        "cut",
        "429",
        "hang",
        "slow",
        "not json",
    ]
    with MadeUpServer(faults) as server:
        faulty = model(server, concurrency=4)
        same(faulty.score(pages(12)), expected)
        spent = faulty.ledger.spent()
    assert spent.lost == sum(fault in ("cut", "hang", "not json") for fault in faults)
    assert server.attempts > len(faults)


def test_answers_keep_the_order_of_the_requests_whatever_comes_first():
    requests = [GenerationRequest((Message("user", f"Film {n}?"),), 8, Stream(n)) for n in range(10)]
    with MadeUpServer() as server:
        expected = [model(server).generate([request])[0] for request in requests]
    with MadeUpServer(["ok", "ok", "slow", "ok", "slow", "ok", "ok", "slow"]) as server:
        assert model(server, concurrency=5).generate(requests) == expected
    assert len({completion.text for completion in expected}) > 5


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date):
    with MadeUpServer(["ok", "ok", "429"]) as server:
        server.retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if as_date else 0.7
        asked = model(server)
        if as_date:
            server.retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        assert asked.score([page(1)])[0].status == "ok"
    assert server.moments[3] - server.moments[2] >= (0.9 if as_date else 0.69)


def test_a_wait_that_is_too_long_ends_the_run_instead():
    with MadeUpServer(["ok", "ok", "429"]) as server:
        server.retry_after = 86_400
        with pytest.raises(ServerError, match="asks to wait 86400 s, more than longest_wait_s = 120"):
            model(server).score([page(1)])


def test_a_page_that_always_fails_has_a_status_and_the_others_their_answers():
    with MadeUpServer() as server:
        asked = model(server, retries=1)
        expected = asked.score(pages(5))
        server.poison = "Film 3"
        scores = asked.score(pages(5))
        assert asked.generate([GenerationRequest((Message("user", "Film 3?"),), 8, Stream(1))])[0].status == "error 500"
    assert [score.status for score in scores] == ["ok", "ok", "ok", "error 500", "ok"]
    assert scores[3].reply == "made to fail"
    same([score for score in scores if score.status == "ok"], [*expected[:3], expected[4]])


@pytest.mark.parametrize("fault", ["500", "429", "cut", "not json"])
def test_a_server_that_keeps_failing_ends_the_run_with_one_sentence(fault):
    with MadeUpServer() as server:
        asked = model(server, retries=1, concurrency=3)
        server.broken = fault
        with pytest.raises(ServerError, match=r"keeps failing \(2 attempts.*usersim resume"):
            asked.score(pages(9))
        server.broken = None
        assert all(score.status == "ok" for score in asked.score(pages(9)))


def test_a_server_that_is_not_there_is_said_so():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServerError, match=f"there is no server at http://127.0.0.1:{port}/v1") as error:
        OpenAIServer(OpenAIConfig(base_url=f"http://127.0.0.1:{port}/v1", **QUICK))
    assert "\n" not in str(error.value)


def test_a_wrong_or_missing_key_is_said_and_never_shown(monkeypatch):
    with MadeUpServer(key="right-key") as server:
        monkeypatch.setenv("MADE_UP_KEY", "wrong-key")
        with pytest.raises(ModelError, match=r"does not accept the key in \$MADE_UP_KEY: 401 incorrect key") as error:
            model(server, api_key_env="MADE_UP_KEY")
        assert "wrong-key" not in str(error.value)
        with pytest.raises(ModelError, match="does not accept a request without a key"):
            model(server)
        monkeypatch.delenv("MADE_UP_KEY")
        with pytest.raises(ModelError, match=r"the environment variable MADE_UP_KEY .api_key_env. is not set"):
            model(server, api_key_env="MADE_UP_KEY")
        monkeypatch.setenv("MADE_UP_KEY", "right-key")
        assert model(server, api_key_env="MADE_UP_KEY").score([page(1)])[0].status == "ok"


def test_an_unknown_model_is_an_error_with_a_suggestion():
    with MadeUpServer(models=("llama", "qwen")) as server:
        with pytest.raises(ModelError, match="unknown model 'lama'; did you mean 'llama'"):
            model(server, model="lama")
        with pytest.raises(ModelError, match="lists 2 models: llama, qwen; name one"):
            model(server)
        assert model(server, model="qwen").identity.name == "qwen"


def test_a_server_without_what_the_mode_needs_is_said_so():
    with MadeUpServer(probabilities=False, response_format="none") as server:
        with pytest.raises(ModelError, match=r'does not tell the probabilities of tokens.*set mode = "schema"'):
            model(server, mode="logprobs")
        with pytest.raises(ModelError, match="neither tells probabilities nor accepts a JSON schema"):
            model(server)


def test_fewer_listed_tokens_are_asked_for_where_the_server_allows_no_more():
    with MadeUpServer(most=5) as server:
        asked = model(server)
        assert asked.identity.settings["top_logprobs"] == 5
        scores = asked.score([page(number) for number in range(20)])
    assert all(np.isfinite(values).all() for score in scores for values in score.logprobs)


def test_no_label_among_the_listed_tokens_is_unreadable():
    prompt = Prompt((Segment(("He says:", Probe("word", ("perhaps", "surely")))),))
    with MadeUpServer() as server:
        score = model(server).score([prompt])[0]
    assert score.status == "unreadable"
    assert "no label of 'word'" in score.reply


def test_text_of_items_is_sent_as_text():
    nasty = 'a "b" \\ <|im_end|>\n[INST] \ud800 \x00 </s> <choose 1: yes|no>'
    prompt = Prompt((Segment((nasty + " watch:", Probe("choose 1", YES_NO))),))
    with MadeUpServer() as server:
        texts = model(server)
        assert texts.score([prompt])[0].status == "ok"
        texts.generate([GenerationRequest((Message("user", nasty),), 8, Stream(1))])
        model(server, mode="schema").score([prompt])
        sent = [body["prompt"] if "prompt" in body else body["messages"][-1]["content"] for body in server.asked]
    assert len(sent) >= 3
    assert not any(mark in text for text in sent for mark in ("<|im_end|>", "[INST]", "</s>"))
    assert any('a "b" \\ < |im_end|>\n[ INST] ? \x00' in text for text in sent)
    assert sum("<choose 1: yes|no>" in text for text in sent) == 3
    assert sent[-1].count("<choose 1: yes|no>") == 1


def test_texts_continue_a_prompt_or_a_conversation_and_end_before_a_stop():
    prompt = Prompt((Segment(("My visit is over. I",)),))
    plain = GenerationRequest((), 6, Stream(1), prompt=prompt)
    with MadeUpServer() as server:
        whole = model(server).generate([plain])[0]
        word = whole.text.split()[0]
        cut = model(server).generate([GenerationRequest((), 6, Stream(1), stop=(word,), prompt=prompt)])[0]
        assert server.asked[-1]["seed"] == Stream(1).integer()
        chat = model(server, mode="schema").generate([plain])[0]
        assert [message["role"] for message in server.asked[-1]["messages"]] == ["system", "user"]
    assert (whole.status, whole.tokens) == ("length", 6)
    assert cut.text == whole.text.partition(word)[0]
    assert chat.status == "ok"


def test_keys_of_a_body_can_be_added_and_left_out():
    with MadeUpServer() as server:
        asked = model(server, extra_body={"top_p": 0.5}, leave_out=("seed",))
        asked.generate([GenerationRequest((Message("user", "Hello"),), 8, Stream(1))])
    assert server.asked[-1]["top_p"] == 0.5
    assert "seed" not in server.asked[-1]


def test_the_budget_stops_before_the_next_request_and_is_remembered(tmp_path):
    paid = {"price_per_million_prompt_tokens": 1e6, "price_per_million_completion_tokens": 1e6, "concurrency": 1}
    with MadeUpServer() as server:
        asked = model(server, budget=700, ledger=tmp_path / "ledger.sqlite", **paid)
        with pytest.raises(BudgetError, match="budget of 700 is used up") as error:
            asked.score(pages(50))
        assert error.value.exit_status == 1
        spent = asked.ledger.spent()
        usage = list(server.asked)
        assert 700 <= spent.money < 800
        assert spent.requests == len(usage)
        assert spent.money == spent.prompt_tokens + spent.completion_tokens
        asked.close()
        with pytest.raises(BudgetError):
            model(server, budget=700, ledger=tmp_path / "ledger.sqlite", **paid)
        assert len(server.asked) == len(usage)
        assert model(server, budget=1e6, ledger=tmp_path / "ledger.sqlite", **paid).score([page(1)])[0].status == "ok"


def test_a_budget_without_prices_is_refused():
    with pytest.raises(ConfigError, match="a budget needs price_per_million_prompt_tokens"):
        build("simulator.llm.openai_api:OpenAIServer", {"base_url": "http://h/v1", "budget": 1}, where="language_model", methods=("score",))


def test_requests_keep_the_pace():
    with MadeUpServer() as server:
        asked = model(server, requests_per_minute=600)
        asked.score(pages(5))
    gaps = np.diff(sorted(server.moments))
    assert gaps.sum() >= 0.1 * (len(gaps) - 1)


def test_usage_counts_what_the_server_tells_and_a_closed_model_is_an_error():
    with MadeUpServer() as server:
        asked = model(server)
        before = asked.usage
        server.asked.clear()
        asked.score(pages(2))
        used = asked.usage - before
        assert used.calls == len(server.asked)
        assert used.prompt_tokens > 40
        assert asked.count_tokens("a" * 9) == 3
        assert json.dumps(dict(asked.identity.settings))
        asked.close()
        asked.close()
        with pytest.raises(ModelError, match="was closed"):
            asked.score([page(1)])


def test_probabilities_in_the_form_of_chats_are_read_as_llama_server_writes_them():
    with MadeUpServer() as server:
        expected = model(server, mode="logprobs").score(pages(3))
    with MadeUpServer(form="chat") as server:
        chat = model(server)
        assert chat.mode == "logprobs"
        same(chat.score(pages(3)), expected)


def test_the_example_of_a_reply_in_the_form_of_chats_gives_its_probabilities():
    listed = [{"token": " yes", "logprob": -0.511}, {"token": " no", "logprob": -1.204}, {"token": " maybe", "logprob": -2.303}]
    document = {"choices": [{"text": " yes", "logprobs": {"content": [{"token": " yes", "logprob": -0.511, "top_logprobs": listed}]}}]}
    found = documents.last_listed(document, 5)
    assert found == pytest.approx({" yes": 0.6, " no": 0.3, " maybe": 0.1}, abs=1e-3)
    read, mass = read_labels(Probe("choose", YES_NO), {"": found})
    assert np.exp(read) == pytest.approx([2 / 3, 1 / 3], abs=1e-3)
    assert mass == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        "none",
        [],
        {},
        {"content": None},
        {"content": [None]},
        {"content": [{"token": 5}]},
        {"content": [{"token": "a", "top_logprobs": [None, 5, {"token": 5}]}]},
        {"top_logprobs": None, "tokens": "abc"},
        {"top_logprobs": ["x", 5], "tokens": [], "text_offset": 7},
        {"top_logprobs": [[{"token": None, "logprob": -1}]]},
    ],
)
def test_log_probabilities_of_another_form_are_not_told(logprobs):
    document = {"choices": [{"text": "x", "logprobs": logprobs}]}
    assert documents.last_listed(document, 5) == {}
    assert documents.echoed(document, "x", 5) == {}


@pytest.mark.parametrize("form", ["lists", "chat"])
@pytest.mark.parametrize("told", [0.7, 3.0, float("nan"), float("inf"), -float("inf"), -0.01, "much"])
def test_impossible_probabilities_are_unreadable_and_counted(form, told):
    with MadeUpServer(form=form) as server:
        asked = model(server)
        server.tells = lambda value: told
        scores = asked.score(pages(2))
    assert [score.status for score in scores] == ["unreadable"] * 2
    assert all(not score.logprobs and ("no logarithm" in score.reply or "more than 1" in score.reply) for score in scores)


def test_a_server_of_impossible_probabilities_is_asked_in_forms_and_says_why(caplog):
    with MadeUpServer() as server:
        server.tells = lambda value: -value
        with caplog.at_level("INFO"):
            assert model(server).mode == "schema"
        assert "no logarithm of a probability" in caplog.text
        with pytest.raises(ModelError, match="no logarithm of a probability"):
            model(server, mode="logprobs")


def test_it_is_said_when_forms_take_the_place_of_probabilities_and_only_then(caplog):
    with caplog.at_level("INFO"), MadeUpServer() as server:
        model(server)
        model(server, mode="schema")
        assert "fill in forms" not in caplog.text
    with caplog.at_level("INFO"), MadeUpServer(probabilities=False) as server:
        model(server)
        assert f"The server at {server.url} does not tell the probabilities of tokens: people fill in forms" in caplog.text


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": "5", "completion_tokens": "1"}, (5, 1)),
        ({"prompt_tokens": 5.0, "completion_tokens": 1.0, "prompt_tokens_details": {"cached_tokens": "3"}}, (5, 1)),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": "none"}, (5, 1)),
        ({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": 99}}, (5, 0)),
        ({"prompt_tokens": -5, "completion_tokens": 1}, None),
        ({"prompt_tokens": float("nan")}, None),
        ({"prompt_tokens": 10**400}, None),
        ({"prompt_tokens": "many"}, None),
        ([], None),
        ("5", None),
    ],
)
def test_tokens_are_counted_whatever_type_they_are_told_in(usage, expected):
    with MadeUpServer() as server:
        asked = model(server)
        before, spent = asked.usage, asked.ledger.spent()
        server.usage = usage
        text = asked.generate([GenerationRequest((Message("user", "Hello"),), 8, Stream(1))])[0]
        used, now = asked.usage - before, asked.ledger.spent()
    assert (used.prompt_tokens, used.generated_tokens) == (expected or (0, 0))
    assert all(type(number) is int for number in (used.prompt_tokens, used.computed_tokens, used.generated_tokens, text.tokens))
    assert 0 <= used.computed_tokens <= used.prompt_tokens
    assert now.estimated - spent.estimated == (expected is None)
    assert now.prompt_tokens > spent.prompt_tokens


@pytest.mark.parametrize("refused_with", [400, 500])
def test_a_model_without_system_turns_gets_them_before_the_users(refused_with, caplog):
    said = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "So?")]
    request = GenerationRequest(tuple(Message(role, text) for role, text in said), 8, Stream(1))
    with MadeUpServer(system=False, refused_with=refused_with, probabilities=False) as server:
        asked = model(server)
        with caplog.at_level("INFO"):
            assert asked.generate([request, request])[0].status == "ok"
        assert server.asked[-1]["messages"] == [
            {"role": "user", "content": "Be brief.\n\nHello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "So?"},
        ]
        assert asked.score([page(1)])[0].status == "ok"
        attempts = server.attempts
        asked.generate([request])
        assert server.attempts == attempts + 1
    assert caplog.text.count("takes no system turn") == 1


def test_thoughts_before_a_text_are_dropped_and_a_text_of_thoughts_alone_has_a_status():
    request = GenerationRequest((Message("user", "Hello"),), 8, Stream(1))
    with MadeUpServer() as server:
        asked = model(server)
        server.says = "<think>What do they want?</think>\n\nI like westerns."
        assert asked.generate([request])[0].text == "I like westerns."
        server.says = "<think>What do they want?"
        assert (asked.generate([request])[0].text, asked.generate([request])[0].status) == ("", "unreadable")
        server.says = [{"type": "text", "text": "I like "}, {"type": "text", "text": "films \ud800."}]
        assert asked.generate([request])[0].text == "I like films ?."


@pytest.mark.parametrize("lie", ["drip", "drip head", "endless", "vast", "bomb", "deep"])
def test_a_server_that_lies_ends_the_run_with_one_sentence_in_time(lie, monkeypatch):
    monkeypatch.setattr(http_server, "LARGEST_ANSWER", 5_000_000)
    with MadeUpServer() as server:
        asked = model(server, retries=1, timeout_s=0.3, concurrency=2)
        server.broken = lie
        with pytest.raises(ServerError, match=r"keeps failing|misbehaves: the answer is larger than 5 MB") as error:
            asked.score(pages(9))
        assert "\n" not in str(error.value)
        server.broken = None
        assert asked.score([page(1)])[0].status == "ok"


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_at_the_start_is_a_traceback(lie):
    with Liar(lie) as server, pytest.raises(ModelError) as error:
        OpenAIServer(OpenAIConfig(base_url=f"{server.url}/v1", first_wait_s=0.01, timeout_s=0.3, retries=1))
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "http://user:hunter2@localhost/v1"}, "base_url has a name or password before '@'"),
        ({"base_url": "http://localhost/v1?key=hunter2"}, "base_url has a secret behind"),
        ({"base_url": "localhost:8000/hunter2"}, "base_url"),
        ({"base_url": "http://h/v1", "api_key_env": "hunter2"}, "api_key_env does not name an environment variable"),
    ],
)
def test_a_key_among_the_options_is_refused_and_not_shown(options, words):
    with pytest.raises(ConfigError, match=words) as error:
        build("simulator.llm.openai_api:OpenAIServer", options, where="language_model", methods=("score",))
    if "@" in options["base_url"] or "api_key_env" in options:
        assert "hunter2" not in str(error.value)


def test_a_key_that_a_server_repeats_is_masked_everywhere(monkeypatch):
    monkeypatch.setenv("MADE_UP_KEY", "sk-hunter2hunter2")
    with MadeUpServer(probabilities=False) as server:
        asked = model(server, api_key_env="MADE_UP_KEY")
        server.says = "You sent sk-hunter2hunter2."
        assert asked.score([page(1)])[0].reply == "You sent ***."
        assert asked.generate([GenerationRequest((Message("user", "Hello"),), 8, Stream(1))])[0].text == "You sent ***."


def test_a_server_behind_a_proxy_that_fails_is_told_with_the_variable(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ServerError, match=r"through the proxy that HTTP_PROXY names .* or name its host in NO_PROXY") as error:
        OpenAIServer(OpenAIConfig(base_url="http://elsewhere.example/v1", **{**QUICK, "retries": 0}))
    assert "hunter2" not in str(error.value)
    with MadeUpServer() as server:
        assert model(server).score([page(1)])[0].status == "ok"


def test_a_socks_proxy_without_its_package_is_one_sentence_and_none_on_loopback(monkeypatch):
    monkeypatch.setattr("simulator.web.importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match="ALL_PROXY names a SOCKS proxy"):
        OpenAIServer(OpenAIConfig(base_url="http://elsewhere.example/v1", **{**QUICK, "retries": 0}))
    with MadeUpServer() as server:
        assert model(server).score([page(1)])[0].status == "ok"


def test_what_a_server_says_cannot_steer_the_terminal():
    with MadeUpServer(models=("a\x1b[2Jb", "c\nd")) as server, pytest.raises(ModelError) as error:
        model(server)
    assert str(error.value).isprintable()

import multiprocessing
import sqlite3
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import ModelError
from simulator.llm.cache import CachedLanguageModel
from simulator.llm.scripted import ScriptedConfig, ScriptedLanguageModel
from simulator.records import Completion, GenerationRequest, Message, Probe, Prompt, Scores, Segment
from simulator.seeds import Stream

PROBE = Probe("choose", ("yes", "no"))


def prompt(text):
    return Prompt((Segment((f"{text} watch:", PROBE)),))


def request(text, key=1):
    return GenerationRequest((Message("user", text),), 6, Stream(7).child("reason", key))


def never():
    raise AssertionError("replay-only makes no model")


@pytest.fixture
def opened(tmp_path):
    made = []

    def cached(model=None, mode="read-write", source="s", file="cache.sqlite"):
        model = model or ScriptedLanguageModel()
        made.append(CachedLanguageModel(never if mode == "replay-only" else lambda: model, tmp_path / file, mode, source))
        return made[-1]

    yield cached
    for cache in made:
        cache.close()


def equal(left, right):
    return all(
        one.mass == other.mass and all(np.array_equal(a, b) for a, b in zip(one.logprobs, other.logprobs, strict=True))
        for one, other in zip(left, right, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=5), max_size=12), spread=st.floats(0.1, 30))
def test_answers_are_those_of_the_model_to_the_bit_cold_and_warm(tmp_path_factory, texts, spread):
    file = tmp_path_factory.mktemp("cache") / "cache.sqlite"
    config = ScriptedConfig(spread=spread)
    plain = ScriptedLanguageModel(config).score([prompt(text) for text in texts])
    for mode in ("read-write", "read-write", "replay-only"):
        cache = CachedLanguageModel(partial(ScriptedLanguageModel, config), file, mode)
        assert equal(cache.score([prompt(text) for text in texts]), plain)
        cache.close()


def test_only_what_is_missing_is_asked_and_once(opened):
    model = ScriptedLanguageModel()
    cache = opened(model)
    cache.score([prompt("a"), prompt("b"), prompt("a")])
    scores = cache.score([prompt("c"), prompt("b"), prompt("a")])
    assert model.prompts == [prompt("a"), prompt("b"), prompt("c")]
    assert (cache.hits, cache.misses) == (3, 3)
    assert equal(scores, ScriptedLanguageModel().score([prompt("c"), prompt("b"), prompt("a")]))
    assert cache.usage == model.usage


def test_a_batch_of_texts_is_found_as_a_whole_or_written_again_as_a_whole(opened):
    model = ScriptedLanguageModel()
    cache = opened(model)
    both = cache.generate([request("a"), request("b")])
    assert cache.generate([request("a"), request("b")]) == both
    assert len(model.requests) == 2
    cache.generate([request("b")])
    cache.generate([request("b"), request("a")])
    cache.generate([request("a"), request("b", key=2)])
    cache.generate([request("a"), request("b", key="1")])
    assert len(model.requests) == 9
    assert cache.generate([]) == []


def test_models_and_segments_do_not_share_answers(opened):
    one, other = (ScriptedLanguageModel(ScriptedConfig(spread=spread)) for spread in (1.0, 2.0))
    assert not equal(opened(one).score([prompt("a")]), opened(other).score([prompt("a")]))
    cut = Prompt((Segment(("a",)), Segment((" watch:", PROBE))))
    opened(one).score([cut])
    assert one.prompts == [prompt("a"), cut]


def test_replay_only_asks_no_model_and_names_what_is_missing(opened):
    opened().score([prompt("kept")])
    opened().generate([request("kept")])
    assert opened().count_tokens("two words") == 2
    replay = opened(mode="replay-only")
    assert replay.identity == ScriptedLanguageModel().identity
    assert replay.score([prompt("kept")])[0].status == "ok"
    assert replay.generate([request("kept")])[0].status == "ok"
    assert replay.count_tokens("two words") == 2
    assert replay.usage.calls == 0
    with pytest.raises(ModelError, match=r"does not hold the answer to the text that ends with 'missing watch:<choose: yes\|no>'"):
        replay.score([prompt("kept"), prompt("missing")])
    with pytest.raises(ModelError, match="ends with 'other'"):
        replay.generate([request("other")])
    with pytest.raises(ModelError, match="ends with 'three'"):
        replay.count_tokens("three")


def test_replay_only_finds_the_model_by_its_section(opened):
    opened(ScriptedLanguageModel(ScriptedConfig(spread=1)), source="one").score([prompt("a")])
    assert opened(mode="replay-only", source="unknown").identity.settings["spread"] == 1
    opened(ScriptedLanguageModel(ScriptedConfig(spread=2)), source="two").score([prompt("a")])
    assert opened(mode="replay-only", source="two").identity.settings["spread"] == 2
    with pytest.raises(ModelError, match=r"holds answers of several models \(scripted\), none made from this section"):
        opened(mode="replay-only", source="unknown")


def test_failures_of_a_server_are_asked_again_but_replayed(opened):
    answers = iter(
        [Scores((), (), "timeout", "too slow"), Scores((), (), "unreadable", "hm"), ScriptedLanguageModel().score([prompt("a")])[0]]
    )
    model = ScriptedLanguageModel(scores=lambda _: next(answers))
    cache = opened(model)
    assert [score.status for score in cache.score([prompt("a"), prompt("b")])] == ["timeout", "unreadable"]
    assert opened(mode="replay-only").score([prompt("a")])[0] == Scores((), (), "timeout", "too slow")
    assert [score.status for score in cache.score([prompt("a"), prompt("b")])] == ["ok", "unreadable"]
    assert opened(mode="replay-only").score([prompt("a")])[0].status == "ok"


def test_a_batch_of_texts_with_a_failure_is_written_again(opened):
    class Failing(ScriptedLanguageModel):
        def generate(self, requests):
            status = "ok" if self.requests else "error 500"
            return [Completion(one.text, one.tokens, status) for one in super().generate(requests)]

    cache = opened(Failing())
    assert [cache.generate([request("a")])[0].status for _ in range(3)] == ["error 500", "ok", "ok"]


def test_a_file_that_is_no_cache_is_said_so(tmp_path, opened):
    with pytest.raises(ModelError, match=r"there is no cache at .*nothing.sqlite"):
        opened(mode="replay-only", file="nothing.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database " * 100)
    with pytest.raises(ModelError, match="cannot be used"):
        opened(file="text.sqlite")
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(ModelError, match="another program's database"):
        opened(file="other.sqlite")
    opened(file="empty.sqlite").close()
    sqlite3.connect(tmp_path / "empty.sqlite").executescript("DELETE FROM identities")
    with pytest.raises(ModelError, match="holds no answers"):
        opened(mode="replay-only", file="empty.sqlite")


@pytest.mark.parametrize("place", ["a folder", "below a file", "/sys/cache.sqlite"])
def test_a_file_that_cannot_be_used_only_means_that_the_model_is_asked(tmp_path, opened, place, caplog):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "file").write_text("x")
    file = {"below a file": "file/cache.sqlite"}.get(place, place)
    for _ in range(2):
        model = opened(file=file)
        first = model.score([prompt("a")])
        assert equal(model.score([prompt("a")]), first)
        assert (model.misses, model.hits) == (1, 1)
        model.close()
    assert "going on without it" in caplog.text


def test_a_damaged_file_is_put_aside_and_begun_anew(tmp_path, opened, caplog):
    model = opened()
    model.score([prompt("a")])
    model.close()
    file = tmp_path / "cache.sqlite"
    raw = bytearray(file.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    file.write_bytes(bytes(raw))
    model = opened()
    model.score([prompt("a")])
    assert model.misses == 1
    assert "is damaged" in caplog.text or "going on without it" in caplog.text


def test_an_answer_that_was_changed_is_asked_again(tmp_path, opened, caplog):
    model = opened()
    (asked,) = model.score([prompt("a")])
    model.close()
    file = sqlite3.connect(tmp_path / "cache.sqlite")
    (key, answer), *_ = file.execute("SELECT key, answer FROM answers").fetchall()
    for changed in (answer.replace("-", "-9", 1), answer[:-9], answer.partition(":")[2][:-9], "", b"\xff"):
        file.execute("UPDATE answers SET answer = ? WHERE key = ?", (changed, key))
        file.commit()
        model = opened()
        assert equal(model.score([prompt("a")]), [asked])
        assert (model.hits, model.misses) == (0, 1)
        model.close()
        model = opened()
        model.score([prompt("a")])
        assert (model.hits, model.misses) == (1, 0)
        model.close()
    assert "is damaged; it is asked again" in caplog.text
    file.close()


def test_a_closed_model_is_an_error(opened):
    cache = opened()
    cache.close()
    with pytest.raises(ModelError, match="was closed"):
        cache.score([prompt("a")])


def fill(file, start):
    cache = CachedLanguageModel(ScriptedLanguageModel, file)
    scores = [float(score.logprobs[0][0]) for i in range(20) for score in cache.score([prompt(str(start + i + k)) for k in range(3)])]
    cache.close()
    return scores


def test_several_processes_share_one_file(tmp_path):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.starmap(fill, [(tmp_path / "cache.sqlite", start) for start in (0, 5, 10)])
    file = sqlite3.connect(tmp_path / "cache.sqlite")
    assert file.execute("SELECT count(*) FROM answers").fetchone() == (32,)
    file.close()
    assert results == [fill(tmp_path / "cache.sqlite", start) for start in (0, 5, 10)]

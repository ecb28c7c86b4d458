from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.memory import NoMemory, RecentMemory, RetrievalMemory
from agents.memory_text import text_space
from simulator.dataset import Catalog
from simulator.errors import ConfigError, PluginError
from simulator.plugins import build, resolve
from simulator.records import MemoryRecord
from simulator.seeds import Stream
from simulator.testing_memory import DAY, START, MemoryContract, films, page_of, random_records

METHODS = ("remember", "recall", "records", "restore")
HEAT, FARGO, TWISTER, BABE, CASINO, TOY_STORY, ALIEN, ALIENS = range(8)


def record(number, *, text="", item=-1, time=START, importance=0.0, **more):
    return MemoryRecord(number, "seen", 0, 0, time, text, item, importance, last_recall=time, **more)


def retrieval(catalog=None, **options):
    return RetrievalMemory(RetrievalMemory.Config(**options), catalog=catalog or films())


def numbers(records):
    return [held.record for held in records]


def forgotten(memory):
    return [held.record for held in memory.records() if held.forgotten is not None]


class TestNoMemoryKeepsTheContract(MemoryContract):
    keeps_records = False

    def memory(self, catalog):
        return NoMemory(NoMemory.Config(), catalog=catalog)


class TestRecentMemoryKeepsTheContract(MemoryContract):
    def memory(self, catalog):
        return RecentMemory(RecentMemory.Config(capacity=15), catalog=catalog)


class TestRetrievalMemoryKeepsTheContract(MemoryContract):
    def memory(self, catalog):
        return retrieval(catalog, capacity=20)


class TestRetrievalWithAnEncoderKeepsTheContract(MemoryContract):
    def memory(self, catalog):
        return retrieval(catalog, capacity=20, encoder=ENCODERS["letters"])


@pytest.fixture(autouse=True)
def _encoders(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "memory_encoders.py").write_text(ENCODER_FILE)
    monkeypatch.syspath_prepend(str(folder))


ENCODERS = {name: f"memory_encoders:{name.title()}" for name in ("letters", "broken", "short", "needy", "mute")}
ENCODER_FILE = """
import numpy as np

class Letters:
    calls = []
    def encode(self, texts):
        Letters.calls.append(len(texts))
        return np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])

class Broken:
    def encode(self, texts):
        raise RuntimeError("no weights")

class Short:
    def encode(self, texts):
        return np.zeros(len(texts))

class Needy(Letters):
    def __init__(self, path):
        pass

class Mute:
    pass
"""


# --- recent -------------------------------------------------------------------------------------------------------


def test_recent_memory_recalls_the_newest_first_and_forgets_the_oldest():
    memory = RecentMemory(RecentMemory.Config(capacity=4, recall=3), catalog=films())
    memory.remember([record(number, time=START + number) for number in range(6)])
    assert numbers(memory.recall(page_of(HEAT), START + 10)) == [5, 4, 3]
    assert forgotten(memory) == [0, 1]
    assert {held.forgotten for held in memory.records()[:2]} == {START + 5}


# --- recall -------------------------------------------------------------------------------------------------------


def test_relevance_prefers_what_shares_words_and_genres_with_an_item_of_the_page():
    memory = retrieval(recency=0, importance=0, recall=6)
    memory.remember(
        [
            record(0, item=BABE, text="I watched Babe (1995) and gave it 5 stars."),
            record(1, item=ALIEN, text="I watched Alien (1979) and gave it 5 stars."),
            record(2, text="I skipped Aliens (1986), Ghost (1990)."),
            record(3, item=HEAT, text="I watched Heat (1995)."),
            record(4, text="I watched 3 films and felt tired."),
        ]
    )
    assert numbers(memory.recall(page_of(ALIENS), START)) == [2, 1, 3, 4, 0]


def test_word_similarity_is_the_cosine_of_tf_idf_weights():
    catalog = films()
    space = text_space(catalog, None)
    documents = [set(words.lower().replace("-", " ").split()) for words in CATALOG_WORDS]
    vocabulary = sorted(set.union(*documents))
    weight = {word: np.log((1 + len(documents)) / (1 + sum(word in words for words in documents))) + 1 for word in vocabulary}
    matrix = np.array([[weight[word] if word in words else 0.0 for word in vocabulary] for words in documents])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = matrix @ matrix[[HEAT, ALIEN, TOY_STORY]].T
    vectors = [space.vector("", item) for item in range(len(documents))]
    np.testing.assert_allclose(space.relevance(vectors, np.array([HEAT, ALIEN, TOY_STORY])), expected.max(axis=1), rtol=1e-12)


CATALOG_WORDS = [
    "Heat 1995 Action Crime",
    "Fargo 1996 Crime Drama",
    "Twister 1996 Action Adventure",
    "Babe 1995 Children Comedy",
    "Casino 1995 Crime Drama",
    "Toy Story 1995 Animation Children",
    "Alien 1979 Horror Sci-Fi",
    "Aliens 1986 Action Sci-Fi",
    "Ghost 1990 Romance",
    "Clueless 1995 Comedy",
    "Brazil 1985 Sci-Fi",
    "Psycho 1960 Horror",
]


def test_a_text_about_an_item_is_as_near_as_the_item_itself():
    space = text_space(films(), None)
    by_text, by_code = space.relevance([space.vector("Fargo (1996) Crime, Drama", -1), space.vector("", FARGO)], np.array([CASINO]))
    assert by_text == by_code > 0


def test_unknown_words_have_no_relevance():
    space = text_space(films(), None)
    assert space.relevance([space.vector("xyzzy", -1), space.vector("", -1)], np.array([HEAT, FARGO])).tolist() == [0.0, 0.0]


def test_a_catalog_without_items_has_a_space_too():
    assert text_space(Catalog(films().items.head(0)), None).vector("Heat", -1)[0].size == 0


def test_recency_counts_from_the_last_recall_and_halves_in_138_hours():
    memory = retrieval(relevance=0, importance=0, recall=1)
    memory.remember([record(0, time=START), record(1, time=START + 60), record(2, time=START + 120)])
    assert numbers(memory.recall(page_of(HEAT), START + DAY)) == [2]
    memory = retrieval(relevance=0, importance=0, recall=3)
    old = replace(record(0), recalls=1, last_recall=START + 10 * DAY)
    memory.restore([old, record(1, time=START + 5 * DAY), record(2, time=START + 6 * DAY)])
    assert numbers(memory.recall(page_of(HEAT), START + 11 * DAY)) == [0, 2, 1]
    assert 0.995**138 == pytest.approx(0.5, abs=0.002)


def test_the_score_is_the_weighted_sum_of_scaled_parts():
    memory = retrieval(recall=4, recency=1.0, relevance=0.0, importance=0.5, decay=0.99)
    records = [record(number, time=START + number * DAY, importance=importance) for number, importance in enumerate((1.0, 0.2, 0.6, 0.0))]
    memory.remember(records)
    now = START + 4 * DAY
    recency = np.array([0.99 ** ((now - held.time) / 3600) for held in records])
    importance = np.array([held.importance for held in records])
    score = (recency - recency.min()) / np.ptp(recency) + 0.5 * (importance - importance.min()) / np.ptp(importance)
    assert numbers(memory.recall(page_of(HEAT), now)) == np.argsort(-score).tolist()
    assert np.argsort(-score).tolist() != [3, 2, 1, 0]


def test_among_equals_the_newest_comes_first():
    memory = retrieval(recall=2)
    memory.remember([record(number) for number in range(5)])
    assert numbers(memory.recall(page_of(HEAT), START)) == [4, 3]


def test_a_recalled_memory_stays_recent():
    memory = retrieval(relevance=0, importance=0, recall=1)
    memory.remember([record(0, item=HEAT), record(1, item=BABE)])
    (first,) = memory.recall(page_of(HEAT), START + 10 * DAY)
    assert (first.recalls, first.last_recall) == (1, START + 10 * DAY)
    assert memory.recall(page_of(HEAT), START + 20 * DAY)[0].record == first.record


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_the_highest_forgetting_score_of_recagent_goes_first():
    records = [
        record(0, time=START, importance=0.9),
        record(1, time=START, importance=0.1),
        record(2, time=START + 20 * DAY, importance=0.0),
        record(3, time=START + 21 * DAY, importance=1.0),
        record(4, time=START + 21 * DAY, importance=0.0),
    ]
    now = START + 21 * DAY
    recency = np.array([0.995 ** ((now - held.time) / 3600) for held in records])
    importance = np.array([held.importance for held in records])
    g = 1 - (importance + recency) / 2 * np.maximum(recency**1.5, 0.01)
    for capacity in (4, 3, 2, 1):
        memory = retrieval(capacity=capacity)
        memory.remember(records)
        assert forgotten(memory) == sorted(np.argsort(-g)[: 5 - capacity].tolist())
        assert {held.forgotten for held in memory.records()} - {None} == {now}


def test_importance_decides_even_among_very_old_memories():
    memory = retrieval(capacity=2)
    late = START + 5000 * DAY
    memory.remember([record(0, importance=0.9), record(1, importance=0.2), record(2, time=late)])
    assert forgotten(memory) == [1]


def test_beta_sets_how_much_age_outweighs_importance():
    # Recency 0.3, 0.6 and 1 at the time of the last record.
    records = [record(0, importance=1.0), record(1, time=START + 138 * 3600), record(2, time=START + 240 * 3600)]
    for beta, expected in ((1.5, [0]), (1.0, [1])):
        memory = retrieval(capacity=2, beta=beta)
        memory.remember(records)
        assert forgotten(memory) == expected


def test_a_record_that_was_never_recalled_counts_from_when_it_was_made():
    memory = retrieval()
    memory.remember([MemoryRecord(0, "seen", 0, 0, START, "I skipped Heat.")])
    assert memory.records()[0].last_recall == START


def test_the_older_goes_first_among_equals():
    memory = retrieval(capacity=2)
    memory.remember([record(number) for number in range(4)])
    assert forgotten(memory) == [0, 1]


def test_what_is_forgotten_is_never_recalled():
    memory = retrieval(capacity=3, recall=10)
    memory.remember([record(number, time=START + number * DAY, importance=number % 2) for number in range(10)])
    recalled = numbers(memory.recall(page_of(HEAT), START + 20 * DAY))
    assert sorted(recalled + forgotten(memory)) == list(range(10))
    assert len(recalled) == 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), capacity=st.integers(1, 30), visits=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_saving_and_restoring_at_any_moment_changes_nothing(seed, capacity, visits):
    catalog = films()
    straight, broken = retrieval(catalog, capacity=capacity), retrieval(catalog, capacity=capacity)
    number, time = 0, START
    for visit, n in enumerate(visits):
        new = random_records(Stream(seed, ("visit", visit)), catalog, n, first=number, start=time)
        number, time = number + n, new[-1].time + 3 * DAY
        items = Stream(seed, ("page", visit)).generator().choice(12, size=4, replace=False)
        straight.remember(new)
        broken.remember(new)
        resumed = retrieval(catalog, capacity=capacity)
        resumed.restore(broken.records())
        broken = resumed
        assert straight.recall(page_of(*items), time) == broken.recall(page_of(*items), time)
        assert straight.records() == broken.records()
        assert sum(held.forgotten is None for held in straight.records()) == min(number, capacity)


def test_numbers_of_records_must_grow():
    memory = retrieval()
    memory.remember([record(3)])
    with pytest.raises(ValueError, match="record 3 comes after record 3"):
        memory.remember([record(3)])
    with pytest.raises(ValueError, match="must grow"):
        retrieval().restore([record(1), record(1)])


def test_a_recall_from_two_hundred_records_takes_about_a_millisecond():
    catalog = films()
    memory = retrieval(catalog, capacity=200)
    memory.remember(random_records(Stream(9), catalog, 250))
    page = page_of(0, 3, 5, 7, 9)
    seconds = []
    for turn in range(50):
        begin = perf_counter()
        memory.recall(page, START + turn)
        seconds.append(perf_counter() - begin)
    # Ten times the goal, so that a busy machine does not fail the test but a loop over all pairs does.
    assert min(seconds) < 0.01


# --- reflection ---------------------------------------------------------------------------------------------------


def test_an_insight_is_due_once_enough_has_happened_since_the_last_one():
    memory = retrieval(reflect_after=1.0)
    assert not memory.reflection_due
    memory.remember([record(0, importance=0.6), record(1, importance=0.3)])
    assert not memory.reflection_due
    memory.remember([record(2, importance=0.1)])
    assert memory.reflection_due
    memory.remember([replace(record(3, importance=0.9), kind="insight"), record(4, importance=0.5)])
    assert not memory.reflection_due
    memory.remember([record(5, importance=0.5)])
    assert memory.reflection_due


def test_an_insight_ends_every_session_of_people_who_need_nothing_for_it_and_none_of_those_who_want_none():
    assert retrieval(reflect_after=0).reflection_due
    never = retrieval(reflect_after=0, reflection=False)
    never.remember([record(0, importance=1.0)])
    assert not never.reflection_due


# --- configuration and encoders -----------------------------------------------------------------------------------


def test_memories_are_built_from_their_section():
    memory = build("agents.memory:RetrievalMemory", {"recall": 2}, where="memory", methods=METHODS, catalog=films())
    assert memory.recall(page_of(0), START) == ()
    assert resolve("agents.memory:RetrievalMemory", {}, where="memory", methods=METHODS)["decay"] == 0.995


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity = 0"),
        ({"recal": 3}, "did you mean 'recall'"),
        ({"decay": 1.5}, "decay = 1.5"),
        ({"relevance": -1}, "relevance = -1"),
        ({"recency": 0, "relevance": 0, "importance": 0}, "at least one of these weights"),
    ],
)
def test_a_wrong_option_is_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        build("agents.memory:RetrievalMemory", options, where="memory", methods=METHODS, catalog=films())


def test_a_plugged_in_encoder_decides_what_is_relevant():
    memory = retrieval(encoder=ENCODERS["letters"], recency=0, importance=0, recall=2)
    memory.remember([record(0, text="zzz qqq"), record(1, text="osnciacirmeadramA"), record(2, item=CASINO)])
    assert numbers(memory.recall(page_of(CASINO), START)) == [2, 1]


def test_people_share_one_encoding_of_the_catalog():
    catalog = films()
    from memory_encoders import Letters

    Letters.calls.clear()
    for _ in range(3):
        retrieval(catalog, encoder=ENCODERS["letters"]).remember(
            [record(0, item=HEAT), record(1, text="I skipped Babe."), record(2, text="x")]
        )
    assert Letters.calls == [12] + [1] * 6


@pytest.mark.parametrize(
    ("encoder", "message"),
    [("broken", "no weights"), ("short", r"shape \(12,\) for 12 texts"), ("needy", "without arguments"), ("mute", "no method encode")],
)
def test_an_unusable_encoder_is_refused_when_the_memory_is_made(encoder, message):
    with pytest.raises(PluginError, match=message):
        retrieval(encoder=ENCODERS[encoder])

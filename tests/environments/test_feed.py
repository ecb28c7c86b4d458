from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from environments.feed import Feed, FeedConfig
from environments.recommenders.popularity import Popularity
from environments.recommenders.random import Random
from simulator.errors import RecommenderError
from simulator.plugins import build
from simulator.records import PageRequest, Slate
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld

WORLD = CheckerboardWorld(n_users=6, n_items=12)
NOTHING = np.empty(0, dtype=np.int32)


def request(user=0, number=1, shown=(), history=None, seed=1):
    history = WORLD.history(user) if history is None else np.array(history, dtype=np.int32)
    stream = Stream(seed).child("user", user, "page", number)
    return PageRequest(user, number, history, np.array(shown, dtype=np.int32), stream)


def fitted(recommender):
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    return recommender


def feed(recommender=None, **config):
    return Feed(recommender or fitted(Popularity()), "test-policy", FeedConfig(**config), WORLD.n_items)


def session(place, user=0, seed=1, history=None):
    """All pages that one person gets, and the items in order."""
    pages, shown = [], []
    while (page := place.serve([request(user, len(pages) + 1, shown, history, seed)])[0]) is not None:
        pages.append(page)
        shown += page.items.tolist()
    return pages, shown


class Scripted:
    """Returns what it is told, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def recommend(self, user_ids, histories, n, rng):
        self.asked.append((user_ids, histories, n))
        return self.answer(user_ids, histories, n, rng) if callable(self.answer) else self.answer


def slate(items, scores=None, propensities=None):
    scores = np.zeros(len(items)) if scores is None else np.array(scores, dtype=np.float64)
    return Slate(np.array(items, dtype=np.int32), scores, propensities)


def test_a_page_holds_the_best_items_with_position_score_propensity_and_policy():
    page = feed(page_size=3).serve([request()])[0]
    expected = fitted(Popularity()).recommend(np.array([0]), [WORLD.history(0)], 3, Stream(1))[0]
    assert (page.number, page.policy) == (1, "test-policy")
    assert [(i.position, i.item, i.score, i.propensity) for i in page.impressions] == [
        (position, item, score, 1.0) for position, (item, score) in enumerate(zip(expected.items, expected.scores, strict=True), start=1)
    ]


@pytest.mark.parametrize("exploration", ["none", "epsilon", "plackett-luce"])
def test_a_session_shows_every_unseen_item_once_and_then_ends(exploration):
    pages, shown = session(feed(page_size=4, max_pages=9, exploration=exploration))
    assert [len(page.impressions) for page in pages] == [4, 4, 1]
    assert sorted(shown) == np.setdiff1d(np.arange(12), WORLD.history(0)).tolist()


def test_a_session_ends_at_the_maximum_of_pages():
    assert len(session(feed(page_size=2, max_pages=3))[0]) == 3


def test_with_repeats_allowed_the_best_items_come_again():
    pages, _ = session(feed(page_size=2, max_pages=3, repeat="allow"))
    assert len({tuple(page.items.tolist()) for page in pages}) == 1


def test_one_batch_is_one_call_and_the_batch_does_not_matter():
    requests = [request(0), request(1, 2, [0, 1, 2]), request(2, 3, [5]), request(3, 6)]
    for recommender in (fitted(Popularity()), fitted(Random())):
        for exploration in ("none", "epsilon", "plackett-luce") if isinstance(recommender, Popularity) else ("none",):
            place = feed(recommender, page_size=3, exploration=exploration)
            together = place.serve(requests)
            assert together == [place.serve([one])[0] for one in requests]
            assert together[3] is None
            assert together == place.serve(requests[::-1])[::-1]
    spy = Scripted(lambda users, histories, n, rng: fitted(Popularity()).recommend(users, histories, n, rng))
    feed(spy).serve(requests)
    assert len(spy.asked) == 1


def test_a_person_may_be_in_a_batch_only_once():
    with pytest.raises(ValueError, match="twice"):
        feed().serve([request(0), request(0, 2)])


def test_a_recommender_that_draws_is_fresh_on_every_page_and_for_every_person():
    place = feed(fitted(Random()), page_size=6, repeat="allow")
    pages = [place.serve([request(user, number, history=())])[0] for user in range(3) for number in range(1, 4)]
    assert len({tuple(page.items.tolist()) for page in pages}) == 9


def test_propensities_stay_exact_when_shown_items_are_left_out():
    place = feed(fitted(Random()), page_size=2)
    counts = Counter()
    for seed in range(6_000):
        page = place.serve([request(0, 2, shown=[1, 3, 5], seed=seed)])[0]
        assert [i.propensity for i in page.impressions] == [1 / 6, 1 / 5]
        counts[page.impressions[0].item] += 1
    assert len(counts) == 6
    assert all(abs(count - 1_000) < 4 * np.sqrt(1_000) for count in counts.values())


@settings(deadline=None)
@given(
    st.sampled_from(["none", "epsilon", "plackett-luce"]),
    st.lists(st.integers(0, 11), unique=True),
    st.lists(st.integers(0, 11), unique=True),
    st.integers(1, 12),
    st.integers(0, 50),
)
def test_no_page_shows_an_item_twice_or_one_of_history_or_session(exploration, history, shown, page_size, seed):
    page = feed(page_size=page_size, exploration=exploration, candidates=12).serve([request(0, 2, shown, history, seed)])[0]
    left = set(range(12)) - set(history) - set(shown)
    items = [] if page is None else page.items.tolist()
    assert len(items) == len(set(items)) == min(page_size, len(left))
    assert set(items) <= left
    assert page is None or all(0 < i.propensity <= 1 for i in page.impressions)


def test_exploration_chooses_among_the_candidates_only():
    place = feed(page_size=2, exploration="plackett-luce", temperature=100.0, candidates=3, repeat="allow")
    best = place.serve([request(history=())])[0]
    shown = {item for seed in range(200) for item in place.serve([request(history=(), seed=seed)])[0].items.tolist()}
    assert len(shown) == 3
    assert best is not None
    after = {
        item
        for seed in range(200)
        for item in feed(page_size=2, exploration="epsilon", epsilon=1.0, candidates=3)
        .serve([request(number=2, history=(), shown=list(shown), seed=seed)])[0]
        .items.tolist()
    }
    assert len(after) == 3
    assert not after & shown


UNSEEN = [item for item in range(12) if item not in WORLD.history(0)]
TOP = UNSEEN[:5]
VIOLATIONS = {
    "not a list": (lambda: (slate(TOP),), r"returned tuple; it must return a list"),
    "wrong length": (lambda: [slate(TOP)] * 2, r"returned 2 slates for 1 people"),
    "wrong type": (lambda: [TOP], r"returned a list in its list; every entry must be a Slate"),
    "items of a wrong type": (lambda: [Slate(np.array(TOP, dtype=float), np.zeros(5))], r"Slate\.items is float64 of shape \(5,\)"),
    "scores not an array": (lambda: [Slate(np.array(TOP), [0.0] * 5)], r"Slate\.scores is list"),
    "fewer scores than items": (lambda: [slate(TOP, [0.0])], r"5 items but 1 scores"),
    "unknown item": (lambda: [slate([*TOP[:4], 12])], r"unknown item 12; item codes are 0\.\.11"),
    "negative item": (lambda: [slate([*TOP[:4], -1])], r"unknown item -1"),
    "duplicate": (lambda: [slate([*TOP[:4], TOP[0]])], rf"item {TOP[0]} twice"),
    "not a number": (lambda: [slate(TOP, [3, 2, np.nan, 0, 0])], r"the score nan"),
    "increasing": (lambda: [slate(TOP, [3, 2, 2.5, 0, 0])], r"scores that increase"),
    "seen": (lambda: [slate([int(WORLD.history(0)[0]), *TOP[1:]])], r"in that person's history"),
    "too few": (lambda: [slate(TOP[:3])], r"3 items where 5 were asked for and 9 unseen ones exist"),
    "too many": (lambda: [slate(UNSEEN[:6])], r"6 items where 5 were asked for"),
    "propensity of zero": (lambda: [slate(TOP, propensities=np.array([1, 1, 1, 1, 0.0]))], r"propensities holds 0\.0"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_broken_contract_is_named_with_the_class(name):
    answer, message = VIOLATIONS[name]
    with pytest.raises(RecommenderError, match=message) as caught:
        feed(Scripted(answer()), page_size=5, repeat="allow").serve([request()])
    assert "Scripted" in str(caught.value)


def test_a_slate_without_violations_passes():
    page = feed(Scripted([slate(TOP)]), page_size=5, repeat="allow").serve([request()])[0]
    assert page.items.tolist() == TOP


@pytest.mark.parametrize("exploration", ["epsilon", "plackett-luce"])
def test_exploration_on_top_of_a_recommender_that_draws_is_refused(exploration):
    with pytest.raises(RecommenderError, match=f"Random already draws .* exploration = '{exploration}'"):
        feed(fitted(Random()), exploration=exploration).serve([request()])


def test_a_recommender_that_draws_without_the_keyword_exclude_cannot_suppress_repeats():
    drawing = Scripted([slate(TOP, propensities=np.full(5, 0.5))])
    with pytest.raises(RecommenderError, match="no keyword 'exclude'"):
        feed(drawing).serve([request()])
    page = feed(drawing, repeat="allow").serve([request()])[0]
    assert [i.propensity for i in page.impressions] == [0.5] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"page_size": 0}, "greater than or equal to 1"),
        ({"page_size": 51}, "less than or equal to 50"),
        ({"exploration": "greedy"}, "'none', 'epsilon' or 'plackett-luce'"),
        ({"repeat": "always"}, "'session', 'never' or 'allow'"),
        ({"temperature": 0}, "greater than 0"),
        ({"exploration": "epsilon", "candidates": 4}, "candidates = 4 cannot fill a page of page_size = 5"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(options, message):
    with pytest.raises(ValidationError, match=message):
        FeedConfig(**options)


OWN_RECOMMENDER = '''
import numpy as np
from pydantic import BaseModel
from simulator.records import Slate


class MyRecommender:
    """Lowest item codes first."""

    class Config(BaseModel, extra="forbid"):
        start: int = 0

    def __init__(self, config):
        self.start = config.start

    def fit(self, interactions, catalog, rng):
        self.n_items = len(catalog)

    def recommend(self, user_ids, histories, n, rng):
        slates = []
        for history in histories:
            items = np.setdiff1d(np.arange(self.n_items), history)
            items = np.roll(items, -self.start)[:n]
            slates.append(Slate(items, np.zeros(len(items))))
        return slates

    def save(self, folder):
        (folder / "n_items").write_text(str(self.n_items))

    def load(self, folder):
        self.n_items = int((folder / "n_items").read_text())
'''


def test_a_recommender_in_a_file_of_ones_own_serves_pages(tmp_path):
    file = tmp_path / "my_rec.py"
    file.write_text(OWN_RECOMMENDER)
    methods = ("fit", "recommend", "save", "load")
    recommender = build(f"{file}:MyRecommender", {"start": 1}, where="recommender", methods=methods)
    page = feed(fitted(recommender), page_size=4).serve([request()])[0]
    assert page.items.tolist() == UNSEEN[1:5]

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from environments.feed import Feed, FeedConfig
from environments.recommenders.popularity import Popularity
from environments.rerankers.calibrated import Calibrated, CalibratedConfig
from environments.rerankers.interleaved import Interleaved, InterleavedConfig
from environments.rerankers.mmr import MMR, MMRConfig
from environments.rerankers.popularity_penalty import PopularityPenalty, PopularityPenaltyConfig
from simulator.dataset import ITEMS_SCHEMA, Catalog
from simulator.errors import ConfigError, DataError, PluginError, RecommenderError
from simulator.plugins import build, resolve
from simulator.records import PageRequest
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, RecommenderContract

EASE = {"use": "environments.recommenders.ease:EASE", "l2": 10.0}
POPULARITY = {"use": "environments.recommenders.popularity:Popularity"}
RANDOM = {"use": "environments.recommenders.random:Random"}
METHODS = ("fit", "recommend", "save", "load")
WORLD = CheckerboardWorld()


class TestMMRByGenres(RecommenderContract):
    def make(self):
        return MMR(MMRConfig(base=EASE))


class TestMMRByPeople(RecommenderContract):
    def make(self):
        return MMR(MMRConfig(base=EASE, similarity="people", directions=8, pool=20))


class TestPopularityPenalty(PersonalisedRecommenderContract):
    def make(self):
        return PopularityPenalty(PopularityPenaltyConfig(base=EASE, penalty=0.1))


class TestCalibrated(PersonalisedRecommenderContract):
    def make(self):
        return Calibrated(CalibratedConfig(base=EASE))


class TestInterleaved(PersonalisedRecommenderContract):
    def make(self):
        return Interleaved(InterleavedConfig(bases=[EASE, {"use": "environments.recommenders.item_knn:ItemKNN"}]))


class TestRerankersNest(RecommenderContract):
    def make(self):
        inner = {"use": "environments.rerankers.popularity_penalty:PopularityPenalty", "base": EASE, "pool": 30}
        return MMR(MMRConfig(base={"use": "environments.rerankers.calibrated:Calibrated", "base": inner, "pool": 25}, pool=15))


def films(genres):
    n = len(genres)
    columns = {"item": range(n), "item_id": [str(i) for i in range(n)], "title": [f"Film {i}" for i in range(n)]}
    return Catalog(pl.DataFrame({**columns, "year": [None] * n, "genres": genres, "description": [None] * n}, schema=dict(ITEMS_SCHEMA)))


def log(counts, first_user=0):
    """Item i is had by counts[i] people."""
    rows = [(first_user + user, item) for item, count in enumerate(counts) for user in range(count)]
    return pl.DataFrame(
        {"user": [user for user, _ in rows], "item": [item for _, item in rows], "rating": None, "timestamp": None},
        schema={"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64},
    )


def top(recommender, history=(), n=10):
    return recommender.recommend(np.array([900], dtype=np.int32), [np.array(history, dtype=np.int32)], n, Stream(1))[0]


def fitted(recommender, counts, genres):
    recommender.fit(log(counts), films(genres), Stream(0))
    return recommender


def test_mmr_puts_an_unlike_item_between_two_that_are_alike():
    made = fitted(MMR(MMRConfig(base=POPULARITY, diversity=0.5)), [9, 8, 7, 1], [["A"], ["A"], ["B"], ["B"]])
    slate = top(made)
    # scaled scores 1, 7/8, 6/8, 0: the second A item is worth 7/16 - 1/2, the first B item 6/16
    assert slate.items.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(slate.scores, [0.5, 0.375, 0.4375 - 0.5, -0.5])


def test_interleaved_lists_take_turns_and_skip_what_is_there():
    upside_down = {"use": "environments.rerankers.popularity_penalty:PopularityPenalty", "penalty": 5.0, "base": POPULARITY}
    made = fitted(Interleaved(InterleavedConfig(bases=[POPULARITY, upside_down])), [9, 4, 2, 1], [[]] * 4)
    slate = top(made)
    assert slate.items.tolist() == [0, 3, 1, 2]
    assert slate.scores.tolist() == [0, -1, -2, -3]
    assert top(made, history=[3], n=2).items.tolist() == [0, 2]


def test_interleaving_a_list_that_is_drawn_is_refused():
    made = fitted(Interleaved(InterleavedConfig(bases=[POPULARITY, RANDOM])), [3, 2, 1], [[]] * 3)
    with pytest.raises(RecommenderError, match="takes turns with Random"):
        top(made)


def test_rerankers_of_weight_zero_keep_the_base_order():
    genres = [["A"], ["A"], ["B"], ["A", "B"], []]
    counts = [3, 9, 5, 7, 1]
    plain = fitted(Popularity(), counts, genres)
    for made in (
        MMR(MMRConfig(base=POPULARITY, diversity=0)),
        PopularityPenalty(PopularityPenaltyConfig(base=POPULARITY, penalty=0)),
        Calibrated(CalibratedConfig(base=POPULARITY, calibration=0)),
    ):
        assert top(fitted(made, counts, genres)).items.tolist() == top(plain).items.tolist()


def test_a_large_enough_penalty_turns_the_list_by_popularity_around():
    made = fitted(PopularityPenalty(PopularityPenaltyConfig(base=POPULARITY, penalty=5)), [9, 4, 2, 1], [[]] * 4)
    assert top(made).items.tolist() == [3, 2, 1, 0]


def test_calibration_gives_a_mixed_history_a_mixed_list():
    genres = [["A"]] * 6 + [["B"]] * 6
    counts = [20, 19, 18, 17, 16, 15, 6, 5, 4, 3, 2, 1]
    made = fitted(Calibrated(CalibratedConfig(base=POPULARITY, calibration=0.9)), counts, genres)
    listed = top(made, history=[0, 6], n=4).items
    assert np.count_nonzero(listed < 6) == 2
    only_b = top(made, history=[6, 7], n=4).items
    assert (only_b >= 6).all()


def test_items_beyond_the_pool_follow_in_the_order_of_the_base():
    made = fitted(PopularityPenalty(PopularityPenaltyConfig(base=POPULARITY, penalty=50, pool=2)), [9, 8, 4, 1], [[]] * 4)
    slate = top(made)
    assert slate.items.tolist() == [1, 0, 2, 3]
    np.testing.assert_allclose(np.diff(slate.scores)[1:], [-4, -3])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=12), st.integers(1, 12), st.integers(1, 15), st.floats(0, 1), st.data())
def test_reranking_never_loses_or_invents_items_and_scores_never_increase(counts, pool, n, weight, data):
    genres = [data.draw(st.lists(st.sampled_from("ABC"), max_size=2, unique=True)) for _ in counts]
    if not any(genres):
        genres[0] = ["A"]
    if not any(counts):
        counts = [1, *counts[1:]]
    history = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=3, unique=True))
    for made in (
        MMR(MMRConfig(base=POPULARITY, diversity=weight, pool=pool)),
        Calibrated(CalibratedConfig(base=POPULARITY, calibration=weight, pool=pool)),
        PopularityPenalty(PopularityPenaltyConfig(base=POPULARITY, penalty=weight, pool=pool)),
    ):
        slate = top(fitted(made, counts, genres), history, n)
        plain = top(fitted(Popularity(), counts, genres), history, max(n, min(pool, len(counts))))
        assert len(slate.items) == len(set(slate.items.tolist())) == min(n, len(counts) - len(history))
        assert (np.diff(slate.scores) <= 1e-12).all()
        assert set(slate.items.tolist()) <= set(plain.items.tolist())


def test_a_base_that_draws_is_refused_with_the_way_out():
    made = MMR(MMRConfig(base=RANDOM))
    made.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    with pytest.raises(RecommenderError, match=r"Random, which draws them at random.*explore on top"):
        top(made)


@pytest.mark.parametrize("exploration", ["epsilon", "plackett-luce"])
def test_the_feed_explores_on_top_of_a_reranker_with_propensities_that_match_frequencies(exploration):
    made = Calibrated(CalibratedConfig(base=EASE))
    made.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    feed = Feed(made, "policy", FeedConfig(page_size=2, exploration=exploration, epsilon=0.5, candidates=3), WORLD.n_items)
    empty, draws = np.empty(0, dtype=np.int32), 3_000
    first = [feed.serve([PageRequest(0, 1, WORLD.history(0), empty, Stream(draw))])[0].impressions[0] for draw in range(draws)]
    for item in {impression.item for impression in first}:
        own = [impression for impression in first if impression.item == item]
        p = own[0].propensity
        assert {impression.propensity for impression in own} == {p}
        assert abs(len(own) / draws - p) < 4 * np.sqrt(p * (1 - p) / draws)


def test_genres_are_needed_where_they_are_used():
    for made in (MMR(MMRConfig(base=POPULARITY)), Calibrated(CalibratedConfig(base=POPULARITY))):
        with pytest.raises(DataError, match="no item of the data has one"):
            fitted(made, [2, 1], [[], []])


def test_the_section_of_the_base_is_checked_and_completed_when_the_experiment_is_read():
    use = "environments.rerankers.mmr:MMR"
    options = resolve(use, {"base": {"use": EASE["use"]}}, where="recommender", methods=METHODS)
    assert options["base"] == {"use": EASE["use"], "l2": 300.0, "max_items": 20_000}
    made = build(use, options, where="recommender", methods=METHODS)
    assert made.base.config.l2 == 300.0
    with pytest.raises(ConfigError, match=r"\[recommender.base\] unknown key 'max_item'; did you mean 'max_items'"):
        resolve(use, {"base": {"use": EASE["use"], "max_item": 1}}, where="recommender", methods=METHODS)
    with pytest.raises(ConfigError, match=r"base\.use is missing"):
        resolve(use, {"base": {}}, where="recommender", methods=METHODS)
    with pytest.raises(PluginError, match="unknown class"):
        resolve(use, {"base": {"use": "environments.recommenders.ease:EASY"}}, where="recommender", methods=METHODS)
    with pytest.raises(ValidationError):
        MMRConfig(base=EASE, diversity=2)

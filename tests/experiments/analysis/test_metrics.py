from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from agents import traits
from experiments.analysis import metrics
from experiments.analysis.finished_run import FinishedRun
from simulator.seeds import Stream

STREAM = Stream(1)
ITEMS = pl.DataFrame(
    {
        "item": ["a", "b", "c", "d"],
        "genres": [["Drama"], ["Drama", "Crime"], [], ["Comedy"]],
        "train_count": pl.Series([8, 4, 0, 2], dtype=pl.Int32),
        "train_mean_rating": [4.0, 3.0, None, 2.0],
    }
)
CHOSEN = pl.DataFrame({"user": ["1", "1", "2", "2"], "item": ["a", "b", "c", "d"], "rating": [5.0, 1.0, 3.0, 4.0], "chosen": [True] * 4})


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return FinishedRun(make_run(tmp_path_factory.mktemp("metrics") / "run"))


def test_watch_rate_by_position_counts_every_impression_once(run: FinishedRun) -> None:
    table = metrics.watch_rate_by_position(run.impressions)
    assert table["position"].to_list() == [1, 2, 3, 4, 5]
    assert table["shown"].sum() == run.impressions.height
    first = run.impressions.filter(pl.col("position") == 1)
    assert table["rate"][0] == first["chosen"].sum() / first.height
    assert ((table["low"] < table["rate"]) & (table["rate"] < table["high"])).all()


def test_rates_of_sessions_and_impressions_are_the_plain_means(run: FinishedRun) -> None:
    assert metrics.watch_rate(run.impressions, STREAM).value == pytest.approx(run.impressions["chosen"].mean())
    assert metrics.pages_per_session(run.sessions, STREAM).value == pytest.approx(run.sessions["pages"].mean())
    assert metrics.interactions_per_session(run.sessions, STREAM).value == pytest.approx(run.sessions["interactions"].mean())
    assert metrics.mean_rating(run.impressions, STREAM).value == pytest.approx(run.chosen["rating"].mean())
    assert metrics.satisfaction(run.sessions, STREAM).value == pytest.approx(run.sessions["satisfaction"].mean())


def test_real_sessions_are_counted_per_person(run: FinishedRun) -> None:
    sizes = metrics.session_sizes(run.real)
    assert sizes.sum() == run.real.height
    assert metrics.real_interactions_per_session(run.real, STREAM).value == pytest.approx(sizes.mean())


def test_ratings_are_counted_on_the_levels_that_the_data_has() -> None:
    half, whole = metrics.rating_histograms(pl.Series([0.5, 1.0, 3.5, 4.0, None]), pl.Series([4.0, 4.0]))
    assert half.rows() == [(0.5, 1, 0.25), (1.0, 1, 0.25), (3.5, 1, 0.25), (4.0, 1, 0.25)]
    assert whole.rows() == [(4.0, 2, 1.0)]
    assert metrics.total_variation(half, whole, on="rating") == pytest.approx(0.75)


@pytest.mark.parametrize("unit", [1.0, 0.2, 25.0, 1e-3])
def test_the_distance_of_two_histograms_does_not_depend_on_the_unit(unit: float) -> None:
    real, simulated = [1, 2, 2, 3, 4, 4, 5, 5], [2, 2, 4, 5, 5, 5, 1, 3]
    stored = [pl.Series(values, dtype=pl.Float32) * unit for values in (real, simulated)]
    first, second = metrics.rating_histograms(stored[0], stored[1].cast(pl.Float64))
    assert first.height == second.height == 5
    assert metrics.total_variation(first, second, on="rating") == pytest.approx(0.125)
    assert first["rating"].to_list() == pytest.approx([unit * level for level in (1, 2, 3, 4, 5)])


def test_ratings_between_the_levels_of_the_data_are_levels_of_their_own() -> None:
    real, simulated = metrics.rating_histograms(pl.Series([3.0, 3.0, 4.0]), pl.Series([3.25, 4.0, 4.0]))
    assert metrics.total_variation(real, simulated, on="rating") == pytest.approx(2 / 3)


def test_a_continuous_scale_is_cut_into_parts_of_equal_width() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    real, simulated = (pl.Series(rng.random(5_000) * 10 - 5) for _ in range(2))
    first, second = metrics.rating_histograms(real, simulated)
    assert first.height == metrics.BINS
    assert first["count"].sum() == 5_000
    assert metrics.total_variation(first, second, on="rating") < 0.06
    empty, one = metrics.rating_histograms(pl.Series([], dtype=pl.Float64), pl.Series([2.0]))
    assert empty.height == 0
    assert one.rows() == [(2.0, 1, 1.0)]


SHARES = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)


@given(SHARES, SHARES)
def test_total_variation_is_a_bounded_symmetric_distance(first: list[int], second: list[int]) -> None:
    p, q = (pl.DataFrame({"x": ["a", "b", "c"], "share": np.array(counts) / sum(counts)}) for counts in (first, second))
    distance = metrics.total_variation(p, q, on="x")
    assert 0 <= distance <= 1 + 1e-12
    assert distance == pytest.approx(metrics.total_variation(q, p, on="x"))
    assert metrics.total_variation(p, p, on="x") == 0


def test_disjoint_distributions_are_at_distance_one() -> None:
    p, q = pl.DataFrame({"x": ["a"], "share": [1.0]}), pl.DataFrame({"x": ["b", "c"], "share": [0.5, 0.5]})
    assert metrics.total_variation(p, q, on="x") == 1


def test_pages_are_counted_by_how_the_session_ended(run: FinishedRun) -> None:
    table = metrics.pages_histogram(run.sessions)
    assert table["share"].sum() == pytest.approx(1)
    assert table.filter(pl.col("exit") == "last_page")["pages"].unique().to_list() == [5]


def test_satisfaction_is_averaged_within_each_round(run: FinishedRun) -> None:
    table = metrics.satisfaction_by_round(run.sessions, STREAM)
    assert table["round"].to_list() == [0, 1]
    first = run.sessions.filter(pl.col("round") == 0)
    assert table["mean"][0] == pytest.approx(first["satisfaction"].mean())
    assert table["sessions"].sum() == run.sessions.height


def test_the_fallback_share_counts_replies_about_pages_and_sessions() -> None:
    pages, sessions = pl.DataFrame({"status": ["ok", "unreadable", "ok"]}), pl.DataFrame({"status": ["ok"]})
    assert metrics.fallback_share(pages, sessions) == 0.25


def test_genre_shares_split_an_item_among_its_genres() -> None:
    table = metrics.genre_shares(CHOSEN, CHOSEN, ITEMS)
    shares = {genre: real for genre, real, _, _ in table.iter_rows()}
    assert shares == pytest.approx({"Drama": 1.5 / 3, "Comedy": 1 / 3, "Crime": 0.5 / 3})
    assert table["genre"][0] == "Drama"


def test_genre_shares_sum_to_one(run: FinishedRun) -> None:
    table = metrics.genre_shares(run.real, run.impressions, run.items)
    for name in ("real", "shown", "chosen"):
        assert table[name].sum() == pytest.approx(1)


@pytest.mark.parametrize(("counts", "expected"), [([3, 3, 3], 0.0), ([0, 0, 0, 9], 0.75), ([1, 2, 3, 4], 0.25)])
def test_gini_of_known_counts(counts: list[int], expected: float) -> None:
    assert metrics.gini(np.array(counts)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30).filter(any))
def test_gini_is_twice_the_area_between_the_curve_and_the_diagonal(counts: list[int]) -> None:
    x, y = metrics.lorenz(np.array(counts))
    assert 2 * np.trapezoid(y - x, x) == pytest.approx(metrics.gini(np.array(counts)), abs=1e-9)
    assert (np.diff(y) >= 0).all()


def test_item_counts_keep_items_that_nobody_saw() -> None:
    assert metrics.item_counts(CHOSEN.head(3).with_columns(item=pl.lit("b")), ITEMS).tolist() == [0, 3, 0, 0]
    assert metrics.coverage(CHOSEN.head(1), ITEMS) == 0.25


def test_a_uniform_choice_has_average_popularity_one_half() -> None:
    assert metrics.average_popularity(CHOSEN, ITEMS, STREAM).value == pytest.approx(0.5)
    assert metrics.average_popularity(CHOSEN.head(1), ITEMS, STREAM).value == pytest.approx(0.875)


def test_behaviour_follows_the_formulas_of_the_traits(run: FinishedRun) -> None:
    chosen = run.chosen.filter(pl.col("item").is_in(run.items.filter(pl.col("train_count") > 0)["item"])).sort("user")
    items = run.items.with_row_index("code")
    users = chosen["user"].unique().sort().to_list()
    codes = chosen.join(items.select("item", "code"), on="item", maintain_order="left")["code"].to_numpy().astype(np.int32)
    people = chosen["user"].replace_strict(users, range(len(users))).to_numpy()
    histories = traits.Histories(people, codes, chosen["rating"].to_numpy().astype(np.float32), len(users))
    genres = sorted(set(run.items["genres"].explode()))
    matrix = sparse.csr_array(np.array([[float(genre in of) for genre in genres] for of in run.items["genres"].to_list()]))
    expected = {
        "conformity": traits.conformity(histories, run.items["train_mean_rating"].fill_null(0).to_numpy()),
        "pickiness": traits.pickiness(histories),
        "diversity": traits.diversity(traits.genre_counts(histories, matrix)),
    }
    for trait, values in expected.items():
        found = metrics.behaviour(trait, chosen, run.sessions, run.items)
        assert found["user"].to_list() == users
        np.testing.assert_allclose(found["behaviour"].to_numpy(), values, rtol=1e-6)


def test_activity_counts_sessions_without_a_choice() -> None:
    sessions = pl.DataFrame({"user": ["1", "1"], "interactions": [4, 0]})
    assert metrics.behaviour("activity", CHOSEN, sessions, ITEMS).rows() == [("1", 2.0)]


def test_behaviour_by_level_averages_people_and_correlation_finds_a_monotone_relation() -> None:
    people = pl.DataFrame({"user": list("abcd"), "activity_level": ["low", "low", "high", None], "activity_value": [1.0, 2.0, 3.0, 4.0]})
    behaviours = pl.DataFrame({"user": list("abcd"), "behaviour": [1.0, 3.0, 9.0, 100.0]})
    table = metrics.behaviour_by_level("activity", people, behaviours, STREAM)
    assert table.select("level", "people", "mean").rows() == [("low", 2, 2.0), ("high", 1, 9.0)]
    assert metrics.trait_correlation("activity", people, behaviours) == pytest.approx(1)
    assert np.isnan(metrics.trait_correlation("activity", people, behaviours.head(1)))

"""Sums per person: their ratio is the metric, they add up over rounds."""

import numpy as np
import polars as pl
import pytest

from experiments.analysis import person_sums as sums
from experiments.analysis.finished_run import FinishedRun

ITEMS = pl.DataFrame(
    {
        "item": ["a", "b", "c", "d"],
        "genres": [["Drama"], ["Drama", "Crime"], [], ["Comedy"]],
        "train_count": pl.Series([8, 4, 0, 4], dtype=pl.Int32),
    }
)
PAGES = pl.DataFrame(
    {
        "user": ["1", "1", "1", "2", "2", "2"],
        "session": [0, 0, 0, 0, 0, 0],
        "page": [1, 1, 2, 1, 1, 1],
        "item": ["a", "b", "d", "a", "d", "c"],
        "chosen": [True, False, True, True, True, False],
        "rating": [4.0, None, 3.9, 5.0, 1.0, None],
    }
)


def ratio(table):
    return table["a"].sum() / table["b"].sum()


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory):
    return FinishedRun(make_run(tmp_path_factory.mktemp("sums") / "run"))


def test_likes_are_chosen_items_rated_three_quarters_up_the_scale():
    assert sums.like_rate(PAGES, (1.0, 5.0)).rows() == [("1", 1.0, 3.0), ("2", 1.0, 3.0)]
    assert sums.like_rate(PAGES, (1.0, 4.8)).rows() == [("1", 2.0, 3.0), ("2", 1.0, 3.0)]


def test_the_diversity_of_a_page_is_the_mean_distance_of_its_pairs_with_genres():
    found = sums.page_diversity(PAGES, ITEMS)
    # a and b share one of b's two genres; a and d share none, c has no genre; the page with d alone has no pair
    assert found.rows() == [("1", pytest.approx(1 - 1 / np.sqrt(2)), 1.0), ("2", pytest.approx(1.0), 1.0)]
    assert sums.page_diversity(PAGES.filter(pl.col("item") == "c"), ITEMS).height == 0


def test_novelty_is_the_mean_surprise_in_bits():
    assert sums.novelty(PAGES, ITEMS).rows() == [("1", 1.0 + 2.0 + 2.0, 3.0), ("2", 1.0 + 2.0 + 4.0, 3.0)]


@pytest.mark.parametrize("metric", [sums.watch_rate, sums.mean_rating, lambda table: sums.novelty(table, ITEMS)])
def test_sums_add_up_over_parts(metric):
    whole, parts = metric(PAGES), pl.concat([metric(PAGES[:3]), metric(PAGES[3:])])
    assert whole.equals(parts.group_by("user").sum().sort("user"))


def test_ratios_are_plain_means_over_rows(run):
    assert ratio(sums.watch_rate(run.impressions)) == pytest.approx(run.impressions["chosen"].mean())
    assert ratio(sums.mean_rating(run.impressions)) == pytest.approx(run.impressions["rating"].mean())
    assert ratio(sums.pages_per_session(run.sessions)) == pytest.approx(run.sessions["pages"].mean())
    assert ratio(sums.satisfaction(run.sessions)) == pytest.approx(run.sessions["satisfaction"].mean())
    assert 0 < ratio(sums.page_diversity(run.impressions, run.items)) < 1

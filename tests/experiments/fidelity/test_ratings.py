"""Rating figures of sources whose errors are known."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from experiments.fidelity import ratings
from experiments.fidelity.ratings import Told, draw, global_histogram, total_variation, user_and_item_bias
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld

VALUES = np.arange(1.0, 6.0)
PEOPLE, ITEMS = 60, 40


@pytest.fixture(scope="module")
def world():
    """Ratings are an item's level plus a person's level plus chance."""
    generator = Stream(8).generator()
    users, items = np.repeat(np.arange(PEOPLE), ITEMS), np.tile(np.arange(ITEMS), PEOPLE)
    level = 3.2 + generator.normal(0, 0.6, PEOPLE)[users] + generator.normal(0, 0.6, ITEMS)[items]
    given = np.clip(np.rint(level + generator.normal(0, 0.7, len(users))), 1, 5)
    table = pl.DataFrame(
        {"user": users, "item": items, "rating": given, "timestamp": [None] * len(users)}, schema=dict(INTERACTIONS_SCHEMA)
    )
    is_test = pl.Series(generator.random(table.height) < 0.3)
    board = CheckerboardWorld(n_users=PEOPLE, n_items=ITEMS).dataset
    context = SimpleNamespace(train=board.with_interactions(table.filter(~is_test)), bootstrap=100, stream=Stream(2))
    return context, table.filter(is_test).cast({"rating": pl.Float64})


def judged(context, rows, values, told):
    return ratings.judged(context, rows, values, told, user_and_item_bias(context.train, rows, values))


def certain(given):
    shares = (given[:, None] == VALUES[None, :]).astype(float)
    return Told(shares @ VALUES, shares)


def test_somebody_who_knows_every_rating_makes_no_error(world):
    context, rows = world
    found = judged(context, rows, VALUES, certain(rows["rating"].to_numpy()))
    for figure in ("mae", "mae_median", "rmse", "ece", "tv"):
        assert (found[figure]["value"], found[figure]["high"]) == (0.0, 0.0)
    assert found["slope"]["value"] == pytest.approx(1.0)
    assert found["halves"]["ratio"] == pytest.approx(1.0)
    assert found["tv_per_item"]["count"] == 0 or found["tv_per_item"]["full"] == 0.0


def test_the_median_errs_less_than_the_mean_and_never_lies_between_stars(world):
    context, rows = world
    shares = np.tile([0.45, 0.0, 0.0, 0.0, 0.55], (rows.height, 1))
    np.testing.assert_array_equal(ratings.median(shares, VALUES), 5.0)
    np.testing.assert_array_equal(ratings.median(np.array([[0.5, 0.0, 0.5, 0.0, 0.0], [0.0, 0.1, 0.8, 0.1, 0.0]]), VALUES), [1.0, 3.0])
    rows = rows.with_columns(rating=pl.Series(np.where(np.arange(rows.height) % 20 < 9, 1.0, 5.0)))
    found = judged(context, rows, VALUES, Told(shares @ VALUES, shares))
    assert found["mae_median"]["value"] == pytest.approx(0.45 * 4, abs=0.05)
    assert found["mae"]["value"] > found["mae_median"]["value"]


def test_biases_beat_the_global_histogram_where_people_and_items_differ(world):
    context, rows = world
    biases = judged(context, rows, VALUES, user_and_item_bias(context.train, rows, VALUES))
    everybody = judged(context, rows, VALUES, global_histogram(context.train, rows, VALUES))
    assert biases["mae"]["high"] < everybody["mae"]["low"]
    assert everybody["mae_less_biases"]["low"] > 0
    assert (biases["mae_less_biases"]["low"], biases["mae_less_biases"]["high"]) == (0.0, 0.0)
    assert biases["rmse"]["value"] ** 2 == pytest.approx(0.7**2 + 1 / 12, rel=0.25)
    assert everybody["slope"]["value"] is None


def test_the_global_histogram_is_near_the_noise_floor_overall_but_not_within_people(world):
    context, rows = world
    found = judged(context, rows, VALUES, global_histogram(context.train, rows, VALUES))
    assert found["halves"]["ratio"] < 1.5
    assert found["tv_per_person"]["ratio"] > 1.05


def test_ratings_that_never_go_below_three_are_found_out(world):
    context, rows = world
    kind = certain(np.clip(rows["rating"].to_numpy(), 3, 5))
    found = judged(context, rows, VALUES, kind)
    assert found["bias"]["low"] > 0
    assert found["tv"]["value"] == pytest.approx((rows["rating"] < 3).mean())


def test_expectations_that_are_too_sure_have_a_slope_below_one(world):
    context, rows = world
    told = user_and_item_bias(context.train, rows, VALUES)
    sure = Told(3.2 + 2 * (told.expected - 3.2), told.shares)
    assert judged(context, rows, VALUES, sure)["slope"]["high"] < judged(context, rows, VALUES, told)["slope"]["low"]


def test_unusable_answers_are_left_out(world):
    context, rows = world
    told = certain(rows["rating"].to_numpy())
    told.expected[::3], told.shares[::3] = np.nan, np.nan
    assert judged(context, rows, VALUES, told)["mae"]["value"] == 0.0


def test_sampled_ratings_follow_their_probabilities(world):
    context, rows = world
    shares = np.tile([0.1, 0.2, 0.3, 0.4, 0.0], (rows.height, 1))
    drawn = np.bincount(draw(shares, rows, context), minlength=5) / rows.height
    assert total_variation(drawn, shares[0]) < 0.05
    assert drawn[4] == 0

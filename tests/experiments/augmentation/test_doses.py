"""Which rows are added: equal shares, orders, and the size control."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from experiments.augmentation import doses
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.seeds import Stream

RNG = Stream(3)


def log(counts):
    """Person u has items 0 .. counts[u] - 1, in this order."""
    rows = [(user, item, 3.0, 1000 + item) for user, count in enumerate(counts) for item in range(count)]
    return pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 400))
def test_shares_are_equal_as_far_as_people_have_so_many(available, total):
    found = doses.quotas(np.array(available), total, RNG)
    assert found.sum() == min(total, sum(available))
    assert (found <= available).all()
    unfilled = found[found < available]
    if len(unfilled):
        # nobody gets more than one above the smallest share of somebody who could have given more
        assert found.max() <= unfilled.min() + 1


def test_the_first_rows_of_each_person_are_taken():
    found = doses.taken(log([2, 9, 5]), 10, RNG)
    assert dict(found.group_by("user").len().iter_rows()) == {0: 2, 1: 4, 2: 4}
    assert found.filter(pl.col("user") == 1)["item"].to_list() == [0, 1, 2, 3]


def test_a_larger_dose_holds_the_smaller_one():
    rows = log([4, 9, 5])
    small, large = (set(doses.taken(rows, total, RNG).select("user", "item").iter_rows()) for total in (9, 14))
    assert small < large


def shown():
    rows = pl.DataFrame(
        {
            "user": [0, 0, 0, 0, 1, 1],
            "item": [5, 6, 7, 8, 5, 6],
            "chosen": [True, False, True, True, False, True],
            "probability": [0.2, 0.9, 0.6, 0.4, 0.5, 0.3],
            "place": [0, 1, 2, 3, 0, 1],
        }
    )
    return rows.cast({"user": pl.Int32, "item": pl.Int32})


def test_confidence_takes_what_was_chosen_most_probable_first():
    assert doses.in_order(shown(), "confidence", RNG)["item"].to_list() == [7, 8, 5, 6]


def test_exposure_takes_what_was_shown_in_its_order_whether_chosen_or_not():
    assert doses.in_order(shown(), "exposure", RNG)["item"].to_list() == [5, 6, 7, 8, 5, 6]


def test_synthetic_takes_what_was_chosen_in_an_order_of_chance_that_the_stream_decides():
    found = [doses.in_order(shown(), "synthetic", Stream(seed))["item"].to_list() for seed in range(12)]
    assert {tuple(sorted(items[:3])) for items in found} == {(5, 7, 8)}
    assert len({tuple(items) for items in found}) > 1
    assert found[0] == doses.in_order(shown(), "synthetic", Stream(0))["item"].to_list()


def test_shadows_copy_each_persons_rows_so_often_and_nothing_twice_in_one_shadow():
    real = log([4, 6, 3])
    wanted = pl.DataFrame({"user": [0, 1, 2], "count": [10, 4, 0]}, schema={"user": pl.Int32, "count": pl.Int64})
    found = doses.shadows(real, wanted, 50, RNG)
    assert found.schema == real.schema
    assert found.height == 14
    assert found["user"].min() == 50
    assert not found.select("user", "item").is_duplicated().any()
    # person 0 has four rows, so ten copies are two whole shadows and a half one; person 1 has one shadow; person 2 none
    assert sorted(found.group_by("user").len()["len"].to_list()) == [2, 4, 4, 4]
    assert set(found.filter(pl.col("item") > 3)["item"]) <= {4, 5}


def test_what_has_no_rating_and_no_time_becomes_a_log_with_nulls():
    found = doses.as_interactions(pl.DataFrame({"user": [1], "item": [2], "place": [0]}, schema_overrides={"user": pl.Int32}))
    assert found.schema == pl.Schema(INTERACTIONS_SCHEMA)
    assert found["rating"].null_count() == found["timestamp"].null_count() == 1

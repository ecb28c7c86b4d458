import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.datasets.assembly import items_from_ids, users_from_ids
from environments.datasets.splits import SplitConfig, filtered, split
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.errors import DataError
from simulator.seeds import Stream

RNG = Stream(7, ("split",))


def world(rows: list[tuple[int, int, float | None, int | None]], users: int = 6, items: int = 8) -> Dataset:
    frame = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row").sort("user", "timestamp", maintain_order=True)
    people = users_from_ids(pl.Series([str(100 + user) for user in range(users)]))
    catalog = Catalog(items_from_ids(pl.Series([str(200 + item) for item in range(items)])))
    return Dataset("small", catalog, people, frame, (1.0, 5.0))


ROW = st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(1, 5).map(float), st.integers(0, 9))
METHODS = st.sampled_from(["temporal", "leave-one-out", "random"])


def with_ids(dataset: Dataset, rows: pl.DataFrame) -> list[tuple[object, ...]]:
    named = rows.join(dataset.users.select("user", "user_id"), on="user").join(dataset.catalog.items.select("item", "item_id"), on="item")
    return sorted(named.select("user_id", "item_id", "rating", "timestamp").rows())


@given(st.lists(ROW, min_size=1, max_size=60), METHODS, st.floats(0.05, 0.95))
def test_train_and_test_together_are_the_data_and_every_person_keeps_a_training_row(rows, method, share):
    dataset = world(rows)
    parts = split(dataset, SplitConfig(method=method, test_share=share), RNG)
    assert with_ids(dataset, pl.concat([parts.train.interactions, parts.test])) == with_ids(dataset, dataset.interactions)
    assert set(parts.train.interactions["user"]) == set(dataset.interactions["user"])


@given(st.lists(ROW, min_size=1, max_size=60, unique_by=lambda row: row[:2]), METHODS)
def test_the_training_part_never_holds_a_test_pair(rows, method):
    parts = split(world(rows), SplitConfig(method=method), RNG)
    train = set(parts.train.interactions.select("user", "item").rows())
    assert not train & set(parts.test.select("user", "item").rows())


@given(st.lists(ROW, min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_a_temporal_test_part_is_never_older_than_the_training_part_of_the_same_person(rows, share):
    parts = split(world(rows), SplitConfig(test_share=share), RNG)
    for user in parts.test["user"].unique():
        latest = parts.train.interactions.filter(pl.col("user") == user)["timestamp"].max()
        assert parts.test.filter(pl.col("user") == user)["timestamp"].min() >= latest


def largest_core(dataset: Dataset, k: int) -> list[tuple[int, int]]:
    """Removes one row at a time, in any order, as long as its person or item is too rare."""
    rows = dataset.interactions.select("user", "item").rows()
    while rows:
        users, items = [row[0] for row in rows], [row[1] for row in rows]
        rare = next((row for row in rows if users.count(row[0]) < k or items.count(row[1]) < k), None)
        if rare is None:
            break
        rows.remove(rare)
    return rows


@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 4))
def test_a_k_core_is_a_fixed_point_with_dense_codes_and_the_old_ids(rows, k):
    dataset = world(rows)
    if not largest_core(dataset, k):
        with pytest.raises(DataError, match=f"k_core = {k}"):
            filtered(dataset, SplitConfig(k_core=k))
        return
    core = filtered(dataset, SplitConfig(k_core=k))
    assert int(np.bincount(core.interactions["user"]).min()) >= k
    assert int(np.bincount(core.interactions["item"]).min()) >= k
    assert core.interactions.height == len(largest_core(dataset, k))
    assert core.n_users == core.interactions["user"].n_unique()
    assert core.n_items == core.interactions["item"].n_unique()
    assert set(with_ids(core, core.interactions)) <= set(with_ids(dataset, dataset.interactions))


def test_the_k_core_keeps_the_largest_set_of_rows_and_drops_a_chain_completely():
    square = [(user, item, 3.0, 1) for user in (1, 2) for item in (4, 5)]
    chain = [(3, 4, 3.0, 1), (3, 6, 3.0, 2), (5, 6, 3.0, 3)]
    core = filtered(world(square + chain), SplitConfig(k_core=2))
    assert core.users["user_id"].to_list() == ["101", "102"]
    assert core.catalog.items["item_id"].to_list() == ["204", "205"]
    assert core.interactions.height == 4


def test_ties_in_time_are_broken_by_the_place_in_the_file():
    dataset = world([(0, item, 3.0, 50) for item in (3, 1, 2, 0, 7)])
    parts = split(dataset, SplitConfig(test_share=0.4), RNG)
    assert parts.test["item"].to_list() == [0, 7]


def test_leave_one_out_takes_the_latest_row_where_there_are_times_and_any_row_where_there_are_none():
    timed = world([(0, item, 3.0, 10 + item) for item in range(8)])
    assert split(timed, SplitConfig(method="leave-one-out"), RNG).test["item"].to_list() == [7]
    untimed = world([(0, item, 3.0, None) for item in range(8)])
    chosen = {split(untimed, SplitConfig(method="leave-one-out"), Stream(seed)).test["item"].item() for seed in range(60)}
    assert chosen == set(range(8))


def test_a_random_split_of_one_person_does_not_depend_on_other_people():
    alone = [(2, item, 3.0, None) for item in range(8)]
    others = [(user, item, 3.0, None) for user in (0, 1, 4) for item in range(8)]
    config = SplitConfig(method="random", test_share=0.5)
    first = split(world(alone), config, RNG).test
    second = split(world(others + alone), config, RNG).test.filter(pl.col("user") == 2)
    assert first.equals(second)
    assert first["item"].to_list() != split(world(alone), config, Stream(8)).test["item"].to_list()


def test_a_temporal_split_without_times_says_what_to_do():
    with pytest.raises(DataError, match=r"temporal split needs a timestamp.*'small'.*split = 'random'"):
        split(world([(0, 1, 3.0, None)]), SplitConfig(), RNG)


def test_a_minimum_rating_filters_and_needs_ratings():
    kept = filtered(world([(0, 1, 3.0, 1), (0, 2, 4.0, 2), (1, 2, 2.0, 3)]), SplitConfig(min_rating=3.5))
    assert kept.interactions["item"].to_list() == [2]
    assert kept.n_users == 6
    with pytest.raises(DataError, match="min_rating needs a rating"):
        filtered(world([(0, 1, None, 1)]), SplitConfig(min_rating=3.5))


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.none(), st.integers(0, 50)), min_size=2, max_size=60),
    share=st.floats(0.05, 0.95),
)
def test_one_moment_parts_what_everybody_knows_from_what_nobody_does(rows, share):
    dataset = world(rows)
    times = [row[3] for row in rows]
    if len(set(times)) == 1:
        with pytest.raises(DataError, match="same time"):
            split(dataset, SplitConfig(method="global_time", test_share=share), Stream(0))
        return
    found = split(dataset, SplitConfig(method="global_time", test_share=share), Stream(0))
    train, test = found.train.interactions, found.test
    assert train.height + test.height == dataset.interactions.height
    assert train.height
    assert test.height
    assert train["timestamp"].max() < test["timestamp"].min()
    assert test.height <= share * len(rows) + 1 or test["timestamp"].n_unique() == 1


def test_one_moment_needs_times():
    with pytest.raises(DataError, match="times"):
        split(world([(0, 0, None, None), (0, 1, None, None)]), SplitConfig(method="global_time"), Stream(0))

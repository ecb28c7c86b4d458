"""The order of rows in files changes nothing: codes follow the ids, and ties are broken by them."""

import numpy as np
import polars as pl
import pytest

from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from simulator.seeds import Stream

ORDERS = ("as made", "backwards", "by item", "shuffled")


def written(folder, order, *, times="tied", ids=str):
    """A log of 30 people and 40 items, with files of both, in some order; popular items have low ids."""
    rng = np.random.Generator(np.random.Philox(5))
    weights = 1.0 / np.arange(1, 41)
    rows = []
    for user in range(1, 31):
        for item in rng.choice(40, 12, replace=False, p=weights / weights.sum()).tolist():
            rating, time = int(rng.integers(1, 6)), 1_000 + int(rng.integers(0, 3)) * 10
            rows += [(ids(user), ids(item + 1), rating, time)]
    tables = {
        "log": pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row"),
        "items": pl.DataFrame({"item_id": [ids(item + 1) for item in range(40)], "title": [f"T{item}" for item in range(40)]}),
        "users": pl.DataFrame({"user_id": [ids(user) for user in range(1, 31)], "age": list(range(20, 50))}),
    }
    if times == "none":
        tables["log"] = tables["log"].drop("timestamp")
    sort = {
        "as made": lambda table: table,
        "backwards": lambda table: table.reverse(),
        "by item": lambda table: table.sort(*(name for name in ("item_id", "user_id") if name in table.columns)),
        "shuffled": lambda table: table[rng.permutation(table.height)],
    }[order]
    for name, table in tables.items():
        sort(table).write_csv(folder / f"{name}.csv")
    return folder


def load(folder, **options):
    config = InteractionTables.Config(path=folder, interactions="log.csv", items="items.csv", users="users.csv", **options)
    return InteractionTables(config).load()


def loaded(tmp_path, order, **options):
    folder = tmp_path / order
    folder.mkdir()
    return load(written(folder, order, **options))


@pytest.mark.parametrize("times", ["tied", "none"])
@pytest.mark.parametrize("ids", [str, lambda number: f"x{number}"], ids=["numbers", "words"])
def test_files_in_any_order_are_one_data_set(tmp_path, times, ids):
    found = {order: loaded(tmp_path, order, times=times, ids=ids) for order in ORDERS}
    assert len({data.fingerprint() for data in found.values()}) == 1
    for method in ("random", "leave-one-out", *(["temporal"] if times == "tied" else [])):
        parts = [split(data, SplitConfig(method=method), Stream(3)) for data in found.values()]
        assert all(part.test.equals(parts[0].test) for part in parts)


def test_codes_follow_the_ids_as_numbers_where_all_are_and_as_words_where_not(tmp_path):
    for order in ORDERS:
        assert loaded(tmp_path, order).catalog.item_ids.tolist() == [str(item) for item in range(1, 41)]
    (tmp_path / "words").mkdir()
    words = load(written(tmp_path / "words", "shuffled", ids=lambda number: f"x{number}"))
    assert words.catalog.item_ids.tolist() == sorted(f"x{item}" for item in range(1, 41))


def test_what_happened_at_one_time_is_in_an_order_that_tells_nothing(tmp_path):
    """Neither the item's number nor its popularity says what comes last."""
    data = loaded(tmp_path, "by item", times="none")
    rows = data.interactions.with_columns(place=pl.int_range(pl.len()).over("user"))
    rows = rows.with_columns(count=pl.len().over("item"))
    late = rows.filter(pl.col("place") >= 6)
    early = rows.filter(pl.col("place") < 6)
    for name in ("item", "count"):
        one, other = early[name].to_numpy(), late[name].to_numpy()
        assert abs(one.mean() - other.mean()) < 4 * np.sqrt(one.var() / len(one) + other.var() / len(other)), name


def test_the_order_of_a_person_stays_when_other_people_and_items_are_added(tmp_path):
    data = loaded(tmp_path, "as made", times="none")
    log, items, users = (pl.read_csv(tmp_path / "as made" / f"{name}.csv") for name in ("log", "items", "users"))
    pl.concat([pl.DataFrame({"user_id": [0], "item_id": [0], "rating": [1]}), log]).write_csv(tmp_path / "as made" / "log.csv")
    pl.concat([items, pl.DataFrame({"item_id": [0], "title": ["new"]})]).write_csv(tmp_path / "as made" / "items.csv")
    pl.concat([users, pl.DataFrame({"user_id": [0], "age": [99]})]).write_csv(tmp_path / "as made" / "users.csv")
    more = load(tmp_path / "as made")
    assert more.n_users == data.n_users + 1

    def of(one, name):
        user = one.users.filter(pl.col("user_id") == name)["user"][0]
        return one.catalog.item_ids[one.interactions.filter(pl.col("user") == user)["item"].to_numpy()].tolist()

    for name in ("1", "17", "30"):
        assert of(more, name) == of(data, name)


def test_rows_that_are_kept_twice_may_stand_in_any_order(tmp_path):
    text = "user_id,item_id,rating,timestamp\n"
    rows = ["1,7,5,90\n", "1,7,2,90\n", "1,7,2,10\n", "2,7,1,5\n"]
    found = []
    for number, order in enumerate((rows, rows[::-1], [rows[2], rows[0], rows[3], rows[1]])):
        (tmp_path / f"{number}.csv").write_text(text + "".join(order))
        config = InteractionTables.Config(path=tmp_path, interactions=f"{number}.csv", duplicates="keep")
        found.append(InteractionTables(config).load().interactions)
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])

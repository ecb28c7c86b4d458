import time
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import RunError
from simulator.memory_table import from_frame, to_frame, to_rows
from simulator.records import MemoryRecord
from simulator.seeds import Stream
from simulator.tables import MEMORIES
from simulator.testing_memory import films, random_records

CATALOG = films()
CODES = {item_id: code for code, item_id in enumerate(CATALOG.item_ids)}
SECONDS = st.integers(0, 2**40)

RECORDS = st.builds(
    MemoryRecord,
    record=st.just(0),
    kind=st.sampled_from(["seen", "chosen", "rated", "feeling", "insight"]),
    round=st.integers(0, 99),
    session=st.integers(0, 999),
    time=SECONDS,
    text=st.text(st.characters(codec="utf-8")),
    item=st.integers(-1, len(CATALOG) - 1),
    importance=st.floats(0, 1),
    references=st.lists(st.integers(0, 1000)).map(tuple),
    recalls=st.integers(0, 1000),
    last_recall=SECONDS,
    forgotten=st.none() | SECONDS,
)
PEOPLE = st.dictionaries(st.text("abc019é ", min_size=1), st.lists(RECORDS, min_size=1, max_size=5), max_size=4)


@settings(deadline=None)
@given(PEOPLE, st.randoms(use_true_random=False))
def test_records_come_back_from_the_table_as_they_were(people, random):
    people = {user: [replace(record, record=number) for number, record in enumerate(records)] for user, records in people.items()}
    frame = to_frame(people.items(), CATALOG.item_ids)
    assert dict(frame.schema) == MEMORIES.schema()
    order = list(range(frame.height))
    random.shuffle(order)
    assert from_frame(frame[order], CODES) == people


def test_rows_of_one_person_fill_every_column_of_the_table():
    rows = to_rows("u1", random_records(Stream(1), CATALOG, 7), CATALOG.item_ids)
    assert list(rows) == list(MEMORIES.schema())
    assert {len(values) for values in rows.values()} == {7}


def test_a_record_about_no_item_has_no_item_id():
    frame = to_frame([("u", [MemoryRecord(0, "chosen", 0, 0, 5, "x", item=2), MemoryRecord(1, "feeling", 0, 0, 5, "y")])], CATALOG.item_ids)
    assert frame["item"].to_list() == ["f2", None]


def test_nobody_gives_an_empty_table_and_back():
    frame = to_frame([], CATALOG.item_ids)
    assert dict(frame.schema) == MEMORIES.schema()
    assert from_frame(frame, CODES) == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.drop("kind"), "column 'kind' is missing"),
        (lambda frame: frame.with_columns(pl.col("time").cast(pl.Float64)), "column 'time' is Float64, not Int64"),
        (lambda frame: frame.with_columns(kind=pl.lit("dream")), "kind 'dream'"),
        (lambda frame: frame.with_columns(item=pl.lit("f99")), "item 'f99'"),
        (lambda frame: pl.concat([frame, frame]), "record 0 of user 'u' twice"),
    ],
)
def test_a_damaged_table_is_refused(damage, message):
    frame = to_frame([("u", random_records(Stream(2), CATALOG, 3))], CATALOG.item_ids)
    with pytest.raises(RunError, match=message):
        from_frame(damage(frame), CODES)


def test_a_hundred_thousand_records_take_seconds_at_most():
    people = [(str(user), random_records(Stream(user), CATALOG, 100)) for user in range(10)]
    people = [(f"{copy}-{user}", records) for copy in range(100) for user, records in people]
    start = time.perf_counter()
    frame = to_frame(people, CATALOG.item_ids)
    back = from_frame(frame, CODES)
    assert time.perf_counter() - start < 20
    assert (frame.height, back["7-3"]) == (100_000, people[73][1])

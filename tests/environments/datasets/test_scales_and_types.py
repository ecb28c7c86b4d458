"""Scales and types of data: exact times, dates, wild ratings, what is not rated, ids as floats, words that say nothing, lists of genres."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from environments.datasets.movielens import MovieLens100K, MovieLensLatest
from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from environments.datasets.times import TICKS
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.seeds import Stream


def load(folder: Path, **options: object) -> Dataset:
    return InteractionTables(InteractionTables.Config(path=folder, **options)).load()


def of_text(folder: Path, text: str, **options: object) -> Dataset:
    (folder / "r.csv").write_text(text)
    return load(folder, interactions="r.csv", **options)


def of_frame(folder: Path, columns: dict[str, object], **options: object) -> Dataset:
    pl.DataFrame(columns).write_parquet(folder / "r.parquet")
    return load(folder, interactions="r.parquet", **options)


def items_of(data: Dataset, user: str) -> list[str]:
    rows = data.interactions.join(data.users, on="user", maintain_order="left").join(data.catalog.items, on="item", maintain_order="left")
    return rows.filter(pl.col("user_id") == user)["item_id"].to_list()


def rated(*ratings: object, start: int = 1) -> str:
    rows = (f"{number % 4},{number},{rating}\n" for number, rating in enumerate(ratings, start=start))
    return "user_id,item_id,rating\n" + "".join(rows)


STARS = [1, 2, 3, 4, 5, 4, 3, 2, 5, 4, 3, 1]


# --- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_events_within_a_second_keep_their_order_whatever_order_the_file_has(tmp_path, unit):
    second = 1_700_000_000 * TICKS[unit]
    rows = [("1", "C", second + 3), ("1", "B", second + 2), ("1", "A", second + 1), ("2", "B", second), ("2", "A", second + 1)]
    text = "user_id,item_id,timestamp\n" + "".join(f"{user},{item},{moment}\n" for user, item, moment in rows)
    data = of_text(tmp_path, text, time_unit=unit)
    assert items_of(data, "1") == ["A", "B", "C"]
    assert data.interactions["timestamp"].to_list() == [1_700_000_000] * 5
    held_out = split(data, SplitConfig(method="leave-one-out"), Stream(1)).test
    assert data.catalog.item_ids[held_out["item"].to_numpy()].tolist() == ["C", "A"]


def test_fractions_of_a_second_count_in_seconds_too(tmp_path):
    text = "user_id,item_id,timestamp\n1,B,1700000000.000000200\n1,A,1700000000.0000001\n1,C,1.7000000009e9\n"
    assert items_of(of_text(tmp_path, text), "1") == ["A", "B", "C"]


def test_of_two_ratings_within_a_second_the_later_one_is_kept(tmp_path):
    text = "user_id,item_id,rating,timestamp\n1,A,5,1700000000900\n1,A,1,1700000000100\n1,B,3,1600000000000\n"
    data = of_text(tmp_path, text, time_unit="ms")
    assert data.interactions["rating"].to_list() == [3.0, 5.0]


@pytest.mark.parametrize("time_zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("options", [{}, {"time_unit": "ms"}, {"time_format": "%Y-%m-%d"}])
def test_a_column_of_dates_with_a_type_needs_neither_unit_nor_format(tmp_path, time_zone, options):
    moments = pl.Series([datetime(2023, 11, 14, 22, 13, 20, 2), datetime(2023, 11, 14, 22, 13, 20, 1)]).dt.replace_time_zone(time_zone)
    data = of_frame(tmp_path, {"user_id": [1, 1], "item_id": ["B", "A"], "timestamp": moments}, **options)
    assert items_of(data, "1") == ["A", "B"]
    wanted = 1_700_000_000 - (3_600 if time_zone == "Europe/Berlin" else 0)
    assert data.interactions["timestamp"].to_list() == [wanted] * 2
    assert data.understood["time unit"] == "dates with a type"


@pytest.mark.parametrize(
    ("first", "second", "time_format"),
    [
        ("20240131", "20240201", "%Y%m%d"),
        ("20240131184200", "20240201000000", "%Y%m%d%H%M%S"),
        ("202401311842", "202402010000", "%Y%m%d%H%M"),
        ("20240131.0", "20240201.0", "%Y%m%d"),
    ],
)
@pytest.mark.parametrize("unit", ["s", "us"])
def test_dates_written_as_numbers_are_refused_with_their_format(tmp_path, first, second, time_format, unit):
    text = f"user_id,item_id,timestamp\n1,A,{first}\n1,B,{second}\n"
    with pytest.raises(DataError, match=rf"r\.csv, line 2, column 'timestamp': found .* dataset\.time_format = '{time_format}'"):
        of_text(tmp_path, text, time_unit=unit)
    data = of_text(tmp_path, text.replace(".0", ""), time_format=time_format)
    assert data.interactions["timestamp"][0] >= 1_706_659_200


@pytest.mark.parametrize(
    ("moment", "time_format"),
    [
        ("2001-01-01 00:12:40", "%Y-%m-%d %H:%M:%S"),
        ("2001-01-01", "%Y-%m-%d"),
        ("2001-01-01T00:12:40Z", "%Y-%m-%dT%H:%M:%S%z"),
        ("2001-01-01 00:12:40.125", "%Y-%m-%d %H:%M:%S%.f"),
        ("31.12.2001 10:00", "%d.%m.%Y %H:%M"),
        ("12/31/2001", "%m/%d/%Y"),
        ("Dec 31, 2001", "%b %d, %Y"),
    ],
)
def test_a_date_in_text_names_the_format_that_reads_it(tmp_path, moment, time_format):
    text = f'user_id,item_id,timestamp\n1,A,"{moment}"\n1,B,"{moment}"\n'
    with pytest.raises(DataError) as caught:
        of_text(tmp_path, text)
    assert f"dataset.time_format = {time_format!r}" in str(caught.value)
    assert "on_bad_rows" not in str(caught.value)
    assert of_text(tmp_path, text, time_format=time_format).interactions["timestamp"].min() >= 978_307_200
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    (tmp_path / "ratings.csv").write_text(f'userId,movieId,rating,timestamp\n1,1,3,"{moment}"\n')
    with pytest.raises(DataError, match=r"dataset\.time_format = "):
        MovieLensLatest(MovieLensLatest.Config(path=tmp_path)).load()
    assert MovieLensLatest(MovieLensLatest.Config(path=tmp_path, time_format=time_format)).load().has_times


def test_dates_are_exact_to_the_fraction_and_know_offsets(tmp_path):
    text = "user_id,item_id,time\n1,B,2020-01-01T12:00:00.2+02:00\n1,A,2020-01-01T10:00:00.1+00:00\n1,C,2020-01-01T10:00:00.3Z\n"
    for time_format in ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S.%f%z"):
        data = of_text(tmp_path, text, time_format=time_format)
        assert items_of(data, "1") == ["A", "B", "C"]
        assert data.interactions["timestamp"].unique().to_list() == [1_577_872_800]


@pytest.mark.parametrize(("time_format", "says"), [("yyyy-mm-dd", "must be a format"), ("%Y-%m-%d %Z", "use %z"), ("", "must be a format")])
def test_a_format_that_reads_no_date_is_refused_when_it_is_read(time_format, says):
    with pytest.raises(ValidationError, match=says):
        InteractionTables.Config(interactions="r.csv", time_format=time_format)


def test_a_date_outside_of_1970_to_2099_is_refused_with_its_line(tmp_path):
    for moment in ("1969-12-31", "2100-01-01", "9999-12-31", "0001-01-01"):
        with pytest.raises(DataError, match=rf"line 3, column 'time': found '{moment}', allowed is a date from 1970 to 2099"):
            of_text(tmp_path, f"user_id,item_id,time\n1,A,2020-01-01\n1,B,{moment}\n", time_format="%Y-%m-%d")
        with pytest.raises(DataError, match=r"found .*allowed is a date from 1970 to 2099|allowed are dates from 1970 to 2099"):
            of_frame(tmp_path, {"user_id": [1], "item_id": [1], "timestamp": [date.fromisoformat(moment)]})


def test_times_of_1970_alone_are_a_note_and_others_are_not(tmp_path):
    early = of_text(tmp_path, "user_id,item_id,timestamp\n1,A,12\n1,B,19000\n")
    assert any("all times lie in the year 1970" in note and "dataset.time_unit" in note for note in early.notes)
    assert not of_text(tmp_path, "user_id,item_id,timestamp\n1,A,12\n1,B,1700000000\n").notes


def test_times_in_another_unit_name_the_unit(tmp_path):
    text = "user_id,item_id,timestamp\n1,A,1700000000000\n1,B,1700000001000\n"
    with pytest.raises(DataError, match=r"line 2, .* dataset\.time_unit \(here, it seems, 'ms'\)"):
        of_text(tmp_path, text)


# --- ratings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [50, -40, 99, 1000])
def test_a_slip_of_the_pen_that_stretches_the_scale_stops_with_line_and_value(tmp_path, value):
    text = rated(*STARS, value, *STARS)
    with pytest.raises(DataError) as caught:
        of_text(tmp_path, text)
    said = str(caught.value)
    assert f"r.csv, line 14, column 'rating': found '{value}', allowed is a rating near the others, which are from 1 to 5" in said
    assert "dataset.rating_scale = [1, 5]" in said
    data = of_text(tmp_path, text, on_bad_rows="skip")
    assert data.rating_scale == (1.0, 5.0)
    assert data.skipped == {"rating far from all others": 1}
    assert of_text(tmp_path, text, unrated=[value]).interactions["rating"].null_count() == 1
    scale = (min(1, value), max(5, value))
    assert of_text(tmp_path, text, rating_scale=scale).rating_scale == scale


def test_a_sign_for_not_rated_on_many_rows_is_found_too(tmp_path):
    with pytest.raises(DataError, match=r"found '99', .* dataset\.unrated = \[99\]"):
        of_text(tmp_path, rated(*STARS, *([99] * 8), *STARS))


def test_a_wider_scale_is_a_note_and_an_ordinary_one_is_none(tmp_path):
    wider = of_text(tmp_path, rated(*STARS, 11, *STARS))
    assert any("r.csv, line 14, column 'rating': 11 stands apart" in note for note in wider.notes)
    for ratings in (STARS, [x / 2 for x in range(1, 11)] * 3, [*([5] * 400), 1, 3, 4, 4], list(range(1, 101)), [4, 5] * 30 + [1]):
        assert of_text(tmp_path, rated(*ratings)).notes == ()


def test_zero_beside_one_to_ten_is_a_note_that_names_the_setting(tmp_path):
    data = of_text(tmp_path, rated(*range(11), *range(11)))
    assert any("the rating 0 stands on 2 of 22 rows" in note and "dataset.unrated = [0]" in note for note in data.notes)


def test_what_is_not_rated_is_an_interaction_without_rating(tmp_path):
    text = rated(3, 0, "", 5, "nan", 1, "n.a.")
    data = of_text(tmp_path, text, unrated=[0, "n.a."])
    assert data.interactions.height == 7
    assert sorted(data.interactions["rating"].drop_nulls().to_list()) == [1.0, 3.0, 5.0]
    assert data.rating_scale == (1.0, 5.0)
    assert not data.has_ratings
    assert any("4 of 7 interactions (57%) have no rating" in note for note in data.notes)
    only = of_text(tmp_path, text, unrated=[0, "n.a."], without_rating="leave-out")
    assert only.has_ratings
    assert only.interactions.height == 3
    assert only.skipped == {"without a rating": 4}
    assert only.notes == ()
    assert InteractionTables.Config(interactions="r.csv", unrated=0).unrated == (0,)


@pytest.mark.parametrize("values", [(1, 1, 1, 1), (1, "", 1, 1), (4.5, 4.5, 4.5, 4.5)])
def test_one_rating_throughout_is_data_without_ratings(tmp_path, values):
    data = of_text(tmp_path, rated(*values))
    assert not data.has_ratings
    assert data.rating_scale is None
    assert data.interactions["rating"].null_count() == 4
    assert any("every rating is" in note and "dataset.rating_scale" in note for note in data.notes)
    given = of_text(tmp_path, rated(1, 1, 1), rating_scale=(0, 1))
    assert given.rating_scale == (0.0, 1.0)
    assert given.has_ratings


def test_ratings_without_bounds_and_with_commas_are_refused(tmp_path):
    with pytest.raises(DataError, match="found '1e\\+300', allowed is a number up to 1e"):
        of_text(tmp_path, rated(*STARS, "1e300"))
    with pytest.raises(DataError, match="found '4,5', allowed is a number; write numbers with a point"):
        of_text(tmp_path, 'user_id,item_id,rating\n1,1,"4,5"\n1,2,"3,5"\n')
    for scale in ((float("nan"), 5), (1, float("inf")), (1, 1e300)):
        with pytest.raises(ValidationError):
            InteractionTables.Config(interactions="r.csv", rating_scale=scale)


def test_the_levels_of_the_ratings_are_said(tmp_path):
    assert of_text(tmp_path, rated(*STARS)).understood["rating scale"] == "1, 2, 3, 4, 5, on a scale from 1 to 5"
    finer = of_text(tmp_path, rated(*range(1, 21)))
    assert finer.understood["rating scale"] == "20 levels from 1 to 20, in steps of 1, on a scale from 1 to 20"


# --- ids ---------------------------------------------------------------------------------------------------------------


def test_whole_floats_are_ids_without_a_point_and_join_the_items(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n10,Ten\n11,Eleven\n")
    columns = {"user_id": [1.0, 2.0], "item_id": [10.0, 11.0]}
    for data in (
        of_frame(tmp_path, columns, items="items.csv"),
        of_text(tmp_path, "user_id,item_id\n1.0,10.0\n2.0,11.0\n", items="items.csv"),
    ):
        assert data.users["user_id"].to_list() == ["1", "2"]
        assert data.catalog.titles == ["Ten", "Eleven"]
    many = {"user_id": [1, 1], "item_id": [Decimal("7.00"), Decimal("8.00")]}
    assert of_frame(tmp_path, many).catalog.item_ids.tolist() == ["7", "8"]


@pytest.mark.parametrize("value", [1e16 + 2, 2.0**53, 1.5, float("inf")])
def test_floats_that_are_no_ids_get_a_sentence(tmp_path, value):
    with pytest.raises(
        DataError, match=r"r\.parquet, column 'item_id': found .* among its ids, which are floats; allowed are whole numbers"
    ):
        of_frame(tmp_path, {"user_id": [1, 2], "item_id": [1.0, value]})


def test_ids_that_are_not_all_whole_floats_stay_as_they_are(tmp_path):
    data = of_text(tmp_path, "user_id,item_id\n1,1.0\n1,1.1\n2,007\n2,7\n")
    assert set(data.catalog.item_ids) == {"1.0", "1.1", "007", "7"}


def test_ids_that_a_spreadsheet_rounded_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"found '9\.78E\+12', allowed is an id that no program has rounded; several ids"):
        of_text(tmp_path, "user_id,item_id\n1,9780000000001\n1,9.78E+12\n")


def test_ids_may_be_called_like_nothing(tmp_path):
    data = of_text(tmp_path, "user_id,item_id\nNA,nan\nNone,null\n")
    assert data.users["user_id"].to_list() == ["NA", "None"]
    assert data.catalog.titles == ["nan", "null"]


# --- words and lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["nan", "None", "NULL", "N/A", "NaN", "null", "<NA>", "NA", " nan ", ""])
def test_words_that_say_nothing_are_nothing_known(tmp_path, nothing):
    (tmp_path / "items.csv").write_text(
        f'item_id,title,genres,description\n1,{nothing},{nothing},{nothing}\n2,Two,"Drama|{nothing}",Good\n'
    )
    (tmp_path / "users.csv").write_text(f"user_id,age,gender,occupation\n1,{nothing},{nothing},{nothing}\n2,30,F,nurse\n")
    text = f"user_id,item_id,review\n1,1,{nothing}\n2,2,fine\n"
    data = of_text(tmp_path, text, items="items.csv", users="users.csv", review="review")
    assert data.catalog.items.drop("item").rows() == [("1", "1", None, [], None), ("2", "Two", None, ["Drama"], "Good")]
    assert data.users.drop("user").rows() == [("1", None, None, None), ("2", 30, "female", "nurse")]
    assert data.interactions["review"].to_list() == [None, "fine"]


def test_html_entities_are_the_signs_that_they_stand_for(tmp_path):
    (tmp_path / "items.csv").write_text(
        'item_id,title,genres\n1,"Tom &amp; Jerry&#39;s &quot;Day&quot;",Action &amp; Adventure|Sci-Fi\n2,R&D &amp;amp; AT&T,Q&A\n'
    )
    data = of_text(tmp_path, "user_id,item_id\n1,1\n1,2\n", items="items.csv")
    assert data.catalog.titles == ['Tom & Jerry\'s "Day"', "R&D & AT&T"]
    assert data.catalog.items["genres"].to_list() == [["Action & Adventure", "Sci-Fi"], ["Q&A"]]


def genres(folder: Path, *fields: str, **options: object) -> list[list[str]]:
    frame = pl.DataFrame({"item_id": [str(number) for number in range(len(fields))], "genres": fields})
    frame.write_csv(folder / "items.csv")
    log = "user_id,item_id\n" + "".join(f"1,{number}\n" for number in range(len(fields)))
    return of_text(folder, log, items="items.csv", **options).catalog.items["genres"].to_list()


def test_genres_are_split_however_they_are_written(tmp_path):
    assert genres(tmp_path, "Action, Comedy", '["Action", "Sci-Fi"]', "Action|Drama", "['Drama', 'Action']", "['A' 'B']") == [
        ["Action", "Comedy"],
        ["Action", "Sci-Fi"],
        ["Action", "Drama"],
        ["Drama", "Action"],
        ["A", "B"],
    ]
    assert genres(
        tmp_path, "[{'id': 28, 'name': 'Action'}, {'id': 12, 'name': 'War'}]", "[]", "[Action, War]", "{'War': 3, 'Love': 0}"
    ) == [
        ["Action", "War"],
        [],
        ["Action", "War"],
        ["War"],
    ]
    assert genres(tmp_path, "Action;Comedy;Action", "Drama") == [["Action", "Comedy"], ["Drama"]]


def test_commas_within_names_of_genres_are_no_separators_where_the_column_shows_it(tmp_path):
    assert genres(tmp_path, "Arts, Crafts & Sewing|Toys", "Arts, Crafts & Sewing") == [
        ["Arts, Crafts & Sewing", "Toys"],
        ["Arts, Crafts & Sewing"],
    ]
    assert genres(tmp_path, "Action, Comedy", list_separator="|") == [["Action, Comedy"]]
    assert genres(tmp_path, "Action/Comedy", list_separator="/") == [["Action", "Comedy"]]


def test_lists_with_a_type_are_genres_as_they_are(tmp_path):
    pl.DataFrame({"item_id": ["a", "b"], "genres": [["x|y", "z, w"], None]}).write_parquet(tmp_path / "items.parquet")
    data = of_text(tmp_path, "user_id,item_id\n1,a\n1,b\n", items="items.parquet")
    assert data.catalog.items["genres"].to_list() == [["x|y", "z, w"], []]


# --- columns of any type -----------------------------------------------------------------------------------------------

ODD = {
    "duration": [timedelta(seconds=3)] * 2,
    "time": [time(1)] * 2,
    "bytes": [b"\xff\xd8"] * 2,
    "struct": [{"a": 1, "b": [2]}] * 2,
    "struct with bytes": [{"a": b"\xff"}] * 2,
    "list of structs": [[{"a": 1}]] * 2,
    "date": [date(2020, 1, 1)] * 2,
    "nothing": [None, None],
    "decimal": [Decimal("1.5")] * 2,
    "late": [datetime(9999, 1, 1)] * 2,
}


@pytest.mark.parametrize("name", ODD)
def test_a_column_of_any_type_that_nobody_picked_stops_nothing(tmp_path, name):
    columns = {"user_id": [1, 1], "item_id": [10, 11], "rating": [5, 3], "watch": pl.Series(ODD[name])}
    data = of_frame(tmp_path, columns)
    assert data.interactions["rating"].to_list() == [5.0, 3.0]
    assert "not used: watch" in data.understood["columns of r.parquet"]


@pytest.mark.parametrize("role", ["user", "item", "rating", "timestamp", "weight", "review"])
@pytest.mark.parametrize("name", ODD)
def test_a_picked_column_of_any_type_is_read_or_gets_a_sentence(tmp_path, name, role):
    columns = {"user_id": [1, 1], "item_id": [10, 11], "rating": [5, 3], "watch": pl.Series(ODD[name])}
    try:
        of_frame(tmp_path, columns, **{role: "watch"})
    except DataError as error:
        assert "watch" in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


def test_texts_stored_as_bytes_and_booleans_as_ratings_are_read(tmp_path):
    data = of_frame(tmp_path, {"user_id": [b"a", b"b"], "item_id": pl.Series(["x", "y"], dtype=pl.Categorical), "rating": [True, False]})
    assert data.users["user_id"].to_list() == ["a", "b"]
    assert data.rating_scale == (0.0, 1.0)


# --- what was understood -------------------------------------------------------------------------------------------------


def test_a_column_that_is_nearly_called_as_a_known_one_is_a_note(tmp_path):
    data = of_text(tmp_path, "user_id,item_id,ratng,note\n1,1,3,x\n1,2,4,y\n")
    assert data.understood["columns of r.csv"] == "user_id = user_id, item_id = item_id; not used: ratng, note"
    assert data.notes == (f"{tmp_path / 'r.csv'}: the column 'ratng' is not used; did you mean rating? Then set dataset.rating = 'ratng'.",)
    assert of_text(tmp_path, "user_id,item_id,ratng\n1,1,3\n1,2,4\n", rating="").notes == ()
    dated = of_text(tmp_path, "user_id,item_id,date,plays\n1,1,2020-01-01,4\n")
    assert any("dataset.timestamp = 'date' and dataset.time_format" in note for note in dated.notes)
    assert any("dataset.weight = 'plays'" in note for note in dated.notes)


def test_names_with_other_signs_and_cases_are_known(tmp_path):
    data = of_text(tmp_path, '"User-ID";"ISBN";"Book-Rating"\n"1";"x";"5"\n"1";"y;z";"3"\n')
    assert data.catalog.item_ids.tolist() == ["x", "y;z"]
    assert data.understood["separator of r.csv"] == "semicolon"
    assert sorted(data.interactions["rating"].to_list()) == [3.0, 5.0]


def keys(folder: Path) -> dict[str, object]:
    """A log that means the second column of the items' file, whose first column is one that looks like ids, too."""
    lines = [f"{100 + number},{number},Title {number}\n" for number in range(100)]
    (folder / "items.csv").write_text("item_id,asin_no,title\n" + "".join(lines))
    (folder / "r.csv").write_text("user_id,item_id\n" + "".join(f"{number % 7},{number}\n" for number in range(108)) + "1,3\n")
    return {"path": folder, "interactions": "r.csv", "items": "items.csv"}


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_ids_of_another_column_name_that_column_instead_of_leaving_rows_out(tmp_path, on_bad_rows):
    options = keys(tmp_path)
    with pytest.raises(DataError) as caught:
        InteractionTables(InteractionTables.Config(**options, on_bad_rows=on_bad_rows)).load()
    assert "dataset.item_key = 'asin_no'" in str(caught.value)
    assert "on_bad_rows" not in str(caught.value)


def test_the_other_column_of_the_log_is_named_where_that_one_is_meant(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"B{number},T{number}\n" for number in range(50)))
    text = "user_id,item_id,product\n" + "".join(f"{number % 5},{number},B{number}\n" for number in range(50))
    with pytest.raises(DataError, match=r"dataset\.item = 'product'"):
        of_text(tmp_path, text, items="items.csv")


def test_few_unknown_ids_are_bad_rows_and_what_was_left_out_is_said(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{number},T\n" for number in range(100)))
    text = "user_id,item_id\n" + "".join(f"{number % 7},{number}\n" for number in range(102))
    with pytest.raises(DataError, match=r"on_bad_rows = 'skip'.*dataset\.unlisted = 'add'"):
        of_text(tmp_path, text, items="items.csv")
    data = of_text(tmp_path, text, items="items.csv", on_bad_rows="skip")
    assert data.understood["left out"] == "2 (unknown item)"
    assert data.notes == ()
    many = of_text(tmp_path, text + "".join(f"1,x{number}\n" for number in range(40)), items="items.csv", on_bad_rows="skip")
    assert any("42 rows were left out (unknown item)" in note for note in many.notes)


def test_what_was_understood_stays_with_the_parts_of_a_split(tmp_path):
    data = of_text(tmp_path, rated(*STARS, 11))
    train = split(data, SplitConfig(method="random"), Stream(1)).train
    assert train.understood == data.understood
    assert train.notes == data.notes != ()


def test_movielens_copies_say_what_they_were_taken_for(tmp_path):
    files = {"u.genre": "unknown|0\n", "u.item": "1|Heat (1995)|||x|0\n", "u.user": "7|24|M|writer|1\n", "u.data": "7\t1\t4\t881250949\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    data = MovieLens100K(MovieLens100K.Config(path=tmp_path)).load()
    assert data.understood["time unit"] == "seconds since 1970"
    assert json.dumps(dict(data.understood))

"""Data sets in formats of their own: RecBole's atomic files, CSV, TSV and Parquet."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from environments.datasets.atomic import RecBoleAtomic
from environments.datasets.tables import InteractionTables
from simulator.dataset import Dataset


def atomic(folder: Path, **options: object) -> Dataset:
    return RecBoleAtomic(RecBoleAtomic.Config(path=folder, **options)).load()


def table(folder: Path, **options: object) -> Dataset:
    return InteractionTables(InteractionTables.Config(path=folder, **options)).load()


def test_an_unseen_atomic_data_set_needs_only_its_path(tmp_path):
    (tmp_path / "books.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\nb\tx\t7.5\t100.0\na\ty\t2\t50\n")
    (tmp_path / "books.item").write_text(
        "item_id:token\tbook_title:token_seq\tpublication_year:float\tcategories:token_seq\tprice:float\n"
        "x\tDune\t1965.0\tfiction space\t\ny\tEmma\t\t\t3\n"
    )
    (tmp_path / "books.user").write_text("user_id:token\tage:token\tsex:token\na\t25-34\tF\nb\t41\tm\n")
    data = atomic(tmp_path)
    assert data.name == "books"
    assert data.catalog.items.rows() == [(0, "x", "Dune", 1965, ["fiction", "space"], None), (1, "y", "Emma", None, [], None)]
    assert data.users.rows() == [(0, "a", None, "female", None), (1, "b", 41, "male", None)]
    assert data.interactions.rows() == [(0, 1, 2.0, 50), (1, 0, 7.5, 100)]
    assert data.rating_scale == (2.0, 7.5)


def test_atomic_data_with_nothing_but_pairs_has_neither_ratings_nor_times(tmp_path):
    (tmp_path / "clicks.inter").write_text("user_id:token\titem_id:token\n10\t3\n9\t3\n10\t4\n")
    data = atomic(tmp_path)
    assert data.users["user_id"].to_list() == ["9", "10"]
    assert data.catalog.titles == ["3", "4"]
    assert not data.has_ratings
    assert not data.has_times
    assert data.rating_scale is None


def test_rows_labelled_as_negative_are_no_interactions(tmp_path):
    (tmp_path / "ads.inter").write_text("user_id:token\titem_id:token\tlabel:float\n1\t3\t0\n1\t4\t1\n")
    assert atomic(tmp_path).interactions["item"].to_list() == [0]
    assert atomic(tmp_path).catalog.titles == ["4"]


def test_field_names_can_be_chosen_or_left_out(tmp_path):
    (tmp_path / "x.inter").write_text("who:token\twhat:token\trating:float\tmoment:float\n1\t3\t4\t5000\n")
    data = atomic(tmp_path, user="who", item="what", rating="", timestamp="moment", time_unit="ms")
    assert data.interactions.rows() == [(0, 0, None, 5)]


def test_unlisted_items_and_people_can_be_added(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\t3\n2\t9\n")
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\n3\tThree\n")
    (tmp_path / "x.user").write_text("user_id:token\tage:token\n2\t30\n")
    data = atomic(tmp_path, unlisted="add")
    assert data.catalog.titles == ["Three", "9"]
    assert data.users.select("user_id", "age").rows() == [("1", None), ("2", 30)]
    assert data.interactions.select("user", "item").rows() == [(0, 0), (1, 1)]


@pytest.mark.parametrize(("duplicates", "ratings"), [("keep", [2.0, 5.0, 3.0]), ("last", [5.0, 3.0])])
def test_repeated_rows_are_kept_or_the_last_in_time_wins(tmp_path, duplicates, ratings):
    (tmp_path / "log.csv").write_text("user,item,rating,time\n1,7,5,90\n1,7,2,10\n1,8,3,95\n")
    data = table(tmp_path, interactions="log.csv", duplicates=duplicates)
    assert data.interactions["rating"].to_list() == ratings
    assert dict(data.skipped) == ({} if duplicates == "keep" else {"earlier row of a repeated user and item": 1})


def test_play_counts_with_crlf_and_tabs_become_interactions_without_ratings(tmp_path):
    (tmp_path / "plays.dat").write_bytes(b"userID\tartistID\tweight\r\n2\t51\t13883\r\n2\t52\t1\r\n3\t51\t9\r\n")
    (tmp_path / "artists.dat").write_bytes('id\tname\turl\r\n51\t"Weird Al" Björk\thttp://x\r\n52\tAbba\thttp://y\r\n'.encode())
    options = {"interactions": "plays.dat", "items": "artists.dat", "separator": "\t", "weight": "weight", "domain": "music"}
    data = table(tmp_path, **options)
    assert data.catalog.titles == ['"Weird Al" Björk', "Abba"]
    assert data.catalog.domain.choose == "listen to"
    assert not data.has_ratings
    assert data.interactions.height == 3
    assert table(tmp_path, **options, min_weight=5).interactions.height == 2


def test_tags_in_a_table_of_their_own_become_the_commonest_few_genres(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\nu,11\nu,12\nu,13\n")
    (tmp_path / "items.csv").write_text("item,title\n11,A\n12,B\n13,C\n")
    (tmp_path / "names.csv").write_text("tagID,tagValue\n7,jazz\n8,hard rock\n9,metal\n")
    (tmp_path / "tagged.csv").write_text("user,item,tag\nu,11,8\nu,11,9\nu,11,7\nv,11,7\nu,12,9\nu,12,8\nu,13,9\n")
    options = {"interactions": "log.csv", "items": "items.csv", "genre": "tag", "genre_names": "names.csv"}
    expected = [["jazz", "metal"], ["metal", "hard rock"], ["metal"]]
    by_id = table(tmp_path, **options, item_genres="tagged.csv", max_genres=2)
    assert by_id.catalog.items["genres"].to_list() == expected
    (tmp_path / "rows.tsv").write_text("1\t2\n1\t3\n1\t1\n1\t1\n2\t3\n2\t2\n3\t3\n")
    by_row = table(tmp_path, **options, item_genres="rows.tsv", item_genre_columns=("item", "tag"), genre_ids="row", max_genres=2)
    assert by_row.catalog.items["genres"].to_list() == expected


def test_quoted_csv_may_hold_commas_quotes_and_lines(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\nu,1\nu,2\n")
    (tmp_path / "items.csv").write_text('item,title,description\n1,"Me, You","A ""good""\nfilm"\n2,Plain,\n')
    data = table(tmp_path, interactions="log.csv", items="items.csv")
    assert data.catalog.items.select("title", "description").rows() == [("Me, You", 'A "good"\nfilm'), ("Plain", None)]


def test_a_file_without_a_header_gets_its_column_names_from_the_configuration(tmp_path):
    (tmp_path / "log.tsv").write_text("5\t6\t3\n")
    data = table(
        tmp_path,
        interactions="log.tsv",
        columns=("user", "item", "rating"),
        domain={"item": "pub", "items": "pubs", "choose": "visit", "chosen": "visited"},
    )
    assert data.interactions.rows() == [(0, 0, 3.0, None)]
    assert data.catalog.domain.items == "pubs"


def test_parquet_keeps_lists_and_dates_and_equals_the_same_data_in_csv(tmp_path):
    moments = [datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 1, 12, tzinfo=UTC)]
    pl.DataFrame({"user": [1, 1], "item": ["a", "b"], "rating": [4.0, 2.5], "time": moments}).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame({"item": ["a", "b"], "genres": [["x", "y"], []], "title": ["A (1990)", "B"]}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "log.csv").write_text("user,item,rating,time\n1,a,4,2020-01-02T00:00\n1,b,2.5,2020-01-01T12:00\n")
    (tmp_path / "items.csv").write_text("item,genres,title\na,x|y,A (1990)\nb,,B\n")
    first = table(tmp_path, interactions="log.parquet", items="items.parquet", domain="film")
    second = table(tmp_path, interactions="log.csv", items="items.csv", domain="film", time_format="%Y-%m-%dT%H:%M")
    assert first.fingerprint() == second.fingerprint()
    assert first.catalog.items.row(0) == (0, "a", "A", 1990, ["x", "y"], None)
    assert first.interactions["timestamp"].to_list() == [1577880000, 1577923200]


def test_a_scale_in_the_wrong_order_is_refused():
    with pytest.raises(ValidationError, match=r"rating_scale must be \[lowest, highest\]"):
        InteractionTables.Config(interactions="x.csv", rating_scale=(5, 1))


ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.5, 1.0, 4.5]), st.integers(0, 2_000_000_000)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)
@given(ROWS)
def test_what_is_written_is_what_is_read_in_order_of_person_then_time(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round_trip")
    (folder / "log.csv").write_text("user,item,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    data = table(folder, interactions="log.csv", duplicates="keep", rating_scale=(0.5, 5))
    ids = data.interactions.join(data.users, on="user", maintain_order="left").join(data.catalog.items, on="item", maintain_order="left")
    read = [(int(u), int(i), r, t) for u, i, r, t in ids.select("user_id", "item_id", "rating", "timestamp").rows()]
    assert sorted(read) == sorted(rows)
    assert [(row[0], row[3]) for row in read] == sorted((row[0], row[3]) for row in rows)


def test_the_real_lastfm_play_counts_load_with_only_a_configuration(shared_data):
    data = table(
        shared_data / "lastfm-hetrec-2k",
        name="lastfm",
        interactions="user_artists.dat",
        items="artists.dat",
        item_genres="artist_tag_hin.dat",
        item_genre_columns=("artistID", "genre"),
        genre_ids="row",
        genre_names="tags.dat",
        separator="\t",
        weight="weight",
        encoding="latin-1",  # the artists are UTF-8, the tags latin-1
        domain="music",
    )
    assert (data.n_users, data.n_items, data.interactions.height) == (1892, 17632, 92834)
    assert data.catalog.titles[0] == "MALICE MIZER"
    genres = dict(zip(data.catalog.titles, data.catalog.items["genres"].to_list(), strict=True))
    assert genres["Miles Davis"][0] == "jazz"
    assert "new age" in genres["David Nevue"]
    assert data.catalog.items["genres"].list.len().max() == 5

"""Files as they come: packed, in parts, with other separators and ends of line, without a header, as JSON or literals of Python."""

import bz2
import gzip
import json
import lzma
import zipfile
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from environments.datasets import sources
from environments.datasets.amazon import AmazonReviews
from environments.datasets.json_files import literal
from environments.datasets.tables import InteractionTables
from simulator.archives import most_unpacked
from simulator.dataset import Dataset
from simulator.errors import ConfigError, DataError

LOG = "user_id,item_id,rating\n1,a,5\n1,b,3\n2,a,4\n"


def load(folder: Path, **options: object) -> Dataset:
    return InteractionTables(InteractionTables.Config(path=folder, **options)).load()


def rows(data: Dataset) -> list[tuple[str, str, float]]:
    joined = data.interactions.join(data.users, on="user").join(data.catalog.items, on="item")
    return sorted(joined.select("user_id", "item_id", "rating").rows())


WANTED = [("1", "a", 5.0), ("1", "b", 3.0), ("2", "a", 4.0)]


def zipped(path: Path, *members: tuple[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)


def objects(text: str = LOG) -> list[dict[str, object]]:
    return pl.read_csv(text.encode()).to_dicts()


PACKED = {
    "r.csv.gz": lambda path: path.write_bytes(gzip.compress(LOG.encode())),
    "r.csv.bz2": lambda path: path.write_bytes(bz2.compress(LOG.encode())),
    "r.csv.xz": lambda path: path.write_bytes(lzma.compress(LOG.encode())),
    "r.csv.zip": lambda path: zipped(path, ("r.csv", LOG)),
    "r.zip": lambda path: zipped(path, ("folder/r.csv", LOG), ("__MACOSX/._r.csv", "x"), ("folder/.DS_Store", "x")),
    "t.zip": lambda path: zipped(path, ("r.tsv", LOG.replace(",", "\t"))),
    "r.dat": lambda path: path.write_text(LOG.replace(",", "::")),
    "r.txt": lambda path: path.write_text(LOG.replace(",", "\t")),
    "s.txt": lambda path: path.write_text(LOG.replace(",", " ")),
    "p.csv": lambda path: path.write_text(LOG.replace(",", "|")),
    "c.csv": lambda path: path.write_text(LOG.replace(",", ";")),
    "t.csv": lambda path: path.write_text(LOG.replace(",", "\t")),
    "n": lambda path: path.write_text(LOG),
    "cr.csv": lambda path: path.write_bytes(LOG.replace("\n", "\r").encode()),
    "crlf.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + LOG.replace("\n", "\r\n").encode()),
    "closed.csv": lambda path: path.write_text(LOG.replace("\n", ",\n")),
    "rows_closed.csv": lambda path: path.write_text(LOG.replace("\n", ",\n").replace("rating,", "rating")),
    "header_closed.csv": lambda path: path.write_text(LOG.replace("rating", "rating,")),
    "r.jsonl": lambda path: path.write_text("\n".join(json.dumps(row) for row in objects())),
    "r.json": lambda path: path.write_text(json.dumps(objects(), indent=1)),
    "r.json.gz": lambda path: path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in objects()).encode())),
    "py.json": lambda path: path.write_text("\n".join(repr(row) for row in objects())),
    "r.parquet": lambda path: pl.read_csv(LOG.encode()).write_parquet(path),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_table_is_read_however_it_is_written_and_described_without_a_word_of_configuration(tmp_path, name):
    PACKED[name](tmp_path / name)
    assert rows(load(tmp_path, interactions=name)) == WANTED
    found = sources.describe(tmp_path / name)
    assert (found["users"], found["items"], found["interactions"]) == (2, 2, 3)
    assert found["ratings"] == {"3": 1, "4": 1, "5": 1}
    assert any(what.startswith("columns of") for what in found["understood"])
    assert found["skipped"] == {}


HEADER, *LINES = LOG.splitlines(keepends=True)
FIRST, SECOND = HEADER + LINES[0], HEADER + "".join(LINES[1:])
SPARK = "part-00000-1f2e3d4c-0000-4000-8000-0123456789ab-c000"
PARTS = {
    "csv": {"part-0.csv": FIRST, "part-1.csv": SECOND},
    "gz": {"part-0.csv.gz": FIRST, "part-1.csv.gz": SECOND},
    "spark": {f"{SPARK}.csv": LOG, "_SUCCESS": "", f".{SPARK}.csv.crc": "x"},
    "one": {"log.csv": LOG},
}


@pytest.mark.parametrize("name", PARTS)
def test_a_folder_of_parts_is_one_table(tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    for file, text in PARTS[name].items():
        (folder / file).write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
    assert rows(load(tmp_path, interactions="out")) == WANTED
    assert sources.describe(folder)["interactions"] == 3


def test_parts_are_in_order_of_their_numbers_and_messages_name_the_part(tmp_path):
    frame = pl.read_csv(LOG.encode(), schema_overrides={"user_id": pl.String})
    (tmp_path / "p.parquet").mkdir()
    for number in range(12):
        frame.with_columns(item_id=pl.lit(f"i{number}")).head(1).write_parquet(tmp_path / "p.parquet" / f"part-{number}.parquet")
    data = load(tmp_path, interactions="p.parquet", duplicates="keep", rating_scale=(1, 5))
    assert data.interactions.height == 12
    for number, text in ((0, LOG), (1, LOG.replace("3", "x"))):
        (tmp_path / f"part-{number}.csv").write_text(text)
    with pytest.raises(DataError, match=r"part-1\.csv, line 3, column 'rating': found 'x'"):
        load(tmp_path, interactions=".")
    (tmp_path / "part-1.csv").write_text("user_id,thing\n1,2\n")
    with pytest.raises(DataError, match=r"part-1\.csv' has the columns user_id, thing, but part-0\.csv has user_id, item_id, rating"):
        load(tmp_path, interactions=".")
    (tmp_path / "part-1.csv").write_text("3,c,5\n")
    with pytest.raises(DataError, match=r"part-1\.csv, line 1: found 3, c, 5 where the names .* dataset\.columns"):
        load(tmp_path, interactions=".")


WRONG = {
    "two.zip": (lambda path: zipped(path, ("a.csv", LOG), ("b.csv", LOG)), r"holds 2 files \(a\.csv, b\.csv\), allowed is one"),
    "bad.csv.zip": (lambda path: path.write_bytes(b"PK\x03\x04" + b"x" * 50), "is not a complete zip file"),
    "bad.csv.bz2": (lambda path: path.write_bytes(bz2.compress(LOG.encode() * 99)[:-20]), "is not a complete bzip2 file"),
    "bad.csv.xz": (lambda path: path.write_bytes(lzma.compress(LOG.encode() * 99)[:-20]), "is not a complete xz file"),
    "book.xlsx": (lambda path: path.write_bytes(b"PK"), "workbook of a spreadsheet"),
    "empty": (lambda path: path.mkdir(), r"the folder .* holds no file with one of the endings|format of .* is not recognised"),
    "no.jsonl": (lambda path: path.write_text("[1, 2]\n3\n"), "allowed is one JSON object per line|found no JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table_gets_a_sentence(tmp_path, name):
    make, says = WRONG[name]
    make(tmp_path / name)
    for read in (lambda: load(tmp_path, interactions=name), lambda: sources.describe(tmp_path / name)):
        with pytest.raises(DataError, match=says) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert "set dataset.separator" not in str(caught.value)


def packed_as(path: Path, content: bytes) -> None:
    if path.suffix == ".zip":
        zipped(path, ("log.csv", content.decode()))
    else:
        path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress, ".xz": partial(lzma.compress, preset=0)}[path.suffix](content))


@pytest.mark.parametrize("name", ["log.csv.gz", "log.csv.bz2", "log.csv.xz", "log.csv.zip"])
def test_a_file_that_unpacks_to_much_more_than_it_is_is_not_unpacked_to_its_end(tmp_path, name):
    """Unlike one that holds the same few words again and again."""
    packed_as(tmp_path / name, LOG.encode() + b"\n" * (most_unpacked(0) + (8 << 20)))
    for read in (lambda: load(tmp_path, interactions=name), lambda: sources.describe(tmp_path / name)):
        with pytest.raises(DataError, match=r"unpacks to more than 64 MB, and it has .* unpack it yourself"):
            read()
    packed_as(tmp_path / name, (LOG + LOG.split("\n", 1)[1] * 2_000).encode())
    assert rows(load(tmp_path, interactions=name)) == WANTED


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/null", "/dev/full"])
def test_a_device_is_no_file(tmp_path, device):
    if not Path(device).is_char_device():
        pytest.skip("this system has no such device")
    with pytest.raises(DataError, match=rf"'{device}' is a device"):
        load(tmp_path, interactions=device)
    with pytest.raises(DataError, match="is a device or a pipe"):
        sources.describe(device)
    (tmp_path / "r.csv").symlink_to(device)
    with pytest.raises(DataError, match="is a device"):
        load(tmp_path, interactions="r.csv")


def test_a_parquet_file_that_says_that_it_has_more_rows_than_memory_is_refused(tmp_path):
    count = 40_000_000
    pl.select(user_id=pl.repeat(1, count, dtype=pl.Int8), item_id=pl.repeat(2, count, dtype=pl.Int8)).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r\.parquet' would unpack to 640 MB, more than 64 MB"):
        load(tmp_path, interactions="r.parquet")


# --- headers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["0\t72\t2", "1\t1\t2", "A1\tB0001\t5.0\t1377648000"])
def test_a_file_without_a_header_names_the_setting_for_its_columns(tmp_path, first):
    (tmp_path / "r.tsv").write_text(f"{first}\n{first.replace('1', '3')}\n")
    for read in (lambda: load(tmp_path, interactions="r.tsv"), lambda: sources.describe(tmp_path / "r.tsv")):
        with pytest.raises(DataError, match=r"r\.tsv, line 1: found .* dataset\.columns = \[\"user_id\", \"item_id\", \"rating\""):
            read()


def test_items_and_people_without_a_header_name_their_own_settings(tmp_path):
    (tmp_path / "r.csv").write_text(LOG)
    (tmp_path / "items.txt").write_text("7|Heat|Crime\n8|Up|Comedy\n")
    (tmp_path / "users.txt").write_text("1|24|M\n2|30|F\n")
    with pytest.raises(DataError, match=r"items\.txt, line 1: .*dataset\.item_columns = \[\"item_id\", \"title\", \"genres\"\]"):
        load(tmp_path, interactions="r.csv", items="items.txt")
    with pytest.raises(DataError, match=r"users\.txt, line 1: .*dataset\.user_columns"):
        load(tmp_path, interactions="r.csv", users="users.txt")


def test_a_long_header_is_shortened_in_messages(tmp_path):
    (tmp_path / "r.csv").write_text(",".join(f"column_number_{number}" for number in range(300)) + "\n" + ",".join("x" * 300) + "\n")
    with pytest.raises(DataError, match=r"\(300 in all\)") as caught:
        load(tmp_path, interactions="r.csv")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", ["r.csv", "r.dat"])
def test_empty_lines_before_the_table_and_nothing_but_a_mark_are_understood(tmp_path, name):
    (tmp_path / name).write_text("\n" * 200 + LOG)
    assert rows(load(tmp_path, interactions=name)) == WANTED
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path, interactions=name)


def test_one_column_names_the_separator(tmp_path):
    (tmp_path / "r.csv").write_text("user_id~item_id\n1~2\n")
    with pytest.raises(DataError, match=r"or the sign between the fields with dataset\.separator"):
        load(tmp_path, interactions="r.csv")
    assert load(tmp_path, interactions="r.csv", separator="~").n_items == 1


def test_a_column_called_as_an_inner_one_and_columns_with_odd_names_stop_nothing(tmp_path):
    (tmp_path / "r.csv").write_text('_line,_raw,user_id,item_id,object,"a,b"\n1,2,3,4,5,6\n')
    assert load(tmp_path, interactions="r.csv").n_users == 1


# --- separators and quotes of each file ------------------------------------------------------------------------------------


def test_each_file_has_a_separator_and_quotes_of_its_own(tmp_path):
    (tmp_path / "r.csv").write_text('user_id,item_id\n1,"a,b"\n2,c\n')
    (tmp_path / "items.dat").write_text('item_id\ttitle\na,b\t"Weird, Al" Live\nc\t"Quoted"\n')
    (tmp_path / "users.dat").write_text("user_id;age\n1;30\n2;40\n")
    data = load(
        tmp_path, interactions="r.csv", items="items.dat", users="users.dat", separator=",", item_separator="\t", user_separator=";"
    )
    assert data.catalog.titles == ['"Weird, Al" Live', '"Quoted"']
    assert data.users["age"].to_list() == [30, 40]
    (tmp_path / "items.dat").write_text('item_id\ttitle\na,b\t"Weird, Al Live"\nc\t"Quoted"\n')
    quoted = load(tmp_path, interactions="r.csv", items="items.dat", item_quoted=True)
    assert quoted.catalog.titles == ["Weird, Al Live", "Quoted"]


@pytest.mark.parametrize("written", [r"\t", "tab", "\t", "Tab"])
def test_a_tab_may_be_written_as_a_shell_hands_it_on(tmp_path, written):
    (tmp_path / "r.dat").write_text(LOG.replace(",", "\t"))
    assert rows(load(tmp_path, interactions="r.dat", separator=written)) == WANTED


@pytest.mark.parametrize("separator", ["", "\n", '"'])
def test_a_separator_that_is_none_is_refused_when_it_is_read(separator):
    with pytest.raises(ValidationError):
        InteractionTables.Config(interactions="r.csv", separator=separator)


def test_long_fields_are_read(tmp_path):
    review = "word " * 60_000
    (tmp_path / "r.csv").write_text(f'user_id,item_id,review\n1,2,"{review}"\n')
    assert len(load(tmp_path, interactions="r.csv", review="review").interactions["review"][0]) == len(review.strip())


def test_a_quote_that_is_none_names_the_setting(tmp_path):
    (tmp_path / "r.csv").write_text('user_id,item_id\n1,"a" b\n')
    with pytest.raises(DataError, match=r"r\.csv, line 2: found a double quote .*dataset\.quoted = false"):
        load(tmp_path, interactions="r.csv")
    assert load(tmp_path, interactions="r.csv", quoted=False).catalog.titles == ['"a" b']


# --- JSON and literals of Python ---------------------------------------------------------------------------------------------


def test_the_amazon_files_of_2014_are_literals_of_python_and_are_read(tmp_path):
    reviews = [{"reviewerID": "A", "asin": "0001", "overall": 5.0, "unixReviewTime": 100 + n, "reviewText": "It's"} for n in range(2)]
    (tmp_path / "reviews.json").write_text("\n".join(json.dumps(row) for row in reviews) + "\n")
    (tmp_path / "meta_r.json").write_text(
        """{'asin': '0001', 'title': "It's", 'categories': [['Books', 'War']], 'price': 1.5, 'related': None, 'description': 'a \\d b'}\n"""
    )
    data = AmazonReviews(AmazonReviews.Config(path=tmp_path)).load()
    assert data.catalog.items.drop("item", "year").rows() == [("0001", "It's", ["Books", "War"], "a \\d b")]


def test_literals_of_python_are_read_within_bounds_and_never_run():
    assert literal("{'a': [1, None, True], \"b\": 'it\\'s -- + * ~'}") == {"a": [1, None, True], "b": "it's -- + * ~"}
    assert literal("{'x': 1.5e+3, 'y': -2}") == {"x": 1500.0, "y": -2}
    for text in (
        "{'a': __import__('os')}",
        "[" * 90_000,
        "1+" * 90_000 + "1",
        "-" * 90_000 + "1",
        "{'a': " * 5_000,
        "x" * 2_000_000,
        "{'a'",
    ):
        assert literal(text) is None


def test_json_keeps_ids_lists_and_odd_signs(tmp_path):
    lines = [
        {"user_id": 7, "item_id": "007", "tags": ["x", "y, z"], "rating": 4.5},
        {"user_id": "7b", "item_id": 12345678901234567890, "rating": None, "more": {"a": 1}},
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + '\n{"user_id": "\\ud800", "item_id": "\\u0000x"}\n')
    (tmp_path / "items.jsonl").write_text('{"item_id": "007", "title": "Seven", "tags": ["x", "y, z"]}\n')
    data = load(tmp_path, interactions="r.jsonl", items="items.jsonl", unlisted="add")
    assert {"7", "7b"} < set(data.users["user_id"])
    assert {"007", "12345678901234567890"} < set(data.catalog.item_ids)
    assert data.catalog.items.filter(item_id="007")["genres"].to_list() == [["x", "y, z"]]


# --- describe --------------------------------------------------------------------------------------------------------------


def test_a_folder_with_interactions_items_and_people_is_one_data_set(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "books.csv").write_text('id,title,genres\na,A,"War, Love"\nb,B,War\n')
    (tmp_path / "people.csv").write_text("user_id,age,gender\n1,30,F\n2,40,M\n")
    (tmp_path / "notes.txt").write_text("not a table at all, by any reading; really\nnone\n")
    found = sources.describe(tmp_path)
    assert (found["users"], found["items"]) == (2, 2)
    assert found["genres"] == {"War": 2, "Love": 1}
    assert found["known_share"]["age"] == 1.0


def test_of_several_logs_the_one_that_is_called_so_is_taken_or_a_name_is_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text(LOG)
    (tmp_path / "b.csv").write_text(LOG + "3,a,1\n")
    with pytest.raises(DataError, match="2 of them look like interactions"):
        sources.describe(tmp_path)
    (tmp_path / "b.csv").rename(tmp_path / "ratings.csv")
    assert sources.describe(tmp_path)["interactions"] == 4


def test_a_file_of_items_or_people_is_described_as_such(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,title,genres,year\n1,Heat,"Crime|Drama",1995\n2,Up,Comedy,nan\n')
    found = sources.describe(tmp_path / "items.csv")
    assert (found["holds"], found["items"], found["genres"]) == ("items", 2, {"Comedy": 1, "Crime": 1, "Drama": 1})
    assert found["known_share"] == {"year": 0.5, "genres": 1.0, "description": 0.0}
    (tmp_path / "users.csv").write_text("user_id,age\n1,30\n")
    assert sources.describe(tmp_path / "users.csv")["users"] == 1
    with pytest.raises(DataError, match="is a file of items, allowed is a file of interactions"):
        sources.open_dataset(tmp_path / "items.csv")


def test_settings_go_before_what_is_recognised(tmp_path):
    (tmp_path / "r.dat").write_text("1~a~5\n2~b~3\n")
    settings = {"separator": "~", "columns": ["user_id", "item_id", "rating"]}
    assert sources.describe(tmp_path / "r.dat", settings)["interactions"] == 2
    with pytest.raises(ConfigError, match=r"\[dataset\] unknown key 'colums'; did you mean 'columns'"):
        sources.describe(tmp_path / "r.dat", {"separator": "~", "colums": ["user_id"]})
    with pytest.raises(ConfigError, match=r"\[dataset\] separator"):
        sources.describe(tmp_path / "r.dat", {"separator": ""})

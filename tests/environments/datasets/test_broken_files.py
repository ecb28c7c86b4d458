"""Each broken file gives one sentence: file, line, column, what was found, what is allowed."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from environments.datasets.atomic import RecBoleAtomic
from environments.datasets.movielens import MovieLens1M, MovieLens100K, MovieLensLatest
from environments.datasets.tables import InteractionTables
from simulator.dataset import Dataset
from simulator.errors import DataError

GENRES = "unknown|0\nAction|1\nDrama|2\n"
ITEMS = "1|Heat (1995)|01-Jan-1995||http://x|0|1|0\n2|Amélie (2001)|01-Jan-2001||http://y|0|0|1\n"
USERS = "7|24|M|writer|85711\n8|53|F|other|94043\n"
RATINGS = "7\t1\t4\t881250949\n7\t2\t5\t881250950\n8\t1\t3\t881250951\n"


def folder_100k(folder: Path) -> Path:
    for name, text in (("u.genre", GENRES), ("u.item", ITEMS), ("u.user", USERS), ("u.data", RATINGS)):
        (folder / name).write_bytes(text.encode("latin-1"))
    return folder


def load_100k(folder: Path, on_bad_rows: str = "error") -> Dataset:
    return MovieLens100K(MovieLens100K.Config(path=folder, on_bad_rows=on_bad_rows)).load()


@dataclass(frozen=True)
class Broken:
    """A way to break a good ML-100K folder.

    Attributes:
        file: which file; contents: what stands in it, None to remove it.
        says: fragments that the sentence must hold, besides the file's name.
        skipped: what `on_bad_rows = "skip"` counts, None if the file is beyond use.
    """

    name: str
    file: str
    contents: bytes | None
    says: tuple[str, ...]
    skipped: dict[str, int] | None = None

    def __str__(self) -> str:
        return self.name


def ratings(*rows: str, end: str = "\n") -> bytes:
    return (RATINGS + "\n".join(rows) + end).encode()


TABLE = [
    Broken("missing file", "u.item", None, ("there is no file u.item", "the folder holds u.data, u.genre, u.user")),
    Broken("empty file", "u.data", b"", ("is empty", "allowed is a file with at least one row")),
    Broken("only blank lines", "u.user", b"\n\n", ("is empty",)),
    Broken(
        "a word where a rating should be",
        "u.data",
        ratings("8\t2\tgood\t881250952"),
        ("line 4", "column 'rating'", "found 'good'", "allowed is a number from 1 to 5", "on_bad_rows = 'skip'"),
        {"rating is not a number": 1},
    ),
    Broken(
        "rating out of range",
        "u.data",
        ratings("8\t2\t6\t881250952", "8\t2\t0\t881250953"),
        ("line 4", "column 'rating'", "found '6'", "allowed is a number from 1 to 5"),
        {"rating out of range": 2},
    ),
    Broken(
        "a rating that is not finite",
        "u.data",
        ratings("8\t2\tnan\t881250952"),
        ("line 4", "column 'rating'", "found 'nan'", "allowed is a number from 1 to 5"),
        {"rating is not a number": 1},
    ),
    Broken(
        "no rating",
        "u.data",
        ratings("8\t2\t\t881250952"),
        ("line 4", "column 'rating'", "found nothing"),
        {"rating is not a number": 1},
    ),
    Broken(
        "unknown item",
        "u.data",
        ratings("8\t99\t3\t881250952"),
        ("line 4", "column 'item_id'", "found '99'", "allowed is one of the 2 items of u.item"),
        {"unknown item": 1},
    ),
    Broken(
        "unknown user",
        "u.data",
        ratings("9\t2\t3\t881250952"),
        ("line 4", "column 'user_id'", "found '9'", "allowed is one of the 2 users of u.user"),
        {"unknown user": 1},
    ),
    Broken(
        "duplicate rows",
        "u.data",
        ratings("8\t2\t3\t881250952", "7\t1\t2\t881250990"),
        ("line 5", "user_id '7' and item_id '1' again (first in line 1)", "allowed is one row per user and item"),
        {"repeated user and item": 1},
    ),
    Broken(
        "wrong number of fields",
        "u.data",
        ratings("8\t2\t3", "8\t2\t3\t881250952"),
        ("line 4", "column 'timestamp'", "found 3 fields", "allowed are 4 (user_id, item_id, rating, timestamp) separated by tab"),
        {"wrong number of fields": 1},
    ),
    Broken(
        "half a download, cut within a row",
        "u.data",
        ratings("8\t2", end=""),
        ("line 4", "the file is cut off there", "fetch the file again"),
        {"row cut off": 1},
    ),
    Broken(
        "half a download, cut within the last field",
        "u.data",
        ratings("8\t2\t3\t8812", end=""),
        ("line 4", "column 'timestamp'", "the file is cut off there"),
        {"row cut off": 1},
    ),
    Broken(
        "timestamps in milliseconds",
        "u.data",
        ratings("8\t2\t3\t881250952000"),
        ("line 4", "column 'timestamp'", "found '881250952000'", "a time in seconds since 1970"),
        {"timestamp out of range": 1},
    ),
    Broken(
        "another encoding, UTF-16",
        "u.item",
        ITEMS.encode("utf-16"),
        ("line 1", "found a zero byte", "allowed is text in latin-1"),
    ),
    Broken(
        "a genre flag that is no flag",
        "u.item",
        ITEMS.replace("|0|0|1", "|0|x|1").encode("latin-1"),
        ("line 2", "column 'Action'", "found 'x'", "allowed is 0 or 1"),
        {"genre flag is not 0 or 1": 1, "unknown item": 1},
    ),
    Broken(
        "the same item twice",
        "u.item",
        (ITEMS + ITEMS.splitlines()[0] + "\n").encode("latin-1"),
        ("line 3", "item_id '1' again (first in line 1)", "allowed is one row per item"),
        {"repeated item": 1},
    ),
    Broken(
        "an age that is no age",
        "u.user",
        USERS.replace("53", "530").encode(),
        ("line 2", "column 'age'", "found '530'", "allowed is a number from 1 to 120"),
        {"age out of range": 1, "unknown user": 1},
    ),
    Broken(
        "no id of a person",
        "u.user",
        USERS.replace("8|", "|", 1).encode(),
        ("column 'user_id'", "found nothing", "allowed is an id"),
    ),
    Broken("a page instead of the data", "u.data", b"<html><body>Not found</body></html>\n", ("line 1", "found 1 fields", "allowed are 4")),
]


def break_it(folder: Path, broken: Broken) -> None:
    if broken.contents is None:
        (folder / broken.file).unlink()
    else:
        (folder / broken.file).write_bytes(broken.contents)


@pytest.mark.parametrize("broken", TABLE, ids=str)
def test_a_broken_file_gives_one_sentence_and_status_two(tmp_path, broken):
    load_100k(folder_100k(tmp_path))
    break_it(tmp_path, broken)
    with pytest.raises(DataError) as caught:
        load_100k(tmp_path)
    message = str(caught.value)
    for fragment in (broken.file, *broken.says):
        assert fragment in message
    assert "\n" not in message
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("broken", [broken for broken in TABLE if broken.skipped is not None], ids=str)
def test_bad_rows_can_be_left_out_and_are_counted_by_reason(tmp_path, broken):
    break_it(folder_100k(tmp_path), broken)
    data = load_100k(tmp_path, "skip")
    assert dict(data.skipped) == broken.skipped
    assert data.interactions.height >= 2


def test_a_list_of_genres_without_a_genre_is_an_error_even_where_rows_are_skipped(tmp_path):
    (folder_100k(tmp_path) / "u.genre").write_text("unknown\n")
    with pytest.raises(DataError, match=r"u\.genre: found no genre"):
        load_100k(tmp_path, "skip")


def test_skipping_every_row_is_still_an_error(tmp_path):
    (folder_100k(tmp_path) / "u.data").write_text("7\t1\tgood\t881250949\n")
    with pytest.raises(DataError, match="found no usable interaction"):
        load_100k(tmp_path, "skip")


def latest(folder: Path, ratings_csv: bytes) -> Callable[[], Dataset]:
    (folder / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    (folder / "ratings.csv").write_bytes(ratings_csv)
    return MovieLensLatest(MovieLensLatest.Config(path=folder)).load


def atomic(folder: Path, inter: bytes, item: bytes | None = None) -> Callable[[], Dataset]:
    (folder / "x.inter").write_bytes(inter)
    if item is not None:
        (folder / "x.item").write_bytes(item)
    return RecBoleAtomic(RecBoleAtomic.Config(path=folder)).load


def tables(folder: Path, name: str, contents: bytes, **options: object) -> Callable[[], Dataset]:
    (folder / name).write_bytes(contents)
    return InteractionTables(InteractionTables.Config(path=folder, interactions=name, **options)).load


HEADER = b"user_id:token\titem_id:token\trating:float\n"
OTHERS = {
    "a missing column": (
        lambda folder: latest(folder, b"userId,movieId,ratings,timestamp\n1,1,3,5\n"),
        r"ratings\.csv, line 1: .*unknown column 'rating'; did you mean 'ratings'\? Allowed: movieId, ratings, timestamp, userId",
    ),
    "a byte that is not UTF-8": (
        lambda folder: latest(folder, b"userId,movieId,rating,timestamp\n1,1,3,5\n2,\xe9,3,5\n"),
        r"ratings\.csv, line 3, character 3: found the byte 0xe9, allowed is text in utf-8",
    ),
    "an open quote": (
        lambda folder: latest(folder, b'userId,movieId,rating,timestamp\n1,1,3,5\n2,"1,3,5\n'),
        r"ratings\.csv, line 3: found a double quote that is not closed",
    ),
    "a header without types": (
        lambda folder: atomic(folder, b"user_id\titem_id\n1\t2\n"),
        r"x\.inter, line 1, column 'user_id': found no field type, allowed is 'name:type' with one of the types token",
    ),
    "no column with the item": (
        lambda folder: atomic(folder, b"user_id:token\tthing:token\n1\t2\n"),
        r"x\.inter, line 1: found the columns user_id, thing, allowed is a column with the item's id; name it with dataset\.item",
    ),
    "an item that its file does not list": (
        lambda folder: atomic(folder, HEADER + b"1\t2\t3\n", b"item_id:token\n5\n"),
        r"x\.inter, line 2, column 'item_id': found '2', allowed is one of the 1 items of x\.item",
    ),
    "a folder with two data sets": (
        lambda folder: (atomic(folder, HEADER), (folder / "y.inter").write_bytes(HEADER))[0],
        r"must hold exactly one \.inter file, found x\.inter, y\.inter",
    ),
    "only a header": (lambda folder: atomic(folder, HEADER), r"x\.inter: found no usable interaction"),
    "half a gzip file": (
        lambda folder: tables(folder, "log.csv.gz", gzip.compress(b"user,item\n" + b"1,2\n" * 500)[:-9]),
        r"log\.csv\.gz' is not a complete gzip file .* fetch it again",
    ),
    "half a Parquet file": (lambda folder: tables(folder, "log.parquet", b"PAR1" + b"x" * 40), "is not a whole Parquet file"),
    "a date in another format": (
        lambda folder: tables(folder, "log.csv", b"user,item,time\n1,2,2020-01-31\n1,3,31.1.2020\n", time_format="%Y-%m-%d"),
        r"log\.csv, line 3, column 'time': found '31\.1\.2020', allowed is a date like '%Y-%m-%d'",
    ),
    "a negative play count": (
        lambda folder: tables(folder, "log.csv", b"user,item,plays\n1,2,3\n1,3,-4\n", weight="plays"),
        r"log\.csv, line 3, column 'plays': found '-4', allowed is a number of at least 0",
    ),
    "a rating beyond the configured scale": (
        lambda folder: tables(folder, "log.csv", b"user,item,stars\n1,2,3\n1,3,11\n", rating_scale=(1, 10)),
        r"log\.csv, line 3, column 'stars': found '11', allowed is a number from 1 to 10",
    ),
    "an ending and lines that tell nothing": (lambda folder: tables(folder, "log.dat", b"user\n1\n"), r"set dataset\.separator"),
    "a column name twice": (
        lambda folder: tables(folder, "log.csv", b"user,item,item\n1,2,2\n"),
        r"log\.csv, line 1: a column name stands",
    ),
    "a column that the configuration names wrongly": (
        lambda folder: tables(folder, "log.csv", b"user,item,stars\n1,2,2\n", rating="star"),
        r"unknown column 'star'; did you mean 'stars'",
    ),
    "a row of repeated people and items where that is forbidden": (
        lambda folder: tables(folder, "log.csv", b"user,item\n1,2\n3,2\n1,2\n", duplicates="error"),
        r"log\.csv, line 4, column 'item': found user '1' and item '2' again \(first in line 2\)",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_name_what_is_wrong_as_exactly(tmp_path, name):
    make, pattern = OTHERS[name]
    with pytest.raises(DataError, match=pattern) as caught:
        make(tmp_path)()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_ml_1m_names_an_age_band_that_does_not_exist(tmp_path):
    (tmp_path / "movies.dat").write_text("1::Heat (1995)::Crime\n")
    (tmp_path / "users.dat").write_text("1::F::24::3::1\n")
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n")
    with pytest.raises(DataError, match=r"users\.dat, line 1, column 'age': found '24', allowed is one of 1, 18, 25"):
        MovieLens1M(MovieLens1M.Config(path=tmp_path)).load()

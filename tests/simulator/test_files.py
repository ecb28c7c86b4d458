"""What is written appears whole, and what is damaged is not believed."""

import errno
import json
import os

import numpy as np
import polars as pl
import pytest

from simulator import caches
from simulator.errors import RunError, of_the_system
from simulator.files import (
    SUMS,
    damage,
    new_folder,
    read_document,
    read_json,
    read_table,
    write_atomically,
    write_document,
)

WAY_OUT = "make it again"


def test_a_file_that_cannot_be_written_leaves_the_older_one_and_nothing_beside_it(tmp_path):
    file = tmp_path / "a.json"
    write_atomically(file, b"older")

    def half(path):
        path.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(file, half)
    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_of_the_system_that_polars_reports_is_one_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.parquet", lambda _: pl.DataFrame({"a": [1]}).write_parquet("/dev/full"))
    assert of_the_system(caught.value).startswith(f"{tmp_path / 'a.parquet'}: No space left on device; free some space")


def test_the_longest_name_that_a_folder_may_hold_can_be_written(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"whole")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"whole"


def test_a_folder_whose_place_is_a_file_is_refused_and_not_taken_for_done(tmp_path):
    (tmp_path / "shard").write_text("a file")
    with pytest.raises(OSError, match="directory"), new_folder(tmp_path / "shard") as folder:
        (folder / "rows").write_text("1")
    assert (tmp_path / "shard").read_text() == "a file"
    (kept,) = tmp_path.glob(".shard.*.part")
    assert (kept / "rows").read_text() == "1"


def spoil_first_bit(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: spoil_first_bit(folder / "rows.parquet"), "rows.parquet is not what was written"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b""), "rows.parquet is not what was written"),
        (lambda folder: (folder / "rows.parquet").unlink(), "rows.parquet is missing"),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff\xfe"), f"{SUMS} is damaged"),
        (lambda folder: (folder / SUMS).write_text(""), f"{SUMS} is damaged"),
        (lambda folder: spoil_first_bit(folder / "below" / "weights"), "below/weights is not what was written"),
    ],
)
def test_whatever_happens_to_a_folder_with_sums_is_noticed(tmp_path, spoil, says):
    with new_folder(tmp_path / "part", sums=True) as folder:
        pl.DataFrame({"a": range(1000)}).write_parquet(folder / "rows.parquet")
        (folder / "below").mkdir()
        (folder / "below" / "weights").write_bytes(bytes(range(100)))
    assert damage(tmp_path / "part") == ""
    spoil(tmp_path / "part")
    assert damage(tmp_path / "part") == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1 is not JSON"),
        (b'{"a": 1', "line 1 is not JSON"),
        (b"[1]", "holds a list where an object is expected"),
        (b"3", "holds a number where"),
        (b"null", "holds nothing where"),
        (b'{"a": NaN}', "holds NaN, which is no number"),
        (b'{"a": "\xff"}', "is no text"),
    ],
)
def test_json_that_is_none_is_one_sentence_with_the_file_and_the_way_out(tmp_path, content, says):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(RunError, match=says) as caught:
        read_json(file, WAY_OUT)
    assert str(file) in str(caught.value)
    assert str(caught.value).endswith("; make it again.")


def test_a_document_tells_when_it_was_changed(tmp_path):
    file = tmp_path / "a.json"
    write_document(file, {"weights": np.array([0.1, 2.0]), "names": ("a", "b"), "of": {1: "x"}})
    document, untouched = read_document(file, WAY_OUT)
    assert untouched
    assert document == {"weights": [0.1, 2.0], "names": ["a", "b"], "of": {"1": "x"}}
    file.write_text(file.read_text().replace("0.1", "0.3"))
    assert not read_document(file, WAY_OUT)[1]
    file.write_text(json.dumps({"weights": [0.3]}))
    assert read_document(file, WAY_OUT)[1], "files of before have no checksum"


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"PAR1" + bytes(200) + b"PAR1", b"{}"])
def test_a_parquet_file_that_is_none_is_one_sentence(tmp_path, content):
    file = tmp_path / "a.parquet"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read") as caught:
        read_table(file, WAY_OUT)
    assert str(caught.value).startswith(str(file))


def test_the_path_of_a_table_is_no_pattern(tmp_path):
    for name, rows in (("run [1]", 1), ("run 1", 2), ("run *", 3), ("{a,b}?", 4)):
        (tmp_path / name).mkdir()
        pl.DataFrame({"a": range(rows)}).write_parquet(tmp_path / name / "rows.parquet")
        assert read_table(tmp_path / name / "rows.parquet", WAY_OUT).height == rows


def test_a_damaged_entry_of_a_cache_is_dropped_and_said(tmp_path, caplog):
    write_document(tmp_path / "entry.json", {"a": 1})
    assert caches.found(tmp_path / "entry.json", lambda file: read_json(file, WAY_OUT))["a"] == 1
    (tmp_path / "entry.json").write_text("{")
    assert caches.found(tmp_path / "entry.json", lambda file: read_json(file, WAY_OUT)) is None
    assert "It is dropped" in caplog.text
    assert not (tmp_path / "entry.json").exists()


def test_a_cache_that_cannot_be_written_is_said_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert not caches.keep(tmp_path / "cache" / "entry.json", lambda file: write_document(file, {}))
    assert caches.found(tmp_path / "cache" / "entry.json", lambda file: read_json(file, WAY_OUT)) is None
    assert "cannot be written" in caplog.text

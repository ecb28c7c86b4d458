import errno
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simulator.errors import RunError
from simulator.run_directory import RunDirectory, rows_sha256


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    with run.new_folder("recommenders", "round-000") as folder:
        (folder / "weights").write_text("1")
        assert not run.recommender_folder(0).exists()
    assert (run.recommender_folder(0) / "weights").read_text() == "1"


def test_a_folder_whose_filling_fails_leaves_nothing(tmp_path):
    run = RunDirectory.create(tmp_path / "run")

    def fill():
        with run.new_folder("decisions") as folder:
            (folder / "half").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert list(run.path.rglob("*")) == []


def test_a_place_that_is_taken_keeps_what_it_has(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for content in ("first", "second"):
        with run.new_folder("decisions") as folder:
            (folder / "weights").write_text(content)
    assert (run.path / "decisions" / "weights").read_text() == "first"


@pytest.mark.parametrize("wrong", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EXDEV, errno.EROFS])
def test_a_finished_folder_that_cannot_be_brought_to_its_place_is_an_error_and_stays(tmp_path, monkeypatch, wrong):
    run = RunDirectory.create(tmp_path / "run")

    def fail(self, target):
        raise OSError(wrong, os.strerror(wrong), str(target))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match=os.strerror(wrong)), run.new_folder("decisions") as folder:
        (folder / "weights").write_text("hours of work")
    assert (folder / "weights").read_text() == "hours of work"
    assert not (run.path / "decisions").exists()


def test_a_file_in_the_way_is_no_other_process_that_was_quicker(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    (run.path / "decisions").write_text("a file")
    with pytest.raises(OSError, match="decisions"), run.new_folder("decisions") as folder:
        (folder / "weights").write_text("1")
    assert (folder / "weights").is_file()


def test_a_folder_of_a_start_that_was_killed_at_once_is_as_good_as_empty(tmp_path):
    (tmp_path / "run.lock").write_text("{}")
    (tmp_path / "run.log").write_text("begun")
    (tmp_path / ".config.toml.12.part").write_text("half")
    assert RunDirectory.create(tmp_path).path == tmp_path


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    (run.path / "rounds" / ".cohort-0001.abc.part").mkdir(parents=True)
    (run.path / ".impressions.abc.part").write_text("half")
    run.remove_leftovers()
    assert [path.name for path in run.path.rglob("*")] == ["rounds"]


def test_the_hash_of_rows_depends_on_values_order_and_columns():
    frame = pl.DataFrame({"user": ["a", "b"], "score": [0.1, None], "references": [[1, 2], []]})
    same = rows_sha256(frame)
    assert rows_sha256(frame.clone()) == same
    assert rows_sha256(frame.reverse()) != same
    assert rows_sha256(frame.with_columns(score=pl.Series([np.nextafter(0.1, 1), None]))) != same
    assert rows_sha256(frame.rename({"user": "person"})) != same


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "there is no run at"),
        (lambda path: path.mkdir(), "is not a run: it has no config.toml"),
        (lambda path: (path.mkdir(), (path / "config.toml").write_text("")), "is not complete; continue it with"),
    ],
)
def test_a_folder_that_is_no_complete_run_is_refused(tmp_path, make, says):
    make(tmp_path / "run")
    with pytest.raises(RunError, match=says):
        RunDirectory.open(tmp_path / "run", complete=True)


def test_a_new_run_never_overwrites_an_old_one(tmp_path):
    (tmp_path / "old.txt").write_text("mine")
    with pytest.raises(RunError, match="already holds something"):
        RunDirectory.create(tmp_path)


def test_damaged_json_is_named_with_its_line(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    (run.path / "summary.json").write_text('{"people": 1,\n oops}')
    with pytest.raises(RunError, match=r"summary\.json line 2 is not JSON"):
        run.read_json("summary")

"""A run on disk: what is where, written whole or not at all.

::

    results/<experiment>/<run>/
      config.toml  manifest.json        what was asked, resolved; versions, hashes, machine, seeds
      decisions/                        what the decision model learned before the first round
      recommenders/round-000/           the fitted recommender of each round
      rounds/000/cohort-0007/*.parquet  shards; a shard folder exists only when it is complete
      impressions.parquet ...           joined and sorted tables
      hashes.json                       SHA-256 of every file that the run is made of
      summary.json                      last of all: a run with a summary is complete
      run.log  run.lock                 messages with times; who is writing here now
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from simulator import kill_points
from simulator.errors import RunError
from simulator.run_lock import LOCK
from simulator.run_log import LOG
from simulator.tables import Table


class RunDirectory:
    """The files of one run.

    Args:
        path: the folder; created by `create`, looked up by `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """A new empty run; what a start leaves that was killed before it had written its configuration does not count.

        Raises:
            RunError: there is something at `path` already.
        """
        if path.exists() and any(not _is_left_of_a_start(entry) for entry in path.iterdir()):
            raise RunError(f"{path} already holds something; choose another --output, or continue it with `usersim resume {path}`.")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path, *, complete: bool = False) -> RunDirectory:
        """An existing run.

        Args:
            path: its folder.
            complete: whether it must have been finished.

        Raises:
            RunError: there is no run, or it is not complete.
        """
        if not path.is_dir():
            raise RunError(f"there is no run at {path}.")
        run = cls(path)
        if not run.config_path.is_file():
            raise RunError(f"{path} is not a run: it has no config.toml (a run is a folder such as results/movielens/20260101-120000).")
        if complete and not run.is_complete:
            raise RunError(f"the run {path} is not complete; continue it with `usersim resume {path}`.")
        return run

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def is_complete(self) -> bool:
        """Whether everything was written."""
        return (self.path / "summary.json").is_file()

    # --- small files ---

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Writes ``<name>.json`` atomically."""
        write_atomically(self.path / f"{name}.json", (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads ``<name>.json``.

        Raises:
            RunError: it is missing or damaged.
        """
        try:
            loaded: dict[str, Any] = json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"the run {self.path} has no {name}.json; it is not complete.") from None
        except json.JSONDecodeError as error:
            raise RunError(f"{self.path / f'{name}.json'} line {error.lineno} is not JSON: {error.msg}.") from error
        return loaded

    # --- folders that appear whole ---

    @contextlib.contextmanager
    def new_folder(self, *parts: str) -> Iterator[Path]:
        """A folder to fill, renamed to its place when the block ends without an error.

        If the place is taken (another process was quicker with the same deterministic result), that one is kept.

        Raises:
            OSError: the folder could not be brought to its place; what was filled then stays under its temporary name.
        """
        target = self.path.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        kill_points.passed()
        try:
            temporary.rename(target)
        except OSError as error:
            # Only a folder that is in the way with something in it means that another process was quicker.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.is_dir():
                raise
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(target.parent)
        kill_points.passed()

    def recommender_folder(self, round_number: int) -> Path:
        """Where the fitted recommender of a round is."""
        return self.path / "recommenders" / f"round-{round_number:03d}"

    def shard_folder(self, round_number: int, cohort: int) -> Path:
        """Where the tables of one cohort of one round are."""
        return self.path / "rounds" / f"{round_number:03d}" / f"cohort-{cohort:04d}"

    def has_shard(self, round_number: int, cohort: int) -> bool:
        """Whether a cohort of a round has been simulated."""
        return self.shard_folder(round_number, cohort).is_dir()

    def read_round(self, table: Table, round_number: int, cohorts: Sequence[int]) -> pl.DataFrame:
        """One table of one round from its shards, sorted by the table's key."""
        files = [self.shard_folder(round_number, cohort) / f"{table.name}.parquet" for cohort in cohorts]
        frames = [pl.read_parquet(file) for file in files]
        return pl.concat(frames).sort(table.key) if frames else pl.DataFrame(schema=table.schema())

    @property
    def has_any_shard(self) -> bool:
        """Whether anybody has been simulated."""
        return any((self.path / "rounds").glob("*/cohort-*"))

    def users_of_shard(self, round_number: int, cohort: int) -> set[str]:
        """Ids of everybody who has a row in any table of a shard."""
        files = self.shard_folder(round_number, cohort).glob("*.parquet")
        return {user for file in files for user in pl.read_parquet(file, columns=["user"], glob=False)["user"].unique()}

    # --- joined tables ---

    def write_table(self, table: Table, frame: pl.DataFrame) -> str:
        """Writes a joined table atomically and returns the SHA-256 of its rows (see `rows_sha256`)."""
        temporary = self.path / f".{table.name}.{uuid.uuid4().hex}.part"
        frame.write_parquet(temporary)
        _sync(temporary)
        kill_points.passed()
        temporary.rename(self.path / f"{table.name}.parquet")
        kill_points.passed()
        return rows_sha256(frame)

    def read_table(self, name: str) -> pl.DataFrame:
        """A joined table, or another Parquet file of the run.

        Raises:
            RunError: it is not there.
        """
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            raise RunError(
                f"the run {self.path} has no {name}.parquet; if it was interrupted, continue it with `usersim resume {self.path}`."
            )
        return pl.read_parquet(file)

    # --- what it is made of ---

    def write_hashes(self) -> str:
        """Writes ``hashes.json``, the SHA-256 of every file that the run is made of, and returns the file's own."""
        self.write_json("hashes", {name: file_sha256(self.path / name) for name in self.parts()})
        return file_sha256(self.path / "hashes.json")

    def parts(self) -> list[str]:
        """The files that a complete run is made of, by their path in its folder, sorted; what is derived from them is not among them."""
        top = [*(self.path / name for name in ("config.toml", "manifest.json", "tastes.json")), *self.path.glob("*.parquet")]
        below = [file for name in ("decisions", "recommenders", "rounds") for file in (self.path / name).rglob("*")]
        return sorted(file.relative_to(self.path).as_posix() for file in (*top, *below) if file.is_file())

    def remove_leftovers(self) -> None:
        """Removes half-written folders that a killed process left."""
        for leftover in self.path.rglob(".*.part"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def rows_sha256(frame: pl.DataFrame) -> str:
    """SHA-256 of a table's rows in order: its header and rows as CSV, floats in shortest exact notation, lists joined by ';'."""
    lists = [name for name, dtype in frame.schema.items() if dtype.base_type() is pl.List]
    flat = frame.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(";") for name in lists)
    digest = hashlib.sha256()
    digest.update(",".join(flat.columns).encode() + b"\n")
    for part in flat.iter_slices(100_000):
        digest.update(part.write_csv(include_header=False, null_value="\\N").encode())
    return digest.hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """Writes a file so that it appears whole or not at all."""
    temporary = file.parent / f".{file.name}.{uuid.uuid4().hex}.part"
    temporary.write_bytes(content)
    _sync(temporary)
    kill_points.passed()
    temporary.rename(file)
    kill_points.passed()


def _is_left_of_a_start(entry: Path) -> bool:
    """Whether an entry of a folder is all that a start leaves that was killed before it had written its configuration."""
    return entry.name in (LOCK, LOG) or (entry.name.startswith(".") and entry.name.endswith(".part"))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

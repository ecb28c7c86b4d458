"""A run on disk: what is where, written whole or not at all.

::

    results/<experiment>/<run>/
      config.toml  manifest.json        what was asked, resolved; versions, hashes, machine, seeds
      decisions/                        what the decision model learned before the first round
      recommenders/round-000/           the fitted recommender of each round
      rounds/000/cohort-0007/*.parquet  shards; a shard folder exists only when it is complete
      impressions.parquet ...           joined and sorted tables
      */PLACE                           which folder of which run one of these is, so that no other can take its place
      hashes.json                       SHA-256 of every file that the run is made of
      summary.json                      last of all: a run with a summary is complete
      run.log  run.lock                 messages with times; who is writing here now
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import polars as pl

from simulator import files
from simulator.errors import RunError
from simulator.files import rows_sha256, write_atomically
from simulator.files import sha256 as file_sha256
from simulator.run_lock import LOCK
from simulator.run_log import LOG
from simulator.tables import TABLES, Table

__all__ = ["RunDirectory", "file_sha256", "rows_sha256", "write_atomically"]

_log = logging.getLogger(__name__)


_COUNT = (int, float)
SHAPES: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "manifest": {
        "data": dict,
        "model": (dict, NoneType),
        "machine": dict,
        "packages": dict,
        "split": (dict, NoneType),
        "rating_scale": (list, NoneType),
        "changed": list,
        "resumed": int,
        "identity": str,
    },
    "summary": {
        **dict.fromkeys(("people", "rounds", "sessions", "pages", "impressions", "interactions", "ratings", "memories", "texts"), int),
        **dict.fromkeys(("seconds", "simulation_seconds", "pages_per_second", "workers", "fallback_share", "peak_memory_gb"), _COUNT),
        **dict.fromkeys(("tokens", "sha256", "text_failures", "figures"), dict),
        "repairs": list,
    },
}
"""File -> key -> what it holds where it is there. A file of another version may have others."""

REQUIRED: Mapping[str, Sequence[str]] = {"manifest": ("data",), "summary": ("people", "rounds", "sessions", "pages", "impressions")}
"""File -> keys that it has in every version."""

COUNTED = ("people", "sessions", "pages", "impressions", "memories")
"""Tables whose number of rows the summary holds under their name."""

PLACE = "PLACE"
"""File of a folder of a run that says which folder of which run it is."""

WAY_OUT = "restore it from a copy, or start the run again: usersim run {run}/config.toml --output NEW-FOLDER"
WAYS_OUT: Mapping[str, str] = dict.fromkeys(("summary", "hashes"), "`usersim resume {run}` writes it again")


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
            raise RunError(f"the run {path} is not complete; continue it with `usersim resume {path}` (it has no file summary.json).")
        return run

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def is_complete(self) -> bool:
        """Whether everything was written."""
        return (self.path / "summary.json").is_file()

    @property
    def is_begun(self) -> bool:
        """Whether anything was made of it, so that its manifest must be there."""
        return os.path.lexists(self.path / "manifest.json") or (self.path / "decisions").exists() or self.has_any_shard

    # --- small files ---

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Writes ``<name>.json`` atomically, with a checksum."""
        files.write_document(self.path / f"{name}.json", document)

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads ``<name>.json``; one that was changed after it was written is read with a warning, since somebody may have had a reason.

        Raises:
            RunError: it is missing or damaged.
        """
        file, way_out = self.path / f"{name}.json", WAYS_OUT.get(name, WAY_OUT).format(run=self.path)
        if not os.path.lexists(file):
            raise RunError(f"the run {self.path} has no {name}.json; {way_out}.")
        document, untouched = files.read_document(file, way_out)
        if not untouched:
            _warn_once(f"{file} is not what usersim wrote (its checksum differs): it was changed by hand, or is damaged.")
        for key in REQUIRED.get(name, ()):
            if key not in document:
                raise RunError(f"{file} has no entry '{key}'; {way_out}.")
        for key, kinds in SHAPES.get(name, {}).items():
            if key in document and not isinstance(document[key], kinds):
                raise RunError(f"{file}: '{key}' is {document[key]!r:.60}, which cannot be; {way_out}.")
        return document

    # --- folders that appear whole ---

    @contextlib.contextmanager
    def new_folder(self, *parts: str) -> Iterator[Path]:
        """A folder of the run to fill, with the sums of its files, see `simulator.files.new_folder`.

        Raises:
            OSError: the folder could not be brought to its place; what was filled then stays under its temporary name.
        """
        folder = self.path.joinpath(*parts)
        with files.new_folder(folder, sums=True) as temporary:
            if place := self._place(folder):
                (temporary / PLACE).write_text(place, encoding="utf-8")
            yield temporary

    def problem_of(self, folder: Path) -> str:
        """What is wrong with a folder that `new_folder` made, in a few words; empty if it is whole and the one that belongs there.

        Raises:
            RunError: ``manifest.json`` is damaged.
        """
        problem = files.damage(folder)
        place = "" if problem else self._place(folder)
        if not place:
            return problem
        if not (folder / files.SUMS).exists():
            return f"{files.SUMS} is missing"
        try:
            there = (folder / PLACE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return f"{PLACE} cannot be read"
        return "" if there == place else f"it is {there.strip():.100}, and not {place.strip()}"

    def _place(self, folder: Path) -> str:
        """What `PLACE` says in a folder of the run; empty in runs of versions that did not keep it, and before there is a manifest."""
        if not os.path.lexists(self.path / "manifest.json"):
            return ""
        identity = self.read_json("manifest").get("identity")
        return f"{folder.relative_to(self.path).as_posix()} of run {identity}\n" if identity else ""

    def made_once(self, folder: Path, make: Callable[[Path], None], *, rest_on_it: bool) -> None:
        """A folder of what is computed once: kept if it is there and whole; made if it is not there; made again if it is damaged.

        Args:
            folder: below the run. make: fills a folder, each time with the same bytes.
            rest_on_it: whether shards were made with what it holds, so that it must come out as it was.

        Raises:
            RunError: made again, it is not what shards were made with.
        """
        problem = self.problem_of(folder) if os.path.lexists(folder) else "it is not there"
        if not problem:
            return
        lost = os.path.lexists(folder)
        if lost:
            _log.warning("%s is damaged (%s): what it holds is computed again.", folder, problem)
        before = [sums for sums in (files.recorded_sums(folder), files.sums_of(folder) if folder.is_dir() else None) if sums]
        with self.new_folder(*folder.relative_to(self.path).parts) as new:
            make(new)
            if lost and rest_on_it and files.sums_of(new) not in before:
                raise RunError(
                    f"{folder} is damaged ({problem}), and computed again it is not what the simulated cohorts were made with (other "
                    f"packages, another machine or another cache than then); start the run again: usersim run {self.config_path} --output "
                    "NEW-FOLDER."
                )
            files.remove(folder)

    def recommender_folder(self, round_number: int) -> Path:
        """Where the fitted recommender of a round is."""
        return self.path / "recommenders" / f"round-{round_number:03d}"

    def shard_folder(self, round_number: int, cohort: int) -> Path:
        """Where the tables of one cohort of one round are."""
        return self.path / "rounds" / f"{round_number:03d}" / f"cohort-{cohort:04d}"

    def has_shard(self, round_number: int, cohort: int) -> bool:
        """Whether a cohort of a round has been simulated; a damaged shard is removed, with a sentence, so that it is simulated again."""
        folder = self.shard_folder(round_number, cohort)
        if not os.path.lexists(folder):
            return False
        problem = self.problem_of(folder) or _unreadable(folder)
        if problem:
            _log.warning("%s is damaged (%s): this cohort is simulated again.", folder, problem)
            files.remove(folder)
        return not problem

    def has_shards(self, from_round: int = 0) -> bool:
        """Whether any cohort of this round or a later one has been simulated."""
        rounds = [folder for folder in (self.path / "rounds").glob("[0-9]*") if int(folder.name) >= from_round]
        return any(any(folder.glob("cohort-*")) for folder in rounds)

    def read_result(self, round_number: int, cohort: int) -> dict[str, Any]:
        """What was noted about a finished cohort, ``result.json`` of its shard.

        Raises:
            RunError: it is missing or damaged.
        """
        file = self.shard_folder(round_number, cohort) / "result.json"
        files.check_sum(file, self._shard_way_out())
        found: dict[str, Any] = files.read_json(file, self._shard_way_out())
        return found

    def read_round(self, table: Table, round_number: int, cohorts: Sequence[int]) -> pl.DataFrame:
        """One table of one round from its shards, sorted by the table's key.

        Raises:
            RunError: a shard is missing or damaged.
        """
        shards = [self.shard_folder(round_number, cohort) / f"{table.name}.parquet" for cohort in cohorts]
        for file in shards:
            files.check_sum(file, self._shard_way_out())
        frames = [files.read_table(file, self._shard_way_out()) for file in shards]
        return pl.concat(frames).sort(table.key) if frames else pl.DataFrame(schema=table.schema())

    @property
    def has_any_shard(self) -> bool:
        """Whether anybody has been simulated."""
        return any((self.path / "rounds").glob("*/cohort-*"))

    def users_of_shard(self, round_number: int, cohort: int) -> set[str]:
        """Ids of everybody who has a row in any table of a shard.

        Raises:
            RunError: a table is damaged.
        """
        tables = sorted(self.shard_folder(round_number, cohort).glob("*.parquet"))
        return {user for file in tables for user in files.read_table(file, self._shard_way_out())["user"].unique()}

    def _shard_way_out(self) -> str:
        return f"remove {self.path / 'summary.json'} if it is there, and `usersim resume {self.path}` simulates what is damaged again"

    # --- joined tables ---

    def write_table(self, table: Table, frame: pl.DataFrame) -> str:
        """Writes a joined table atomically and returns the SHA-256 of its rows (see `rows_sha256`)."""
        self.write_frame(table.name, frame)
        return rows_sha256(frame)

    def write_frame(self, name: str, frame: pl.DataFrame) -> None:
        """Writes a Parquet file of the run atomically, in place of whatever is there."""
        file = self.path / f"{name}.parquet"
        if file.is_dir():
            files.remove(file)
        write_atomically(file, frame.write_parquet)

    def read_table(self, name: str, *, check: bool = True) -> pl.DataFrame:
        """A table of a finished run: a joined one, or another Parquet file.

        Args:
            name: of the table. check: whether it must be the one that was written; False where `check_table` follows.

        Raises:
            RunError: it is not there, damaged, or not what was written, as ``hashes.json`` or ``summary.json`` say.
        """
        file = self.path / f"{name}.parquet"
        way_out = f"`usersim resume {self.path}` makes it again"
        if not os.path.lexists(file):
            raise RunError(f"the run {self.path} has no {name}.parquet; {way_out}.")
        frame = files.read_table(file, way_out)
        if check:
            self.check_table(name, frame)
        return frame

    def check_table(self, name: str, frame: pl.DataFrame) -> None:
        """Checks that a table of a finished run is the one that was written.

        Raises:
            RunError: it is not.
        """
        if self.is_complete and not self._as_written(name, frame):
            file, rows = self.path / f"{name}.parquet", f"{frame.height:,} rows"
            raise RunError(f"{file} ({rows}) is not what was written, as its SHA-256 says; `usersim resume {self.path}` makes it again.")

    def table_problem(self, name: str, *, to_the_byte: bool = False) -> str:
        """Why a table of a finished run cannot be used, one sentence; empty if it can.

        Args:
            name: of the table. to_the_byte: whether other bytes with the same rows are a problem, too.
        """
        file = self.path / f"{name}.parquet"
        try:
            self.read_table(name)
            if to_the_byte and "hashes_sha256" in self.read_json("summary") and self.read_hashes().get(file.name) != files.sha256(file):
                raise RunError(f"{file} has the rows that were written, but other bytes; it is written again.")
        except RunError as error:
            return str(error)
        return ""

    def _as_written(self, name: str, frame: pl.DataFrame) -> bool:
        """Whether a table is the one that was written, byte by byte or at least row by row."""
        summary = self.read_json("summary")
        if "hashes_sha256" not in summary:  # of an older version: the number of rows tells a table that was cut off
            return name not in COUNTED or bool(summary.get(name, frame.height) == frame.height)
        whole = self.read_hashes().get(f"{name}.parquet")
        return files.sha256(self.path / f"{name}.parquet") == whole or bool(rows_sha256(frame) == summary.get("sha256", {}).get(name))

    # --- what it is made of ---

    def write_hashes(self) -> str:
        """Writes ``hashes.json``, the SHA-256 of every file that the run is made of, and returns the file's own."""
        self.write_json("hashes", {name: file_sha256(self.path / name) for name in self.parts()})
        return file_sha256(self.path / "hashes.json")

    def read_hashes(self) -> dict[str, str]:
        """What `write_hashes` wrote.

        Raises:
            RunError: it is missing, damaged, or not the one that the run was finished with.
        """
        file = self.path / "hashes.json"
        if os.path.lexists(file) and file.is_file() and file_sha256(file) != self.read_json("summary")["hashes_sha256"]:
            raise RunError(f"{file} is not what the run was finished with; {WAYS_OUT['hashes'].format(run=self.path)}.")
        found: dict[str, str] = self.read_json("hashes")
        return found

    def parts(self) -> list[str]:
        """The files that a complete run is made of, by their path in its folder, sorted; what is derived from them is not among them."""
        top = [*(self.path / name for name in ("config.toml", "manifest.json", "tastes.json")), *self.path.glob("*.parquet")]
        below = [file for name in ("decisions", "anchor", "recommenders", "rounds") for file in (self.path / name).rglob("*")]
        return sorted(file.relative_to(self.path).as_posix() for file in (*top, *below) if file.is_file())

    def remove_leftovers(self) -> None:
        """Removes half-written folders that a killed process left."""
        for leftover in self.path.rglob(".*.part"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)


def _is_left_of_a_start(entry: Path) -> bool:
    """Whether an entry of a folder is all that a start leaves that was killed before it had written its configuration."""
    return entry.name in (LOCK, LOG) or (entry.name.startswith(".") and entry.name.endswith(".part"))


def _unreadable(shard: Path) -> str:
    """Why the files of a shard cannot be read, for shards of older versions without sums; empty if they can."""
    if (shard / files.SUMS).exists():
        return ""
    try:
        files.read_json(shard / "result.json", "simulate it again")
        for table in TABLES:
            files.read_table(shard / f"{table.name}.parquet", "simulate it again")
    except RunError as error:
        return str(error).removeprefix(f"{shard}/").partition(";")[0]
    return ""

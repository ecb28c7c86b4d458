"""What a finished run lost to damage and can make again: its summary, and its tables, from the shards."""

from __future__ import annotations

import logging
import os

from agents.taste import read_told_tastes
from simulator import files
from simulator.errors import RunError
from simulator.run_directory import RunDirectory, rows_sha256
from simulator.simulation import joined
from simulator.tables import TABLES

_log = logging.getLogger("simulator.mending")

SUMMARY = "summary.json"


def mend(run: RunDirectory) -> None:
    """Joins damaged tables of a finished run anew; where that is not enough, the run counts as interrupted again and its summary is gone.

    Shards, and everything that the data, its people and the fitted models say, are then looked at by what continues a run.

    Args:
        run: any run.
    """
    file = run.path / SUMMARY
    if not os.path.lexists(file):
        return
    try:
        if not file.is_file():
            raise RunError(f"{file} is not a file.")
        summary = run.read_json("summary")
        if not files.read_document(file, "it is written again")[1]:
            raise RunError(f"{file} is not what was written.")
        if "hashes_sha256" in summary:
            run.read_hashes()
    except RunError as error:
        _log.warning("%s It is written again.", error)
        files.remove(file)
        return
    tables = [table.name for table in TABLES]
    known = run.read_hashes() if "hashes_sha256" in summary else {}
    others = ["people", "items", "real"]
    if "treatments.parquet" in known or os.path.lexists(run.path / "treatments.parquet"):
        others.append("treatments")
    problems = {name: problem for name in (*tables, *others) if (problem := run.table_problem(name, to_the_byte=True))}
    for problem in problems.values():
        _log.warning("%s", problem)
    for folder in (
        run.path / "decisions",
        run.path / "anchor",
        *(run.path / "recommenders").glob("round-*"),
        *(run.path / "rounds").glob("*/cohort-*"),
    ):
        problem = run.problem_of(folder) if folder.exists() else ""
        if problem:
            told = "the tables of the run are whole; without summary.json, `usersim resume` makes it again"
            _log.warning("%s is damaged (%s): %s.", folder, problem, told)
    if problems and not (set(problems) <= set(tables) and _joined_again(run, list(problems))):
        files.remove(file)


def _joined_again(run: RunDirectory, names: list[str]) -> bool:
    """Joins tables from shards that are whole; whether they came out as the summary says."""
    summary = run.read_json("summary")
    rounds = int(summary["rounds"])
    cohorts = sorted(int(folder.name.removeprefix("cohort-")) for folder in (run.path / "rounds" / "000").glob("cohort-*"))
    shards = [run.shard_folder(number, cohort) for number in range(rounds) for cohort in cohorts]
    if not shards or any(run.problem_of(shard) for shard in shards):
        return False
    tastes = run.path / "tastes.json"
    try:
        told = read_told_tastes(tastes) if tastes.exists() else {}
        frames = {table: joined(run, table, rounds, cohorts, told) for table in TABLES if table.name in names}
    except RunError:
        return False
    known = summary.get("sha256", {})
    if any(known.get(table.name) != rows_sha256(frame) for table, frame in frames.items()):
        return False
    for table, frame in frames.items():
        run.write_table(table, frame)
    if "hashes_sha256" in summary:
        hashes = run.read_hashes() | {f"{name}.parquet": files.sha256(run.path / f"{name}.parquet") for name in names}
        run.write_json("hashes", hashes)
        run.write_json("summary", {**summary, "hashes_sha256": files.sha256(run.path / "hashes.json")})
    return True

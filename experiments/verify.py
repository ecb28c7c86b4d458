"""Whether a run on disk is still what it was when it was finished: its settings, shards, people, tables and every other file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from experiments.stored_settings import check_settings, settings_of, settings_sha256
from experiments.trust import granted
from simulator.errors import UsersimError
from simulator.files import read_json, read_table
from simulator.run_directory import RunDirectory, file_sha256, rows_sha256

State = Literal["ok", "wrong", "not recorded"]

ROWS = ("sessions", "pages", "impressions", "interactions", "ratings")
"""Counts of ``summary.json`` that the tables must come to."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        check: what. state: "ok", "wrong", or "not recorded" where a run of an older version says nothing that it could be held against.
        found: how much was looked at, or what is wrong and where.
    """

    check: str
    state: State
    found: str


def verify(path: Path) -> list[Check]:
    """Looks at everything that a run consists of; changes nothing and imports nothing that the run names.

    Args:
        path: folder of a run, complete or not.

    Returns:
        What was found. Nothing is "wrong" in a complete run that is as it was.

    Raises:
        RunError: there is no run at `path`.
    """
    run = RunDirectory.open(path)
    checks: tuple[tuple[str, Callable[[RunDirectory], Check | list[Check]]], ...] = (
        ("complete", _complete),
        ("settings", _settings),
        ("shards", _shards),
        ("people", _people),
        ("tables", _tables),
        ("counts", _counts),
        ("files", _files),
    )
    found: list[Check] = []
    for name, look in checks:
        try:
            with granted():  # the settings are compared, and nothing that they name is looked into
                result = look(run)
            found += result if isinstance(result, list) else [result]
        except UsersimError as error:
            found.append(Check(name, "wrong", str(error)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
            found.append(Check(name, "wrong", f"cannot be read: {type(error).__name__}: {error}"))
    return found


def _complete(run: RunDirectory) -> Check:
    if run.is_complete:
        return Check("complete", "ok", "summary.json is there")
    return Check("complete", "wrong", f"there is no summary.json; continue the run with `usersim resume {run.path}`")


def _settings(run: RunDirectory) -> Check:
    stored = run.read_json("manifest")
    if "settings_sha256" not in stored:
        return Check("settings", "not recorded", "of a version that did not keep the settings in manifest.json")
    check_settings(run)
    now = settings_sha256(settings_of(run))
    if now != stored["settings_sha256"]:
        return Check(
            "settings",
            "wrong",
            f"manifest.json: settings_sha256 is {stored['settings_sha256'][:12]}..., and the settings have {now[:12]}...",
        )
    return Check("settings", "ok", f"config.toml has the {len(stored['settings'])} settings that the run was made with")


def _cohorts(run: RunDirectory) -> tuple[int, int]:
    """Rounds and cohorts that a complete run has."""
    settings = settings_of(run)
    return int(settings["rounds"]), math.ceil(int(run.read_json("manifest")["people"]) / int(settings["cohort_size"]))


def _shards(run: RunDirectory) -> Check:
    rounds, cohorts = _cohorts(run)
    wanted = {run.shard_folder(number, cohort) for number in range(rounds) for cohort in range(cohorts)}
    there = {folder for folder in (run.path / "rounds").glob("*/cohort-*") if folder.is_dir()}
    for folder in sorted(wanted ^ there):
        return Check(
            "shards", "wrong", f"{folder.relative_to(run.path)} {'is missing' if folder in wanted else 'does not belong to the run'}"
        )
    for folder in sorted(wanted):
        result = read_json(folder / "result.json", "simulate it again")
        pages = read_table(folder / "pages.parquet", "simulate it again")
        bad = Counter({"bad": pages.filter(pl.col("status") != "ok").height})
        if (pages.height, bad.total()) != (result["pages"], sum(result["fallbacks"].values())):
            return Check("shards", "wrong", f"{folder.relative_to(run.path)}/result.json counts other pages than pages.parquet has")
    return Check("shards", "ok", f"{rounds} rounds of {cohorts} cohorts")


def _people(run: RunDirectory) -> Check:
    """Everybody is in one shard of every round."""
    everybody = set(run.read_table("people")["user"].to_list())
    known = True
    for number in range(_cohorts(run)[0]):
        where: dict[str, str] = {}
        for folder in sorted((run.path / "rounds" / f"{number:03d}").glob("cohort-*")):
            cohort = int(folder.name.removeprefix("cohort-"))
            listed = read_json(folder / "result.json", "simulate it again").get("people")
            known &= listed is not None
            rows = run.users_of_shard(number, cohort)
            if listed is not None and (strange := sorted(rows - set(listed))):
                return Check(
                    "people", "wrong", f"person '{strange[0]}' has rows in {folder.relative_to(run.path)} without being in its cohort"
                )
            for user in listed if listed is not None else rows:
                if user in where:
                    return Check("people", "wrong", f"person '{user}' is twice in round {number}: {where[user]} and {folder.name}")
                where[user] = folder.name
        if strangers := sorted(set(where) - everybody):
            return Check("people", "wrong", f"person '{strangers[0]}' of round {number}, {where[strangers[0]]}, is not in people.parquet")
        if known and (missing := sorted(everybody - set(where))):
            return Check("people", "wrong", f"person '{missing[0]}' is in no shard of round {number}")
    if not known:
        return Check(
            "people", "not recorded", "nobody is twice in a round; shards of an older version do not say who took part without coming"
        )
    return Check("people", "ok", f"each of {len(everybody)} once in every round")


def _tables(run: RunDirectory) -> list[Check]:
    """The joined tables have the rows that their hashes say."""
    if not run.is_complete:
        return []
    found = []
    for name, digest in run.read_json("summary")["sha256"].items():
        file = run.path / f"{name}.parquet"
        try:
            now = rows_sha256(read_table(file, f"`usersim resume {run.path}` makes it again"))
            said = f"{file.name}: its rows have the hash {now[:12]}..., in summary.json stands {digest[:12]}..."
            found.append(Check(f"table {name}", "ok" if now == digest else "wrong", digest if now == digest else said))
        except UsersimError as error:
            found.append(Check(f"table {name}", "wrong", str(error)))
    return found


def _counts(run: RunDirectory) -> list[Check]:
    if not run.is_complete:
        return []
    summary = run.read_json("summary")
    shown, pages = run.read_table("impressions"), run.read_table("pages")
    counted: dict[str, Any] = {
        "people": run.read_table("people").height,
        "sessions": run.read_table("sessions").height,
        "pages": pages.height,
        "impressions": shown.height,
        "interactions": int(shown["chosen"].sum()),
        "ratings": int(shown["rating"].count()) if "rating" in shown.columns else 0,
        "fallback_share": pages.filter(pl.col("status") != "ok").height / pages.height if pages.height else 0.0,
    }
    for key, value in counted.items():
        if summary[key] != value:
            return [Check("counts", "wrong", f"summary.json: {key} is {summary[key]}, and the tables come to {value}")]
    return [Check("counts", "ok", "summary.json counts what the tables hold")]


def _files(run: RunDirectory) -> list[Check]:
    """Every file has the bytes that the run was finished with; in an interrupted one, every folder those that it was made with."""
    if not run.is_complete:
        return list(_damaged(run))
    summary = run.read_json("summary")
    if "hashes_sha256" not in summary:
        return [Check("files", "not recorded", "of a version that did not keep the hashes of its files")]
    if file_sha256(run.path / "hashes.json") != summary["hashes_sha256"]:
        return [Check("files", "wrong", "hashes.json is not the one that the run was finished with")]
    hashes = run.read_json("hashes")
    wrong = list(_changed(run, hashes))
    return wrong or [Check("files", "ok", f"{len(hashes)} files have the bytes that the run was finished with")]


def _damaged(run: RunDirectory) -> Iterator[Check]:
    folders = [run.path / "decisions", *(run.path / "recommenders").glob("round-*"), *(run.path / "rounds").glob("*/cohort-*")]
    for folder in folders:
        problem = run.problem_of(folder) if folder.exists() else ""
        if problem:
            yield Check("files", "wrong", f"{folder.relative_to(run.path)}: {problem}; `usersim resume {run.path}` makes it again")


def _changed(run: RunDirectory, hashes: dict[str, Any]) -> Iterator[Check]:
    there = set(run.parts())
    for name in sorted(there | set(hashes)):
        if name not in there:
            yield Check("files", "wrong", f"{name} is missing")
        elif name not in hashes:
            yield Check("files", "wrong", f"{name} was not there when the run was finished")
        elif file_sha256(run.path / name) != hashes[name]:
            yield Check("files", "wrong", f"{name} was changed after the run was finished")

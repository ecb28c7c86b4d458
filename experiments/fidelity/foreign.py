"""A log of simulated users that somebody else made, in the form of a run: who is who, which visit is which, what it cannot say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from agents.exposures import people_split
from agents.profiles import fit_profiles
from agents.rhythm import SESSION_GAP
from environments.datasets.behaviour_logs import BehaviourLog, read_log
from environments.datasets.reading import Reader
from environments.datasets.splits import Split
from experiments.config import ExperimentConfig
from experiments.stored_settings import config_of
from simulator.errors import ConfigError, DataError
from simulator.files import read_table, reading
from simulator.plugins import explain
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

Matching = Literal["id", "table", "none"]
_SETTING: Final[re.Pattern[str]] = re.compile(r"dataset\.(\w+)")
DAY: Final[int] = 86_400

OF_A_HISTORY: Final[str] = "users of the log are not matched with users of the data, and this depends on what the user did before"
"""Why something is not judged of a log whose users nobody knows."""


@dataclass(frozen=True, eq=False)
class ForeignLog:
    """A log beside the data, in the form that `experiments.fidelity.behaviour` reads of a run.

    Attributes:
        people: `user` (id in the data), `synthetic` (False). impressions: `user`, `item` (ids in the data), `rating`, `time`, `session`
            (number per user, in order of time), `page`, `position`, `chosen`, `chosen_probability`, in order of user and time.
        name: of the log. matching: how its users were found in the data. days: how long it lasts.
        visits_are_given: whether how often people come is a setting of the simulation, so that nothing can be said of it.
        left_out: why -> how many rows.
    """

    people: pl.DataFrame
    impressions: pl.DataFrame
    name: str
    matching: Matching
    days: float
    visits_are_given: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def chosen(self) -> pl.DataFrame:
        """The rows that were chosen."""
        return self.impressions.filter(pl.col("chosen"))

    @property
    def has_times(self) -> bool:
        """Whether every row has a time."""
        return self.impressions["time"].null_count() == 0

    @property
    def has_ratings(self) -> bool:
        """Whether any choice was rated."""
        return self.chosen["rating"].null_count() < self.chosen.height

    @property
    def has_pages(self) -> bool:
        """Whether it says what was shown and not chosen."""
        return not bool(self.impressions["chosen"].all())

    def as_far_as_told(self, data: Split) -> Split:
        """The data without what the log does not tell, so that nothing is compared with nothing."""
        train, test = data.train, data.test
        if not self.has_times:
            nothing = pl.lit(None, dtype=pl.Int64).alias("timestamp")
            train, test = train.with_interactions(train.interactions.with_columns(nothing)), test.with_columns(nothing)
        if not self.has_ratings:
            without = pl.lit(None, dtype=pl.Float32).alias("rating")
            train = replace(train.with_interactions(train.interactions.with_columns(without)), rating_scale=None)
            test = test.with_columns(without)
        return replace(data, train=train, test=test)

    def settings(self, config: ExperimentConfig) -> ExperimentConfig:
        """The experiment of the data with the time and the visits of the log."""
        sessions: Literal["one", "rhythm"] = "one" if self.visits_are_given else "rhythm"
        population = config.population.model_copy(update={"sessions": sessions})
        return config.model_copy(update={"population": population, "rounds": 1, "round_days": self.days})


def read_foreign(
    log: Path, data: Split, *, columns: Mapping[str, Any], users: Path | Matching = "id", days: float | None, skip: bool, stream: Stream
) -> ForeignLog:
    """Reads a log and finds its users and items in the data.

    Args:
        log: a CSV, JSON or Parquet file, or the folder of a complete run of usersim.
        data: the real data, split. columns: options of `BehaviourLog` besides the file.
        users: "id" where users have the data's ids, "none" where they are nobody's, or a file with the columns `log` and `user`: ids in the
            log and in the data. days: how long the log lasts; None takes the time from its first to its last row.
        skip: whether rows of unknown users and items are left out and counted.
        stream: by which users who are nobody's take their places.

    Raises:
        ConfigError: an option is not allowed. DataError: the log cannot be read, or names unknown users or items; names line and column.
    """
    given = False
    if log.is_dir() and (log / "impressions.parquet").is_file():
        run = RunDirectory.open(log, complete=True)
        config = config_of(run)
        table, given, name = _of_run(run), config.population.sessions == "one", str(log)
        days = days or config.rounds * config.round_days
    else:
        options: dict[str, Any] = {"log": log, "on_bad_rows": "skip" if skip else "error", **columns}
        if data.train.rating_scale is not None:
            options.setdefault("rating_scale", data.train.rating_scale)
        table, name = _read(options), str(log)
    left_out: dict[str, int] = {}
    table = _known(table, "item", {str(one) for one in data.train.catalog.item_ids}, log, left_out, skip)
    table = _renamed(table, data, users, log, left_out, skip, stream)
    if not table["chosen"].any():
        raise DataError(f"in {log} nobody who is in the data chose anything, so there is nothing to judge.")
    table = _in_sessions(table)
    times = table["time"].drop_nulls().to_numpy()
    seconds = float(times.max() - times.min()) if len(times) else 0.0
    matching: Matching = "table" if isinstance(users, Path) else users
    people = table.select(pl.col("user").unique().sort(), synthetic=pl.lit(value=False))
    return ForeignLog(people, table, name, matching, days or max(1.0, float(np.ceil(seconds / DAY))), given, left_out)


def _read(options: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of a file; what the loader says of settings of an experiment file is said of the options of the command.

    Raises:
        DataError: as `read_log`.
    """
    try:
        return read_log(BehaviourLog.model_validate(options), Reader(options["on_bad_rows"]))
    except DataError as error:
        told = str(error).replace("dataset.on_bad_rows = 'skip'", "--skip-unknown")
        raise DataError(_SETTING.sub(r"--column \1=NAME", told)) from error
    except ValidationError as error:
        raise ConfigError(explain(error, "column", BehaviourLog)) from error


def _of_run(run: RunDirectory) -> pl.DataFrame:
    """The impressions of the real users of a run."""
    shown = run.read_table("impressions").filter(~pl.col("synthetic"))
    rating = pl.col("rating") if "rating" in shown.columns else pl.lit(None, dtype=pl.Float64).alias("rating")
    of_pages = (pl.col("session").cast(pl.String), pl.col("page").cast(pl.String), "position", "chosen")
    probability = pl.col("chosen_probability").alias("probability")
    return shown.select("user", "item", rating, "time", *of_pages, probability, line=pl.int_range(1, pl.len() + 1))


def _known(
    table: pl.DataFrame, column: str, ids: set[str], log: Path, left_out: dict[str, int], skip: bool, of: str = "the data"
) -> pl.DataFrame:
    """The rows whose user or item is known."""
    known = table[column].is_in(list(ids))
    if known.all():
        return table
    first = table.filter(~known).row(0, named=True)
    if not skip:
        raise DataError(
            f"{log}, line {first['line']}: {column} '{first[column]}' is not in {of} ({int((~known).sum()):,} of {table.height:,} rows); "
            f"leave these rows out with --skip-unknown"
            + (", or say who is who with --users FILE or --users none." if column == "user" else ".")
        )
    left_out[f"unknown {column}"] = int((~known).sum())
    return table.filter(known)


def _renamed(
    table: pl.DataFrame, data: Split, users: Path | Matching, log: Path, left_out: dict[str, int], skip: bool, stream: Stream
) -> pl.DataFrame:
    """The log with the data's ids of its users, all of whom did something in the training part."""
    ids: list[str] = data.train.users["user_id"].to_list()
    if users == "none":
        return _seated(table, data, left_out, stream)
    if isinstance(users, Path):
        pairs = _mapping(users, set(ids))
        table = _known(table, "user", set(pairs), log, left_out, skip, of=str(users))
        table = table.with_columns(pl.col("user").replace_strict(pairs, return_dtype=pl.String))
    table = _known(table, "user", set(ids), log, left_out, skip)
    active = {ids[user] for user in data.train.interactions["user"].unique().to_list()}
    some = table.filter(pl.col("user").is_in(list(active)))
    if some.height < table.height:
        left_out["users without a training interaction"] = table.height - some.height
    return some


def _mapping(file: Path, ids: set[str]) -> dict[str, str]:
    """Ids in the log -> ids in the data."""
    if not file.is_file():
        raise ConfigError(f"--users {file}: there is no such file; give a table with the columns log and user, or write id or none.")
    with reading(file, "give another one", DataError):
        table = read_table(file, "give another one", DataError) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema=False)
    for name in ("log", "user"):
        if name not in table.columns:
            raise DataError(f"{file} has no column '{name}'; it needs log (ids in the log) and user (ids in the data).")
    pairs: dict[str, str] = {}
    for number, (own, user) in enumerate(table.select(pl.col("log", "user").cast(pl.String)).iter_rows(), start=1):
        if user not in ids:
            raise DataError(f"{file}, row {number}: there is no user '{user}' in the data.")
        if own in pairs or user in pairs.values():
            raise DataError(f"{file}, row {number}: '{own}' or '{user}' stands in it twice; every user is one of the other side.")
        pairs[own] = user
    return pairs


def _seated(table: pl.DataFrame, data: Split, left_out: dict[str, int], stream: Stream) -> pl.DataFrame:
    """Users who are nobody's, each in the place of a user of the data, held-out ones first; distributions over users need no more."""
    ids: list[str] = data.train.users["user_id"].to_list()
    held_out = people_split(data.train).held_out
    able = np.intersect1d([one.user for one in fit_profiles(data.train)], data.test["user"].unique().to_numpy())
    order = stream.child("seats").generator().permutation(able)
    order = np.concatenate([order[np.isin(order, held_out)], order[~np.isin(order, held_out)]])
    own = sorted(table["user"].unique().to_list())
    own = [own[place] for place in stream.child("users").generator().permutation(len(own))][: len(order)]
    seats = {user: ids[seat] for user, seat in zip(own, order.tolist(), strict=False)}
    some = table.filter(pl.col("user").is_in(list(seats)))
    if some.height < table.height:
        left_out["users beyond those of the data"] = table.height - some.height
    return some.with_columns(pl.col("user").replace_strict(seats, return_dtype=pl.String))


def _in_sessions(table: pl.DataFrame) -> pl.DataFrame:
    """In order of user and time, as a run has it: sessions numbered in order of time (cut where half an hour passes if the log does not
    tell them), pages within a session, places on a page; in one round."""
    number = pl.col("page").cast(pl.Int32, strict=False)
    order = ["user", "time", "session", "number", "page", "position", "item"]
    table = table.with_columns(number=number, round=pl.lit(0, dtype=pl.Int32)).sort(order, nulls_last=True)
    if table["time"].null_count():
        table = table.with_columns(visit=pl.lit(None, dtype=pl.Int32))
    elif table["session"].null_count():
        new = (pl.col("time").diff().over("user") > SESSION_GAP).fill_null(value=False)
        table = table.with_columns(visit=new.cum_sum().over("user").cast(pl.Int32))
    else:
        table = _numbered(table, ["user"], "session", "visit")
    if table["number"].null_count():
        table = _numbered(table, ["user", "session"], "page", "number")
    place = pl.int_range(1, pl.len() + 1).over("user", "session", "page").cast(pl.Int32)
    table = table.with_columns(position=pl.coalesce("position", place), session=pl.col("visit"), page=pl.col("number"))
    return table.drop("visit", "number").rename({"probability": "chosen_probability"})


def _numbered(table: pl.DataFrame, within: list[str], column: str, name: str) -> pl.DataFrame:
    """With the number of each value of a column, from 0, in order of its first row within some others."""
    firsts = table.select(*within, column).unique(maintain_order=True)
    firsts = firsts.with_columns(pl.int_range(pl.len()).over(within).cast(pl.Int32).alias(name))
    rest = table.drop(name, strict=False)
    return rest.join(firsts, on=[*within, column], how="left", maintain_order="left", nulls_equal=True)

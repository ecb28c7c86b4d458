"""What simulated and real people did, in one form: observations that belong to people.

Content (ratings, popularity, genres, novelty) is compared with the *held-out* interactions of the same people. Sittings (items
per session, gaps, transitions) need the whole log of a person: a random part of a sitting is no sitting. A log of ratings
knows neither pages nor what was shown and left; what follows from these is not compared, and `NOT_TOLD` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from agents.rhythm import SESSION_GAP
from agents.stars import stars
from experiments.analysis.finished_run import FinishedRun
from experiments.fidelity.context import FidelityContext
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.positives import least_positive

NOT_TOLD: Mapping[str, str] = {
    "pages_per_session": "the data does not log pages, only what was interacted with",
    "watch_rate_by_position": "the data does not log what was shown, nor where on a page; see slot_ratio",
}
"""Distributions that a log of interactions alone cannot tell, and why."""

FEWEST_HELD_OUT = 30
"""If the run has so many held-out people, only they are compared; otherwise everybody real in the run is, and the report says so."""

FEWEST_FOR_ENTROPY = 4
"""A person's genre entropy is compared from so many interactions on."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Observations of one kind.

    Attributes:
        person: whose, 0 .. n-1 among the compared people, shape (n,). values: float64, shape (n,).
    """

    person: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Log:
    """What people did.

    Attributes:
        rows: `person` (number among the compared), `item` (code), `rating` (1..5 stars or null), `good` (whether it is
            positive, or null), `time` (seconds or null), `session` (number per person, or null without times), in order of person and time.
    """

    rows: pl.DataFrame


class Behaviour:
    """The log of a run beside the real log of the same people.

    Args:
        context: of the report, with a run.

    Raises:
        DataError: the context has no run, or nobody real in it.
        RunError: the run is not complete.
    """

    def __init__(self, context: FidelityContext) -> None:
        if context.run is None and context.log is None:
            raise DataError("needs the log of a run; give the folder of a complete run instead of an experiment file.")
        self.context = context
        self.train: Dataset = context.train
        self.run = context.log if context.log is not None else FinishedRun(context.run or Path())
        people = self.run.people.filter(~pl.col("synthetic"))["user"].to_list()
        code = {name: number for number, name in enumerate(context.user_ids)}
        known = np.array(sorted(code[name] for name in people if name in code), dtype=np.int32)
        held_out = np.intersect1d(known, context.roles.held_out)
        self.only_held_out = len(held_out) >= FEWEST_HELD_OUT
        self.people = held_out if self.only_held_out else known
        if not len(self.people):
            raise DataError(f"the run {context.run} has nobody who is in the data; fidelity compares simulated people with the real ones.")

    @property
    def sessions_are_a_setting(self) -> bool:
        """Whether the experiment says how often people come (one session per round) instead of their rhythm."""
        return self.context.config.population.sessions == "one"

    @cached_property
    def simulated(self) -> Log:
        """What was chosen in the run."""
        items = {name: number for number, name in enumerate(self.train.catalog.item_ids.tolist())}
        chosen = self.run.chosen
        rating = pl.col("rating") if "rating" in chosen.columns else pl.lit(None, dtype=pl.Float64)
        rows = chosen.select(
            user=pl.col("user"),
            item=pl.col("item").replace_strict(items, return_dtype=pl.Int32),
            rating=rating,
            time=pl.col("time"),
            session=pl.col("session"),
        )
        codes = {self.context.user_ids[user]: number for number, user in enumerate(self.people.tolist())}
        rows = rows.filter(pl.col("user").is_in(list(codes)))
        return self._log(rows.with_columns(person=pl.col("user").replace_strict(codes, return_dtype=pl.Int32)))

    @cached_property
    def held_out(self) -> Log:
        """Held-out interactions of the same people."""
        return self._real(self.context.split.test)

    @cached_property
    def real(self) -> Log:
        """All interactions of the same people, training and held-out, cut into sittings."""
        test = self.context.split.test
        return self._real(pl.concat([self.train.interactions.select(test.columns), test]))

    # --- observations -----------------------------------------------------------------------------------------------

    def items_per_session(self, log: Log) -> Observed:
        """Interactions of each session that has any."""
        counts = log.rows.filter(pl.col("session").is_not_null()).group_by("person", "session").agg(n=pl.len()).sort("person", "session")
        return _observed(counts["person"], counts["n"])

    def sessions_per_person(self, log: Log, days: float) -> Observed:
        """Sessions of each person within `days` of their first one."""
        starts = self._starts(log, days)
        counts = starts.group_by("person").agg(n=pl.len()).sort("person")
        return _observed(counts["person"], counts["n"])

    def gaps(self, log: Log, days: float) -> Observed:
        """Hours from the end of a session to the start of the next, within `days` of the first; natural log."""
        starts = self._starts(log, days).with_columns(gap=pl.col("start") - pl.col("end").shift(1).over("person"))
        rows = starts.filter(pl.col("gap") > 0)
        return _observed(rows["person"], (rows["gap"] / 3600.0).log())

    def ratings(self, log: Log) -> Observed:
        """Stars given."""
        rows = log.rows.filter(pl.col("rating").is_not_null())
        return _observed(rows["person"], rows["rating"])

    def positives(self, log: Log) -> Observed:
        """Whether each rating is a positive one of that person (`simulator.positives`), 0 or 1."""
        rows = log.rows.filter(pl.col("rating").is_not_null())
        return _observed(rows["person"], rows["good"])

    def popularity(self, log: Log) -> Observed:
        """Natural log of 1 + training interactions of each chosen item."""
        return _observed(log.rows["person"], pl.Series(self._popularity[log.rows["item"].to_numpy()]))

    def novelty(self, log: Log) -> Observed:
        """How unlike the person's training history each chosen item is: 1 - cosine of its genres and the history's mean genres.

        An item of the history itself is compared with the rest of it; else real sittings, of which a part is history, would look less
        novel than simulated ones, of which nothing is.
        """
        person, items = log.rows["person"].to_numpy(), log.rows["item"].to_numpy()
        met = np.isin(person.astype(np.int64) * self.train.n_items + items, self._trained)
        tastes = self._tastes[person] - self._unit_genres[items] * met[:, None]
        norms = np.linalg.norm(tastes, axis=1)
        products = (self._unit_genres[items] * tastes).sum(axis=1)
        likeness = np.divide(products, norms, out=np.zeros(len(items)), where=norms > 1e-9)
        known = self.has_novelty(log)
        return Observed(person[known], 1.0 - likeness[known])

    def has_novelty(self, log: Log) -> np.ndarray:
        """Which rows have a novelty: those of items and people with genres, shape (rows,)."""
        person, items = log.rows["person"].to_numpy(), log.rows["item"].to_numpy()
        return np.asarray(self._unit_genres[items].any(axis=1) & self._tastes[person].any(axis=1))

    def repeats(self, log: Log) -> Observed:
        """1 where the person had interacted with the item in the training part or earlier in this log, else 0."""
        person, items = log.rows["person"].to_numpy(), log.rows["item"].to_numpy()
        key = person.astype(np.int64) * self.train.n_items + items
        first = np.zeros(len(key), dtype=bool)
        first[np.unique(key, return_index=True)[1]] = True
        return Observed(person, (~first | np.isin(key, self._trained)).astype(np.float64))

    def transitions(self, log: Log) -> tuple[np.ndarray, np.ndarray]:
        """Genre-to-genre transitions between consecutive choices of a session.

        Returns:
            person of each pair, shape (n,), and weights of the genre pairs, which sum to 1 per row, shape (n, n_genres ** 2).
        """
        rows = log.rows.filter(pl.col("session").is_not_null()).with_columns(
            after=pl.col("item").shift(-1).over("person", "session"),
        )
        rows = rows.filter(pl.col("after").is_not_null())
        shares: np.ndarray = self._genres / np.maximum(self._genres.sum(axis=1, keepdims=True), 1.0)
        before, after = shares[rows["item"].to_numpy()], shares[rows["after"].cast(pl.Int32).to_numpy()]
        pairs = (before[:, :, None] * after[:, None, :]).reshape(rows.height, -1)
        known = pairs.any(axis=1)
        return rows["person"].to_numpy()[known], pairs[known]

    def genre_counts(self, log: Log) -> np.ndarray:
        """Genres of each row, each row's genres sharing one, shape (rows, n_genres)."""
        genres = self._genres[log.rows["item"].to_numpy()]
        return np.asarray(genres / np.maximum(genres.sum(axis=1, keepdims=True), 1.0))

    # --- inside -----------------------------------------------------------------------------------------------------

    @cached_property
    def _popularity(self) -> np.ndarray:
        return np.asarray(np.log1p(np.bincount(self.train.interactions["item"].to_numpy(), minlength=self.train.n_items)))

    @cached_property
    def _genres(self) -> np.ndarray:
        return np.asarray(self.train.catalog.genre_matrix, dtype=np.float64)

    @cached_property
    def _unit_genres(self) -> np.ndarray:
        norms = np.linalg.norm(self._genres, axis=1, keepdims=True)
        return np.asarray(np.divide(self._genres, norms, out=np.zeros_like(self._genres), where=norms > 0))

    @cached_property
    def _tastes(self) -> np.ndarray:
        """Sum of the genre vectors, each of length 1, of everybody's training history, shape (people, n_genres)."""
        return np.array([self._unit_genres[np.unique(self.context.profiles[user].history)].sum(axis=0) for user in self.people.tolist()])

    @cached_property
    def _trained(self) -> np.ndarray:
        return np.concatenate(
            [
                number * self.train.n_items + self.context.profiles[user].history.astype(np.int64)
                for number, user in enumerate(self.people.tolist())
            ]
        )

    def _starts(self, log: Log, days: float) -> pl.DataFrame:
        sessions = log.rows.filter(pl.col("session").is_not_null()).group_by("person", "session")
        table = sessions.agg(start=pl.col("time").min(), end=pl.col("time").max()).sort("person", "session")
        return table.filter(pl.col("start") - pl.col("start").min().over("person") < days * 86_400)

    def _real(self, interactions: pl.DataFrame) -> Log:
        codes = {int(user): number for number, user in enumerate(self.people.tolist())}
        rows = interactions.filter(pl.col("user").is_in(list(codes))).with_columns(
            person=pl.col("user").replace_strict(codes, return_dtype=pl.Int32)
        )
        rows = rows.rename({"timestamp": "time"})
        if self.train.has_times:
            rows = rows.sort("person", "time", maintain_order=True)
            new = (pl.col("time").diff().over("person") > SESSION_GAP).fill_null(value=False)
            return self._log(rows.with_columns(session=new.cum_sum().over("person").cast(pl.Int32)))
        return self._log(rows.with_columns(session=pl.lit(None, dtype=pl.Int32)))

    def _log(self, rows: pl.DataFrame) -> Log:
        table = rows.select("person", "item", pl.col("rating").cast(pl.Float64), pl.col("time").cast(pl.Int64), "session")
        table = table.sort("person", "time", maintain_order=True)
        scale = self.train.rating_scale
        if scale is None or table["rating"].null_count() == table.height:
            return Log(table.with_columns(good=pl.lit(None, dtype=pl.Boolean)))
        given = table["rating"].fill_null(scale[0]).to_numpy()
        good = pl.Series(given >= least_positive(scale, self._usual_ratings[table["person"].to_numpy()]))
        as_stars = pl.Series(stars(given, scale).astype(np.float64))
        rated = pl.col("rating").is_not_null()
        return Log(table.with_columns(rating=pl.when(rated).then(as_stars), good=pl.when(rated).then(good)))

    @cached_property
    def _usual_ratings(self) -> np.ndarray:
        """Mean training rating of everybody compared, everybody's where there is none; shape (people,)."""
        own = [self.context.profiles[user].ratings for user in self.people.tolist()]
        overall = float(self.train.interactions["rating"].mean() or 0.0)  # type: ignore[arg-type]
        return np.array([float(np.mean(ratings)) if ratings is not None and len(ratings) else overall for ratings in own])


def _observed(person: pl.Series, values: pl.Series) -> Observed:
    return Observed(person.to_numpy(), values.cast(pl.Float64).to_numpy())

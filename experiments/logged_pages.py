"""The pages of a finished run as another policy would have met them: who asked, with which history, after what was shown.

A run's log and the training part of its data determine both, so nothing of this is stored with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from agents.profiles import fit_profiles
from agents.requests import page_request, page_stream, person_stream
from experiments.analysis.finished_run import FinishedRun
from experiments.config import ExperimentConfig
from experiments.run import take_part
from experiments.run_data import data_of
from experiments.stored_settings import config_of
from simulator.dataset import Dataset
from simulator.errors import RunError
from simulator.records import PageRequest, UserProfile
from simulator.seeds import Stream
from simulator.tables import IMPRESSIONS

KEY = ("user", "session", "page", "position")
"""What orders the log for each person in time: a person's sessions are counted over all rounds."""


@dataclass(frozen=True, eq=False)
class LoggedPages:
    """The log of a run as arrays: n impressions in order of person, session, page and place, on P pages.

    Attributes:
        run: the run. config: its configuration. train: the training part that its people and recommenders come from.
        impressions: the impressions in this order.
        page: number of the page of each impression, from 0, ascending, shape (n,). place: from 0, shape (n,).
        items: item codes, shape (n,). people: number of the person of each impression, from 0, shape (n,).
        requests: what was asked of the recommender, one per page.
        rounds: the round of each page, shape (P,). fitted_rounds: which round's recommender filled it, shape (P,).
    """

    run: FinishedRun
    config: ExperimentConfig
    train: Dataset
    impressions: pl.DataFrame
    page: np.ndarray
    place: np.ndarray
    items: np.ndarray
    people: np.ndarray
    requests: tuple[PageRequest, ...]
    rounds: np.ndarray
    fitted_rounds: np.ndarray

    @cached_property
    def shown(self) -> np.ndarray:
        """Item codes by page and place, -1 behind the last, int64, shape (P, largest page)."""
        table = np.full((len(self.requests), int(self.place.max(initial=-1)) + 1), -1, dtype=np.int64)
        table[self.page, self.place] = self.items
        return table

    def check(self) -> None:
        """Checks that the impressions are those that the run was finished with.

        Raises:
            RunError: they are not.
        """
        self.run.directory.check_table(IMPRESSIONS.name, self.impressions.sort(IMPRESSIONS.key))

    @property
    def propensity(self) -> np.ndarray:
        """The logged probability of each item at its place given the items above, shape (n,)."""
        return self.impressions["propensity"].to_numpy()


def read_logged_pages(path: Path) -> LoggedPages:
    """Rebuilds what the recommender of a run was asked.

    What is wrong with a log is told before it is compared with what was written (`LoggedPages.check`): it says more.

    Args:
        path: folder of a complete run.

    Raises:
        RunError: the run is not complete, shows nothing, has no propensities or impossible ones, or its data set is no longer the same.
    """
    run = FinishedRun(path)
    impressions = run.directory.read_table("impressions", check=False)
    _check_propensities(impressions, path / "impressions.parquet")
    config = config_of(run.directory)
    train = data_of(config, run.directory).train
    impressions = impressions.sort(KEY)
    items = _items(impressions, train, path)
    new = (impressions.select(pl.struct("user", "session", "page").rle_id()).to_series()).to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(new, prepend=-1) > 0)
    place = np.arange(len(new)) - starts[new]
    rounds = impressions["round"].to_numpy()[starts].astype(np.int64)
    people = {person.user_id: person for person in take_part(config, train, fit_profiles(train))}
    return LoggedPages(
        run=run,
        config=config,
        train=train,
        impressions=impressions,
        page=new,
        place=place,
        items=items,
        people=impressions.select(pl.col("user").rle_id()).to_series().to_numpy().astype(np.int64),
        requests=_requests(impressions, items, starts, people, config, path),
        rounds=rounds,
        fitted_rounds=fitted_rounds(rounds, config),
    )


def _check_propensities(impressions: pl.DataFrame, file: Path) -> None:
    """Every shown item needs the probability with which it was shown, in (0, 1].

    Raises:
        RunError: one has none, or an impossible one; or nothing was shown.
    """
    if "propensity" not in impressions.columns or impressions["propensity"].null_count():
        raise RunError(
            f"{file} has no propensity for every row, so nothing can be said about another policy; "
            "a log needs the probability with which each item was shown."
        )
    if impressions.is_empty():
        raise RunError(f"the run {file.parent} has shown nothing, so there is nothing to evaluate a policy on.")
    known = impressions["propensity"].cast(pl.Float64)
    wrong = impressions.filter(~(known.is_finite() & (known > 0) & (known <= 1)))
    if wrong.height:
        where = ", ".join(f"{name} {value}" for name, value in zip(KEY, wrong.select(KEY).row(0), strict=True))
        raise RunError(
            f"{file}: {wrong.height:,} of {impressions.height:,} rows have an impossible propensity, the first {wrong['propensity'][0]} "
            f"({where}). An item that was shown had a probability above 0 and at most 1; log that one, or null where nobody knows it."
        )


def fitted_rounds(rounds: np.ndarray, config: ExperimentConfig) -> np.ndarray:
    """The round whose recommender fills the pages of each round: its own, or always the first."""
    return np.zeros_like(rounds) if config.recommender.refit == "never" else rounds


def _items(impressions: pl.DataFrame, train: Dataset, path: Path) -> np.ndarray:
    """Item codes of the impressions."""
    known = train.catalog.items.select("item_id", "item")
    items = impressions.select(pl.col("item").alias("item_id")).join(known, on="item_id", how="left", maintain_order="left")["item"]
    if items.null_count():
        unknown = impressions["item"].filter(items.is_null())[0]
        raise RunError(f"the run {path} shows item '{unknown}', which its data set does not have; a policy fitted on it cannot know it.")
    return items.to_numpy().astype(np.int64)


def _requests(
    impressions: pl.DataFrame,
    items: np.ndarray,
    starts: np.ndarray,
    people: Mapping[str, UserProfile],
    config: ExperimentConfig,
    path: Path,
) -> tuple[PageRequest, ...]:
    """What people asked for at each page, from what they had met and been shown until then (`agents.requests.page_request`)."""
    repeat, history = config.recommender.feed_config().repeat, config.population.history
    names = impressions["user"].gather(starts).to_list()
    session, page = impressions["session"].to_numpy()[starts].tolist(), impressions["page"].to_numpy()[starts].tolist()
    codes = items.astype(np.int32)
    taken = np.flatnonzero(impressions["chosen"].to_numpy())
    taken_before = np.searchsorted(taken, starts)
    run = Stream(config.seed)
    requests, first_of_person, first_of_session = [], 0, 0
    for number, start in enumerate(starts.tolist()):
        if number == 0 or names[number] != names[number - 1]:
            if names[number] not in people:
                raise RunError(f"the run {path} has a person '{names[number]}', whom neither its data set nor its configuration has.")
            person, first_of_person, first_of_session = people[names[number]], start, start
        elif session[number] != session[number - 1]:
            first_of_session = start
        request = page_request(
            person.user,
            page[number],
            training=person.history,
            chosen=codes[taken[np.searchsorted(taken, first_of_person) : taken_before[number]]],
            shown_before=codes[first_of_person:first_of_session],
            shown_here=codes[first_of_session:start],
            history=history,
            repeat=repeat,
            stream=page_stream(person_stream(run, person.user), session[number], page[number]),
        )
        requests.append(request)
    return tuple(requests)

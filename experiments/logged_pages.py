"""The pages of a finished run as another policy would have met them: who asked, with which history, after what was shown.

A run's log and the training part of its data determine both, so nothing of this is stored with the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from agents.profiles import fit_profiles
from agents.synthetic import synthesise
from experiments import build
from experiments import config as configuration
from experiments.analysis.finished_run import FinishedRun
from experiments.config import ExperimentConfig
from simulator.dataset import Dataset
from simulator.errors import RunError
from simulator.records import PageRequest
from simulator.seeds import Stream

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

    @property
    def propensity(self) -> np.ndarray:
        """The logged probability of each item at its place given the items above, shape (n,)."""
        return self.impressions["propensity"].to_numpy()


def read_logged_pages(path: Path) -> LoggedPages:
    """Rebuilds what the recommender of a run was asked.

    Args:
        path: folder of a complete run.

    Raises:
        RunError: the run is not complete, shows nothing, has no propensities, or its data set is no longer the same.
    """
    run = FinishedRun(path)
    impressions = run.impressions
    if "propensity" not in impressions.columns or impressions["propensity"].null_count():
        raise RunError(
            f"{path / 'impressions.parquet'} has no propensity for every row, so nothing can be said about another policy; "
            "a log needs the probability with which each item was shown."
        )
    if impressions.is_empty():
        raise RunError(f"the run {path} has shown nothing, so there is nothing to evaluate a policy on.")
    config = configuration.of_run(run.directory.config_path)
    train = build.data(config).train
    stored = run.manifest.get("data", {}).get("fingerprint")
    if stored != train.fingerprint():
        raise RunError(f"the data of the run {path} has changed since it was made, so its people's histories cannot be rebuilt.")
    impressions = impressions.sort(KEY)
    items, users = _codes(impressions, train, config, path)
    new = (impressions.select(pl.struct("user", "session", "page").rle_id()).to_series()).to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(new, prepend=-1) > 0)
    place = np.arange(len(new)) - starts[new]
    rounds = impressions["round"].to_numpy()[starts].astype(np.int64)
    return LoggedPages(
        run=run,
        config=config,
        train=train,
        impressions=impressions,
        page=new,
        place=place,
        items=items,
        people=impressions.select(pl.col("user").rle_id()).to_series().to_numpy().astype(np.int64),
        requests=_requests(impressions, items, users, starts, _histories(train, config), config),
        rounds=rounds,
        fitted_rounds=fitted_rounds(rounds, config),
    )


def fitted_rounds(rounds: np.ndarray, config: ExperimentConfig) -> np.ndarray:
    """The round whose recommender fills the pages of each round: its own, or always the first."""
    return np.zeros_like(rounds) if config.recommender.refit == "never" else rounds


def _codes(impressions: pl.DataFrame, train: Dataset, config: ExperimentConfig, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Item and user codes of the impressions."""
    known = train.catalog.items.select("item_id", "item")
    items = impressions.select(pl.col("item").alias("item_id")).join(known, on="item_id", how="left", maintain_order="left")["item"]
    if items.null_count():
        unknown = impressions["item"].filter(items.is_null())[0]
        raise RunError(f"the run {path} shows item '{unknown}', which its data set does not have; a policy fitted on it cannot know it.")
    names = pl.DataFrame(
        {
            "user": [*train.users["user_id"].to_list(), *(f"synthetic-{i:04d}" for i in range(config.population.synthetic))],
            "code": np.arange(train.n_users + config.population.synthetic, dtype=np.int32),
        }
    )
    users = impressions.select("user").join(names, on="user", how="left", maintain_order="left")["code"]
    if users.null_count():
        unknown = impressions["user"].filter(users.is_null())[0]
        raise RunError(f"the run {path} has a person '{unknown}', whom neither its data set nor its configuration has.")
    return items.to_numpy().astype(np.int64), users.to_numpy()


def _histories(train: Dataset, config: ExperimentConfig) -> dict[int, np.ndarray]:
    """Training items of each person, oldest first; those of synthetic people are drawn again as in the run."""
    real = train.interactions.group_by("user", maintain_order=True).agg("item")
    histories = {int(user): np.array(items, dtype=np.int32) for user, items in real.iter_rows()}
    if config.population.synthetic:
        stream = Stream(config.seed).child("population", "synthesise")
        for person in synthesise(fit_profiles(train), config.population.synthetic, train, stream):
            histories[person.user] = person.history
    return histories


def _requests(
    impressions: pl.DataFrame,
    items: np.ndarray,
    users: np.ndarray,
    starts: np.ndarray,
    histories: dict[int, np.ndarray],
    config: ExperimentConfig,
) -> tuple[PageRequest, ...]:
    """What `agents.user.UserAgent.request` asked for at each page."""
    repeat = config.recommender.feed_config().repeat
    session, page = impressions["session"].to_numpy()[starts], impressions["page"].to_numpy()[starts]
    chosen = impressions["chosen"].to_numpy()
    codes = items.astype(np.int32)
    taken = np.flatnonzero(chosen)
    taken_before = np.searchsorted(taken, starts)
    seed = Stream(config.seed)
    nothing = np.zeros(0, dtype=np.int32)
    requests, first_of_person, first_of_session, person = [], 0, 0, -1
    for number, start in enumerate(starts.tolist()):
        user = int(users[start])
        if user != person:
            person, first_of_person, first_of_session = user, start, start
        elif session[number] != session[number - 1]:
            first_of_session = start
        since = {"session": first_of_session, "never": first_of_person, "allow": start}[repeat]
        own = taken[np.searchsorted(taken, first_of_person) : taken_before[number]]
        history = np.concatenate([histories.get(user, nothing), codes[own]])
        stream = seed.child("user", user, "session", int(session[number]), "page", int(page[number]), "feed")
        requests.append(PageRequest(user, int(page[number]), history, codes[since:start], stream))
    return tuple(requests)

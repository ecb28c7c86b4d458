"""The situations in which the users of a finished run decided, from its log: what they had met, how tired they were, in which visit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from agents.requests import page_stream, person_stream
from experiments.config import ExperimentConfig
from simulator.dataset import Dataset
from simulator.errors import RunError
from simulator.records import Impression, Page, SessionState, Situation, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

KEY = ("user", "session", "page")


def situations_of(
    run: RunDirectory, config: ExperimentConfig, train: Dataset, users: Mapping[str, UserProfile]
) -> tuple[pl.DataFrame, list[Situation]]:
    """All page turns of a run as its users met them, without memories.

    Args:
        run: complete. config, train: of the run. users: by id.

    Returns:
        The impressions in order of user, session, page and place, and one situation for each page, in the same order.

    Raises:
        RunError: the run has interventions, which the log does not tell in full.
    """
    shown = run.read_table("impressions").sort(*KEY, "position")
    if "treated" in shown.columns:
        raise RunError(f"the run {run.path} has interventions, and its log does not tell what they said; ask new pages instead.")
    codes = {str(item): code for code, item in enumerate(train.catalog.item_ids.tolist())}
    turns = shown.join(run.read_table("pages").select(*KEY, "fatigue"), on=KEY, how="left", maintain_order="left")
    chosen: dict[str, list[int]] = {}
    stars: dict[tuple[str, int], list[float]] = {}
    before: dict[tuple[str, int], tuple[int, int, int]] = {}
    situations = []
    for (user, session, number), page in turns.group_by(KEY, maintain_order=True):
        name, at = str(user), (str(user), int(session))
        _known(name, users, run.path)
        items = [codes[item] for item in page["item"].to_list()]
        taken, time = page["chosen"].to_numpy().astype(bool), int(page["time"][0])
        start, met, picked = before.get(at, (time, 0, 0))
        given = stars.setdefault(at, [])
        person = person_stream(Stream(config.seed), users[name].user)
        history = np.concatenate([users[name].history, np.array(chosen.get(name, []), dtype=np.int32)])
        mean = float(np.mean(given)) if given else None
        state = SessionState(
            int(page["round"][0]),
            at[1],
            time,
            start,
            int(number),
            met,
            picked,
            mean,
            float(page["fatigue"][0]),
            history,
        )
        places = page.select("position", "score", "propensity").fill_null(float("nan")).iter_rows()
        impressions = tuple(Impression(place, item, score, share) for item, (place, score, share) in zip(items, places, strict=True))
        whole = Page(int(number), page["policy"][0], impressions)
        stream = page_stream(person, at[1], int(number))
        situations.append(Situation(users[name], (), whole, state, stream, visit=person.child("session", at[1])))
        before[at] = (start, met + len(items), picked + int(taken.sum()))
        if "rating" in page.columns:
            given += page["rating"].filter(pl.Series(taken)).drop_nulls().to_list()
        chosen.setdefault(name, []).extend(item for item, was in zip(items, taken.tolist(), strict=True) if was)
    return shown, situations


def _known(user: str, users: Mapping[str, UserProfile], run: Path) -> None:
    if user not in users:
        raise RunError(f"the run {run} has a user '{user}', whom neither its data set nor its configuration has.")

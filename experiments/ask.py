"""What simulated users would do with given items: probabilities of choosing and of each rating, and the parts that they are made of.

Whoever knows the truth of a log (having made it, or having asked at random) can hold these probabilities against it.

What is asked, exactly: a user meets a page that holds the given items and no others, in their order, as the first page of a session, not
tired, at the experiment's `choose_rate` (see the decision model), with the history of the training part ("start") or with that and what
they chose in the run ("end"). The visit has no mood: that is the usual visit. With `visits = K` probabilities are means over the moods of
the first K visits that the simulation would draw for this user, and what that changes is the part "visit". A row without a page is a page
of one item. Given page and visit items are chosen independently of each other, as the simulation draws them (`agents.choices`), so that
the joint of a page is a product, and with `visits = K` a mean of K products, in which items do depend on each other.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.special import logit

from agents.addends import MOOD, completed
from agents.profiles import fit_profiles
from agents.requests import person_stream
from agents.synthetic import synthesise
from agents.taste import read_tastes
from experiments import build
from experiments import config as configuration
from experiments.asked_pairs import AskedPage, pages_of
from experiments.config import ExperimentConfig
from experiments.page_joint import chosen_given_number, number_chosen, sets_chosen
from experiments.run import Report, origin, prepare
from experiments.run_data import data_of
from experiments.stored_settings import config_of
from simulator.dataset import Dataset
from simulator.errors import ConfigError, RunError
from simulator.files import write_atomically
from simulator.memory_table import from_frame
from simulator.protocols import DecisionModel
from simulator.records import Action, Impression, MemoryRecord, Page, Past, SessionState, Situation, UserProfile
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

When = Literal["start", "end"]
BATCH = 256
"""Pages that are asked about at once."""

MOST_SETS = 8
"""Items of the largest page of which every set that could be chosen is listed: 256 sets."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the users said.

    Attributes:
        pairs: a row for each asked one, in order: `user`, `item`, `page` and `position`, `choose` (probability), `logit` (its log-odds),
            `rating_<value>` (probability of each value of the data's own scale, if it is chosen), `expected_rating` (of these),
            `expected_if_assigned` (if somebody has to rate it without having chosen it), `part: <name>` (log-odds; they sum to `logit`).
            What the data or the decision model does not have is left out.
        numbers: of each page, `user`, `page`, `number` chosen of it and `probability`.
        given_number: of each page, `user`, `page`, `number`, `item` and `choose`: probability given that so many were chosen.
        sets: of each page of at most `MOST_SETS` items, `user`, `page`, `chosen` (ids) and `probability`.
        about: what was asked of whom, for people to read.
    """

    pairs: pl.DataFrame
    numbers: pl.DataFrame
    given_number: pl.DataFrame
    sets: pl.DataFrame
    about: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Asked:
    """Users who can be asked.

    Attributes:
        config, train, actions, decisions: of the experiment; the decision model is fitted.
        users: by id; with the run's synthetic ones. pasts: what they bring from a run, by id.
        when: as they were before a run, or as it left them. time: when they are asked, simulated seconds.
    """

    config: ExperimentConfig
    train: Dataset
    actions: tuple[Action, ...]
    decisions: DecisionModel
    users: Mapping[str, UserProfile]
    pasts: Mapping[str, Past]
    when: When
    time: int

    def situation(self, asked: AskedPage, visit: int | None = None) -> Situation:
        """A user in front of a page, in no visit or in a numbered one."""
        profile = self.users[asked.user]
        past = self.pasts.get(asked.user, Past())
        page = Page(1, "asked", tuple(Impression(k + 1, int(item), np.nan, np.nan) for k, item in enumerate(asked.items)))
        history = np.concatenate([profile.history, np.array(past.chosen, dtype=np.int32)])
        number, person = visit or 0, person_stream(Stream(self.config.seed), profile.user)
        time = max(self.time, past.last_end or 0)
        state = SessionState(0, number, time, time, 1, 0, 0, None, 0.0, history)
        memory = build.memory(self.config, self.train.catalog)
        memory.restore(past.records)
        shared = person.child("session", number) if visit is not None else None
        stream = Stream(self.config.seed).child("ask", profile.user_id)
        return Situation(profile, tuple(memory.recall(page, time)), page, state, stream, visit=shared)


def ask(target: Path, pairs: pl.DataFrame | Path, *, when: When | None = None, visits: int = 0, report: Report | None = None) -> Answers:
    """Asks the users of a run, or those that an experiment would simulate.

    Args:
        target: folder of a complete run, or an experiment file (whose decision model is fitted first, as for a run).
        pairs: the columns `user` and `item` (ids as in the data), and `page` where rows of a user belong to one page, in their order; or a
            CSV or Parquet file of them.
        when: "start" for users as they were before the run, "end" for users as it left them; None is "end" of a run and "start" of an
            experiment, which has no end.
        visits: over how many visits' moods probabilities are averaged; 0 asks about the usual visit.
        report: told of the progress.

    Raises:
        ConfigError, DataError, RunError: the target or the pairs cannot be used; names the row.
    """
    with opened(target, when, report) as asked:
        pages, order = pages_of(pairs, asked.users, asked.train)
        return answers(asked, pages, order, visits) if pages else _nothing(asked, visits)


@contextmanager
def opened(target: Path, when: When | None = None, report: Report | None = None) -> Iterator[Asked]:
    """The users of a run or an experiment, ready to be asked; arguments and errors as of `ask`."""
    tell: Report = report or (lambda what, done, total, result: None)
    if target.is_dir():
        run = RunDirectory.open(target, complete=True)
        with _of_run(run, config_of(run), when or "end", tell) as asked:
            yield asked
        return
    config = configuration.read(target)
    if when == "end":
        raise ConfigError(f"{target} is an experiment, whose users have not done anything yet; ask a run, or leave out --when end.")
    folder = Path(tempfile.mkdtemp(prefix="usersim-ask-"))
    try:
        run = RunDirectory.create(folder / "run")
        write_atomically(run.config_path, configuration.dump(config, build.resolved(config)))
        prepare(run, config, None, tell)
        with _of_run(run, config, "start", tell) as asked:
            yield asked
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _of_run(run: RunDirectory, config: ExperimentConfig, when: When, tell: Report) -> Iterator[Asked]:
    tell("reading the data", 0, 0, None)
    train = data_of(config, run).train
    profiles = fit_profiles(train)
    if config.population.synthetic:
        stream = Stream(config.seed).child("population").child("synthesise")
        profiles = [*profiles, *synthesise(profiles, config.population.synthetic, train, stream)]
    tastes = read_tastes(run.path / "tastes.json") if (run.path / "tastes.json").exists() else {}
    users = {one.user_id: replace(one, taste=tastes[one.user_id]) if one.user_id in tastes else one for one in profiles}
    tell("waking up the users", 0, 0, None)
    model = build.language_model(config, fixed=build.fixed_inference(config, [run.path]))
    try:
        blueprint = build.Blueprint(config, train.catalog, build.actions(train), train.rating_scale, run.path)
        decisions = build.decisions(config, blueprint.context(model))
        build.restore(decisions, run.path / "decisions")
        start = origin(train, config.population.sessions)
        time = start if when == "start" else start + int(config.rounds * config.round_days * 86_400)
        pasts = {} if when == "start" else _pasts(run, train)
        yield Asked(config, train, blueprint.actions, decisions, users, pasts, when, time)
    finally:
        if model is not None:
            model.close()


def _pasts(run: RunDirectory, train: Dataset) -> dict[str, Past]:
    """What users bring out of a complete run, by id."""
    codes = {str(item): code for code, item in enumerate(train.catalog.item_ids.tolist())}
    chosen = run.read_table("impressions").filter(pl.col("chosen")).sort("user", "session", "page", "position")
    items: dict[str, list[str]] = dict(chosen.group_by("user", maintain_order=True).agg("item").iter_rows())
    records: Mapping[str, Sequence[MemoryRecord]] = from_frame(run.read_table("memories"), codes)
    ends = run.read_table("sessions").group_by("user").agg(pl.len(), pl.col("end").max()).iter_rows()
    return {
        user: Past(
            sessions=sessions,
            last_end=end,
            chosen=tuple(codes[item] for item in items.get(user, ())),
            records=tuple(record for record in records.get(user, ()) if record.forgotten is None),
        )
        for user, sessions, end in ends
    }


def answers(asked: Asked, pages: Sequence[AskedPage], order: np.ndarray, visits: int = 0) -> Answers:
    """What users say about pages.

    Args:
        asked: the users. pages: at least one. order: the row of the answers that each item of all pages goes to, shape (n,).
        visits: as in `ask`.

    Raises:
        RunError: the language model's reply about a page could not be used.
    """
    numbers: Sequence[int | None] = range(visits) if visits else (None,)
    rows, joint = [], []
    for start in range(0, len(pages), max(1, BATCH // len(numbers))):
        here = pages[start : start + max(1, BATCH // len(numbers))]
        situations = [asked.situation(page, number) for page in here for number in numbers]
        said = spoken(asked, situations)
        for place, page in enumerate(here):
            own = said[place * len(numbers) : (place + 1) * len(numbers)]
            rows.append(_rows(asked, page, own))
            joint.append((page, np.stack([one["choose"].to_numpy() for one in own])))
    pairs = pl.concat(rows, how="diagonal")
    parts = [name for name in pairs.columns if name.startswith("part: ")]
    pairs = pairs.with_columns(pl.col(parts).fill_null(0.0))[np.argsort(order)] if parts else pairs[np.argsort(order)]
    return Answers(pairs, *_joints(asked.train, joint), about=_about(asked, visits))


def spoken(asked: Asked, situations: Sequence[Situation]) -> list[pl.DataFrame]:
    """What the decision model says in some situations: of each a table with a row per item of its page.

    Raises:
        RunError: the language model's reply about a page could not be used.
    """
    model: Any = asked.decisions
    explains = hasattr(model, "explained")
    found = model.explained(situations) if explains else [(decision, {}) for decision in model.decide(situations)]
    tables = []
    for situation, (decision, parts) in zip(situations, found, strict=True):
        if decision.status != "ok":
            raise RunError(f"what the language model replied about user '{situation.profile.user_id}' cannot be used: {decision.status}.")
        choose = next(action for action in asked.actions if action.name == "choose")
        chances = decision.outcomes["choose"].probabilities[:, choose.values.index(True)]
        with np.errstate(divide="ignore"):
            odds = logit(chances)
        columns: dict[str, Any] = {"choose": chances}
        whole = completed(parts, odds) if parts else {}
        columns["logit"] = sum(whole.values()) if whole else odds
        columns |= _rated(asked, situation, decision.outcomes.get("rate"))
        tables.append(pl.DataFrame(columns | {f"part: {name}": values for name, values in whole.items()}))
    return tables


def _rated(asked: Asked, situation: Situation, outcome: Any) -> dict[str, np.ndarray]:
    """Columns about ratings; none where the data has no ratings."""
    action = next((one for one in asked.actions if one.name == "rate"), None)
    if action is None or outcome is None:
        return {}
    values = np.array(action.results, dtype=np.float64)
    columns = {f"rating_{value:g}": outcome.probabilities[:, k] for k, value in enumerate(values.tolist())}
    columns["expected_rating"] = outcome.probabilities @ values
    expected, profile = getattr(asked.decisions, "expected_ratings", None), situation.profile
    if expected is not None and getattr(asked.decisions, "raters", None) is not None and profile.ratings is not None:
        columns["expected_if_assigned"] = expected(profile, situation.page.items, assigned=True)
    return columns


def _rows(asked: Asked, page: AskedPage, own: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of one page, means over its visits."""
    names = list(dict.fromkeys(name for table in own for name in table.columns))
    means = {
        name: np.mean([table[name].to_numpy() if name in table else np.zeros(len(page.items)) for table in own], axis=0) for name in names
    }
    if len(own) > 1:
        with np.errstate(divide="ignore"):
            means["logit"] = logit(means["choose"])
        parts = {name: values for name, values in means.items() if name.startswith("part: ")}
        if parts:  # a mean of probabilities has no mood of its own: what moods do to it is what is left
            rest = sum(values for name, values in parts.items() if name != f"part: {MOOD}")
            means[f"part: {MOOD}"] = means["logit"] - rest
    ids = asked.train.catalog.item_ids[page.items].tolist()
    where = {"user": [page.user] * len(ids), "item": ids, "page": [page.page] * len(ids), "position": np.arange(1, len(ids) + 1)}
    return pl.DataFrame(where | means, schema_overrides={"page": pl.String, "position": pl.Int32})


def _joints(train: Dataset, joint: Sequence[tuple[AskedPage, np.ndarray]]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The joint of every page of a name: number chosen, each item given the number, sets."""
    numbers, given, sets = [], [], []
    for page, chances in joint:
        if page.page is None:
            continue
        own, ids = (page.user, page.page), train.catalog.item_ids[page.items].tolist()
        of_number = number_chosen(chances)
        numbers += [(*own, number, chance) for number, chance in enumerate(of_number.tolist())]
        table = chosen_given_number(chances)
        given += [(*own, number, item, table[number, k]) for number in range(1, len(ids)) for k, item in enumerate(ids)]
        if len(ids) <= MOST_SETS:
            sets += [(*own, [ids[k] for k in members], chance) for members, chance in sets_chosen(chances)]
    key = {"user": pl.String, "page": pl.String}
    return (
        pl.DataFrame(numbers, schema={**key, "number": pl.Int32, "probability": pl.Float64}, orient="row"),
        pl.DataFrame(given, schema={**key, "number": pl.Int32, "item": pl.String, "choose": pl.Float64}, orient="row"),
        pl.DataFrame(sets, schema={**key, "chosen": pl.List(pl.String), "probability": pl.Float64}, orient="row"),
    )


def _about(asked: Asked, visits: int) -> dict[str, Any]:
    return {
        "experiment": asked.config.name,
        "data": asked.train.name,
        "decision_model": asked.config.decision.use,
        "choose_rate": getattr(getattr(asked.decisions, "config", None), "choose_rate", None),
        "when": asked.when,
        "visits": visits,
        "assumptions": list(getattr(asked.decisions, "assumptions", ())),
    }


def _nothing(asked: Asked, visits: int) -> Answers:
    empty = pl.DataFrame(schema={"user": pl.String, "item": pl.String, "page": pl.String, "position": pl.Int32, "choose": pl.Float64})
    return Answers(empty, *_joints(asked.train, ()), about=_about(asked, visits))


def ask_again(target: Path, report: Report | None = None) -> pl.DataFrame:
    """Asks the users of a run about every page that they met in it, as they stood in front of it.

    Args:
        target: folder of a complete run, whose decisions do not depend on memories, without interventions.

    Returns:
        The impressions, in order of user, session, page and place, with the columns of `Answers.pairs` behind `logged`, the probability
        that was drawn from.

    Raises:
        RunError: nobody can be asked again, since what was remembered then is not known, or what an intervention did.
    """
    from experiments.logged_situations import situations_of  # noqa: PLC0415 - imports this module's types

    with opened(target, "start", report) as asked:
        if build.reads_memories(asked.config):
            raise RunError(
                f"the users of {target} decide by what they remembered at each page, which the run does not keep; ask new pages."
            )
        run = RunDirectory.open(target, complete=True)
        rows, situations = situations_of(run, asked.config, asked.train, asked.users)
        said = [table for start in range(0, len(situations), BATCH) for table in spoken(asked, situations[start : start + BATCH])]
    found = pl.concat(said, how="diagonal") if said else pl.DataFrame(schema={"choose": pl.Float64})
    with suppress(pl.exceptions.ColumnNotFoundError):
        rows = rows.rename({"chosen_probability": "logged"})
    return pl.concat([rows, found], how="horizontal")

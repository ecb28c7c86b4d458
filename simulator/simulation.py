"""The rounds of a run: fit, simulate the cohorts, join. No language model and no file format is known here.

::

    for each round:
        recommender.fit(log so far)
        cohorts, by a stable hash of the user id
        shards = execution.map(simulate, cohorts)
        join: what people did becomes visible to the next round
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulator.errors import FallbackError, RunError
from simulator.execution import Execution
from simulator.files import reading
from simulator.log import tables_of
from simulator.memory_table import from_frame
from simulator.records import Action, Past, Usage, UserProfile
from simulator.run_directory import RunDirectory
from simulator.tables import IMPRESSIONS, MEMORIES, PAGES, SESSIONS, TEXTS, Table, with_actions

MIN_PAGES_TO_STOP_EARLY = 50
"""In the middle of a round, fewer pages than these never stop a run; at its end any number does."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be simulated.

    Attributes:
        people: everybody, in any order.
        actions: of the experiment. item_ids: the data set's item id of each code.
        rounds, cohort_size: counts, >= 1.
        origin: start of the first round, simulated seconds since 1970 UTC. round_seconds: length of a round.
        refit: whether the recommender is fitted before every round, or only before the first.
        max_fallback_share: the run stops when a larger share of pages had an unusable reply (see `check_replies`).
        interventions: whether the experiment has any, which adds columns to the impressions.
    """

    people: Sequence[UserProfile]
    actions: tuple[Action, ...]
    item_ids: np.ndarray
    rounds: int
    cohort_size: int
    origin: int
    round_seconds: int
    refit: bool
    max_fallback_share: float
    interventions: bool = False


@dataclass(frozen=True, slots=True)
class CohortTask:
    """One cohort in one round: the unit of work, of recovery and of determinism."""

    round: int
    fitted_round: int
    cohort: int
    people: tuple[UserProfile, ...]
    pasts: tuple[Past, ...]
    start: int
    end: int
    origin: int


@dataclass(frozen=True, slots=True)
class CohortResult:
    """What a worker says about a finished cohort; stored with its shard as ``result.json``.

    Attributes:
        people: ids of those who took part, whether they came or not; empty in shards of older versions.
        pages, impressions, interactions: counts.
        fallbacks: "status: reply" of unusable replies -> how often.
        repairs: what had to be repaired in the recommender's answers -> how often.
        usage: work of the language model. model_seconds: in its calls. seconds: wall time. peak_memory: bytes, of the process so far.
    """

    round: int
    cohort: int
    pages: int
    impressions: int
    interactions: int
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    repairs: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    model_seconds: float = 0.0
    peak_memory: int = 0
    people: tuple[str, ...] = ()


def cohorts_of(people: Iterable[UserProfile], size: int) -> list[tuple[UserProfile, ...]]:
    """People in groups of at most `size`, by a stable hash of their id; the order they come in does not matter."""
    ranked = sorted(people, key=lambda person: hashlib.blake2b(person.user_id.encode(), digest_size=8).digest())
    return [tuple(ranked[start : start + size]) for start in range(0, len(ranked), size)]


def simulate(
    plan: Plan,
    run: RunDirectory,
    fit: Callable[[int, pl.DataFrame], None],
    execution: Execution,
    on_progress: Callable[[str, int, int, CohortResult | None], None],
) -> dict[str, Any]:
    """Simulates all rounds that are not on disk yet and joins the tables.

    Args:
        plan: what is to be simulated.
        run: where; shards that exist are kept.
        fit: fits the recommender of a round on the simulated interactions so far (columns user and item as codes,
            rating, timestamp) and saves it, unless it is there already.
        execution: runs `CohortTask` and returns `CohortResult`; writes the shard before it returns.
        on_progress: called with (what, done, total, result) after every cohort and before every fit.

    Returns:
        counts and hashes for ``summary.json``.

    Raises:
        FallbackError: too many replies could not be used; finished shards stay.
        RunError: somebody is missing from the shards of a round, or in two of them.
    """
    cohorts = cohorts_of(plan.people, plan.cohort_size)
    everything = range(len(cohorts))
    total = plan.rounds * len(cohorts)
    pasts: dict[str, Past] = {}
    interactions = pl.DataFrame(schema={"user": pl.Int32(), "item": pl.Int32(), "rating": pl.Float32(), "timestamp": pl.Int64()})
    results: list[CohortResult] = []
    for round_number in range(plan.rounds):
        fitted_round = round_number if plan.refit else 0
        if fitted_round == round_number:
            on_progress(f"round {round_number + 1}: fitting the recommender", len(results), total, None)
            fit(round_number, interactions)
        start = plan.origin + round_number * plan.round_seconds
        pending = []
        for number in everything:
            if run.has_shard(round_number, number):
                results.append(_read_result(run, round_number, number))
                continue
            people = cohorts[number]
            past = tuple(pasts.get(person.user_id, Past()) for person in people)
            pending.append(CohortTask(round_number, fitted_round, number, people, past, start, start + plan.round_seconds, plan.origin))
        check_replies(results, plan.max_fallback_share, run.path, whole=not pending)
        on_progress(f"round {round_number + 1}: people browse", len(results), total, None)
        for result in execution.map(pending):
            results.append(result)
            check_replies(results, plan.max_fallback_share, run.path, whole=False)
            on_progress(f"round {round_number + 1}: people browse", len(results), total, result)
        check_replies(results, plan.max_fallback_share, run.path, whole=True)
        check_people(run, round_number, [result for result in results if result.round == round_number], cohorts)
        pasts, simulated = join_round(plan, run, round_number, everything, pasts)
        interactions = pl.concat([interactions, simulated])
    return _summary(plan, run, everything, results)


def write_shard(run: RunDirectory, result: CohortResult, tables: Mapping[str, pl.DataFrame]) -> None:
    """Writes the tables of a cohort and its result; they appear together."""
    folder = run.shard_folder(result.round, result.cohort)
    with run.new_folder(*folder.relative_to(run.path).parts) as temporary:
        for name, frame in tables.items():
            frame.write_parquet(temporary / f"{name}.parquet")
        (temporary / "result.json").write_text(json.dumps(asdict(result)), encoding="utf-8")


def _read_result(run: RunDirectory, round_number: int, cohort: int) -> CohortResult:
    stored = run.read_result(round_number, cohort)
    with reading(run.shard_folder(round_number, cohort), "remove it, and it is simulated again"):
        return CohortResult(**{**stored, "usage": Usage(**stored["usage"]), "people": tuple(stored.get("people", ()))})


def check_replies(results: Sequence[CohortResult], most: float, run: Path, *, whole: bool) -> None:
    """Checks the limit of unusable replies over all shards so far, those of earlier starts as well.

    What counts are pages, each once, whatever the number of actions that its reply was about. At the end of a round the share must not
    exceed the limit, however few pages there are. In the middle of a round it stops the run early only where chance does not explain it:
    with 50 pages or more, by more than three standard errors of a share that is just allowed.

    Args:
        results: of all shards so far. most: the largest share allowed, in [0, 1]. run: its folder. whole: whether the round is over.

    Raises:
        FallbackError: there are too many.
    """
    pages = sum(result.pages for result in results)
    bad: Counter[str] = Counter()
    for result in results:
        bad.update(result.fallbacks)
    spare = 0.0 if whole else 3.0 * (most * (1.0 - most) * pages) ** 0.5
    if bad.total() <= most * pages + spare or (not whole and pages < MIN_PAGES_TO_STOP_EARLY):
        return
    common = "; ".join(f"{count} x {reply}" for reply, count in bad.most_common(3))
    share = bad.total() / pages
    enough = min(1.0, math.ceil(100 * (share + 3.0 * (share * (1.0 - share) / pages) ** 0.5)) / 100)  # the rest may have more by chance
    raise FallbackError(
        f"{bad.total()} of {pages} pages had a reply that could not be used, more than decision.max_fallback_share = {most}; "
        f"the commonest: {common}. Nothing is lost: `usersim resume {run} --set decision.max_fallback_share={enough}` goes on with a "
        "higher limit, which the run then records; for another model start another run."
    )


def check_people(run: RunDirectory, round_number: int, results: Sequence[CohortResult], cohorts: Sequence[Sequence[UserProfile]]) -> None:
    """Checks that everybody is in exactly one shard of a round, and in the one that their cohort has.

    Args:
        run: where the shards are. round_number: from 0. results: of the round's shards.
        cohorts: the people of each cohort.

    Raises:
        RunError: somebody is in no shard, in two, or in one without having been asked; names person and shard.
    """
    where: dict[str, Path] = {}
    for result in sorted(results, key=lambda result: result.cohort):
        folder = run.shard_folder(round_number, result.cohort)
        expected = [person.user_id for person in cohorts[result.cohort]]
        rows = run.users_of_shard(round_number, result.cohort)
        for user in sorted(rows.union(result.people or expected)):
            if user in where:
                raise RunError(f"person '{user}' is twice in round {round_number}: in {where[user]} and in {folder}; {_anew(folder)}")
            where[user] = folder
        for user in expected:
            if user not in where:
                raise RunError(f"person '{user}' is missing in {folder}; {_anew(folder)}")
        strangers = sorted(rows.union(result.people).difference(expected))
        if strangers:
            raise RunError(f"{folder} has person '{strangers[0]}', who does not belong to its cohort; {_anew(folder)}")


def _anew(folder: Path) -> str:
    return f"remove {folder}, and `usersim resume` simulates it anew."


def _repairs(results: Iterable[CohortResult], rounds: int) -> list[dict[str, int]]:
    """What had to be repaired in each round -> how often, by kind; the order of the results does not matter."""
    counts: list[Counter[str]] = [Counter() for _ in range(rounds)]
    for result in results:
        counts[result.round].update(result.repairs)
    return [dict(sorted(count.items())) for count in counts]


def join_round(
    plan: Plan, run: RunDirectory, round_number: int, cohorts: Sequence[int], pasts: Mapping[str, Past]
) -> tuple[dict[str, Past], pl.DataFrame]:
    """What everybody brings into the next round, and the round's interactions with codes.

    Args:
        plan: whose people and items. run: where the shards of the round are. round_number: from 0.
        cohorts: numbers of the cohorts that took part.
        pasts: what people brought into the round, by the data set's id; nothing where one is missing.

    Returns:
        Data set's id of each person -> past; and the columns user and item as codes, rating, timestamp, one row per chosen item.
    """
    codes = pl.DataFrame({"item": plan.item_ids.astype(str), "item_code": np.arange(len(plan.item_ids), dtype=np.int32)})
    people = pl.DataFrame(
        {"user": [person.user_id for person in plan.people], "user_code": [person.user for person in plan.people]},
        schema={"user": pl.String, "user_code": pl.Int32},
    )
    shown = run.read_round(with_actions(IMPRESSIONS, plan.actions, interventions=plan.interventions), round_number, cohorts)
    shown = shown.join(codes, on="item", how="left", maintain_order="left").join(people, on="user", how="left", maintain_order="left")
    sessions = run.read_round(with_actions(SESSIONS, plan.actions), round_number, cohorts)
    records = from_frame(run.read_round(MEMORIES, round_number, cohorts), {str(item): code for code, item in enumerate(plan.item_ids)})
    items_shown = dict(shown.group_by("user", maintain_order=True).agg("item_code").iter_rows())
    chosen = shown.filter(pl.col("chosen"))
    items_chosen = dict(chosen.group_by("user", maintain_order=True).agg("item_code").iter_rows())
    ends = {user: (count, end) for user, count, end in sessions.group_by("user").agg(pl.len(), pl.col("end").max()).iter_rows()}
    after = {}
    for person in plan.people:
        user = person.user_id
        past = pasts.get(user, Past())
        count, end = ends.get(user, (0, past.last_end))
        after[user] = Past(
            past.sessions + count,
            end,
            (*past.chosen, *items_chosen.get(user, ())),
            (*past.shown, *items_shown.get(user, ())),
            tuple(record for record in records.get(user, ()) if record.forgotten is None),
            max([past.remembered, *(record.record + 1 for record in records.get(user, ()))]),
        )
    return after, interactions_of(chosen)


def interactions_of(shown: pl.DataFrame) -> pl.DataFrame:
    """What people did, as a recommender learns it: the columns user and item as codes, rating, timestamp, one row per chosen item.

    Args:
        shown: impressions in the order of their key, with the columns user_code and item_code.
    """
    chosen = shown.filter(pl.col("chosen"))
    rating = pl.col("rating").cast(pl.Float32) if "rating" in chosen.columns else pl.lit(None, dtype=pl.Float32).alias("rating")
    return chosen.select(pl.col("user_code").alias("user"), pl.col("item_code").alias("item"), rating, pl.col("time").alias("timestamp"))


def joined(run: RunDirectory, table: Table, rounds: int, cohorts: Sequence[int], tastes: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    """A table of the whole run from its shards, sorted by its key.

    Args:
        run: where the shards are. table: which. rounds: how many there are. cohorts: numbers of the cohorts.
        tastes: the data set's id of each person who has one -> the paragraph, and how it came about.

    Raises:
        RunError: a shard is missing or damaged.
    """
    if table.name == MEMORIES.name:
        return _memories(run, rounds, cohorts)
    parts = [run.read_round(table, number, cohorts) for number in range(rounds)]
    if table.name == TEXTS.name:
        of_run = {"round": 0, "session": -1, "kind": "taste", "rejected": "", "items": []}
        told = [{**of_run, "user": user, "text": taste, "status": status or "ok"} for user, (taste, status) in tastes.items()]
        parts.append(pl.DataFrame(told, schema=table.schema()))
    return pl.concat(parts).sort(table.key)


def _memories(run: RunDirectory, rounds: int, cohorts: Sequence[int]) -> pl.DataFrame:
    """Every record of everybody in its last state: what is held carries over from round to round, what was forgotten stays where it was."""
    last = rounds - 1
    frames = [run.read_round(MEMORIES, number, cohorts) for number in range(rounds)]
    gone = [frame.filter(pl.col("forgotten").is_not_null()) for frame in frames[:last]]
    return pl.concat([*gone, frames[last]]).unique(MEMORIES.key, keep="last", maintain_order=True).sort(MEMORIES.key)


def _summary(plan: Plan, run: RunDirectory, cohorts: Sequence[int], results: Sequence[CohortResult]) -> dict[str, Any]:
    tastes = {person.user_id: (person.taste, person.taste_status) for person in plan.people if person.taste}
    hashes, frames = {}, {}
    for table in tables_of(plan.actions, interventions=plan.interventions):
        frames[table.name] = joined(run, table, plan.rounds, cohorts, tastes)
        hashes[table.name] = run.write_table(table, frames[table.name])
    impressions, pages, sessions = frames[IMPRESSIONS.name], frames[PAGES.name], frames[SESSIONS.name]
    bad = pages.filter(pl.col("status") != "ok").height
    return {
        "people": len(plan.people),
        "rounds": plan.rounds,
        "sessions": sessions.height,
        "pages": pages.height,
        "impressions": impressions.height,
        "interactions": int(impressions["chosen"].sum()),
        "ratings": int(impressions["rating"].count()) if "rating" in impressions.columns else 0,
        "memories": frames[MEMORIES.name].height,
        "memories_dropped": int((pages["memories"] - pages["memories_told"]).sum()),
        **_texts(frames[TEXTS.name]),
        **_compared(pages),
        "model_seconds": round(sum(result.model_seconds for result in results), 3),
        "cohort_seconds": round(sum(result.seconds for result in results), 3),
        "tokens": {
            name: sum(getattr(result.usage, name) for result in results)
            for name in ("prompt_tokens", "computed_tokens", "generated_tokens", "calls")
        },
        "fallback_share": bad / pages.height if pages.height else 0.0,
        "session_failures": _failures(sessions),
        "repairs": _repairs(results, plan.rounds),
        "peak_memory_gb": round(max((result.peak_memory for result in results), default=0) / 2**30, 3),
        "sha256": hashes,
    }


def _texts(texts: pl.DataFrame) -> dict[str, Any]:
    """How many texts the language model wrote whole and true, what was against the others, how many were made from facts unasked."""
    checked = texts.filter(~_thought() & (pl.col("status") != "facts"))
    whole = checked.filter(pl.col("status") == "ok").height
    return {
        "texts": texts.filter(pl.col("status") == "ok").height,
        "texts_from_facts": texts.filter((pl.col("status") != "ok") & (pl.col("text") != "") & ~_thought()).height,
        "texts_passed_share": whole / checked.height if checked.height else None,
        "text_failures": _failures(texts.filter(pl.col("status") != "facts")),
    }


def _compared(pages: pl.DataFrame) -> dict[str, Any]:
    """On how many items and leavings the language model's answers made a difference to what was drawn, and of how many; null unasked."""
    compared = pages.filter(pl.col("unlike_without_model").is_not_null())
    decisions = int(compared["shown"].sum()) + compared.height
    changed = int(compared["unlike_without_model"].sum())
    return {"decisions_compared": decisions, "decisions_changed_share": changed / decisions if decisions else None}


def _thought() -> pl.Expr:
    return pl.col("kind").str.starts_with("thought")


def _failures(table: pl.DataFrame) -> dict[str, int]:
    """How often each status but "ok" stands in a table."""
    return dict(table.filter(pl.col("status") != "ok").group_by("status").len().sort("status").iter_rows())

"""What `report.html` says about the people, the recommender and the cost of a run, as rows of text.

Every function takes a `FinishedRun`; a table that the data does not allow is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import polars as pl

from experiments.analysis import metrics
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.key_numbers import number
from experiments.model_effect import text_words
from experiments.trait_sentences import LEVELS
from simulator.llm.limits import spent_in
from simulator.records import Usage
from simulator.seeds import Stream

MOST_SHOWN = 10
"""Items in the table of those that were shown most."""

OF_THE_FEED = ("page_size", "max_pages", "exploration", "epsilon", "temperature", "candidates", "repeat", "refit", "use")
"""Keys of [recommender] that are not the recommender's own."""

Rows = list[tuple[str, ...]]


def setting(run: FinishedRun) -> Rows:
    """What was run, in pairs of what and which: data, people, what decides, what recommends, how long."""
    config, data = run.config, run.manifest.get("data", {})
    decision, recommender = config.get("decision", {}), config.get("recommender", {})
    model = run.manifest.get("model") or {}
    split = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in (run.manifest.get("split") or {}).items() if value)
    size = ", ".join(f"{data[key]:,} {key.replace('_', ' ')}" for key in ("users", "items", "training_interactions") if key in data)
    pages = f"pages of {recommender['page_size']} {run.domain.items}" if "page_size" in recommender else ""
    most = f"at most {recommender['max_pages']} in a session" if "max_pages" in recommender else ""
    rows: Rows = [
        ("Data", f"{run.data_name}: {size}"),
        ("Split", split),
        ("Decided by", decision.get("use", "")),
        ("Language model", model.get("name", "none")),
        ("Remembered with", config.get("memory", {}).get("use", "")),
        ("Recommended by", recommender.get("use", "")),
        ("Shown", ", ".join(part for part in (pages, most) if part)),
        ("Rounds", str(run.sessions["round"].n_unique())),
        ("Seed", str(run.seed)),
    ]
    return [row for row in rows if row[1]]


def crowd(run: FinishedRun) -> Rows:
    """Who the people are, in pairs: number, age, gender, occupation, activity in the training data."""
    people = run.people
    synthetic = int(people["synthetic"].sum())
    rows: Rows = [("People", f"{people.height:,}" + (f", {synthetic:,} of them synthetic" if synthetic else ""))]
    ages = people["age"].drop_nulls()
    if ages.len():
        low, middle, high = (float(ages.quantile(part) or 0) for part in (0.1, 0.5, 0.9))
        rows.append(("Age", f"median {middle:.0f}, middle 80 % from {low:.0f} to {high:.0f} years"))
    for name in ("gender", "occupation"):
        counts = people[name].drop_nulls().value_counts(sort=True).sort(["count", name], descending=[True, False])
        if counts.height:
            told = [f"{value} {count / people.height:.0%}" for value, count in counts.head(5).iter_rows()]
            rows.append((name.capitalize(), ", ".join(told) + (f" and {counts.height - 5} more" if counts.height > 5 else "")))
    real = people.filter(~pl.col("synthetic"))["interactions"]
    if real.len():
        low, middle, high = (float(real.quantile(part) or 0) for part in (0.1, 0.5, 0.9))
        rows.append(("Interactions in the training data", f"median {middle:,.0f}, middle 80 % from {low:,.0f} to {high:,.0f}"))
    return rows


def traits(run: FinishedRun) -> Rows:
    """Per trait: what it is held against, the mean of low, medium and high people with their number, and the rank correlation."""
    rows: Rows = []
    stream = Stream(run.seed).child("report", "traits")
    for trait, unit in metrics.TRAIT_BEHAVIOUR.items():
        if run.people[f"{trait}_level"].null_count() == run.people.height:
            continue
        did = metrics.behaviour(trait, run.chosen, run.sessions, run.items)
        levels = {row["level"]: row for row in metrics.behaviour_by_level(trait, run.people, did, stream).iter_rows(named=True)}
        cells = [f"{levels[level]['mean']:.2f} ({levels[level]['people']})" if level in levels else "–" for level in LEVELS]
        rows.append((trait, unit, *cells, number(metrics.trait_correlation(trait, run.people, did))))
    return rows


def rounds(run: FinishedRun) -> tuple[list[str], Rows]:
    """What each round's recommender showed and how it was received: the headings and a row per round, counted from 1."""
    headings = ["Round", "Shown", f"Share {run.domain.chosen}", "Catalog shown", "Gini of exposure", "Popularity shown"]
    headings += ["Mean rating"] * run.has_ratings + ["Satisfaction"] * ("satisfaction" in run.sessions.columns) + ["Repaired"]
    repairs = run.summary.get("repairs") or []
    rows: Rows = []
    for (value,), shown in run.impressions.sort("round").group_by("round", maintain_order=True):
        at = int(str(value))
        sessions, stream = run.sessions.filter(pl.col("round") == at), Stream(run.seed).child("report", "round", at)
        fixed = repairs[at] if at < len(repairs) else {}
        row = [
            str(at + 1),
            f"{shown.height:,}",
            number(metrics.watch_rate(shown, stream).value, percent=True),
            number(metrics.coverage(shown, run.items), percent=True),
            number(metrics.gini(metrics.item_counts(shown, run.items))),
            number(metrics.average_popularity(shown, run.items, stream).value, percent=True),
        ]
        if run.has_ratings:
            row.append(number(metrics.mean_rating(shown, stream).value))
        if "satisfaction" in run.sessions.columns:
            row.append(number(metrics.satisfaction(sessions, stream).value))
        rows.append((*row, ", ".join(f"{kind} {count:,}" for kind, count in fixed.items()) or "nothing"))
    return headings, rows


def most_shown(run: FinishedRun) -> Rows:
    """The items that were shown most: title, times shown, share taken, interactions in the training data."""
    counts = run.impressions.group_by("item").agg(shown=pl.len(), chosen=pl.col("chosen").sum())
    table = counts.sort("shown", "item", descending=[True, False]).head(MOST_SHOWN)
    table = table.join(run.items.select("item", "title", "train_count"), on="item", how="left", maintain_order="left")
    return [
        (title or f"item {item}", f"{shown:,}", f"{chosen / shown:.0%}", f"{known or 0:,}")
        for item, title, shown, chosen, known in table.select("item", "title", "shown", "chosen", "train_count").iter_rows()
    ]


def recommender(run: FinishedRun) -> Rows:
    """How pages were filled, in pairs: class, its options, exposure, refits, the policy's id in the log."""
    section = run.config.get("recommender", {})
    own = ", ".join(f"{key} = {value}" for key, value in section.items() if key not in OF_THE_FEED)
    exploration = section.get("exploration", "")
    strength = {"epsilon": "epsilon", "plackett-luce": "temperature"}.get(exploration)
    explores = f"{exploration}, {strength} = {section.get(strength)}" if strength else exploration
    refit = {"scratch": "before every round, from nothing", "warm": "before every round, from what it knew", "never": "once"}
    rows: Rows = [
        ("Recommender", section.get("use", "")),
        ("Its options", own),
        ("Exploration", explores),
        ("Fitted", refit.get(section.get("refit", ""), "")),
        ("Policy in the log", str(run.manifest.get("policy") or "")),
    ]
    return [row for row in rows if row[1]]


def cost(run: FinishedRun) -> Rows:
    """What the run cost, in pairs: seconds, tokens, money where a ledger says so, memory, texts that failed."""
    summary = run.summary
    rows: Rows = []
    if "seconds" in summary:
        inside = f", of which {summary['simulation_seconds']:,.0f} s simulation" if "simulation_seconds" in summary else ""
        rows.append(("Time", f"{summary['seconds']:,.0f} s{inside}"))
    if "pages_per_second" in summary:
        workers = f" with {summary['workers']} worker{'s' * (summary['workers'] != 1)}" if "workers" in summary else ""
        rows.append(("Speed", f"{summary['pages_per_second']:.2f} pages per second{workers}"))
    rows += _tokens(summary.get("tokens"), run.pages.height)
    spent = spent_in(run.path / "ledger.sqlite")
    if spent is not None and spent.requests:
        guessed = f", tokens of {spent.estimated:,} estimated" if spent.estimated else ""
        lost = f"; {spent.lost:,} more were never answered and are not in it" if spent.lost else ""
        rows.append(
            (
                "Money",
                f"{spent.money:,.4f} in the currency of the configured prices, for {spent.requests:,} answered requests{guessed} "
                f"({spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens){lost}",
            )
        )
    elif run.manifest.get("model"):
        rows.append(("Money", "none: no requests to a paid server are in the books"))
    did = summary.get("language_model")
    if isinstance(did, Mapping):
        rows.append(("What the language model did", _sentence(str(did.get("said", "")))))
    if words := text_words(summary):
        rows.append(("Texts", _sentence(words)))
    if summary.get("text_failures"):
        rows.append(("Texts of the language model that failed", failed_texts(summary)))
    if summary.get("peak_memory_gb"):
        rows.append(("Largest memory of one process", f"{summary['peak_memory_gb']:.2f} GB"))
    return rows


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def failed_texts(summary: Mapping[str, Any]) -> str:
    """How many texts of the language model are not shown, by what was against them; of a run's summary."""
    words = {"length": "cut at the limit of length"}
    failed = ", ".join(f"{count:,} {words.get(status, status)}" for status, count in summary["text_failures"].items())
    return f"{failed}; {summary.get('texts', 0):,} came out whole and true"


def cost_by_round(run: FinishedRun) -> Rows:
    """Per round, from 1: cohorts, pages, seconds of all workers, tokens in prompts, computed, generated; from the shards' results."""
    names = [field.name for field in fields(Usage)]
    rows: Rows = []
    for folder in sorted((run.path / "rounds").glob("[0-9]*")):
        shards = [cohort for cohort in sorted(folder.glob("cohort-*")) if cohort.name.removeprefix("cohort-").isdigit()]
        found = [run.directory.read_result(int(folder.name), int(cohort.name.removeprefix("cohort-"))) for cohort in shards]
        if found:
            usage = {name: sum(one["usage"].get(name, 0) for one in found) for name in names}
            seconds, pages = sum(one["seconds"] for one in found), sum(one["pages"] for one in found)
            counts = (f"{usage[name]:,}" for name in ("prompt_tokens", "computed_tokens", "generated_tokens"))
            rows.append((str(int(folder.name) + 1), str(len(found)), f"{pages:,}", f"{seconds:,.1f} s", *counts))
    return rows


def _tokens(tokens: Any, pages: int) -> Rows:
    if not isinstance(tokens, Mapping) or not tokens.get("prompt_tokens"):
        return [("Tokens", "none: no language model was asked")]
    prompts, computed, generated = tokens["prompt_tokens"], tokens["computed_tokens"], tokens["generated_tokens"]
    rows: Rows = [
        ("Tokens in prompts", f"{prompts:,}, of which {computed:,} ({computed / prompts:.0%}) had to be computed"),
        ("Tokens generated", f"{generated:,}"),
    ]
    if pages:
        rows.append(("Tokens per page", f"{computed / pages:,.0f} computed, {generated / pages:,.1f} generated"))
    return rows

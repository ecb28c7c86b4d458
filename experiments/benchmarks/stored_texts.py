"""Figures of the checker of texts: planted faults on made up visits of real people, and the stored texts of a run against its log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from agents.choices import close
from agents.decisions import made_up_visit, reference_situations
from agents.facts import Facts
from agents.priors import PriorConfig, Priors
from agents.profiles import fit_profiles
from agents.text_check import check
from experiments import build
from experiments import config as configuration
from experiments.benchmarks import planted_texts
from experiments.run_data import data_of
from experiments.stored_settings import config_of
from simulator.records import Met
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

VISITS, PAGE, STORED = 150, 8, 200


def planted(config: Path, overrides: Sequence[str], seed: int) -> dict[str, Any]:
    """See `planted_texts.measure`; visits are of random people of an experiment's data, with items that were drawn by popularity."""
    experiment = configuration.read(config, overrides)
    train = build.data(experiment).train
    profiles, actions, stream = fit_profiles(train), build.actions(train), Stream(seed).child("planted texts")
    visits = [made_up_visit(page, actions) for page in reference_situations(train, profiles, PAGE, VISITS, stream)]
    priors = Priors(PriorConfig(), actions, profiles, 1)
    ends = [action for action in actions if action.scope == "session"]
    drawn = {action.name: priors.of(action, profiles[0])[None, :] for action in ends}
    closed = [(visit, close(actions, visit, drawn)) for visit in visits]
    return planted_texts.measure(closed, train.catalog, train.rating_scale, seed)


def of_run(path: Path, seed: int) -> dict[str, Any]:
    """The texts that a run shows, checked anew against what its log says of the visit.

    Returns:
        Of at most `STORED` texts ``texts_checked``, ``texts_users``, ``texts_false_share``, ``texts_false`` (examples) and
        ``texts_passed_share``.
    """
    run = RunDirectory.open(path, complete=True)
    train = data_of(config_of(run), run).train
    profiles = {profile.user_id: profile for profile in fit_profiles(train)}
    codes = {str(item): code for code, item in enumerate(train.catalog.item_ids)}
    shown, sessions, texts = (run.read_table(name) for name in ("impressions", "sessions", "texts"))
    told = texts.filter(pl.col("kind").is_in(["reason", "insight"]) & (pl.col("text") != "") & pl.col("user").is_in(list(profiles)))
    told = told.sample(min(STORED, told.height), seed=seed)
    false = []
    for row in told.iter_rows(named=True):
        mine = (pl.col("user") == row["user"]) & (pl.col("session") == row["session"])
        visit = shown.filter(mine).sort("page", "position")
        met = tuple(Met(codes[one["item"]], one["chosen"], one.get("rating")) for one in visit.iter_rows(named=True))
        end, profile = sessions.filter(mine).row(0, named=True), profiles[row["user"]]
        fatigue = 1.0 - math.exp(-len(met) / max(10.0, profile.rhythm.items_per_session))
        facts = Facts(train.catalog, profile, train.rating_scale, met, end["pages"], end.get("satisfaction"), fatigue)
        verdict = check(row["text"], facts)
        if not verdict.passed:
            false.append({"text": row["text"], "reason": verdict.reason})
    return {
        "texts_checked": told.height,
        "texts_users": told["user"].n_unique(),
        "texts_false_share": len(false) / told.height if told.height else None,
        "texts_false": false[:5],
        "texts_passed_share": run.read_json("summary").get("texts_passed_share"),
    }

"""Every decision model asked once about the candidates of held-out and of validation people; kept as Parquet.

What a model says about an item is read on a page of the experiment's size, among other candidates in shuffled order, and
through the seam that the simulation uses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from agents.exposures import hide, items_by_user
from agents.profiles import fit_profiles
from experiments import build
from experiments.config import ExperimentConfig
from experiments.fidelity.candidates import nested_candidates
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.pages import BATCH, ask, first_pages
from experiments.fidelity.storage import read_frame, read_part, write_part
from experiments.ingredients import ingredients
from simulator.dataset import Dataset
from simulator.files import write_table
from simulator.llm import adapters
from simulator.protocols import DecisionModel
from simulator.records import Situation, UserProfile

HELD_OUT, VALIDATION = "held_out", "validation"
FEWEST_VALIDATION = 50
"""Thresholds are set on a third as many people as are judged, and on at least so many."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Pages of candidates, and the rows that they show.

    Attributes:
        rows: `candidates.SCHEMA` and ``position`` (place on the page, from 1), in the order of the pages.
        situations: the pages.
        train, profiles: what a model that is asked may have seen; profiles in order of user code.
    """

    rows: pl.DataFrame
    situations: Sequence[Situation]
    train: Dataset
    profiles: Sequence[UserProfile]


def settings(context: FidelityContext) -> dict[str, Any]:
    """Everything that scores and figures depend on, as JSON; a stored result with other settings is not used."""
    return {
        **_ingredients(context),
        "adapter": adapter_sha256(context.config),
        "page_size": context.question_size,
        "stream": [context.stream.seed, *context.stream.path],
        "people": [int(code) for code in context.people],
    }


def scored(context: FidelityContext, name: str, role: str) -> pl.DataFrame:
    """What a model says about the candidates of the held-out or the validation people.

    Args:
        context: of the report. name: of the decision model. role: `HELD_OUT` or `VALIDATION`.

    Returns:
        `Asked.rows` with ``choose`` (probability, NaN where the reply was unusable) and, for data with ratings,
        ``rate_0`` ... (probability of each rating value, ascending).
    """
    part, file = f"scores-{role}-{name}", context.parts / f"scores-{role}-{name}.parquet"
    if read_part(context.parts, part, settings(context)) is not None and (kept := read_frame(file)) is not None:
        return kept
    asked = held_out_pages(context) if role == HELD_OUT else validation_pages(context)
    model = context.models[name] if role == HELD_OUT else context.models.refitted(name, asked.train, asked.profiles)
    frame, unusable = answered(context, model, asked, f"{name}: {role.replace('_', '-')} people")
    write_table(file, frame)
    write_part(context.parts, part, settings(context), {"pages": len(asked.situations), "unusable_pages": unusable})
    return frame


def unusable_pages(context: FidelityContext, name: str) -> int:
    """Pages of held-out people whose reply could not be used; `scored` was called before."""
    found = read_part(context.parts, f"scores-{HELD_OUT}-{name}", settings(context))
    return int(found["unusable_pages"]) if found else 0


def answered(context: FidelityContext, model: DecisionModel, asked: Asked, what: str) -> tuple[pl.DataFrame, int]:
    """Rows with a model's answers, and how many pages had an unusable one."""
    done, total, answers = 0, len(asked.situations), []
    for answer in ask(model, asked.situations, build.actions(context.train)):
        answers.append(answer)
        done = min(total, done + BATCH)
        context.report(what, done, total)
    columns: dict[str, np.ndarray] = {"choose": np.concatenate([answer.choose for answer in answers])}
    if answers[0].rate is not None:
        rates = np.concatenate([answer.rate for answer in answers if answer.rate is not None])
        columns |= {f"rate_{k}": rates[:, k] for k in range(rates.shape[1])}
    return asked.rows.with_columns(pl.Series(name, values) for name, values in columns.items()), sum(a.unusable for a in answers)


@lru_cache(maxsize=1)
def held_out_pages(context: FidelityContext) -> Asked:
    """Pages of the held-out people: their held-out interactions among items that they never interacted with."""
    everything = pl.concat([context.train.interactions.select(context.split.test.columns), context.split.test]).sort(
        "user", maintain_order=True
    )
    known = items_by_user(everything, context.train.n_users)
    found = nested_candidates(context.held_out, known, context.train, context.people, context.stream.child("candidates"))
    profiles = [context.profiles[user] for user in sorted(context.profiles)]
    return _pages(context, found, context.profiles, context.train, profiles)


@lru_cache(maxsize=1)
def validation_pages(context: FidelityContext) -> Asked:
    """Pages of validation people: a part of their *training* interactions, hidden once more; the held-out part is not read."""
    count = min(len(context.roles.validation), max(FEWEST_VALIDATION, len(context.people) // 3))
    drawn = context.stream.child("validation").generator().permutation(context.roles.validation)[:count]
    people = np.sort(drawn).astype(np.int32)
    section = context.config.dataset
    order = "random" if section.split == "random" or not context.train.has_times else "temporal"
    share = 0.2 if section.split == "leave-one-out" else section.test_share
    part = hide(context.train, people, share, "random" if order == "random" else "temporal", context.stream.child("hide"))
    fitted = fit_profiles(part.observed)
    known = items_by_user(context.train.interactions, context.train.n_users)
    found = nested_candidates(part.hidden, known, part.observed, people, context.stream.child("validation candidates"))
    return _pages(context, found, {profile.user: profile for profile in fitted}, part.observed, fitted)


def _pages(
    context: FidelityContext,
    found: Mapping[int, pl.DataFrame],
    profiles: Mapping[int, UserProfile],
    train: Dataset,
    fitted: Sequence[UserProfile],
) -> Asked:
    size, situations = context.question_size, []
    for user, rows in found.items():
        stream = context.stream.child("ask", context.user_ids[user])
        situations += first_pages(profiles[user], rows["item"].to_numpy(), size, stream)
    positions = [np.arange(rows.height) % size + 1 for rows in found.values()]
    table = pl.concat(found.values()).with_columns(position=pl.Series(np.concatenate(positions), dtype=pl.Int32))
    return Asked(table, situations, train, fitted)


def adapter_sha256(config: ExperimentConfig) -> str | None:
    """What tells one adapter from another of the same name, or None without one."""
    name = config.language_model.options.get("adapter") if config.language_model else None
    return adapters.identity(adapters.find(str(name))) if name else None


@lru_cache(maxsize=2)
def _ingredients(context: FidelityContext) -> dict[str, Any]:
    modules = sorted(f"{__package__}.{file.stem}" for file in Path(__file__).parent.glob("*.py"))
    test = hashlib.sha256(context.split.test.write_csv().encode()).hexdigest()
    return {**ingredients(context.config, context.train, *modules), "test": test}

"""Notes beside items: what a neutral, a persuasive, a discouraging and an irrelevant one do to how often an item is chosen.

Each page has one item with a note, as an intervention writes it (`environments.interventions`); the texts are made of the items' own
descriptions. The same users see the same pages with and without. A model that reads is not put off by a neutral note, and a persuasive one
does more for it than an irrelevant one, that more than a discouraging one; only then may interventions be read
(`experiments.note_reading`). Users without a language model read nothing: effects of notes are stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from agents.text import clean
from experiments import build, note_reading
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.estimates import row_mean
from experiments.fidelity.questions import answers, questions
from simulator.dataset import Catalog
from simulator.records import Note, Situation
from simulator.seeds import Stream

ASKED: Final[int] = 50
PER_PERSON: Final[int] = 20
EXCERPT: Final[int] = 60
"""Characters of an item's description in a note."""

CONTROL: Final[str] = "part of this catalog"
KINDS: Final[tuple[str, ...]] = ("control", "persuasive", "discouraging", "irrelevant")


def measure(context: FidelityContext) -> dict[str, Any]:
    """Effects of notes on the experiment's own users; what was found of its language model is kept.

    Returns:
        ``people``, ``pages``; ``response``: "read" or "stated"; ``why``: not read, or null; ``note_effects``: for each kind the change of
        the probability of choosing, and both paired differences, with intervals over users.
    """
    name, models = context.models.main, context.models
    model = models.language_model if models.asks(name) else None
    if model is None:
        nobody = "these users ask no language model and read nothing"
        return {"people": 0, "pages": 0, "response": "stated", "why": nobody, "note_effects": {}}
    stream = context.stream.child("notes")
    people = np.sort(stream.child("people").generator().permutation(context.people)[:ASKED])
    asked = questions(context, people, per_person=PER_PERSON, kind="matched", stream=stream)
    actions = build.actions(context.train)
    generator = stream.child("places").generator()
    places = [int(generator.integers(len(situation.page.impressions))) for situation in asked.situations]
    others = generator.permutation(len(context.train.catalog))
    rows = np.cumsum([0, *(len(situation.page.impressions) for situation in asked.situations)])[:-1] + np.array(places, dtype=np.int64)
    plain, _, _ = answers(models[name], asked.situations, actions, context.report, "notes: none")
    told: dict[str, np.ndarray] = {}
    for kind in KINDS:
        texts = _texts(context.train.catalog, kind, others)
        pages = [_noted(situation, place, texts) for situation, place in zip(asked.situations, places, strict=True)]
        told[kind] = (answers(models[name], pages, actions, context.report, f"notes: {kind}")[0] - plain)[rows]
    effects = _effects(told, asked.owner[rows], stream)
    why = note_reading.verdict(effects)
    note_reading.keep(model.identity, context.config.decision.use, why, effects)
    response = "read" if why is None else "stated"
    return {"people": len(people), "pages": len(asked.situations), "response": response, "why": why, "note_effects": effects}


def _effects(told: Mapping[str, np.ndarray], owners: np.ndarray, stream: Stream) -> dict[str, Any]:
    """Means of the changes and of their paired differences, with intervals over users."""
    found = {kind: row_mean(values, owners, stream.child("effect", kind)) for kind, values in told.items()}
    for more, less in (("persuasive", "irrelevant"), ("irrelevant", "discouraging")):
        found[f"{more}_over_{less}"] = row_mean(told[more] - told[less], owners, stream.child("order", more))
    return found


def _texts(catalog: Catalog, kind: str, others: np.ndarray) -> Sequence[str]:
    """The note of each item; an irrelevant one is made of what is written about another item."""
    about = [
        clean(description or " ".join(genres or []) or title or "", EXCERPT)
        for title, genres, description in catalog.items.select("title", "genres", "description").iter_rows()
    ]
    if kind == "control":
        return [CONTROL] * len(about)
    if kind == "irrelevant":
        return [f"elsewhere on this site: {about[int(other)]}" for other in others]
    words = "exactly what you love, do not miss it" if kind == "persuasive" else "a disappointment, you will not like it"
    return [f"{words}: {text}" for text in about]


def _noted(situation: Situation, place: int, texts: Sequence[str]) -> Situation:
    """The situation with a note at one place of the page."""
    impressions = list(situation.page.impressions)
    note = Note("probe", "advert", True, texts[impressions[place].item], 0.0)
    impressions[place] = replace(impressions[place], notes=(note,))
    return replace(situation, page=replace(situation.page, impressions=tuple(impressions)))

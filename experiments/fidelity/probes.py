"""Probes: what must move the simulated people does, and what must not does not. All through `DecisionModel.decide`.

==============  ================================================  ==================================================
probe           what is done                                      people like the real ones
==============  ================================================  ==================================================
profiles        the page stays, the profile is somebody else's    the person is found by what they really chose
order           the page stays, its items change places           nothing moves
titles          titles become "film 17"                           (tells what memorised titles contribute)
rules           the prompt's rules are told in other words        nothing moves
instruction     an item's text asks for an answer                 nothing moves
==============  ================================================  ==================================================

A model without a language model reads no prompt; titles and rules are then not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import build
from experiments.fidelity.context import FidelityContext, Report
from experiments.fidelity.questions import Questions, answers, questions
from experiments.fidelity.swaps import draw_strangers, order_bias, profile_swap
from experiments.fidelity.variants import with_catalog, with_prompt, with_texts
from experiments.fidelity.wording import INSTRUCTIONS, PARAPHRASES, change_of_mind, marked_pages, obedience, title_masking
from simulator.records import Action
from simulator.seeds import Stream

PER_PERSON = 20
"""Items asked about per person: half of them held-out interactions, half others of equal popularity."""

PROBED, ASKED = 200, 50
"""People probed at most, without and with a language model, which reads some hundred pages for each of them."""

OTHERS = 9
"""Profiles of other people among which the person's own is to be found."""


def measure(context: FidelityContext, names: Sequence[str] | None = None) -> dict[str, Any]:
    """All probes for every decision model.

    Args:
        context: of the report. names: of the models; None takes all that are available.

    Returns:
        ``{"models": {name: {"people", "pages", "profiles", "order", "titles", "rules", "instruction"}}}``; every figure with its
        interval over people and the number of people and rows behind it.
    """
    stream = context.stream.child("probes")
    drawn = stream.child("people").generator().permutation(context.people)
    groups = {
        limit: questions(context, np.sort(drawn[:limit]), per_person=PER_PERSON, kind="matched", stream=stream) for limit in (PROBED, ASKED)
    }
    strangers = draw_strangers(context.people, OTHERS, stream.child("strangers"))
    actions = build.actions(context.train)
    found: dict[str, Any] = {}
    for name in context.models if names is None else names:
        model, asked = context.models[name], groups[ASKED if context.models.asks(name) else PROBED]

        def say(what: str, done: int, total: int, name: str = name) -> None:
            context.report(f"probes, {name}: {what}", done, total)

        found[name] = {
            "people": len(np.unique(asked.owner)),
            "pages": len(asked.situations),
            "profiles": profile_swap(model, asked, context.profiles, strangers, actions, stream.child("profiles"), say),
            "order": order_bias(model, asked, actions, stream.child("order"), say),
            **_worded(context, name, asked, actions, stream, say),
            "instruction": _instructed(context, name, asked, actions, stream.child("instruction"), say),
        }
    return {"models": found}


def _worded(
    context: FidelityContext, name: str, asked: Questions, actions: Sequence[Action], stream: Stream, report: Report
) -> dict[str, Any]:
    """The probes of titles and rules, of a model that reads a prompt."""
    if not context.models.asks(name):
        return {"titles": None, "rules": None}
    plain, _, _ = answers(context.models[name], asked.situations, actions, report, "as usual")
    masked, _, _ = answers(with_prompt(context.models, name, mask_titles=True), asked.situations, actions, report, "without titles")
    rules = {}
    for word, text in PARAPHRASES.items():
        other, _, _ = answers(with_prompt(context.models, name, rules=text), asked.situations, actions, report, f"rules, {word}")
        rules[word] = change_of_mind(plain, other, asked, stream.child("rules", word))
    return {"titles": title_masking(plain, masked, asked, stream.child("titles")), "rules": rules}


def _instructed(
    context: FidelityContext, name: str, asked: Questions, actions: Sequence[Action], stream: Stream, report: Report
) -> dict[str, Any] | None:
    catalog, size = context.train.catalog, context.question_size
    order = stream.child("marked").generator().permutation(len(catalog))
    marked = np.zeros(len(catalog), dtype=bool)
    marked[order[: max(1, len(catalog) // size)]] = True
    situations = marked_pages(asked, context.profiles, marked, size, stream)
    if not situations:
        return None
    texts = {int(item): INSTRUCTIONS[number % len(INSTRUCTIONS)] for number, item in enumerate(np.flatnonzero(marked).tolist())}
    instructed, neutral = (
        with_catalog(context.models, name, with_texts(catalog, {item: pair[side] for item, pair in texts.items()})) for side in (0, 1)
    )
    return obedience(neutral, instructed, situations, marked, actions, stream, report)

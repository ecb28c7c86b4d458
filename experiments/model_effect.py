"""What the language model of a run did: decisions that it changed, what it adds on validation people, tokens and seconds, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEAST_CHANGED = 0.01
"""Below this share of changed decisions the model changed nothing worth its cost."""

LARGEST_P = 0.05
"""Where no lift was measured with the weights: the likelihood-ratio test of the model's weight must reach this."""


def effect(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the model did, for ``summary.json``; None where none was asked.

    Args:
        summary: of the run, with tokens, seconds, decisions compared and the figures of the decision model.
    """
    tokens = summary.get("tokens") or {}
    if not tokens.get("calls"):
        return None
    figures = summary.get("figures") or {}
    seconds, whole = float(summary.get("model_seconds") or 0.0), float(summary.get("cohort_seconds") or 0.0)
    found = {
        "decisions_changed_share": summary.get("decisions_changed_share"),
        "lift": figures.get("model_lift"),
        "lift_low": figures.get("model_lift_low"),
        "lift_high": figures.get("model_lift_high"),
        "p": figures.get("model_p"),
        "tokens": tokens.get("computed_tokens", 0) + tokens.get("generated_tokens", 0),
        "seconds": seconds,
        "time_share": min(1.0, seconds / whole) if whole else None,
        "texts_passed_share": summary.get("texts_passed_share", figures.get("texts_trial_passed_share")),
    }
    worth = _worth(found)
    return {**found, "worth_its_cost": worth, "said": _said(found, worth)}


def _worth(found: Mapping[str, Any]) -> bool | None:
    """Whether it changed enough, for the better; None where people decide by the model alone, so that nothing was compared."""
    if found["decisions_changed_share"] is None:
        return None
    tested = found["p"] is not None and found["p"] < LARGEST_P
    better = tested if found["lift_low"] is None else found["lift_low"] > 0
    return bool(better and found["decisions_changed_share"] >= LEAST_CHANGED)


def _said(found: Mapping[str, Any], worth: bool | None) -> str:
    cost = f"{found['tokens']:,} tokens and {found['seconds']:,.1f} s"
    if found["time_share"] is not None:
        cost += f" ({found['time_share']:.0%} of the simulation)"
    if worth is None:
        return f"it cost {cost}; people decide by it alone, so there is nothing to compare with"
    changed = f"it changed {found['decisions_changed_share']:.1%} of the decisions and cost {cost}; {lift_words(found)}"
    return changed if worth else f"{changed}. That is not worth its cost: --no-language-model simulates these people without it"


def first_words(summary: Mapping[str, Any]) -> str:
    """What the language model does and does not in a run, with its numbers: one sentence for the first lines that people read."""
    did = summary.get("language_model")
    if not isinstance(did, Mapping):
        return "no language model had a say" if (summary.get("tokens") or {}).get("calls") == 0 else ""
    part = (
        ""
        if did.get("decisions_changed_share") is None
        else "it has a say in which items are chosen, none in when people leave and how satisfied they are; "
    )
    return f"{part}{did.get('said', '')}"


def lift_words(found: Mapping[str, Any]) -> str:
    """The lift on validation people in words."""
    if found["lift"] is not None:
        interval = f" [{found['lift_low']:+.3f}, {found['lift_high']:+.3f}]" if found["lift_low"] is not None else ""
        return f"on validation people it adds {found['lift']:+.3f}{interval} to the area under the curve"
    if found["p"] is not None:
        return f"its weight on validation people has p = {found['p']:.2g}, their lift was not measured with these weights"
    return "what it adds on validation people is not known"


def text_words(summary: Mapping[str, Any]) -> str:
    """Who wrote the texts of a run, in words; empty where there are none."""
    made, whole = summary.get("texts_from_facts", 0), summary.get("texts", 0)
    if not made and not whole:
        return ""
    passed = summary.get("texts_passed_share")
    if passed is None:
        trial = (summary.get("figures") or {}).get("texts_trial_passed_share")
        told = "" if trial is None else f": {trial:.0%} of the language model's sentences passed a trial, too few to ask for more"
        return f"{made:,} made from facts{told}"
    return f"{passed:.0%} of the language model's texts were complete and true ({whole:,}); {made:,} made from facts instead"

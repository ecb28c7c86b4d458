"""Whether traits order behaviour, in sentences that hold nothing but what the rows say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

LEVELS = ("low", "medium", "high")

RISES: Mapping[str, bool] = {"activity": True, "conformity": False, "diversity": True, "pickiness": False}
"""Whether the behaviour should rise with the level: the conforming deviate less, the picky give fewer stars."""


def orders(levels: pl.DataFrame, *, rises: bool) -> bool | None:
    """Whether levels of a trait order behaviour: means in order, and the intervals of the low and of the high ones apart.

    Args:
        levels: `experiments.analysis.metrics.behaviour_by_level`. rises: whether the behaviour should rise with the level.

    Returns:
        None where a level has nobody.
    """
    if levels["level"].to_list() != list(LEVELS):
        return None
    sign = 1.0 if rises else -1.0
    means = [sign * mean for mean in levels["mean"]]
    (low, _, high) = levels.select("low", "high").iter_rows()
    apart = high[0] > low[1] if rises else high[1] < low[0]
    return means == sorted(means) and apart


def of_run(ordered: Mapping[str, bool | None], means: Mapping[str, Mapping[str, float]]) -> str:
    """One sentence about the people of a run.

    Args:
        ordered: trait -> what `orders` says. means: trait -> level -> mean behaviour.
    """
    told = {
        which: [f"{trait} ({_numbers(means[trait])})" for trait, found in ordered.items() if found is which]
        for which in (True, False, None)
    }
    parts = [
        f"levels order what people did for {', '.join(told[True])}" if told[True] else "",
        f"they do not for {', '.join(told[False])}" if told[False] and told[True] else "",
        f"levels do not order what people did for {', '.join(told[False])}" if told[False] and not told[True] else "",
        f"nothing can be told of {', '.join(told[None])}, since a level has nobody" if told[None] else "",
    ]
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[:1].upper()}{sentence[1:]} (means of low, medium, high)."


def of_report(part: Mapping[str, Any], model: str) -> list[str]:
    """A sentence per trait about one decision model, from the rows of a fidelity report.

    Args:
        part: of the document, `experiments.fidelity.traits.measure`. model: name of the decision model.
    """
    sentences = []
    for trait, entry in part.get("traits", {}).items():
        found = entry["models"].get(model)
        if found is None:
            continue
        own, real = (_means(side) for side in (found, entry["real"]))
        share = found["reproduced"]
        told = "" if share["value"] is None else f"; {share['value']:.2f} of the real difference"
        limits = "" if share["value"] is None or share["low"] is None else f" [{share['low']:.2f}, {share['high']:.2f}]"
        name = trait.replace("_", " ")
        does = "orders" if found["acts"] else "does not order"
        sentences.append(f"{name} {does} {entry['unit']}: low, medium, high {own}, really {real}{told}{limits}.")
    return sentences


def _means(side: Mapping[str, Any]) -> str:
    return _numbers({level: side["levels"][level]["value"] for level in LEVELS})


def _numbers(means: Mapping[str, float | None]) -> str:
    values = [means.get(level) for level in LEVELS]
    return ", ".join("–" if value is None else f"{value:.3g}" for value in values)

"""The learning curve of an agent that fills pages, beside policies that do not learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from experiments.analysis.figure_style import REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, Made, write_figure


def learning_curve(document: Mapping[str, Any], file: Path) -> Made:
    """The return of judged people against the pages that were learned from; bands are 95 % intervals over people.

    Args:
        document: as `experiments.examples.policy_gradient.run` returns it. file: the PNG file to write.
    """
    curve, others = document["curve"], {name: found for name, found in document["return"].items() if name != "learned"}
    pages = np.array([point["pages"] for point in curve])
    with style.context(["default", dict(STYLE)]):
        figure = Figure(figsize=(WIDTH * 1.25, 2.4), layout="constrained")
        axes = figure.subplots()
        low, high = ([point["value"] if point[end] is None else point[end] for point in curve] for end in ("low", "high"))
        axes.fill_between(pages, low, high, color=SIMULATED, alpha=0.18, linewidth=0)
        axes.plot(pages, [p["value"] for p in curve], color=SIMULATED, marker="o", markersize=2.5)
        axes.set_xlim(0, pages[-1] * 1.5)
        colors = dict(zip(others, (SHOWN, THIRD, SHOWN, REAL), strict=False))
        for name, found in others.items():
            axes.axhline(found["value"], xmax=1 / 1.5, color=colors[name], linewidth=0.9, linestyle="--")
        ends = {name: found["value"] for name, found in others.items()} | {"learned": curve[-1]["value"]}
        bottom, top = axes.get_ylim()
        place = -np.inf
        for name in sorted(ends, key=lambda name: ends[name]):
            place = max(ends[name], place + 0.06 * (top - bottom))
            axes.text(pages[-1] * 1.02, place, name, va="center", fontsize=6.5, color=colors.get(name, SIMULATED))
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= pages[-1]])
        axes.spines["bottom"].set_bounds(0, pages[-1])
        axes.set_xlabel("Pages shown to the people learned from")
        axes.set_ylabel(f"Return of an episode ({document['reward'].replace('_', ' ')})")
        judged = document["people"]["judged"]
        caption = (
            f"Learning to fill pages: mean return of {judged} people who were not learned from, with 95 % intervals over people. "
            f"Dashed: policies that do not learn, the same people in the same episodes."
        )
        return write_figure(figure, file, caption, {key: document[key] for key in ("curve", "return")})

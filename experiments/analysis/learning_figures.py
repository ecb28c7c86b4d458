"""The learning curve of an agent that fills pages, beside policies that do not learn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from experiments.analysis.figure_style import DPI, REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, Made
from simulator.run_directory import write_atomically


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
        axes.fill_between(pages, [p["low"] for p in curve], [p["high"] for p in curve], color=SIMULATED, alpha=0.18, linewidth=0)
        axes.plot(pages, [p["value"] for p in curve], color=SIMULATED, marker="o", markersize=2.5)
        axes.annotate("learned", (pages[-1], curve[-1]["value"]), (4, 0), textcoords="offset points", va="center", color=SIMULATED)
        axes.set_xlim(0, pages[-1] * 1.5)
        heights = sorted((found["value"], name) for name, found in others.items())
        span = max(axes.get_ylim()[1] - min(heights)[0], 1e-9)
        last = -np.inf
        for (value, name), color in zip(heights, (SHOWN, SHOWN, THIRD, REAL), strict=False):
            axes.axhline(value, xmax=1 / 1.5, color=color, linewidth=0.9, linestyle="--")
            last = max(value, last + 0.075 * span)
            axes.text(pages[-1] * 1.02, last, name, va="center", fontsize=6.5, color=color)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= pages[-1]])
        axes.spines["bottom"].set_bounds(0, pages[-1])
        axes.set_xlabel("Pages shown to the people learned from")
        axes.set_ylabel(f"Return of an episode ({document['reward'].replace('_', ' ')})")
        judged = document["people"]["judged"]
        caption = (
            f"Learning to fill pages: mean return of {judged} people who were not learned from, with 95 % intervals over people. "
            f"Dashed: policies that do not learn, the same people in the same episodes."
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, "Description": caption})
        write_atomically(file, buffer.getvalue())
        return Made(file, caption)

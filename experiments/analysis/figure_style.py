"""How figures look, and what drawing one results in; nothing here needs the plotting library."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.files import write_atomically

WIDTH = 3.4
"""Inches; one column of a two-column paper."""

DPI = 300
REAL, SIMULATED, SHOWN, THIRD = "#0072B2", "#D55E00", "#767676", "#E69F00"
"""Colours of Okabe and Ito ("Color universal design", 2008), which colour-blind readers can tell apart, and a grey."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito for things of one kind, the first ones easiest to tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Shapes that go with `COLOURS`, so that colour alone tells nothing."""

STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that this run cannot have, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Made:
    """A figure on disk: its PNG file and its caption."""

    path: Path
    caption: str


def write_figure(figure: Any, file: Path, caption: str) -> Made:
    """Writes a figure of matplotlib as PNG, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: to draw. file: its folder is made. caption: stored inside too.
    """
    buffer = io.BytesIO()
    # The library's version would otherwise be stored, and with it a difference that is not the figure's.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, "Description": caption})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())
    return Made(file, caption)

"""How figures look, and what drawing one results in; nothing here needs the plotting library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 3.4
"""Inches; one column of a two-column paper."""

DPI = 300
REAL, SIMULATED, SHOWN, THIRD = "#0072B2", "#D55E00", "#767676", "#E69F00"
"""Colours of Okabe and Ito ("Color universal design", 2008), which colour-blind readers can tell apart, and a grey."""

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

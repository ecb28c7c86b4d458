"""How figures look, and what drawing one results in; nothing here needs the plotting library."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping, Sequence
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


MEASUREMENT = "Measurement"
"""Entry of a PNG file that holds the hash of the numbers that it was drawn from."""


def measurement(numbers: Any) -> str:
    """A hash of numbers as JSON has them, so that a picture and a table can be held against each other; times are left out.

    Args:
        numbers: part of a document that is written as JSON: mappings, sequences, texts, numbers, None.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(_lasting(numbers), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measurement_in(file: Path) -> str | None:
    """The hash of the numbers that a PNG file was drawn from; None where it holds none."""
    content, place, wanted = file.read_bytes(), 8, MEASUREMENT.encode()
    while place + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        entry = content[place + 8 : place + 8 + length]
        if kind in (b"tEXt", b"iTXt") and entry.split(b"\0", 1)[0] == wanted:
            return entry.rsplit(b"\0", 1)[1].decode()
        place += length + 12
    return None


def write_figure(figure: Any, file: Path, caption: str, measured: Any = None) -> Made:
    """Writes a figure of matplotlib as PNG, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: to draw. file: its folder is made. caption: stored inside too.
        measured: the numbers that it shows, whose hash is stored inside (`measurement`); None stores none.
    """
    buffer = io.BytesIO()
    # The library's version would otherwise be stored, and with it a difference that is not the figure's.
    entries = {"Software": None, "Description": caption} | ({} if measured is None else {MEASUREMENT: measurement(measured)})
    figure.savefig(buffer, format="png", dpi=DPI, metadata=entries)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())
    return Made(file, caption)


def _lasting(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _lasting(entry) for key, entry in value.items() if key != "seconds"}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_lasting(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - not a number

"""The figures of a comparison, from its document: metrics by round, differences from the baseline, and the people it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from experiments.analysis.figure_style import COLOURS, MARKERS, SHOWN, STYLE, WIDTH, Made, write_figure
from experiments.analysis.paired import people_needed

Document = Mapping[str, Any]

_TICKS = (-10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0)
"""Of an axis that is linear up to 10 % and logarithmic beyond."""


def measured(document: Document) -> dict[str, Any]:
    """The numbers of a comparison that figures show."""
    return {key: document[key] for key in ("values", "by_round", "differences")}


def make_figures(document: Document, folder: Path) -> dict[str, Made]:
    """Draws all figures into a folder.

    Args:
        document: see `experiments.comparison.compare`. folder: is made.

    Returns:
        Name -> file and caption.
    """
    with style.context(["default", dict(STYLE)]):
        return {
            "by-round": by_round(document, folder / "by-round.png"),
            "differences": differences(document, folder / "differences.png"),
            "power": power(document, folder / "power.png"),
        }


def by_round(document: Document, file: Path) -> Made:
    """Every metric of every arm in each round, with intervals."""
    metrics = document["metrics"]
    columns = 3
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(2 * WIDTH, 0.5 + 1.45 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    arms, several = list(document["arms"]), document["rounds"] > 1
    for axes, metric in zip(grid, metrics, strict=False):
        for number, arm in enumerate(arms):
            own = [row for row in document["by_round"] if row["arm"] == arm and row["metric"] == metric["key"]]
            own = [row for row in own if None not in (row["value"], row["low"], row["high"])]
            if own:
                # Side by side, so that intervals do not hide each other.
                x = np.array([row["round"] + 1 for row in own]) + (number - (len(arms) - 1) / 2) * 0.06
                look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
                axes.errorbar(x, [row["value"] for row in own], yerr=_lengths(own), label=arm, linestyle="-" if several else "", **look)
        axes.set_title(metric["name"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.set_xlim(0.5, document["rounds"] + 0.5)
        if metric["percent"]:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    for axes in grid[len(metrics) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(metrics) - columns) : len(metrics)]:
        axes.set_xlabel("Round")
    _legend(figure, grid, min(6, len(arms)))
    caption = (
        f"Every metric by round with 95 % intervals over the same {document['people']:,} people ({_seeds(document)}): bootstrap, and "
        "jackknife for coverage and exposure Gini, which are of the whole system."
    )
    return write_figure(figure, file, caption, measured(document))


def differences(document: Document, file: Path) -> Made:
    """Differences of every arm from the baseline as a share of the baseline's value, with paired intervals; filled where they stand."""
    arms = [arm for arm in document["arms"] if arm != document["baseline"]]
    panels = [[metric for metric in document["metrics"] if (metric["kind"] == "range") == of_range] for of_range in (False, True)]
    panels = [panel for panel in panels if panel]
    height = 0.1 * len(arms) + 0.14
    figure = Figure(figsize=(WIDTH, 0.9 + sum(0.35 + height * len(panel) for panel in panels)), layout="constrained")
    grid = np.atleast_1d(figure.subplots(len(panels), 1, height_ratios=[len(panel) for panel in panels]))
    by_key = {(row["arm"], row["metric"]): row for row in document["differences"]}
    names, left_out, labelled = {metric["key"]: metric["name"] for metric in document["metrics"]}, list[str](), set[str]()
    for axes, panel in zip(grid, panels, strict=True):
        axes.axvline(0.0, color=SHOWN, linewidth=0.8)
        for place, metric in enumerate(panel):
            for number, arm in enumerate(arms):
                row = by_key[arm, metric["key"]]
                if row.get("no_verdict") is not None or row["relative"] is None or row["relative_low"] is None:
                    left_out.append(f"{names[metric['key']]} of {arm} ({row.get('no_verdict') or 'the value to compare with is 0'})")
                    continue
                y = place + (number - (len(arms) - 1) / 2) * 0.75 / max(len(arms), 1)
                index = list(document["arms"]).index(arm)
                stands = row["p_holm"] is not None and row["p_holm"] <= 0.05
                look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
                lengths = _lengths([{"value": row["relative"], "low": row["relative_low"], "high": row["relative_high"]}])
                label = None if arm in labelled else arm
                labelled.add(arm)
                axes.errorbar(
                    [row["relative"]], [y], xerr=lengths, markerfacecolor=None if stands else "white", label=label, linestyle="", **look
                )
        axes.set_yticks(range(len(panel)), [metric["name"] for metric in panel])
        axes.set_ylim(len(panel) - 0.45, -0.55)
        if max(abs(limit) for limit in axes.get_xlim()) > 1.5:
            axes.set_xscale("symlog", linthresh=0.1, linscale=0.6)
            low, high = axes.get_xlim()
            axes.set_xticks([tick for tick in _TICKS if low <= tick <= high], minor=False)
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+,.0%}".replace("-", "−") if abs(value) > 1e-9 else "0"))
    grid[-1].set_xlabel(f"Difference from {document['baseline']}")
    _legend(figure, grid, 3)
    caption = (
        f"Differences from {document['baseline']} as shares of its values, with paired 95 % intervals over {document['people']:,} people; "
        f"filled where the difference stands at 5 % after Holm's correction for {document['comparisons']} comparisons. More exposure Gini "
        "is a narrower range. Where differences are large, the axis is logarithmic beyond 10 %."
        + (f" Not drawn: {'; '.join(left_out)}." if left_out else "")
    )
    return write_figure(figure, file, caption, measured(document))


def power(document: Document, file: Path) -> Made:
    """People who show a difference of a given size, by metric, paired and unpaired; the observed differences marked."""
    people = document["people"]
    told = [row for row in document["differences"] if row.get("no_verdict") is None]
    rows = [row for row in told if row["people_needed"] is not None and row["relative"]]
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    sizes = np.geomspace(0.005, 1.0, 60)
    names = {metric["key"]: metric["name"] for metric in document["metrics"]}
    keys = [key for key in names if any(row["metric"] == key for row in rows)]
    absent = [name for key, name in names.items() if key not in keys]
    for number, key in enumerate(keys):
        own = [row for row in rows if row["metric"] == key]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for error, line, width in (("standard_error", "-", 1.4), ("unpaired_standard_error", ":", 0.8)):
            # In shares of the baseline's value; the arms' spreads differ, so their mean stands for them.
            base = [abs(row["value"] / row["relative"]) for row in own]
            spread = float(np.mean([row[error] / one for row, one in zip(own, base, strict=True)])) * math.sqrt(people)
            label = names[key] if error == "standard_error" else None
            axes.plot(
                sizes, [people_needed(float(size), spread) or math.nan for size in sizes], line, color=colour, linewidth=width, label=label
            )
        axes.plot([abs(row["relative"]) for row in own], [row["people_needed"] for row in own], marker, color=colour, linestyle="")
    axes.axhline(people, color=SHOWN, linewidth=0.8)
    axes.text(
        0.98,
        people * 1.08,
        f"this comparison: {people:,}",
        ha="right",
        va="bottom",
        fontsize=6.5,
        color=SHOWN,
        transform=axes.get_yaxis_transform(),
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.005, 1.0)
    axes.set_ylim(10, 1e5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1%}" if value < 0.01 else f"{value:.0%}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("Size of the difference, of the baseline's value")
    axes.set_ylabel("People needed")
    if keys:
        figure.legend(loc="outside upper center", ncols=3)
    else:
        axes.text(0.5, 0.9, "no difference was found", ha="center", transform=axes.transAxes, fontsize=7)
    caption = (
        f"People who show a difference of a given size with a probability of {document['power']:.0%} (two-sided test at 5 %, no "
        "correction): the same people before both arms (lines), other people before each (dotted, so many in each). Points: the "
        "differences found." + (f" Without a line, for want of a difference of people: {', '.join(absent)}." if absent else "")
    )
    return write_figure(figure, file, caption, measured(document))


def _legend(figure: Figure, grid: np.ndarray, columns: int) -> None:
    """Every arm once, whichever panels it is in."""
    found: dict[str, Any] = {}
    for axes in grid:
        found |= {name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True) if name not in found}
    if found:
        figure.legend(list(found.values()), list(found), loc="outside upper center", ncols=columns)


def _lengths(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Lengths of the error bars below and above, shape (2, n); rounding must not make one negative."""
    below, above = [row["value"] - row["low"] for row in rows], [row["high"] - row["value"] for row in rows]
    return np.array([below, above]).clip(min=0.0)


def _seeds(document: Document) -> str:
    seeds = document["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"

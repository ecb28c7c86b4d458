"""The figures of studies, in three forms: metrics over rounds or pages, one metric over another, and rows with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.analysis.figure_style import COLOURS, MARKERS, SHOWN, STYLE, WIDTH, Made, write_figure
from experiments.studies.findings import Findings, Row
from experiments.studies.study_config import StudyConfig
from experiments.studies.study_metrics import METRICS
from simulator.errors import ConfigError, with_suggestion


def draw(study: StudyConfig, findings: Findings, file: Path) -> Made:
    """Draws the figure of a study.

    Args:
        study: its section [figure] says what is drawn, and how. findings: of its analysis. file: the PNG file to write.

    Raises:
        ConfigError: the figure asks for a metric or a group that was not found.
    """
    section = study.figure
    for name in (*section.metrics, *(name for name in (section.x, section.y) if name)):
        if name not in findings.names:
            raise ConfigError(f"[figure] {with_suggestion('metric', name, findings.names)}")
    for arm in section.arms:
        if arm not in study.arms:
            raise ConfigError(f"[figure] {with_suggestion('arm', arm, study.arms)}")
    groups = {row.group for row in findings.rows}
    for group in section.groups:
        if group not in groups:
            raise ConfigError(f"[figure] {with_suggestion('group', group, groups)}")
    wanted = section.arms or tuple(study.arms)
    rows = [row for row in findings.rows if row.arm in wanted and (not section.groups or row.group in section.groups)]
    with style.context(["default", dict(STYLE)]):
        if section.form == "lines":
            return _lines(study, findings, rows, file)
        if section.form == "tradeoff":
            return _tradeoff(study, findings, rows, file)
        return _intervals(study, findings, [row for row in rows if row.x is None and bool(row.against) == section.against], file)


def _lines(study: StudyConfig, findings: Findings, rows: Sequence[Row], file: Path) -> Made:
    rows = [row for row in rows if row.x is not None]
    keys = [(metric, group) for metric in study.figure.metrics or findings.names for group in _line_groups(rows, metric)]
    columns = min(2, len(keys))
    figure = Figure(
        figsize=(WIDTH * (1 if columns == 1 else 1.8), 0.5 + 1.75 * math.ceil(len(keys) / max(columns, 1))), layout="constrained"
    )
    grid = np.atleast_1d(figure.subplots(math.ceil(len(keys) / columns), columns)).ravel()
    arms = list(study.arms)
    for axes, (metric, group) in zip(grid, keys, strict=False):
        for number, arm in enumerate(arms):
            own = [row for row in rows if (row.metric, row.group, row.arm) == (metric, group, arm) or _is_round(row, metric, group, arm)]
            own = sorted((row for row in own if math.isfinite(row.value)), key=lambda row: row.x or 0.0)
            if own:
                x = np.array([row.x for row in own]) + (number - (len(arms) - 1) / 2) * 0.05
                axes.errorbar(x, [row.value for row in own], yerr=_lengths(own), label=arm, **_look(number))
        name, _, unit = findings.names[metric].partition(" (")
        axes.set_title(name if group in ("", "by page") else f"{group.removesuffix(' by round').capitalize()}: {name}")
        axes.set_ylabel("\n".join(wrap(unit.removesuffix(")"), 28)))
        axes.set_xlabel(findings.axis.capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        _percent(axes.yaxis, metric)
    for axes in grid[len(keys) :]:
        axes.set_axis_off()
    _legend(figure, grid, arms)
    return write_figure(figure, file, f"{study.question} Means by {findings.axis} with 95 % intervals over people.")


def _tradeoff(study: StudyConfig, findings: Findings, rows: Sequence[Row], file: Path) -> Made:
    assert study.figure.x is not None
    assert study.figure.y is not None
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(study.arms):
        x, y = (
            next((row for row in rows if row.arm == arm and row.metric == key and row.group == "all" and not row.against), None)
            for key in (study.figure.x, study.figure.y)
        )
        if x is not None and y is not None:
            axes.errorbar([x.value], [y.value], xerr=_lengths([x]), yerr=_lengths([y]), label=arm, **{**_look(number), "linestyle": ""})
    axes.set_xlabel(findings.names[study.figure.x])
    axes.set_ylabel("\n".join(wrap(findings.names[study.figure.y], 44)))
    _percent(axes.xaxis, study.figure.x)
    _percent(axes.yaxis, study.figure.y)
    figure.legend(loc="outside upper center", ncols=3)
    return write_figure(figure, file, f"{study.question} Each point is an arm before the same people, with 95 % intervals over people.")


def _intervals(study: StudyConfig, findings: Findings, rows: Sequence[Row], file: Path) -> Made:
    keys = [key for key in study.figure.metrics or findings.names if any(row.metric == key for row in rows)]
    if not keys:
        raise ConfigError("[figure] there are no rows to draw: look at metrics, groups and against, and at study.json.")
    parts = [[row for row in rows if row.metric == key and math.isfinite(row.value)] for key in keys]
    figure = Figure(figsize=(1.5 * WIDTH, 0.7 + sum(0.45 + 0.17 * len(part) for part in parts)), layout="constrained")
    grid = np.atleast_1d(figure.subplots(len(keys), 1, height_ratios=[1 + len(part) for part in parts])).ravel()
    arms, has_truth = list(study.arms), False
    for axes, key, part in zip(grid, keys, parts, strict=True):
        axes.axvline(0.0, color=SHOWN, linewidth=0.8)
        for place, row in enumerate(part):
            axes.errorbar([row.value], [place], xerr=_lengths([row]), **{**_look(arms.index(row.arm)), "linestyle": ""})
            if row.truth is not None:
                has_truth = True
                axes.plot(row.truth, place, "|", color="black", markersize=9, markeredgewidth=1.4, zorder=5)
        several = len({row.arm for row in part}) > 1
        axes.set_yticks(range(len(part)), [f"{row.arm}: {row.group}" if several else row.group for row in part])
        axes.set_ylim(len(part) - 0.4, -0.6)
        axes.set_title(findings.names[key], loc="left")
    truth = " Black bars: the truth, known by intervening." if has_truth else ""
    return write_figure(figure, file, f"{study.question} 95 % intervals over people.{truth}")


def _line_groups(rows: Sequence[Row], metric: str) -> list[str]:
    """Groups whose lines stand in panels of their own; rounds are one line."""
    found = dict.fromkeys("" if row.group.startswith("round ") else row.group for row in rows if row.metric == metric)
    return list(found)


def _is_round(row: Row, metric: str, group: str, arm: str) -> bool:
    return not group and row.group.startswith("round ") and (row.metric, row.arm) == (metric, arm)


def _lengths(rows: Sequence[Row]) -> np.ndarray:
    """Lengths of the whiskers below and above, 0 where there is no interval, shape (2, n)."""
    below = [max(0.0, row.value - row.low) if math.isfinite(row.low) else 0.0 for row in rows]
    above = [max(0.0, row.high - row.value) if math.isfinite(row.high) else 0.0 for row in rows]
    return np.array([below, above])


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "linestyle": "-"}


def _percent(axis: Any, metric: str) -> None:
    if metric in METRICS and METRICS[metric].percent:
        axis.set_major_formatter(PercentFormatter(1, decimals=None))


def _legend(figure: Figure, grid: np.ndarray, arms: Sequence[str]) -> None:
    found: dict[str, Any] = {}
    for axes in grid:
        handles, names = axes.get_legend_handles_labels()
        found |= {name: handle for name, handle in zip(names, handles, strict=True) if name not in found}
    order = [arm for arm in arms if arm in found]
    figure.legend([found[arm] for arm in order], order, loc="outside upper center", ncols=min(4, max(1, len(order))))

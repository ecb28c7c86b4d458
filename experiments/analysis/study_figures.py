"""The figures of studies, in three forms: metrics over rounds or pages, one metric over another, and rows with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
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


def measured(findings: Findings) -> list[dict[str, Any]]:
    """The numbers of a study that its figure shows, as ``study.json`` has them under rows."""
    return [asdict(row) for row in findings.rows]


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
            return _tradeoff(study, findings, file)
        return _intervals(study, findings, [row for row in rows if row.x is None and bool(row.against) == section.against], file)


def _lines(study: StudyConfig, findings: Findings, rows: Sequence[Row], file: Path) -> Made:
    rows = [row for row in rows if row.x is not None]
    keys = [(metric, group) for metric in study.figure.metrics or findings.names for group in _line_groups(rows, metric)]
    if not keys:
        raise ConfigError(
            "[figure] form = 'lines' draws what was found over rounds or pages, and nothing was; use form = 'intervals', or let the "
            "analysis measure each round (analysis.by_round = true)."
        )
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
    caption = (
        f"{study.question} Means by {findings.axis} with 95 % intervals over people, each arm's own: the arms have the same people, so "
        f"their differences are surer than these intervals look, and stand in the text.{_not_drawn(_absent_arms(study, findings))}"
    )
    return write_figure(figure, file, caption, measured(findings))


def _absent_arms(study: StudyConfig, findings: Findings) -> list[str]:
    """Arms of the table that the figure's section leaves out."""
    wanted = study.figure.arms
    return [f"{arm} (left out by [figure] arms)" for arm in study.arms if wanted and arm not in wanted and _has(findings, arm)]


def _has(findings: Findings, arm: str) -> bool:
    return any(row.arm == arm for row in findings.rows)


def _tradeoff(study: StudyConfig, findings: Findings, file: Path) -> Made:
    """One metric over another, both less the control's before the same people; as values where the analysis has no differences."""
    section = study.figure
    assert section.x is not None
    assert section.y is not None
    keys = (section.x, section.y)
    paired = all(any(row.metric == key and row.against == study.control for row in findings.rows) for key in keys)
    against = study.control if paired else ""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    if paired:
        axes.axvline(0.0, color=SHOWN, linewidth=0.8)
        axes.axhline(0.0, color=SHOWN, linewidth=0.8)
    left_out = []
    for number, arm in enumerate(study.arms):
        look = {**_look(number), "linestyle": ""}
        if paired and arm == study.control:
            axes.plot([0.0], [0.0], look["marker"], color=look["color"], label=arm)
            continue
        point = [_of_all(findings.rows, arm, key, against) for key in keys]
        x, y = point
        if x is not None and y is not None and (arm in section.arms or not section.arms):
            axes.errorbar([x.value], [y.value], xerr=_lengths([x]), yerr=_lengths([y]), label=arm, **look)
            continue
        why = "left out by [figure] arms" if section.arms and arm not in section.arms else "not measured"
        where = ", ".join(f"{_name(findings, row.metric)} {row.told()}" for row in point if row is not None)
        left_out.append(f"{arm} ({why}{': ' if where else ''}{where})")
    for axis, key in zip((axes.xaxis, axes.yaxis), keys, strict=True):
        less = f", less that of {study.control}" if paired else ""
        axis.set_label_text("\n".join(wrap(findings.names[key] + less, 44)))
        _percent(axis, key)
    figure.legend(loc="outside upper center", ncols=3)
    point_is = f"what an arm has more than {study.control}, with paired" if paired else "an arm, with"
    caption = f"{study.question} Each point is {point_is} 95 % intervals over people, who are the same in all arms.{_not_drawn(left_out)}"
    return write_figure(figure, file, caption, measured(findings))


def _of_all(rows: Sequence[Row], arm: str, metric: str, against: str) -> Row | None:
    """A row of an arm over the whole run, if it is known."""
    for row in rows:
        if (row.arm, row.metric, row.group, row.against) == (arm, metric, "all", against) and math.isfinite(row.value):
            return row
    return None


def _name(findings: Findings, metric: str) -> str:
    return findings.names[metric].partition(" (")[0]


def _not_drawn(left_out: Sequence[str]) -> str:
    return f" Not drawn: {'; '.join(left_out)}." if left_out else ""


def _intervals(study: StudyConfig, findings: Findings, rows: Sequence[Row], file: Path) -> Made:
    keys = [key for key in study.figure.metrics or findings.names if any(row.metric == key for row in rows)]
    if not keys:
        raise ConfigError("[figure] there are no rows to draw: look at metrics, groups and against, and at study.json.")
    drawn = [row for row in rows if math.isfinite(row.value) and not row.silent]
    parts = [[row for row in drawn if row.metric == key] for key in keys]
    silent = [f"{row.arm}, {row.group} ({row.silent or 'not measured'})" for row in rows if row.metric in keys and row not in drawn]
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
    absent = _not_drawn([*silent, *_absent_arms(study, findings)])
    return write_figure(figure, file, f"{study.question} 95 % intervals over people.{truth}{absent}", measured(findings))


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

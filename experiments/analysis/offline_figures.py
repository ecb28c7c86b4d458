"""The figures of off-policy evaluation, in the style of `figures`: estimates with intervals, and errors against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from experiments.analysis.figure_style import REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, Made, write_figure
from experiments.estimator_bench import Bench
from experiments.offline_evaluation import REWARDS, Evaluation

_MARGIN = 0.35
"""How far beyond the trusted intervals the axis goes, as a share of their range; what lies outside gets an arrow."""


def estimates(evaluation: Evaluation, file: Path, truth: float | None = None) -> Made:
    """Every estimator's value with its normal and bootstrap interval, beside the logged value and, if it is known, the truth.

    Args:
        evaluation: what to draw.
        file: the PNG file to write.
        truth: the target's value in the simulator, or None.
    """
    with style.context(["default", dict(STYLE)]):
        names = list(evaluation.answers)
        figure = Figure(figsize=(WIDTH, 0.9 + 0.17 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(evaluation.logged.value, color=SHOWN, linewidth=1.0, label="logging policy")
        if truth is not None:
            axes.axvline(truth, color=THIRD, linewidth=1.2, label="truth")
        low, high = _limits(evaluation, truth)
        for row, name in enumerate(names):
            answer = evaluation.answers[name]
            colour = SIMULATED if answer.note is None else "#bbbbbb"
            for interval, offset, line in ((answer.normal, -0.13, 1.4), (answer.bootstrap, 0.17, 0.7)):
                axes.plot(np.clip([interval.low, interval.high], low, high), [row + offset] * 2, color=colour, linewidth=line)
            if low <= answer.value <= high:
                axes.plot(answer.value, row - 0.13, "o", color=colour)
            else:
                side, way = (high, ">") if answer.value > high else (low, "<")
                axes.plot(side, row - 0.13, way, color=colour, clip_on=False)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(low, high)
        axes.set_xlabel(_axis(evaluation.reward))
        figure.legend(loc="outside upper center", ncols=2)
        caption = (
            f"Value of {evaluation.policy} estimated from {evaluation.impressions:,} impressions of {evaluation.people:,} people under "
            f"{evaluation.logging_policy}: 95 % intervals, normal (thick) and bootstrap over people (thin); grey where the "
            "effective sample size is too small to be trusted, arrows where a value lies outside the axis."
        )
        return write_figure(figure, file, caption, {name: asdict(answer) for name, answer in evaluation.answers.items()})


def errors(bench: Bench, file: Path) -> Made:
    """Errors of the estimators against the truth of the same seed: one point per seed, with the mean."""
    with style.context(["default", dict(STYLE)]):
        names = list(bench.verdicts)
        figure = Figure(figsize=(WIDTH, 0.9 + 0.17 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.0, color=THIRD, linewidth=1.2)
        trusted = [name for name in names if bench.verdicts[name].trusted > 0.5] or names
        reach = 1.3 * max(max(abs(error) for error in _errors(bench, name)) for name in trusted)
        for row, name in enumerate(names):
            colour = SIMULATED if bench.verdicts[name].trusted > 0.5 else "#bbbbbb"
            axes.plot(np.clip(_errors(bench, name), -reach, reach), [row] * len(bench.seeds), "o", color=colour, markersize=2.5, alpha=0.6)
            mean = bench.verdicts[name].bias
            axes.plot(np.clip(mean, -reach, reach), row, "|", color=REAL, markersize=8, markeredgewidth=1.6)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(-1.04 * reach, 1.04 * reach)
        evaluation = bench.evaluations[0]
        axes.set_xlabel("Error of the estimate (estimate less truth)")
        caption = (
            f"Errors of off-policy estimates of {evaluation.policy} over {len(bench.seeds)} seeds (points; bars: their mean) against the "
            f"simulator's truth, {bench.truth:.4f} on average; grey where the effective sample size is mostly too small, points beyond the "
            "axis at its edge."
        )
        return write_figure(figure, file, caption, [list(bench.truths), {name: _errors(bench, name) for name in names}])


def _errors(bench: Bench, name: str) -> list[float]:
    return [one.answers[name].value - truth for one, truth in zip(bench.evaluations, bench.truths, strict=True)]


def _limits(evaluation: Evaluation, truth: float | None) -> tuple[float, float]:
    """An axis that shows the trusted intervals, the logged value and the truth."""
    trusted = [answer for answer in evaluation.answers.values() if answer.note is None] or list(evaluation.answers.values())
    marks: Sequence[float] = [evaluation.logged.value, *([] if truth is None else [truth])]
    ends = [end for answer in trusted for end in (answer.normal.low, answer.normal.high, answer.value) if np.isfinite(end)]
    low, high = min([*marks, *ends]), max([*marks, *ends])
    spread = (high - low) or 1.0
    return low - _MARGIN * spread / 2, high + _MARGIN * spread / 2


def _axis(reward: str) -> str:
    labels: Mapping[str, str] = {
        "chosen": "Share of shown items chosen",
        "rating": "Rating per shown item",
        "like": "Share of shown items liked",
    }
    return labels.get(reward, REWARDS[reward])

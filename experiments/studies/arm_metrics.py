"""Metrics of every arm against the control, people paired, and how they change over the rounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from experiments.analysis.paired import Measured
from experiments.studies.findings import Arms, Findings, Row, change
from experiments.studies.study_metrics import METRICS, named
from simulator.errors import with_suggestion
from simulator.plugins import ComponentConfig, distinct


class ArmMetricsConfig(ComponentConfig):
    """Options of `ArmMetrics`.

    Attributes:
        metrics: keys of `experiments.studies.study_metrics.METRICS`.
        by_round: whether each round is measured too, and the change from the first to the last.
    """

    metrics: Annotated[tuple[str, ...], AfterValidator(distinct)] = Field(min_length=1)
    by_round: bool = False

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in METRICS:
                raise ValueError(with_suggestion("metric", name, METRICS).rstrip("."))
        return names


class ArmMetrics:
    """Rows: the value of each metric over the whole run (group "all") and its difference from the control's.

    With `by_round` also each round (x counts them from 1), the change from the first round to the last (group "change"), and the
    difference of that change from the control's: what the arm did beyond what time alone did.
    """

    Config = ArmMetricsConfig

    def __init__(self, config: ArmMetricsConfig) -> None:
        self.config = config

    def measure(self, arms: Arms) -> Findings:
        """See `experiments.studies.findings.Analysis`."""
        rows: list[Row] = []
        sentences = []
        for key in self.config.metrics:
            metric = METRICS[key]
            whole = {name: arms.measure(metric, run) for name, run in arms.runs.items()}
            own = {name: arms.row(name, key, "all", found) for name, found in whole.items()}
            apart = self._against(arms, key, "all", whole)
            rows += [*own.values(), *apart]
            told = [f"{arms.control} {own[arms.control].told()}"]
            told += [f"{row.arm} {row.told()} against it" for row in apart]
            name, unit = metric.in_words(arms.domain)
            sentences.append(f"{name} ({unit}): {'; '.join(told)}.")
            if self.config.by_round:
                changed, told_rows = self._rounds(arms, key)
                rows += told_rows
                sentences.append(f"{name}, {changed}.")
        names = {key: named(METRICS[key], arms.domain) for key in self.config.metrics}
        return Findings(tuple(rows), tuple(sentences), names, "round")

    def _rounds(self, arms: Arms, key: str) -> tuple[str, list[Row]]:
        metric = METRICS[key]
        rows, changes = [], {}
        for name, run in arms.runs.items():
            turns = sorted(run.sessions["round"].unique().to_list())
            measured = {turn: arms.measure(metric, run, turn) for turn in turns}
            rows += [arms.row(name, key, f"round {turn + 1}", found, x=turn + 1) for turn, found in measured.items()]
            changes[name] = change(measured[turns[-1]], measured[turns[0]])
        own = [arms.row(name, key, "change", found) for name, found in changes.items()]
        apart = self._against(arms, key, "change", changes)
        told = ", ".join(f"{row.arm} {row.told(signed=True)}" for row in own)
        beyond = ", ".join(f"{row.arm} {row.told()}" for row in apart)
        return f"change from the first round to the last: {told}; beyond {arms.control}'s: {beyond}", [*rows, *own, *apart]

    @staticmethod
    def _against(arms: Arms, key: str, group: str, found: dict[str, Measured]) -> list[Row]:
        return [arms.apart(METRICS[key], name, group, found) for name in arms.others()]

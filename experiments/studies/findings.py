"""What an analysis of a study is given, and what it returns: rows with intervals, all of one form, and sentences that quote them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from experiments.analysis.compared_metrics import Metric, Part, measure
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.intervals import RESAMPLES
from experiments.analysis.paired import Difference, Measured, difference
from experiments.analysis.reactions import no_verdict
from experiments.fidelity.resampling import resample
from simulator.dataset import Domain
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.seeds import Stream


@dataclass(frozen=True, slots=True)
class Row:
    """One number that was found.

    Attributes:
        arm: whose. metric: what, a key of `Findings.names`. group: of what part ("all", "round 1", "cold people" ...).
        x: where it stands on an axis of rounds or pages, or None.
        value, low, high: the number and its 95 % interval over people, NaN where there is none.
        people: how many it rests on.
        against: empty for a value; for a difference, what is subtracted.
        truth: what it should be, where the simulator knows; else None.
        silent: why a difference tells nothing (`experiments.analysis.reactions.no_verdict`); empty if it may.
    """

    arm: str
    metric: str
    group: str
    value: float
    low: float
    high: float
    people: int
    x: float | None = None
    against: str = ""
    truth: float | None = None
    silent: str = ""

    @property
    def surely_not_zero(self) -> bool:
        """Whether the interval excludes 0; never without an interval, or where nothing could have differed."""
        return not self.silent and self.high > self.low and (self.low > 0 or self.high < 0)

    def told(self, *, signed: bool = False) -> str:
        """The value with its interval, such as ``0.31 [0.29, 0.33]``."""
        if not math.isfinite(self.value):
            return "unknown"
        value = f"{self.value:+.3f}" if signed or self.against else f"{self.value:.3f}"
        if self.silent:
            return f"{value} (tells nothing: {self.silent})"
        return value if not math.isfinite(self.low) else f"{value} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    Attributes:
        rows: the numbers. sentences: what they say, each with its numbers.
        names: metric -> name with unit, for axes and tables. axis: name of what `Row.x` counts.
    """

    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    names: Mapping[str, str]
    axis: str = ""


class Analysis(Protocol):
    """What `[analysis] use` names. Its options are a pydantic model `Config` beside it."""

    def measure(self, arms: Arms) -> Findings:
        """Reads the finished runs of all arms."""


@dataclass(frozen=True)
class Arms:
    """The finished arms of a study: the same people in each.

    Attributes:
        runs: name -> run, in the order of the file. control: name of one.

    Raises:
        RunError: two arms have other people.
    """

    runs: Mapping[str, FinishedRun]
    control: str
    people: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        (first, *others) = self.runs.items()
        people = tuple(sorted(first[1].people["user"].to_list()))
        for name, run in others:
            if tuple(sorted(run.people["user"].to_list())) != people:
                raise RunError(
                    f"the arms {first[0]} and {name} have other people; give all arms the same [population], [dataset] and seed."
                )
        object.__setattr__(self, "people", people)

    @cached_property
    def weights(self) -> np.ndarray:
        """How often each person is drawn in each resample, the same in all arms, shape (resamples, people)."""
        seed = next(iter(self.runs.values())).seed
        return resample(len(self.people), RESAMPLES, Stream(seed).child("study", "people"))

    def get(self, name: str, what: str) -> FinishedRun:
        """The run of an arm that an option of an analysis names.

        Raises:
            ConfigError: there is no such arm.
        """
        if name not in self.runs:
            raise ConfigError(f"[analysis] {what}: {with_suggestion('arm', name, self.runs)}")
        return self.runs[name]

    def others(self) -> list[str]:
        """All arms but the control."""
        return [name for name in self.runs if name != self.control]

    def measure(self, metric: Metric, run: FinishedRun, round_number: int | None = None) -> Measured:
        """One metric of a run, or of one round of it."""
        return measure(metric, [Part(run, round_number)], self.people, self.weights)

    @property
    def domain(self) -> Domain:
        """The words for the items."""
        return self.runs[self.control].domain

    def row(self, arm: str, metric: str, group: str, found: Measured, x: float | None = None) -> Row:
        """A value as a row."""
        low, high = found.interval
        return Row(arm, metric, group, found.value, low, high, int(np.count_nonzero(found.influence)), x)

    def apart(self, metric: Metric, arm: str, group: str, found: Mapping[str, Measured]) -> Row:
        """What an arm has more of than the control, people paired, as a row; it says so where the two could not differ.

        Args:
            metric: which. arm: not the control. group: of the row. found: the metric of every arm, or its change.
        """
        both = [(name, found[name], [Part(self.runs[name])]) for name in (arm, self.control)]
        gap = difference(both[0][1], both[1][1])
        return replace(self.difference(arm, metric.key, group, gap, self.control), silent=no_verdict(metric, gap, *both) or "")

    def difference(
        self, arm: str, metric: str, group: str, found: Difference, against: str, x: float | None = None, truth: float | None = None
    ) -> Row:
        """A difference as a row; see `apart` for one between arms."""
        return Row(arm, metric, group, found.value, found.low, found.high, found.people, x, against, truth)


def change(last: Measured, first: Measured) -> Measured:
    """One measurement less another of the same people, as a measurement, so that it can itself be compared between arms."""
    both = last.resampled is not None and first.resampled is not None
    resampled = last.resampled - first.resampled if both and last.resampled is not None and first.resampled is not None else None
    return Measured(last.value - first.value, last.influence - first.influence, resampled)

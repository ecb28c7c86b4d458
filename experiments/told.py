"""What a run's decision model said of itself: what is assumed of people, and what could not be estimated as asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simulator.errors import RunError
from simulator.files import read_document, write_document
from simulator.protocols import Candid, DecisionModel
from simulator.run_directory import RunDirectory

FILE = "told.json"
"""File beside what the decision model itself stores."""

WAY_OUT = "restore it from a copy, or run the experiment again"


@dataclass(frozen=True, slots=True)
class Told:
    """Sentences of a decision model (`simulator.protocols.Candid`).

    Attributes:
        assumptions: what is assumed and not estimated. warnings: what could not be estimated as asked.
        figures: what was measured before the run, by name: the trial of texts, the language model's lift.
    """

    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """All of them, each with what it is."""
        return [*(f"assumption: {one}" for one in self.assumptions), *(f"warning: {one}" for one in self.warnings)]


def told_by(decisions: DecisionModel) -> Told:
    """What a fitted decision model says of itself; nothing if it is not one that does."""
    figures = getattr(decisions, "figures", {})
    return Told(tuple(decisions.assumptions), tuple(decisions.warnings), dict(figures)) if isinstance(decisions, Candid) else Told()


def write_told(folder: Path, decisions: DecisionModel) -> None:
    """Keeps what a fitted decision model says of itself in the folder that it is stored in."""
    write_document(folder / FILE, asdict(told_by(decisions)))


def read_told(run: Path) -> Told:
    """What the decision model of a run said; nothing for runs of before.

    Raises:
        RunError: the file is damaged.
    """
    file = run / "decisions" / FILE
    if not file.is_file():
        directory = RunDirectory(run)
        if directory.is_complete and "hashes_sha256" in directory.read_json("summary") and f"decisions/{FILE}" in directory.read_hashes():
            raise RunError(f"{file} is gone; {WAY_OUT}.")
        return Told()
    stored, whole = read_document(file, WAY_OUT)
    said = [stored.get(name) for name in ("assumptions", "warnings")]
    figures = stored.get("figures", {})  # runs of before had none
    numbers = isinstance(figures, dict) and all(isinstance(value, int | float) for value in figures.values())
    if not whole or not numbers or not all(isinstance(some, list) and all(isinstance(one, str) for one in some) for some in said):
        raise RunError(f"{file} does not hold what was written; {WAY_OUT}.")
    assumptions, warnings = (tuple(map(str, some or ())) for some in said)
    return Told(assumptions, warnings, figures)

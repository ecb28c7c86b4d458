"""What a run's decision model said of itself: what is assumed of people, and what could not be estimated as asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from simulator.protocols import Candid, DecisionModel
from simulator.run_directory import write_atomically

FILE = "told.json"
"""File beside what the decision model itself stores."""


@dataclass(frozen=True, slots=True)
class Told:
    """Sentences of a decision model (`simulator.protocols.Candid`).

    Attributes:
        assumptions: what is assumed and not estimated. warnings: what could not be estimated as asked.
    """

    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """All of them, each with what it is."""
        return [*(f"assumption: {one}" for one in self.assumptions), *(f"warning: {one}" for one in self.warnings)]


def told_by(decisions: DecisionModel) -> Told:
    """What a fitted decision model says of itself; nothing if it is not one that does."""
    return Told(tuple(decisions.assumptions), tuple(decisions.warnings)) if isinstance(decisions, Candid) else Told()


def write_told(folder: Path, decisions: DecisionModel) -> None:
    """Keeps what a fitted decision model says of itself in the folder that it is stored in."""
    write_atomically(folder / FILE, (json.dumps(asdict(told_by(decisions)), indent=1, ensure_ascii=False) + "\n").encode())


def read_told(run: Path) -> Told:
    """What the decision model of a run said; nothing for runs of before."""
    file = run / "decisions" / FILE
    if not file.is_file():
        return Told()
    stored = json.loads(file.read_text(encoding="utf-8"))
    return Told(tuple(stored["assumptions"]), tuple(stored["warnings"]))

"""The level at which people choose as often as `decision.choose_rate` says: where a run keeps it, and how it comes into force.

It is found once per run (`experiments.anchoring`) and lies beside the fitted decision model, which does not depend on the recommender.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.config import ExperimentConfig
from experiments.sections import RecommenderSection
from simulator.errors import RunError
from simulator.files import read_document, write_document
from simulator.protocols import Anchorable

FOLDER = "anchor"
FILE = "anchor.json"
WAY_OUT = "restore it from a copy, or run the experiment again"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What was found before the first round.

    Attributes:
        asked: share of shown items that people are to choose, or None where true exposures tell it.
        anchored_on: id of the policy whose pages it is met on. people, pages: of the rehearsal.
        expected: mean probability of choosing on those pages, None without any.
        shift: log-odds that are added to everybody's. usual, level_slope: see `simulator.protocols.Anchorable.anchor`.
        made_from: what all this depends on besides the decision model and the people.
    """

    asked: float | None
    anchored_on: str
    people: int
    pages: int
    expected: float | None
    shift: float
    usual: tuple[float, ...]
    made_from: dict[str, Any]
    level_slope: float = 1.0


def with_common_anchor(config: ExperimentConfig, recommender: RecommenderSection) -> ExperimentConfig:
    """An arm of several whose people are to be the same: its `choose_rate` is met on pages of one recommender, unless it says whose."""
    if config.anchor is not None or config.recommender == recommender:
        return config
    return config.model_copy(update={"anchor": recommender})


def write(folder: Path, anchor: Anchor) -> None:
    """Keeps an anchor in an existing folder."""
    write_document(folder / FILE, asdict(anchor), indent=1)


def read(run: Path) -> Anchor | None:
    """The anchor of a run, or None if it has none.

    Raises:
        RunError: the file is damaged.
    """
    file = run / FOLDER / FILE
    if not file.is_file():
        return None
    stored, whole = read_document(file, WAY_OUT)
    try:
        usual, shift, slope = tuple(map(float, stored["usual"])), float(stored["shift"]), float(stored.get("level_slope", 1.0))
        found = Anchor(**{**stored, "usual": usual, "shift": shift, "level_slope": slope})
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RunError(f"{file} does not hold what was written; {WAY_OUT}.")
    return found


def put_in_force(part: object, run: Path) -> None:
    """Moves a decision model that was just loaded from a run to the run's level, if it has one."""
    if isinstance(part, Anchorable) and (found := read(run)) is not None and found.asked is not None:
        part.anchor(found.shift, np.array(found.usual), found.level_slope)


def told(run: Path) -> dict[str, Any]:
    """What was asked for and what came out, for the summary of a run with its tables; nothing where it has no anchor."""
    found = read(run)
    if found is None:
        return {}
    shown = pl.scan_parquet(run / "impressions.parquet", glob=False).select("round", "chosen")
    rounds = shown.group_by("round").agg(pl.col("chosen").mean()).sort("round").collect()
    every = shown.select(pl.col("chosen").mean()).collect().item()
    return {
        "choose_rate": {
            "asked": found.asked,
            "anchored_on": found.anchored_on,
            "people": found.people,
            "pages": found.pages,
            "expected": found.expected,
            "got": every,
            "got_by_round": rounds["chosen"].to_list(),
        }
    }


def sentence(choose_rate: dict[str, Any]) -> str:
    """One line about `told`'s entry."""
    got = [f"{share:.3f}" for share in choose_rate["got_by_round"]]
    later = f", in later rounds {got[-1]}" if len(got) > 1 else ""
    came = f"got {got[0] if got else 'nothing'}{' in the first round' if later else ''}{later}"
    if choose_rate["asked"] is None:
        return f"estimated from exposures, decision.choose_rate is not used; {came}"
    expected = f"expected {choose_rate['expected']:.3f} on pages of {choose_rate['anchored_on']}"
    return f"asked {choose_rate['asked']:.3f}, {expected}, {came}"

"""What one simulated person did, as lines of text from top to bottom (`experiments.analysis.stories`, cut to the width of a figure)."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.stories import ShownItem, story

_WIDTH = 46
"""Characters of a line beside the squares of a page."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Attributes:
        kind: "heading" of a session, "page" (one chosen item, or none), "end" of a session, or "insight".
        text: may hold any characters that titles hold.
        squares: on the first line of a page, whether each shown item was chosen, in order of position.
    """

    kind: Literal["heading", "page", "end", "insight"]
    text: str
    squares: tuple[bool, ...] = ()


def timeline_rows(run: FinishedRun, user: str) -> list[Row]:
    """The sessions of one person, their pages with the chosen items and ratings, satisfaction, and insights."""
    rows: list[Row] = []
    for visit in story(run, user).visits:
        rows.append(Row("heading", f"Session {visit.number + 1}, round {visit.round + 1}, {visit.started}"))
        for page in visit.pages:
            squares = tuple(item.chosen for item in page.items)
            picks = [_pick(item) for item in page.items if item.chosen] or ["–"]
            rows += [Row("page", text, squares if number == 0 else ()) for number, text in enumerate(picks)]
        mood = visit.satisfaction
        rows.append(Row("end", visit.ending if mood is None else f"{visit.ending}, satisfaction {mood:.0f} of 10"))
        if "insight" in visit.texts:
            rows += [Row("insight", line) for line in textwrap.wrap(visit.texts["insight"], _WIDTH, max_lines=3, placeholder=" …")]
    return rows


def _pick(item: ShownItem) -> str:
    stars = f"{item.rating:g} ★  " if item.rating is not None else ""
    return stars + (item.title if len(item.title) <= 38 else item.title[:37] + "…")

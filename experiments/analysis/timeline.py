"""What one simulated person did, as lines of text from top to bottom."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl

from experiments.analysis.finished_run import FinishedRun

_WIDTH = 46
"""Characters of a line beside the squares of a page."""

_ENDINGS = {"left": "left", "last_page": "saw the last page", "exhausted": "nothing left to show"}


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


def ordinary_person(run: FinishedRun) -> str:
    """Of the people who came in most rounds, the one whose number of choices is nearest to the median (then by id)."""
    people = run.sessions.group_by("user").agg(rounds=pl.col("round").n_unique(), choices=pl.col("interactions").sum())
    often = people.filter(pl.col("rounds") == pl.col("rounds").max())
    chosen = often.filter(pl.col("choices") > 0)
    pool = chosen if chosen.height else often
    return str(pool.sort((pl.col("choices") - pl.col("choices").median()).abs(), "user")["user"][0])


def timeline_rows(run: FinishedRun, user: str) -> list[Row]:
    """The sessions of one person, their pages with the chosen items and ratings, satisfaction, and insights."""
    titles = dict(run.items.select("item", "title").iter_rows())
    mine = pl.col("user") == user
    shown = run.impressions.filter(mine)
    insights = run.memories.filter(mine & (pl.col("kind") == "insight"))
    rows: list[Row] = []
    for session in run.sessions.filter(mine).sort("session").iter_rows(named=True):
        started = datetime.fromtimestamp(session["start"], UTC)
        rows.append(Row("heading", f"Session {session['session'] + 1}, round {session['round']}, {started:%d %b %Y, %H:%M}"))
        of_session = shown.filter(pl.col("session") == session["session"]).sort("page", "position")
        for _, page in of_session.group_by("page", maintain_order=True):
            squares = tuple(page["chosen"].to_list())
            picks = [_pick(titles, row) for row in page.filter(pl.col("chosen")).iter_rows(named=True)] or ["–"]
            rows += [Row("page", text, squares if number == 0 else ()) for number, text in enumerate(picks)]
        mood = session.get("satisfaction")
        ending = _ENDINGS[session["exit"]]
        rows.append(Row("end", ending if mood is None else f"{ending}, satisfaction {mood:.0f} of 10"))
        for insight in insights.filter(pl.col("session") == session["session"])["text"]:
            rows += [Row("insight", line) for line in textwrap.wrap(insight, _WIDTH, max_lines=3, placeholder=" …")]
    return rows


def _pick(titles: Mapping[str, str | None], row: Mapping[str, Any]) -> str:
    title = " ".join((titles.get(row["item"]) or f"item {row['item']}").split())
    stars = f"{row['rating']:g} ★  " if row.get("rating") is not None else ""
    return stars + (title if len(title) <= 38 else title[:37] + "…")

"""What one simulated person did, as a story: who it is, visit by visit the pages as they were shown, what they took, how it ended.

The report, the figure of one person and the dashboard tell it; they read the same tables, of a finished run or of one that goes on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import polars as pl

from agents.text import clean
from agents.titles import variants
from simulator.dataset import Domain

ENDINGS = {"left": "left", "last_page": "saw the last page", "exhausted": "nothing left to show"}
"""How a session ended, in words."""


class Log(Protocol):
    """The tables a story is made from (see `simulator.tables` and `experiments.people_tables`); `FinishedRun` has them."""

    @property
    def impressions(self) -> pl.DataFrame:
        """One row per shown item."""

    @property
    def pages(self) -> pl.DataFrame:
        """One row per page turn."""

    @property
    def sessions(self) -> pl.DataFrame:
        """One row per session that is over."""

    @property
    def texts(self) -> pl.DataFrame:
        """One row per text that the language model was asked to write."""

    @property
    def people(self) -> pl.DataFrame:
        """One row per person."""

    @property
    def items(self) -> pl.DataFrame:
        """One row per item."""

    @property
    def domain(self) -> Domain:
        """The words for the items."""


@dataclass(frozen=True, slots=True)
class ShownItem:
    """One item of a page.

    Attributes:
        title, genres: as text, of strangers. chosen: whether it was taken. rating: given, in the data's units, or None.
        probability: with which it was to be taken, in [0, 1]. propensity: with which it was shown here, in (0, 1], or None if nobody knows.
        anchor: name of this place in a page of HTML, where the item stands first in its session; else empty.
    """

    title: str
    genres: str
    chosen: bool
    rating: float | None
    probability: float
    propensity: float | None
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class ShownPage:
    """One page turn: its number in the session from 1, the items in order of position, whether the person left after it and how
    probable that was, and how long they looked, in seconds."""

    number: int
    items: tuple[ShownItem, ...]
    left: bool
    leave_probability: float
    dwell: int


@dataclass(frozen=True, slots=True)
class Visit:
    """One session.

    Attributes:
        number, round: from 0, as in the log; people are told them from 1. started: date and time (UTC) as text. pages: in order.
        ending: how it ended, in words; empty while it goes on.
        satisfaction: from 1 to 10, or None. texts: what the person says about it, kind -> text.
        linked: the same texts in pieces: a piece that names an item of the visit comes with the anchor of where that was shown.
    """

    number: int
    round: int
    started: str
    pages: tuple[ShownPage, ...]
    ending: str
    satisfaction: float | None
    texts: Mapping[str, str]
    linked: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def chosen(self) -> int:
        """Items taken."""
        return sum(item.chosen for page in self.pages for item in page.items)


@dataclass(frozen=True, slots=True)
class Story:
    """One person: id, a sentence about who it is, visits in order, and the words for items of this data."""

    user: str
    who: str
    visits: tuple[Visit, ...]
    domain: Domain


def story(log: Log, user: str) -> Story:
    """Tells what one person did.

    Args:
        log: the tables.
        user: id of somebody in them.
    """
    mine = pl.col("user") == user
    titles, genres = dict(log.items.select("item", "title").iter_rows()), dict(log.items.select("item", "genres").iter_rows())
    shown = log.impressions.filter(mine).sort("session", "page", "position")
    items: dict[tuple[int, int], list[ShownItem]] = {}
    anchors: dict[tuple[int, str], tuple[str, tuple[int, int]]] = {}
    for row in shown.iter_rows(named=True):
        title = " ".join((titles.get(row["item"]) or f"item {row['item']}").split())
        about = ", ".join(genres.get(row["item"]) or ())
        anchor = _anchor(user, row["session"], row["item"])
        anchors.setdefault((row["session"], row["item"]), (anchor, (row["page"], row["position"])))
        first_here = anchors[row["session"], row["item"]][1] == (row["page"], row["position"])
        one = ShownItem(
            title, about, row["chosen"], row.get("rating"), row["chosen_probability"], row["propensity"], anchor if first_here else ""
        )
        items.setdefault((row["session"], row["page"]), []).append(one)
    pages: dict[int, list[ShownPage]] = {}
    first: dict[int, tuple[int, int]] = {}
    for row in log.pages.filter(mine).sort("session", "page").iter_rows(named=True):
        place = (row["session"], row["page"])
        turn = ShownPage(row["page"], tuple(items.get(place, ())), bool(row["leave"]), row["leave_probability"], row["dwell"])
        pages.setdefault(row["session"], []).append(turn)
        first.setdefault(row["session"], (row["round"], row["time"]))
    ends = {row["session"]: row for row in log.sessions.filter(mine).iter_rows(named=True)}
    said: dict[int, dict[str, str]] = {}
    linked: dict[int, dict[str, tuple[tuple[str, str], ...]]] = {}
    for row in log.texts.filter(mine & (pl.col("text") != "")).iter_rows(named=True):
        session, kind = row["session"], row["kind"]
        here = {item: anchors[session, item][0] for item in row.get("items") or () if (session, item) in anchors}
        said.setdefault(session, {})[kind] = row["text"]
        linked.setdefault(session, {})[kind] = _pieces(row["text"], {titles.get(item) or "": anchor for item, anchor in here.items()})
    visits = []
    for session, turns in pages.items():
        end: Mapping[str, Any] = ends.get(session, {})
        round_number, time = first[session]
        started = f"{datetime.fromtimestamp(end.get('start', time), UTC):%d %b %Y, %H:%M}"
        ending = ENDINGS[end["exit"]] if end else ""
        texts = (said.get(session, {}), linked.get(session, {}))
        visits.append(Visit(session, round_number, started, tuple(turns), ending, end.get("satisfaction"), *texts))
    return Story(user, who(log, user), tuple(visits), log.domain)


def _anchor(user: str, session: int, item: str) -> str:
    return "shown-" + hashlib.blake2b(f"{user}\n{session}\n{item}".encode(), digest_size=6).hexdigest()


def _pieces(text: str, titles: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """A text in pieces, each with the anchor of the item whose title it is, or with none."""
    names = {clean(name): anchor for title, anchor in titles.items() for name in variants(title) if name.strip()}
    if not names:
        return ((text, ""),)
    found = re.split("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")", text)
    return tuple((piece, names.get(piece, "")) for piece in found if piece)


def who(log: Log, user: str) -> str:
    """One sentence about a person: demographics, traits, favourite genres and titles, as far as they are known."""
    found = log.people.filter(pl.col("user") == user)
    if not found.height:
        return ""
    row = found.row(0, named=True)
    titles = dict(log.items.select("item", "title").iter_rows())
    parts = [", ".join(str(row[key]) + (" years old" if key == "age" else "") for key in ("age", "gender", "occupation") if row.get(key))]
    parts.append("synthetic" if row.get("synthetic") else f"{row.get('interactions', 0):,} interactions in the training data")
    levels = [
        f"{row[f'{trait}_level']} {trait}" for trait in ("activity", "conformity", "diversity", "pickiness") if row.get(f"{trait}_level")
    ]
    parts.append(", ".join(levels))
    if row.get("favourite_genres"):
        parts.append("likes " + ", ".join(row["favourite_genres"][:3]))
    loved = [" ".join(str(titles.get(item) or item).split()) for item in (row.get("liked") or [])[:3]]
    if loved:
        parts.append("such as " + ", ".join(loved))
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + "."


def examples(log: Log) -> list[tuple[str, str]]:
    """Up to three different people worth reading about: somebody ordinary, who took most, and who was least content (or took least).

    Returns:
        Pairs of why this person, and the id; nothing if nobody came.
    """
    if not log.sessions.height:
        return []
    people = log.sessions.group_by("user").agg(
        choices=pl.col("interactions").sum(),
        mood=pl.col("satisfaction").mean() if "satisfaction" in log.sessions.columns else pl.lit(None, dtype=pl.Float64),
    )
    content = people["mood"].null_count() < people.height
    ranked = [
        ("Somebody ordinary", [ordinary_person(log)]),
        ("Who took most", people.sort("choices", "user", descending=[True, False])["user"].to_list()),
        (
            "Who was least content" if content else "Who took least",
            people.sort("mood" if content else "choices", "user", nulls_last=True)["user"].to_list(),
        ),
    ]
    told: list[tuple[str, str]] = []
    for why, order in ranked:
        user = next((user for user in order if user not in {one for _, one in told}), None)
        if user is not None:
            told.append((why, user))
    return told


def ordinary_person(log: Log) -> str:
    """Of the people who came in most rounds, the one whose number of choices is nearest to the median (then by id)."""
    people = log.sessions.group_by("user").agg(rounds=pl.col("round").n_unique(), choices=pl.col("interactions").sum())
    often = people.filter(pl.col("rounds") == pl.col("rounds").max())
    chosen = often.filter(pl.col("choices") > 0)
    pool = chosen if chosen.height else often
    return str(pool.sort((pl.col("choices") - pl.col("choices").median()).abs(), "user")["user"][0])

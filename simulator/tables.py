"""Every stored table: its columns, their polars types, meaning and unit. The one home of column names.

`schema(TABLE)` gives the polars schema; the columns of the actions are added by `with_actions`, since a user action is
declared as data (`agents.actions`), and so are `INTERVENTION_COLUMNS` where an experiment has interventions. Joined tables are
sorted by their `key`, which is unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from simulator.records import Action


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, polars type, meaning (with the unit)."""

    name: str
    dtype: pl.DataType
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One stored table: file stem, one sentence, columns, and the columns that identify and order its rows."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def schema(self) -> dict[str, pl.DataType]:
        """Column name -> polars type, in order."""
        return {column.name: column.dtype for column in self.columns}


_ROUND = Column("round", pl.Int32(), "round, from 0")
_USER = Column("user", pl.String(), "the data set's id of the person, or 'synthetic-0000' and so on")
_SESSION = Column("session", pl.Int32(), "session of this person over the whole run, from 0")
_PAGE = Column("page", pl.Int32(), "page of the session, from 1")

IMPRESSIONS = Table(
    "impressions",
    "One row per shown item.",
    (
        _ROUND,
        _USER,
        _SESSION,
        _PAGE,
        Column("position", pl.Int32(), "place on the page, from 1"),
        Column("item", pl.String(), "the data set's id of the item"),
        Column("policy", pl.String(), "id of the policy that filled the page"),
        Column("score", pl.Float64(), "the recommender's score, its own unit; null where there is none"),
        Column(
            "propensity",
            pl.Float64(),
            "probability in (0, 1] of this item at this place, given the items above it; null where nobody knows it",
        ),
        Column("time", pl.Int64(), "when the page appeared, simulated seconds since 1970 UTC"),
        Column("synthetic", pl.Boolean(), "True if the person was drawn, not read from the data"),
    ),
    ("round", "user", "session", "page", "position"),
)

PAGES = Table(
    "pages",
    "One row per page turn.",
    (
        _ROUND,
        _USER,
        _SESSION,
        _PAGE,
        Column("time", pl.Int64(), "when the page appeared, simulated seconds since 1970 UTC"),
        Column("dwell", pl.Int64(), "how long it was looked at, seconds"),
        Column("policy", pl.String(), "id of the policy that filled the page"),
        Column("shown", pl.Int32(), "items on the page"),
        Column("chosen_count", pl.Int32(), "items chosen on the page"),
        Column("fatigue", pl.Float64(), "in [0, 1), when the page appeared"),
        Column("memories", pl.Int32(), "records recalled in front of the page"),
        Column("memories_told", pl.Int32(), "of these, records that fitted the prompt, most relevant first; null if memories are not read"),
        Column(
            "unlike_without_model",
            pl.Int32(),
            "items on which the same draws without the language model's answer choose otherwise, and one more if the person would "
            "have left or stayed instead; null where that was not compared",
        ),
        Column("status", pl.String(), "'ok', or why the reply could not be used"),
        Column("reply", pl.String(), "the unusable reply; empty if status is 'ok'"),
    ),
    ("round", "user", "session", "page"),
)

SESSIONS = Table(
    "sessions",
    "One row per session.",
    (
        _ROUND,
        _USER,
        _SESSION,
        Column("start", pl.Int64(), "simulated seconds since 1970 UTC"),
        Column("end", pl.Int64(), "simulated seconds since 1970 UTC"),
        Column("pages", pl.Int32(), "pages seen"),
        Column("impressions", pl.Int32(), "items shown"),
        Column("interactions", pl.Int32(), "items chosen"),
        Column("mean_rating", pl.Float64(), "mean rating given, the data's units; null if none"),
        Column("exit", pl.String(), "'left', 'last_page' (the maximum was reached) or 'exhausted' (nothing left to show)"),
        Column("synthetic", pl.Boolean(), "True if the person was drawn, not read from the data"),
        Column("status", pl.String(), "'ok', or why the closing reply could not be used"),
        Column("reply", pl.String(), "the unusable reply; empty if status is 'ok'"),
    ),
    ("round", "user", "session"),
)

MEMORIES = Table(
    "memories",
    "One row per memory record, in its state at the end of the run.",
    (
        _USER,
        Column("record", pl.Int32(), "number of the record for this person, from 0"),
        Column("kind", pl.String(), "seen, chosen, rated (factual), feeling (emotional) or insight (reflection)"),
        _ROUND,
        _SESSION,
        Column("time", pl.Int64(), "simulated seconds since 1970 UTC"),
        Column("text", pl.String(), "one sentence in the first person"),
        Column("item", pl.String(), "the data set's id of the item it is about, or null"),
        Column("importance", pl.Float64(), "in [0, 1]"),
        Column("references", pl.List(pl.Int32()), "records an insight rests on"),
        Column("recalls", pl.Int32(), "how often it was recalled"),
        Column("last_recall", pl.Int64(), "when last recalled, simulated seconds; its own time if never"),
        Column("forgotten", pl.Int64(), "when it was dropped, simulated seconds; null while held"),
    ),
    ("user", "record"),
)

TEXTS = Table(
    "texts",
    "One row per text: written by the language model and found true, or made from facts.",
    (
        _ROUND,
        _USER,
        _SESSION,
        Column("kind", pl.String(), "'reason' of the satisfaction, 'insight' of a reflection, 'taste', or 'thought n' about page n"),
        Column("text", pl.String(), "the text as it is shown and remembered; empty where none came about"),
        Column(
            "status",
            pl.String(),
            "'ok' if the language model wrote it, and it was found complete and true (thoughts are not checked, nor shown); 'facts' if it "
            "was made from facts without asking; else what was against the model's text ('length', 'empty', 'another rating' and so on), "
            "in whose place one made from facts stands",
        ),
        Column("rejected", pl.String(), "what the language model wrote in place of it; empty where nothing was refused"),
        Column("items", pl.List(pl.String()), "the data set's ids of the items that the text names"),
    ),
    ("round", "user", "session", "kind"),
)

INTERVENTION_COLUMNS = (
    Column("targeted", pl.String(), "names of the interventions that aim at this item in this round, joined by '+'; empty if none does"),
    Column("treated", pl.String(), "of these, the names of those that this person met here; empty in the control group"),
)
"""Further columns of `IMPRESSIONS` in an experiment with interventions (`environments.interventions`)."""

TABLES: tuple[Table, ...] = (IMPRESSIONS, PAGES, SESSIONS, MEMORIES, TEXTS)
"""All joined tables of a run, each a file ``<name>.parquet``."""

SCOPE_TABLES = {"item": IMPRESSIONS, "page": PAGES, "session": SESSIONS}
"""Which table the columns of an action go to."""


def with_actions(table: Table, actions: Sequence[Action], *, interventions: bool = False) -> Table:
    """`table` with the columns of those actions whose scope it holds, at the end and in order of declaration.

    Args:
        table: one of `TABLES`. actions: of the experiment.
        interventions: whether the experiment has any; then `IMPRESSIONS` says which ones met whom.
    """
    columns = [*table.columns, *(INTERVENTION_COLUMNS if interventions and table.name == IMPRESSIONS.name else ())]
    for action in actions:
        if SCOPE_TABLES[action.scope].name != table.name:
            continue
        if action.is_binary:
            columns.append(Column(action.column, pl.Boolean(), action.meaning))
            columns.append(Column(f"{action.column}_probability", pl.Float64(), f"probability with which `{action.column}` was drawn"))
        else:
            columns.append(Column(action.column, pl.Float64(), f"{action.meaning}; null if it did not happen"))
            columns.append(
                Column(f"{action.column}_expected", pl.Float64(), f"expected value of `{action.column}`, whether it happened or not")
            )
    return Table(table.name, table.meaning, tuple(columns), table.key)

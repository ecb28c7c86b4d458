"""The log of one cohort in one round: rows are collected page by page and become the tables of `simulator.tables`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from simulator.memory_table import to_frame
from simulator.records import Action, Closing, Impression, MemoryRecord, Outcome, PageTurn, SessionEnd, UserProfile
from simulator.tables import IMPRESSIONS, MEMORIES, PAGES, SESSIONS, TEXTS, Table, with_actions


class CohortLog:
    """Collects what happens; `tables` gives it as data frames with the people's and items' own ids.

    Args:
        actions: the actions of the experiment; they decide some columns.
        item_ids: the data set's item id of each item code, shape (n_items,).
        interventions: whether the experiment has any, which adds columns to the impressions.
    """

    def __init__(self, actions: Sequence[Action], item_ids: np.ndarray, *, interventions: bool = False) -> None:
        self._actions = tuple(actions)
        self._interventions = interventions
        self._item_ids = item_ids
        self._rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in (IMPRESSIONS, PAGES, SESSIONS, TEXTS)}
        self._memories: list[tuple[str, Sequence[MemoryRecord]]] = []

    def page(self, turn: PageTurn) -> None:
        """One page turn: a row of `pages`, and one of `impressions` for each shown item."""
        situation, outcomes = turn.situation, turn.decision.outcomes
        page, state, profile = situation.page, situation.state, situation.profile
        where = {"round": state.round, "user": profile.user_id, "session": state.session, "page": page.number, "time": state.time}
        chosen = outcomes["choose"].values
        self._rows["pages"].append(
            {
                **where,
                "dwell": turn.dwell,
                "policy": page.policy,
                "shown": len(page.impressions),
                "chosen_count": int(np.nansum(chosen)),
                "fatigue": state.fatigue,
                "memories": len(situation.memories),
                "memories_told": turn.decision.memories_told,
                "unlike_without_model": turn.decision.unlike_without_model,
                "status": turn.decision.status,
                "reply": turn.decision.reply,
                **self._outcome_columns(outcomes, "page", 0),
            }
        )
        thought, status = turn.decision.thought, turn.decision.thought_status
        if thought or status:
            text = {"kind": f"thought {page.number}", "text": thought, "status": status or "ok", "rejected": "", "items": []}
            self._rows["texts"].append({"round": state.round, "user": profile.user_id, "session": state.session, **text})
        for place, impression in enumerate(page.impressions):
            self._rows["impressions"].append(
                {
                    **where,
                    "position": impression.position,
                    "item": self._item_ids[impression.item],
                    "policy": page.policy,
                    "score": _known(impression.score),
                    "propensity": _known(impression.propensity),
                    "synthetic": profile.synthetic,
                    **(_intervened(impression) if self._interventions else {}),
                    **self._outcome_columns(outcomes, "item", place),
                }
            )

    def session(self, end: SessionEnd, closing: Closing) -> None:
        """The end of a session: a row of `sessions`, and its texts."""
        situation = end.situation
        state, profile = situation.state, situation.profile
        where = {"round": state.round, "user": profile.user_id, "session": state.session}
        self._rows["sessions"].append(
            {
                **where,
                "start": state.start,
                "end": state.time,
                "pages": situation.page.number,
                "impressions": state.shown,
                "interactions": state.chosen,
                "mean_rating": state.mean_rating,
                "exit": end.exit,
                "synthetic": profile.synthetic,
                "status": closing.status,
                "reply": closing.reply,
                **self._outcome_columns(closing.outcomes, "session", 0),
            }
        )
        for kind, text, status, rejected, items in (
            ("reason", closing.reason, closing.reason_status, closing.reason_rejected, closing.reason_items),
            ("insight", closing.insight, closing.insight_status, closing.insight_rejected, closing.insight_items),
        ):
            if text or status:
                named = [str(self._item_ids[item]) for item in items]
                row = {"kind": kind, "text": text, "status": status or "ok", "rejected": rejected, "items": named}
                self._rows["texts"].append({**where, **row})

    def memories(self, profile: UserProfile, records: Sequence[MemoryRecord]) -> None:
        """All records of one person, in their state at the end of the round."""
        self._memories.append((profile.user_id, records))

    def rows(self, table: Table) -> Sequence[Mapping[str, Any]]:
        """Rows of impressions, pages, sessions or texts so far, in order of arrival: column -> value, None where a table has null."""
        return self._rows[table.name]

    def tables(self) -> dict[str, pl.DataFrame]:
        """Table name -> rows, sorted by the table's key."""
        frames = {}
        for table in (IMPRESSIONS, PAGES, SESSIONS, TEXTS):
            full = with_actions(table, self._actions, interventions=self._interventions)
            frames[table.name] = pl.DataFrame(self._rows[table.name], schema=full.schema(), orient="row").sort(table.key)
        frames[MEMORIES.name] = to_frame(self._memories, self._item_ids).sort(MEMORIES.key)
        return frames

    def _outcome_columns(self, outcomes: Mapping[str, Outcome], scope: str, place: int) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for action in self._actions:
            if action.scope != scope:
                continue
            outcome = outcomes[action.name]
            value, probabilities = float(outcome.values[place]), outcome.probabilities[place]
            if action.is_binary:
                columns[action.column] = None if np.isnan(value) else bool(value)
                columns[f"{action.column}_probability"] = float(probabilities[action.values.index(True)])
            else:
                columns[action.column] = None if np.isnan(value) else value
                columns[f"{action.column}_expected"] = float(probabilities @ np.array(action.results, dtype=np.float64))
        return columns


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def tables_of(actions: Sequence[Action], *, interventions: bool = False) -> tuple[Table, ...]:
    """All joined tables of an experiment with these actions, and with or without interventions."""
    return tuple(with_actions(table, actions, interventions=interventions) for table in (IMPRESSIONS, PAGES, SESSIONS, MEMORIES, TEXTS))


def _intervened(impression: Impression) -> dict[str, str]:
    return {
        "targeted": "+".join(note.intervention for note in impression.notes),
        "treated": "+".join(note.intervention for note in impression.notes if note.treated),
    }

"""What each column of a run's tables means, as text to put beside exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from agents.actions import ACTIONS
from simulator.tables import TABLES, with_actions

_TRAITS = {
    "activity": "activity (number of training interactions)",
    "conformity": "conformity (mean squared deviation of the ratings from the items' means)",
    "diversity": "diversity (number of genres that cover 80 % of the history)",
    "pickiness": "pickiness (mean rating; the level 'high' is a low mean)",
}

PEOPLE: Mapping[str, str] = {
    "user": "the data set's id of the person, or 'synthetic-0000' and so on",
    "synthetic": "True if the person was drawn, not read from the data",
    **{f"{name}_value": f"{text}, in the training data" for name, text in _TRAITS.items()},
    **{f"{name}_percentile": f"share of the real population with a lower value of {name}, in [0, 1]" for name in _TRAITS},
    **{f"{name}_level": f"level of {name}: low, medium or high" for name in _TRAITS},
    "age": "years, or null",
    "gender": "a word, or null",
    "occupation": "a word, or null",
    "taste": "paragraph written once by the language model, or null",
    "interactions": "training interactions (for a synthetic person, of the drawn history)",
    "mean_rating": "mean training rating, the data's units; null without ratings",
    "liked": "ids of the items that show best what the person likes, strongest first",
    "disliked": "ids of the items that show best what the person dislikes, strongest first",
    "favourite_genres": "genres that are more frequent with this person than with others, strongest first",
    "sessions_per_week": "mean number of sessions per week while active",
    "items_per_session": "mean number of interactions in a real session",
    "seconds_per_item": "median seconds between two interactions within a session",
}

ITEMS: Mapping[str, str] = {
    "item": "the data set's id of the item",
    "title": "title",
    "year": "year, or null",
    "genres": "genres",
    "train_count": "interactions with the item in the training data",
    "train_mean_rating": "mean training rating, the data's units; null without ratings",
}

REAL: Mapping[str, str] = {
    "user": "the data set's id of the person",
    "item": "the data set's id of the item",
    "rating": "in the data's units, or null",
    "timestamp": "seconds since 1970 UTC, or null",
    "session": "number of the real session (30 minutes without an interaction end it), or null without times",
}

TREATMENTS: Mapping[str, str] = {
    "user": PEOPLE["user"],
    "intervention": "name of an intervention on people",
    "treated": "whether this person is in its treated group",
}

INTERACTIONS: Mapping[str, str] = {
    "user": PEOPLE["user"],
    "item": ITEMS["item"],
    "rating": "rating, in the data's units",
    "timestamp": "seconds since 1970 UTC; simulated: when the page appeared and one second more per place on it, so that the order is kept",
    "source": "'simulated' for choices of simulated people, 'real' for interactions of the training data",
}

SCORES: Mapping[str, str] = {
    "user": "code of the person in the data set, from 0",
    "item": "code of the item in the data set, from 0",
    "kind": "positive (a hidden interaction), or a negative: random, or matched to a positive in popularity",
    "rank": "number among the person's items of this kind, from 0",
    "rating": "what the person really gave, the data's units; null for negatives",
    "position": "place on the page on which the decision model was asked, from 1",
    "choose": "probability of choosing the item, as the decision model says; NaN if its reply could not be used",
    **{f"rate_{k}": f"probability of {k + 1} of 5 stars if chosen" for k in range(5)},
}
"""Of ``fidelity/parts/scores-<people>-<decision model>.parquet`` in a run."""


def meanings(table: str) -> dict[str, str]:
    """Column -> meaning of a table of a run (``impressions`` ...), an export (``interactions``) or a fidelity report (``scores``).

    Raises:
        KeyError: there is no such table.
    """
    beside = {"people": PEOPLE, "items": ITEMS, "real": REAL, "treatments": TREATMENTS, "interactions": INTERACTIONS, "scores": SCORES}
    if table in beside:
        return dict(beside[table])
    found = {known.name: known for known in TABLES}[table]
    return {column.name: column.meaning for column in with_actions(found, ACTIONS, interventions=True).columns}


def dictionary(tables: Mapping[str, pl.DataFrame], suffix: str) -> Sequence[str]:
    """Lines of Markdown that explain every column of `tables`, whose files are called ``<name><suffix>``."""
    lines = []
    for name, frame in tables.items():
        known = meanings(name)
        lines += [f"## {name}{suffix}", "", f"{frame.height:,} rows.", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| {column} | {dtype} | {known.get(column, '')} |" for column, dtype in frame.schema.items()]
        lines.append("")
    return lines

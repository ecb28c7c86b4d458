"""Held-out interactions among items without interaction, nested so that each item of a person is scored once.

A person has up to ten positives (drawn from their hidden interactions), eighteen random negatives and ten that match a
positive in popularity. Every mix of positives and negatives that the report knows is a part of these (`MIXES`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from agents.exposures import Kind, Negatives
from simulator.dataset import Dataset
from simulator.seeds import Stream

POSITIVE, RANDOM, MATCHED = "positive", "random", "matched"
POSITIVES, RANDOM_NEGATIVES, MATCHED_NEGATIVES = 10, 18, 10


@dataclass(frozen=True, slots=True)
class Mix:
    """A test: at most so many positives of a person, `ratio` negatives for each, of one kind."""

    kind: Kind
    ratio: int
    positives: int


MIXES: Mapping[str, Mix] = {
    "random_1_1": Mix("random", 1, 10),
    "random_1_2": Mix("random", 2, 6),
    "random_1_3": Mix("random", 3, 5),
    "random_1_9": Mix("random", 9, 2),
    "matched_1_1": Mix("matched", 1, 10),
    "matched_1_9": Mix("matched", 9, 1),
}
"""Name -> mix. With matched negatives 1:9 the nine match nine of the person's positives, so popularity cannot help there either."""

SCHEMA: Mapping[str, pl.DataType] = {
    "user": pl.Int32(),
    "item": pl.Int32(),
    "kind": pl.String(),
    "rank": pl.Int32(),
    "rating": pl.Float64(),
}
"""`kind` is positive, random or matched; `rank` counts a person's items of a kind from 0; `rating` is null for negatives."""


def nested_candidates(
    hidden: pl.DataFrame, known: Sequence[np.ndarray], train: Dataset, people: np.ndarray, rng: Stream
) -> dict[int, pl.DataFrame]:
    """The candidates of each person, in shuffled order.

    Args:
        hidden: interactions that count as positives, `INTERACTIONS_SCHEMA`.
        known: by user code, item codes that cannot be negatives: what the person is known to have interacted with.
        train: popularity is counted here.
        people: user codes.
        rng: person u draws from ``rng.child(user_id)``, so that other people cannot matter.

    Returns:
        User code -> table of `SCHEMA`, one row per item, all items different; people without a hidden interaction are missing.
    """
    popularity = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)
    negatives = Negatives(popularity, rng)
    ids = train.users["user_id"].to_list()
    first = hidden.filter(pl.col("user").is_in(people.tolist())).unique(["user", "item"], keep="first", maintain_order=True)
    found = {}
    for (user,), rows in first.group_by("user", maintain_order=True):
        code = int(str(user))
        generator = rng.child(ids[code]).generator()
        drawn = generator.permutation(rows.height)[:POSITIVES]
        positives = rows["item"].to_numpy()[drawn].astype(np.int64)
        ratings = rows["rating"].cast(pl.Float64).to_numpy()[drawn]
        met = (known[code], rows["item"].to_numpy())
        matched, random = negatives.both(np.resize(positives, MATCHED_NEGATIVES), RANDOM_NEGATIVES, met, generator)
        parts = [(POSITIVE, positives), (RANDOM, random), (MATCHED, matched)]
        table = pl.DataFrame(
            {
                "user": np.full(sum(len(items) for _, items in parts), code),
                "item": np.concatenate([items for _, items in parts]),
                "kind": [kind for kind, items in parts for _ in items],
                "rank": np.concatenate([np.arange(len(items)) for _, items in parts]),
                "rating": np.concatenate([ratings, np.full(sum(len(items) for _, items in parts[1:]), np.nan)]),
            }
        )
        table = table.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).with_columns(pl.col("rating").fill_nan(None))
        found[code] = table[generator.permutation(table.height)]
    return found


def in_mix(scored: pl.DataFrame, mix: Mix) -> pl.DataFrame:
    """The rows of a mix: of each person as many positives as have all their negatives, and those negatives.

    Args:
        scored: rows with the columns of `SCHEMA`. mix: which.

    Returns:
        Those rows with a column `chosen` (whether it is a positive), sorted by person.
    """
    counts = scored.group_by("user").agg(
        positives=(pl.col("kind") == POSITIVE).sum(),
        negatives=(pl.col("kind") == mix.kind).sum(),
    )
    taken = pl.min_horizontal(pl.lit(mix.positives), pl.col("positives"), pl.col("negatives") // mix.ratio)
    rows = scored.join(counts.select("user", taken=taken), on="user", how="left")
    is_positive = (pl.col("kind") == POSITIVE) & (pl.col("rank") < pl.col("taken"))
    is_negative = (pl.col("kind") == mix.kind) & (pl.col("rank") < pl.col("taken") * mix.ratio)
    return rows.filter(is_positive | is_negative).with_columns(chosen=pl.col("kind") == POSITIVE).drop("taken").sort("user", "kind", "rank")

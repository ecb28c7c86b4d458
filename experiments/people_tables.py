"""Three tables that stand beside a run's log so that it can be read without the data set: people, items, real behaviour.

All of it comes from the training part; the held-out part is opened elsewhere, by the commands that measure fidelity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from agents.rhythm import SESSION_GAP
from simulator.dataset import Dataset
from simulator.records import Trait, UserProfile

TRAITS = ("activity", "conformity", "diversity", "pickiness")


def people_table(train: Dataset, people: Sequence[UserProfile]) -> pl.DataFrame:
    """One row per simulated person: traits as value, percentile and level, demographics, taste, rhythm, training size."""
    rows: list[dict[str, Any]] = []
    for person in people:
        row: dict[str, Any] = {"user": person.user_id, "synthetic": person.synthetic}
        for name in TRAITS:
            trait: Trait | None = getattr(person, name)
            row |= {
                f"{name}_value": trait.value if trait else None,
                f"{name}_percentile": trait.percentile if trait else None,
                f"{name}_level": trait.level if trait else None,
            }
        row |= {
            "age": person.age,
            "gender": person.gender,
            "occupation": person.occupation,
            "taste": person.taste,
            "interactions": len(person.history),
            "mean_rating": float(person.ratings.mean()) if person.ratings is not None and len(person.ratings) else None,
            "liked": [str(train.catalog.item_ids[item]) for item in person.liked],
            "disliked": [str(train.catalog.item_ids[item]) for item in person.disliked],
            "favourite_genres": list(person.genres)[:5],
            "sessions_per_week": person.rhythm.sessions_per_week,
            "items_per_session": person.rhythm.items_per_session,
            "seconds_per_item": person.rhythm.seconds_per_item,
        }
        rows.append(row)
    floats = [f"{name}_{part}" for name in TRAITS for part in ("value", "percentile")] + ["mean_rating"]
    overrides: dict[str, Any] = dict.fromkeys(floats, pl.Float64)
    overrides |= {f"{name}_level": pl.String for name in TRAITS} | {"age": pl.Int32, "interactions": pl.Int32}
    overrides |= dict.fromkeys(("gender", "occupation", "taste"), pl.String)
    overrides |= {name: pl.List(pl.String) for name in ("liked", "disliked", "favourite_genres")}
    return pl.DataFrame(rows, schema_overrides=overrides).sort("user")


def items_table(train: Dataset) -> pl.DataFrame:
    """One row per item: title, year, genres, and how often and how well it was rated in the training part."""
    counts = train.interactions.group_by("item").agg(
        train_count=pl.len().cast(pl.Int32), train_mean_rating=pl.col("rating").mean().cast(pl.Float64)
    )
    return (
        train.catalog.items.join(counts, on="item", how="left", maintain_order="left")
        .select(
            pl.col("item_id").alias("item"),
            "title",
            "year",
            "genres",
            pl.col("train_count").fill_null(0),
            "train_mean_rating",
        )
        .sort("item")
    )


def real_table(train: Dataset, people: Sequence[UserProfile]) -> pl.DataFrame:
    """Training interactions of the simulated real people, with sessions split at gaps as for the rhythm; null without times."""
    wanted = [person.user for person in people if not person.synthetic]
    frame = train.interactions.filter(pl.col("user").is_in(wanted)).join(
        train.users.select("user", "user_id"), on="user", how="left", maintain_order="left"
    )
    frame = frame.join(train.catalog.items.select("item", "item_id"), on="item", how="left", maintain_order="left")
    if train.has_times:
        new_session = (pl.col("timestamp").diff().over("user") > SESSION_GAP).fill_null(value=False)
        frame = frame.with_columns(session=new_session.cum_sum().over("user").cast(pl.Int32))
    else:
        frame = frame.with_columns(session=pl.lit(None, dtype=pl.Int32))
    return frame.select(pl.col("user_id").alias("user"), pl.col("item_id").alias("item"), "rating", "timestamp", "session")

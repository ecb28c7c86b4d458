"""What a data set holds, how its files were understood, and what cannot be done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from environments.datasets.reading import Reader
from environments.datasets.recognition import Recognised
from environments.datasets.splits import SplitConfig, split
from environments.datasets.understood import iso_time
from simulator.dataset import REVIEW, Dataset
from simulator.errors import DataError
from simulator.plugins import build
from simulator.seeds import Stream


def unavailable(dataset: Dataset) -> list[str]:
    """One sentence for each part that the data lacks, saying what does not work without it."""
    sentences = []
    if not dataset.has_ratings:
        sentences.append(
            "no rating on every row: people choose but do not rate; "
            "pickiness, conformity, rating figures and dataset.min_rating are unavailable"
        )
    if not dataset.has_times:
        sentences.append(
            "no time on every row: temporal splits are unavailable (use random or leave-one-out), and everybody gets the default rhythm"
        )
    if not (dataset.catalog.items["genres"].list.len() > 0).any():
        sentences.append("no genres: genre tastes, the diversity trait and the genre figure are unavailable")
    if dataset.users.select(pl.all_horizontal(pl.col("age", "gender", "occupation").is_null().all())).item():
        sentences.append("no demographics: people are described by their taste only")
    return sentences


def of_dataset(data: Dataset, divided: SplitConfig, rng: Stream) -> dict[str, Any]:
    """What a data set holds, and what cannot be done with it.

    Args:
        data: the data set. divided: how it would be split, to say what must be known of that. rng: of that split.

    Returns:
        Counts, density (share of person-item pairs that interact), interactions per person and item (mean and median), rating histogram
        (count by rating), first and last time (ISO 8601, UTC), rows with a review, shares of items with year, genres, description and of
        people with demographics, genres with their number of items, skipped rows, how the files were understood, notes, and under
        "unavailable" one sentence per missing part.
    """
    rows = data.interactions
    pairs = rows.select("user", "item").n_unique()
    ratings = rows["rating"].drop_nulls()
    times = rows["timestamp"].drop_nulls()
    counts = ratings.value_counts().sort("rating")
    of_split, refused = _of_split(data, divided, rng)
    return {
        "name": data.name,
        "holds": "interactions",
        "users": data.n_users,
        "items": data.n_items,
        "items_with_interactions": rows["item"].n_unique(),
        "interactions": rows.height,
        "density": round(pairs / (data.n_users * data.n_items), 6),
        "interactions_per_user": _mean_and_median(rows, "user"),
        "interactions_per_item": _mean_and_median(rows, "item"),
        "rating_scale": list(data.rating_scale) if data.rating_scale else None,
        "ratings": {f"{rating:g}": count for rating, count in counts.iter_rows()},
        "rows_with_rating": ratings.len(),
        "rows_with_time": times.len(),
        "rows_with_review": rows[REVIEW].count() if REVIEW in rows.columns else 0,
        "first_time": iso_time(times.min()),
        "last_time": iso_time(times.max()),
        "known_share": _known(data.catalog.items, ("year", "genres", "description")) | _known(data.users, ("age", "gender", "occupation")),
        "genres": _genres(data.catalog.items),
        "domain": data.catalog.domain.items,
        "skipped": dict(data.skipped),
        "understood": dict(data.understood),
        "notes": [*data.notes, *of_split],
        "unavailable": [*unavailable(data), *refused],
        "fingerprint": data.fingerprint(),
    }


def _of_split(data: Dataset, divided: SplitConfig, rng: Stream) -> tuple[list[str], list[str]]:
    """What must be known of a split, and why it is impossible where it is for another reason than missing times or ratings."""
    if divided.method in ("temporal", "global_time") and not data.has_times:
        return [], []
    try:
        return list(split(data, divided.model_copy(update={"min_rating": None, "k_core": 0}), rng).train.notes[len(data.notes) :]), []
    except DataError as error:
        return [], [str(error).removesuffix(".")]


def of_list(found: Recognised) -> dict[str, Any]:
    """What a file of items or people alone holds: how many, the first of them, what is known of them, and how it was understood.

    Raises:
        ConfigError: a setting is not allowed. DataError: the file holds something that is not allowed.
    """
    loader, reader = build(found.use, found.options, where="dataset", methods=("load",)), Reader(found.options.get("on_bad_rows", "error"))
    is_items = found.holds == "items"
    table: pl.DataFrame = loader.items(reader) if is_items else loader.users(reader)
    columns = ("year", "genres", "description") if is_items else ("age", "gender", "occupation")
    first = table["title" if is_items else "user_id"].head(3).to_list()
    return {
        "name": Path(str(found.options[found.holds])).name,
        "holds": found.holds,
        found.holds: table.height,
        "for_example": first,
        "known_share": _known(table, columns),
        **({"genres": _genres(table)} if is_items else {}),
        "skipped": dict(reader.skipped),
        "understood": dict(reader.understood),
        "notes": list(reader.notes),
        "unavailable": [f"no interactions: this file lists {found.holds}; name it as dataset.{found.holds} beside dataset.interactions"],
    }


def _genres(items: pl.DataFrame) -> dict[str, int]:
    """Genre -> number of items, the commonest first."""
    counted: Iterable[tuple[str, int]] = Counter(genre for genres in items["genres"].to_list() for genre in genres or ()).items()
    return dict(sorted(counted, key=lambda entry: (-entry[1], entry[0])))


def _known(table: pl.DataFrame, columns: Iterable[str]) -> dict[str, float]:
    return {name: _share(table[name].list.len() > 0 if name == "genres" else table[name].is_not_null()) for name in columns}


def _mean_and_median(rows: pl.DataFrame, code: str) -> dict[str, float]:
    counts = rows.group_by(code).len()["len"]
    return {"mean": round(float(counts.mean()), 2), "median": float(counts.median())}  # type: ignore[arg-type]


def _share(mask: pl.Series) -> float:
    return round(float(mask.sum()) / max(mask.len(), 1), 4)

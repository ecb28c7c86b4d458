"""Can a classifier tell simulated from real sessions? The better they are simulated, the nearer its curve comes to chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from experiments.fidelity.behaviour import Behaviour, Log
from experiments.fidelity.resampling import estimate, plain, resampled_area
from simulator.seeds import Stream

FOLDS = 5
"""People are divided into so many folds; a session is judged by a classifier that saw nobody of its fold."""

LENGTH_FEATURES = ("items", "log_seconds", "log_seconds_per_item")
"""Features of a session that say how long it was; the others say what was chosen and how it was rated."""


def two_sample(behaviour: Behaviour, weights: np.ndarray, stream: Stream) -> dict[str, Any] | str:
    """Area under the curve of classifiers that tell simulated from real sessions of the same people (Lopez-Paz and Oquab 2017).

    Of each person equally many sessions of both kinds are taken. Logistic regression and gradient boosting are cross-validated with
    people kept together, and the better one counts. The floor tells apart two halves of the real people in the same way.
    ``content`` leaves out how long a session was; its real sessions are cut to as many items as the simulated ones have.

    Returns:
        ``all`` and ``content``, each with ``auc`` (estimate), ``classifier``, ``floor``, ``features``; or why there are none.
    """
    simulated, real = session_features(behaviour, behaviour.simulated, None), session_features(behaviour, behaviour.real, None)
    pair = _same_number(simulated, real, stream.child("sessions"))
    n_people = pair[0]["person"].n_unique()
    if n_people < 2 * FOLDS:
        return f"only {n_people} people have sessions with a choice in both logs; the classifier needs {2 * FOLDS}"
    sizes = pair[0].select("person", "items", place=pl.int_range(pl.len()).over("person"))
    cut = session_features(behaviour, behaviour.real, _lengths(pair[1], sizes))
    found: dict[str, Any] = {"sessions": pair[0].height, "people": n_people}
    columns = [name for name in pair[0].columns if name not in ("person", "session")]
    for name, used, (first, second) in (
        ("all", columns, pair),
        ("content", [column for column in columns if column not in LENGTH_FEATURES], (pair[0], cut)),
    ):
        found[name] = _told_apart(first, second, used, weights, stream.child(name))
    return found


def session_features(behaviour: Behaviour, log: Log, lengths: pl.DataFrame | None) -> pl.DataFrame:
    """One row per session with a choice: how long it was, what was chosen, how it was rated; missing values are filled with 0.

    Args:
        behaviour: of the report. log: whose sessions.
        lengths: `person`, `session`, `at_most`: only these sessions, cut to so many items; None takes all of them whole.
    """
    genres = behaviour.genre_counts(log)
    rows = log.rows.with_columns(
        popularity=pl.Series(behaviour.popularity(log).values),
        genres=pl.Series([row.tolist() for row in genres], dtype=pl.List(pl.Float64)),
        unlike=pl.Series(_aligned_novelty(behaviour, log)),
    ).filter(pl.col("session").is_not_null())
    if lengths is not None:
        rows = rows.join(lengths, on=["person", "session"], how="inner").filter(
            pl.int_range(pl.len()).over("person", "session") < pl.col("at_most")
        )
    seconds = (pl.col("time").max() - pl.col("time").min()).cast(pl.Float64)
    table = rows.group_by("person", "session").agg(
        items=pl.len().cast(pl.Float64),
        log_seconds=seconds.log1p(),
        log_seconds_per_item=(seconds / pl.len()).log1p(),
        popularity=pl.col("popularity").mean(),
        popularity_spread=pl.col("popularity").std().fill_null(0.0),
        novelty=pl.col("unlike").mean(),
        rating=pl.col("rating").mean(),
        rating_spread=pl.col("rating").std().fill_null(0.0),
        good_share=pl.col("good").mean(),
        entropy=pl.col("genres"),
    )
    entropies = pl.Series([_entropy(entry) for entry in table["entropy"].to_list()], dtype=pl.Float64)
    table = table.with_columns(entropy=entropies)
    if not behaviour.train.has_ratings:
        table = table.drop("rating", "rating_spread", "good_share")
    return table.with_columns(pl.col(pl.Float64).fill_null(0.0)).sort("person", "session")


def _told_apart(first: pl.DataFrame, second: pl.DataFrame, used: list[str], weights: np.ndarray, stream: Stream) -> dict[str, Any]:
    features = np.concatenate([first.select(used).to_numpy(), second.select(used).to_numpy()])
    labels = np.concatenate([np.ones(first.height, dtype=bool), np.zeros(second.height, dtype=bool)])
    person = np.concatenate([first["person"].to_numpy(), second["person"].to_numpy()])
    found = _areas(features, labels, person, weights, stream)
    best = max(found, key=lambda name: found[name]["value"] or 0.0)
    # real people against real people: half of them are called simulated, which says nothing of any one session
    own = second.select(used).to_numpy()
    whose = second["person"].to_numpy()
    known = np.unique(whose)
    half = stream.child("floor").generator().permutation(known)[: len(known) // 2]
    floor = _areas(own, np.isin(whose, half), whose, weights, stream.child("floor"))
    return {
        "auc": found[best],
        "classifier": best,
        "classifiers": found,
        "floor": max((entry for entry in floor.values()), key=lambda entry: entry["value"] or 0.0),
        "features": used,
    }


def _areas(features: np.ndarray, labels: np.ndarray, person: np.ndarray, weights: np.ndarray, stream: Stream) -> dict[str, Any]:
    """Cross-validated area under the curve of both classifiers, with intervals over people."""
    from sklearn.ensemble import GradientBoostingClassifier  # noqa: PLC0415 - slow to import, needed here only
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    people = np.unique(person)
    fold_of = np.zeros(int(people.max()) + 1, dtype=np.int64)
    fold_of[stream.child("folds").generator().permutation(people)] = np.arange(len(people)) % FOLDS
    fold = fold_of[person]
    makers: Mapping[str, Any] = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)),
        "boosting": lambda: GradientBoostingClassifier(n_estimators=100, max_depth=3, subsample=0.8, random_state=stream.integer()),
    }
    found = {}
    for name, make in makers.items():
        scores = np.full(len(labels), np.nan)
        for number in range(FOLDS):
            learns = fold != number
            if len(np.unique(labels[learns])) == 2 and (~learns).any():
                scores[~learns] = make().fit(features[learns], labels[learns]).decision_function(features[~learns])
        known = np.isfinite(scores)
        resampled = resampled_area(scores[known], labels[known], person[known], weights)
        point = resampled_area(scores[known], labels[known], person[known], np.ones((1, weights.shape[1])))[0]
        found[name] = plain(estimate(float(point), resampled, len(people)))
    return found


def _same_number(first: pl.DataFrame, second: pl.DataFrame, stream: Stream) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of each person equally many sessions of both tables, drawn at random, in order of person and session."""
    counts = first.group_by("person").agg(a=pl.len()).join(second.group_by("person").agg(b=pl.len()), on="person", how="inner")
    counts = counts.select("person", wanted=pl.min_horizontal("a", "b"))
    drawn = []
    for name, table in (("first", first), ("second", second)):
        mixed = table.with_columns(chance=pl.Series(stream.child(name).generator().random(table.height))).sort("person", "chance")
        mixed = mixed.join(counts, on="person", how="inner", maintain_order="left").filter(
            pl.int_range(pl.len()).over("person") < pl.col("wanted")
        )
        drawn.append(mixed.drop("chance", "wanted").sort("person", "session"))
    return drawn[0], drawn[1]


def _lengths(real: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """To how many items each drawn real session is cut: those of the person's simulated session of the same place."""
    placed = real.select("person", "session", place=pl.int_range(pl.len()).over("person"))
    return placed.join(sizes, on=["person", "place"], how="inner").select("person", "session", at_most=pl.col("items"))


def _aligned_novelty(behaviour: Behaviour, log: Log) -> np.ndarray:
    """`Behaviour.novelty` for every row; 1 where an item or a history has no genre."""
    values = np.ones(log.rows.height)
    if behaviour.train.catalog.genre_names:
        values[behaviour.has_novelty(log)] = behaviour.novelty(log).values
    return values


def _entropy(rows: list[list[float]]) -> float:
    counts = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1).sum(axis=0)
    shares = counts[counts > 0] / max(counts.sum(), 1e-12)
    return float(-(shares * np.log2(shares)).sum())

"""Dividing a data set into the part that everything is fitted on and the part that is held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from simulator.dataset import HELD_OUT, INTERACTIONS_SCHEMA, Catalog, Dataset, require
from simulator.errors import DataError
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream

Method = Literal["temporal", "leave-one-out", "random", "global_time", "own"]


class SplitConfig(ComponentConfig):
    """How to divide a data set.

    Attributes:
        method: "temporal" holds out the latest share of each person's interactions, "leave-one-out" one interaction per
            person (the latest, or a random one for data without times), "random" a random share of each person's, "global_time" everything
            after one moment, the same for everybody: the only one under which the training part knows nobody's future. "own" holds out
            what the data says itself (`simulator.dataset.HELD_OUT`), by files or by a column.
        test_share: share of a person's interactions to hold out, rounded to whole interactions, or with "global_time" of all; in (0, 1).
            Not used by "leave-one-out" and "own".
        k_core: people and items with fewer interactions than this are left out, again and again until all have as many; 0 keeps all.
        min_rating: interactions rated lower are left out before anything else; None keeps all.
    """

    method: Method = "temporal"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    k_core: int = Field(default=0, ge=0, le=1_000_000)
    min_rating: float | None = Field(default=None, ge=-1e9, le=1e9)


@dataclass(frozen=True, eq=False)
class Split:
    """A divided data set.

    Attributes:
        train: people, items and training interactions; profiles, traits, recommenders and calibration see only this.
        test: the held-out interactions, `INTERACTIONS_SCHEMA`, in the codes of `train`, sorted likewise. What was written about them
            is not here: nothing that is compared with them may read it.
    """

    train: Dataset
    test: pl.DataFrame

    def test_sha256(self) -> str:
        """SHA-256 of the held-out interactions, which the fingerprint of the training part does not know."""
        return hashlib.sha256(self.test.write_csv().encode()).hexdigest()


def split(dataset: Dataset, config: SplitConfig, rng: Stream) -> Split:
    """Divides each person's interactions; at least one stays in the training part, but with "global_time" and "own".

    What must be known of the split stands in the notes of the training part. The last interactions are the last in time; which of several
    at one time are taken is decided by the ids alone, as if drawn. Whether a row is held out depends on that person's rows alone, but with
    "global_time".

    Args:
        dataset: what to divide.
        config: how.
        rng: randomness of the random choices; person u draws from ``rng.child(user_id)``, so other people cannot matter.

    Raises:
        DataError: the method needs times or ratings that the data does not have, nothing is left after filtering, or the data's own split
            holds nothing out, everything, or nothing of anybody who is known.
    """
    parts = _divided(filtered(dataset, config), config, rng)
    known = future_known(parts, config.method)
    return parts if known is None else _noted(parts, known)


def _divided(dataset: Dataset, config: SplitConfig, rng: Stream) -> Split:
    if config.method == "own":
        return _as_given(dataset)
    if HELD_OUT in dataset.interactions.columns:
        dataset = dataset.with_interactions(dataset.interactions.drop(HELD_OUT))
    if config.method in ("temporal", "global_time"):
        require(dataset, times="a temporal split")
    rows = dataset.interactions
    if config.method == "global_time":
        return _at_one_moment(dataset, config.test_share)
    counts = np.bincount(rows["user"].to_numpy(), minlength=dataset.n_users)
    held_out = np.ones_like(counts) if config.method == "leave-one-out" else np.floor(counts * config.test_share + 0.5).astype(np.int64)
    held_out = np.minimum(held_out, np.maximum(counts - 1, 0))
    by_time = config.method == "temporal" or (config.method == "leave-one-out" and dataset.has_times)
    rank = _rank_from_the_end(counts) if by_time else _random_rank(dataset, counts, rng)
    is_test = pl.Series(rank < np.repeat(held_out, counts))
    train = dataset.with_interactions(rows.filter(~is_test))
    if config.method == "random":
        train = replace(train, kept_share=dataset.kept_share * (1.0 - config.test_share), split_seed=rng.seed)
    return Split(train, rows.filter(is_test).select(*INTERACTIONS_SCHEMA))


def _as_given(dataset: Dataset) -> Split:
    """The data's own split.

    Raises:
        DataError: it has none, holds nothing out, everything, or nothing of anybody with a training row.
    """
    rows, name = dataset.interactions, dataset.name
    if HELD_OUT not in rows.columns:
        raise DataError(
            f"dataset.split = 'own', but data set '{name}' does not say what is held out; name the file of held-out interactions "
            "(dataset.held_out) or the column that says so (dataset.fold)."
        )
    test = rows.filter(pl.col(HELD_OUT)).select(*INTERACTIONS_SCHEMA)
    train = rows.filter(~pl.col(HELD_OUT)).drop(HELD_OUT)
    for part, lacking, other in ((test, "held-out", "for training"), (train, "training", "held out")):
        if part.is_empty():
            raise DataError(f"the split of data set '{name}' has no {lacking} row: all {rows.height:,} are {other}; see dataset.test_fold.")
    people, known = test["user"].unique(), train["user"].unique()
    strangers = people.filter(~people.is_in(known.implode()))
    if strangers.len() == people.len():
        raise DataError(
            f"the split of data set '{name}' holds out rows of {people.len():,} people, none of whom has a training row, so that nothing "
            "is known of anybody who is judged; hold out a part of people's rows."
        )
    parts = Split(dataset.with_interactions(train), test)
    if not strangers.len():
        return parts
    first = dataset.users["user_id"][int(strangers.to_numpy().min())]
    return _noted(
        parts,
        f"{strangers.len():,} of {people.len():,} people with held-out rows have no training row ({first!r} first): nothing is known of "
        "them, so they are neither simulated nor judged.",
    )


def _noted(parts: Split, note: str) -> Split:
    return Split(replace(parts.train, notes=(*parts.train.notes, note)), parts.test)


def future_known(parts: Split, method: Method) -> str | None:
    """A sentence about what the training part knows of the future, or None if there is none or times are not known.

    Whoever is judged on a held-out row is judged by somebody who may have learned from what others did later (Ji et al., "A critical study
    on data leakage in recommender system offline evaluation", TOIS 2023).
    """
    if method == "global_time" or not parts.train.has_times or parts.test.is_empty() or parts.test["timestamp"].null_count():
        return None
    times, held_out = (rows["timestamp"].to_numpy() for rows in (parts.train.interactions, parts.test))
    after_first = float((times > held_out.min()).mean())
    if not after_first:
        return None
    after_median = float((times > np.quantile(held_out, 0.5, method="lower")).mean())
    return (
        f"the split '{method}' lets the training part know the future: {after_first:.0%} of its interactions are later than the earliest "
        f"held-out one, {after_median:.0%} later than the median one; where nothing later may be known, set dataset.split = 'global_time' "
        "(`usersim benchmark leaks` measures what it buys)."
    )


def _at_one_moment(dataset: Dataset, share: float) -> Split:
    """Holds out what happened after the moment before which the rest of all interactions lies.

    Raises:
        DataError: everything happened at one time.
    """
    rows = dataset.interactions
    times = rows["timestamp"].to_physical().to_numpy()
    later = times > np.quantile(times, 1.0 - share, method="lower")
    if not later.any():
        # more than the share happened at the last moment
        later = times == times.max()
    if later.all():
        raise DataError(f"all interactions of data set '{dataset.name}' have the same time, so that none come after others.")
    return Split(dataset.with_interactions(rows.filter(~later)), rows.filter(later).select(*INTERACTIONS_SCHEMA))


def filtered(dataset: Dataset, config: SplitConfig) -> Dataset:
    """The data set without low ratings and, if a k-core is asked for, without rare people and items.

    With ``k_core = 0`` people, items and their codes stay as they are, also where nothing of them is left. With a k-core, those who
    drop out leave the tables too, and the codes of the rest are counted anew in the old order; the data's own ids never change.

    Raises:
        DataError: `min_rating` is set for data without ratings, or nothing is left.
    """
    rows = dataset.interactions
    if config.min_rating is not None:
        require(dataset, ratings="dataset.min_rating")
        rows = rows.filter(pl.col("rating") >= config.min_rating)
    if config.k_core:
        rows = _core(rows, config.k_core)
    if rows.is_empty():
        raise DataError(
            f"no interaction of data set '{dataset.name}' is left with k_core = {config.k_core} and "
            f"min_rating = {config.min_rating}; lower them."
        )
    if not config.k_core:
        return dataset.with_interactions(rows)
    users, rows = _recode(dataset.users, rows, "user")
    items, rows = _recode(dataset.catalog.items, rows, "item")
    return replace(dataset, catalog=Catalog(items, dataset.catalog.domain), users=users, interactions=rows)


def _core(rows: pl.DataFrame, k: int) -> pl.DataFrame:
    while True:
        kept = rows.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if kept.height == rows.height:
            return rows
        rows = kept


def _recode(table: pl.DataFrame, rows: pl.DataFrame, code: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    kept = table.filter(pl.col(code).is_in(rows[code].unique().implode()))
    old = kept[code]
    new = pl.Series(np.arange(old.len(), dtype=np.int32))
    return kept.with_columns(new.alias(code)), rows.with_columns(pl.col(code).replace_strict(old, new, return_dtype=pl.Int32))


def _rank_from_the_end(counts: np.ndarray) -> np.ndarray:
    """For rows sorted by person: 0 for a person's last row, 1 for the one before ..."""
    ends = np.cumsum(counts)
    return np.asarray(np.repeat(ends, counts) - 1 - np.arange(int(counts.sum())))


def _random_rank(dataset: Dataset, counts: np.ndarray, rng: Stream) -> np.ndarray:
    ids = dataset.users["user_id"].to_list()
    ranks = [rng.child(ids[user]).generator().permutation(count) for user, count in enumerate(counts) if count]
    return np.concatenate(ranks)

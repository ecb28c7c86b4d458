"""Which interactions are added to the real ones: so many of each person, from one source, in one order; and the size control.

**Doses.** A dose is a number of added interactions. Every person adds equally many, as far as they have that many (`quotas`), so that
people with few interactions gain most in proportion.

**Size control.** A repeated row changes nothing in recommenders that read interactions as sets, as all that come with usersim do. So
copies of a person's real interactions go to *shadows*: people with new codes, each with a part of the real history. They add exactly as
many rows, and steps of training, as the dose, and no information.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.seeds import Stream


def quotas(available: np.ndarray, total: int, rng: Stream) -> np.ndarray:
    """How many each person adds: equally many, as far as they have them; what is left over by rounding is given by chance.

    Args:
        available: how many each has, shape (people,). total: wanted together. rng: for what is left over.

    Returns:
        int64, shape (people,); the sum is `total`, or that of `available` if it is less.
    """
    available = np.asarray(available, dtype=np.int64)
    if total >= available.sum():
        return available.copy()
    ordered = np.sort(available)
    # with level l the sum is that of the smaller ones plus l for each of the others
    below = np.concatenate([[0], np.cumsum(ordered)])
    sums = below[:-1] + ordered * np.arange(len(ordered), 0, -1)
    first = int(np.searchsorted(sums, total, side="right"))
    level = (total - below[first]) // (len(ordered) - first)
    found: np.ndarray = np.minimum(available, level)
    left = int(total - found.sum())
    able = np.flatnonzero(available > found)
    found[able[rng.generator().permutation(len(able))[:left]]] += 1
    return found


def taken(ordered: pl.DataFrame, total: int, rng: Stream) -> pl.DataFrame:
    """The first rows of each person, equally many of each, `total` together if there are so many.

    Args:
        ordered: rows with a column user, those of a person in the order in which they are to be taken. total, rng: as in `quotas`.
    """
    users, counts = np.unique(ordered["user"].to_numpy(), return_counts=True)
    most = pl.DataFrame({"user": users, "most": quotas(counts, total, rng)}, schema={"user": pl.Int32, "most": pl.Int64})
    ranked = ordered.with_columns(rank=pl.int_range(pl.len()).over("user")).join(most, on="user", maintain_order="left")
    return ranked.filter(pl.col("rank") < pl.col("most")).drop("rank", "most")


def in_order(rows: pl.DataFrame, source: str, rng: Stream) -> pl.DataFrame:
    """What simulated people chose, or were shown, in the order in which a source takes it.

    Args:
        rows: of `experiments.augmentation.synthetic.shown`. source: "synthetic", "fidelity" (chosen, in random order), "confidence"
            (chosen, highest probability first) or "exposure" (shown, in the order shown, chosen or not). rng: of the random order.
    """
    if source == "exposure":
        return rows.sort("user", "place")
    chosen = rows.filter("chosen")
    if source == "confidence":
        return chosen.sort("user", pl.col("probability").neg(), "place")
    return chosen.with_columns(chance=rng.generator().random(chosen.height)).sort("user", "chance").drop("chance")


def shadows(real: pl.DataFrame, per_person: pl.DataFrame, first_code: int, rng: Stream) -> pl.DataFrame:
    """Copies of real interactions under new people: the size control.

    Args:
        real: training interactions. per_person: columns user and count, copies of each person's rows.
        first_code: codes of the shadows start here. rng: of which rows are copied.

    Returns:
        Rows with the schema of `real`. A person with more copies than rows has several shadows, each with every row at most once.
    """
    shuffled = real.with_columns(chance=rng.generator().random(real.height)).sort("user", "chance").drop("chance")
    shuffled = shuffled.with_columns(rank=pl.int_range(pl.len()).over("user"), own=pl.len().over("user")).join(per_person, on="user")
    copies = (
        shuffled.with_columns(times=(pl.col("count") - pl.col("rank") + pl.col("own") - 1) // pl.col("own"))
        .filter(pl.col("times") > 0)
        .with_columns(shadow=pl.int_ranges(0, pl.col("times")))
        .explode("shadow")
    )
    whose = copies.select("user", "shadow").unique().sort("user", "shadow")
    whose = whose.with_columns(code=(first_code + pl.int_range(pl.len())).cast(pl.Int32))
    copies = copies.join(whose, on=("user", "shadow"))
    return copies.with_columns(user=pl.col("code")).select(real.columns).sort("user", "timestamp", "item")


def as_interactions(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of any source with the columns of a log; rating and timestamp are null where the source has none."""
    missing = [pl.lit(None).cast(dtype).alias(name) for name, dtype in INTERACTIONS_SCHEMA.items() if name not in rows.columns]
    return rows.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in INTERACTIONS_SCHEMA.items())

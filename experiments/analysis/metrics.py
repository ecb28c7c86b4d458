"""One function per metric. Tables in (see `simulator.tables`), a table, an `Estimate` or a number out.

Means over people's rows rest on two sums per person, which are in `experiments.analysis.person_sums`.

Intervals have 95 % coverage and resample people (`experiments.analysis.intervals`), unless the docstring says Wilson.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from experiments.analysis import person_sums as sums
from experiments.analysis.intervals import Estimate, bootstrap_ratio, wilson
from experiments.trait_sentences import LEVELS
from simulator.seeds import Stream

GENRE_COVER = 0.8
"""Diversity counts the genres that cover this share of what somebody chose."""

TRAIT_BEHAVIOUR = {
    "activity": "interactions per session",
    "conformity": "squared deviation from item means",
    "diversity": "genres covering 80 % of choices",
    "pickiness": "mean rating",
}
"""Trait -> the simulated behaviour it is held against, and its unit."""


# --- reactions ------------------------------------------------------------------------------------------------------


def watch_rate(impressions: pl.DataFrame, stream: Stream) -> Estimate:
    """Share of shown items that were chosen, in [0, 1]; each impression counts the same."""
    return _ratio(sums.watch_rate(impressions), stream.child("watch rate"))


def watch_rate_by_position(impressions: pl.DataFrame) -> pl.DataFrame:
    """Share of shown items that were chosen at each place of the page, with Wilson intervals.

    Returns:
        Columns position (from 1), shown, chosen (counts), rate, low, high (shares); sorted by position.
    """
    counts = impressions.group_by("position").agg(shown=pl.len(), chosen=pl.col("chosen").sum()).sort("position")
    low, high = wilson(counts["chosen"].to_numpy(), counts["shown"].to_numpy())
    return counts.with_columns(rate=pl.col("chosen") / pl.col("shown"), low=pl.Series(low), high=pl.Series(high))


def mean_rating(impressions: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean rating given, in the data's units; each rating counts the same."""
    return _ratio(sums.mean_rating(impressions), stream.child("mean rating"))


MOST_LEVELS = 25
"""Different ratings up to which each is a level of its own; beyond, the scale is cut into `BINS`."""

BINS = 20
"""Parts of equal width of a continuous scale."""


def rating_histograms(*ratings: pl.Series) -> list[pl.DataFrame]:
    """How often each rating was given, on the levels that the data itself has.

    The levels are all ratings that occur in any of the series (those that differ by less than a millionth of their spread are one). If
    these are more than `MOST_LEVELS`, the scale is continuous, and the levels are the middles of `BINS` parts of equal width.

    Args:
        ratings: series in the data's units, which share their levels; nulls are left out.

    Returns:
        For each series the columns rating (the level), count, share (sums to 1); sorted by rating.
    """
    known = [series.drop_nulls().cast(pl.Float64) for series in ratings]
    values = np.sort(np.concatenate([series.to_numpy() for series in known]))
    spread = float(values[-1] - values[0]) if len(values) else 0.0
    # single precision and the like must not make two levels of one
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > 1e-6 * max(spread, 1e-12)) if len(values) else np.zeros(0, dtype=np.int64)
    levels = values[starts]
    cuts = levels[1:] - np.diff(levels) / 2
    if len(levels) > MOST_LEVELS:
        edges = np.linspace(values[0], values[-1], BINS + 1)
        levels, cuts = (edges[:-1] + edges[1:]) / 2, edges[1:-1]
    levels = np.round(levels, max(0, 6 - math.floor(math.log10(spread))) if spread > 0 else 6)
    found = []
    for series in known:
        counts = np.bincount(np.searchsorted(cuts, series.to_numpy(), side="right"), minlength=len(levels))[: len(levels)]
        table = pl.DataFrame({"rating": levels, "count": counts.astype(np.int64)}).filter(pl.col("count") > 0)
        found.append(table.with_columns(share=pl.col("count") / pl.col("count").sum()))
    return found


def total_variation(first: pl.DataFrame, second: pl.DataFrame, *, on: str) -> float:
    """Total variation distance of two distributions, ``1/2 sum |p_i - q_i|``, in [0, 1].

    It is the largest difference between the probabilities that the two give to any one event.

    Args:
        first, second: tables with a column `share` that sums to 1; values missing from one have share 0 there.
        on: the column that holds the values.
    """
    both = first.join(second, on=on, how="full", coalesce=True, suffix="_second").fill_null(0)
    return float((both["share"] - both["share_second"]).abs().sum()) / 2


# --- sessions -------------------------------------------------------------------------------------------------------


def pages_per_session(sessions: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean number of pages in a session."""
    return _ratio(sums.pages_per_session(sessions), stream.child("pages per session"))


def interactions_per_session(sessions: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean number of items chosen in a session; sessions without any count as 0."""
    return _ratio(sums.interactions_per_session(sessions), stream.child("interactions per session"))


def real_interactions_per_session(real: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean number of interactions in a real session (30 minutes without an interaction end it); never below 1."""
    timed = real.filter(pl.col("session").is_not_null())
    return _ratio(sums.per_person(timed, pl.len(), pl.col("session").n_unique()), stream.child("real interactions per session"))


def pages_histogram(sessions: pl.DataFrame) -> pl.DataFrame:
    """How many pages sessions have, by how they ended.

    Returns:
        Columns pages, exit, count, share (of all sessions); sorted by pages, then exit.
    """
    counts = sessions.group_by("pages", "exit").agg(count=pl.len()).sort("pages", "exit")
    return counts.with_columns(share=pl.col("count") / pl.col("count").sum())


def session_sizes(real: pl.DataFrame) -> pl.Series:
    """Interactions in each real session, one number per session, sorted."""
    timed = real.filter(pl.col("session").is_not_null())
    return timed.group_by("user", "session").agg(size=pl.len())["size"].sort()


def satisfaction(sessions: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean satisfaction with a session, 1 to 10."""
    return _ratio(sums.satisfaction(sessions), stream.child("satisfaction"))


def satisfaction_by_round(sessions: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Mean satisfaction with a session, 1 to 10, in each round.

    Returns:
        Columns round (from 0), sessions, people (counts), mean, low, high; sorted by round.
    """
    rows = []
    for (number,), part in sessions.filter(pl.col("satisfaction").is_not_null()).sort("round").group_by("round", maintain_order=True):
        estimate = satisfaction(part, stream.child("round", int(str(number))))
        row = {"round": number, "sessions": part.height, "people": estimate.people}
        rows.append({**row, "mean": estimate.value, "low": estimate.low, "high": estimate.high})
    schema = {"round": pl.Int32(), "sessions": pl.Int64(), "people": pl.Int64()}
    return pl.DataFrame(rows, schema={**schema, "mean": pl.Float64(), "low": pl.Float64(), "high": pl.Float64()})


def fallback_share(pages: pl.DataFrame, sessions: pl.DataFrame) -> float:
    """Share of the replies about pages and sessions that could not be used, in [0, 1]; NaN if there were none."""
    statuses = pl.concat([pages["status"], sessions["status"]])
    return float((statuses != "ok").sum()) / len(statuses) if len(statuses) else float("nan")


# --- items ----------------------------------------------------------------------------------------------------------


def genre_shares(real: pl.DataFrame, impressions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """What share each genre has of the real interactions, of the shown items and of the chosen items.

    An item with k genres counts 1/k for each of them, so that each column sums to 1; items without a genre are left out.

    Returns:
        Columns genre, real, shown, chosen (shares); the genre with the largest real share first, then by name.
    """
    sources = {"real": real, "shown": impressions, "chosen": impressions.filter(pl.col("chosen"))}
    shares = items.select(pl.col("genres").explode().alias("genre")).drop_nulls().unique()
    for name, table in sources.items():
        weights = _genre_weights(table, items).group_by("genre").agg(pl.col("weight").sum().alias(name))
        shares = shares.join(weights.with_columns(pl.col(name) / pl.col(name).sum()), on="genre", how="left")
    return shares.fill_null(0.0).sort(["real", "genre"], descending=[True, False])


def coverage(impressions: pl.DataFrame, items: pl.DataFrame) -> float:
    """Share of the catalog that was shown to anybody, in [0, 1]."""
    return impressions["item"].n_unique() / items.height if items.height else float("nan")


def item_counts(table: pl.DataFrame, items: pl.DataFrame) -> np.ndarray:
    """Rows of `table` per item of the catalog, int64, shape (n_items,), zeros included, in catalog order."""
    counts = table.group_by("item").agg(count=pl.len())
    return items.select("item").join(counts, on="item", how="left", maintain_order="left")["count"].fill_null(0).to_numpy().astype(np.int64)


def lorenz(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The concentration of counts over items: the share of all counts that the most popular share of items holds.

    This is the Lorenz curve (Lorenz, 1905) read from the top, so that it lies above the diagonal.

    Returns:
        Share of items and share of counts, both from 0 to 1, shape (n_items + 1,).
    """
    ordered = np.sort(np.asarray(counts, dtype=np.float64))[::-1]
    cumulated = np.concatenate([[0.0], np.cumsum(ordered)])
    return np.linspace(0.0, 1.0, ordered.size + 1), cumulated / cumulated[-1] if cumulated[-1] > 0 else cumulated


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts over items, in [0, 1): 0 if all are equal, near 1 if one item holds everything.

    ``G = sum_i (2i - n - 1) x_i / (n sum x)`` with x sorted upwards and i from 1 (Gini, 1912); NaN if all are 0.
    """
    x = np.sort(np.asarray(counts, dtype=np.float64))
    if x.sum() <= 0:
        return float("nan")
    return float(((2 * np.arange(1, x.size + 1) - x.size - 1) * x).sum() / (x.size * x.sum()))


def average_popularity(table: pl.DataFrame, items: pl.DataFrame, stream: Stream) -> Estimate:
    """Mean popularity of the items in `table` as a percentile of the catalog, in [0, 1].

    An item's percentile is the share of catalog items with fewer training interactions, midpoint for ties, so a
    uniform choice from the catalog gives 1/2.
    """
    return _ratio(sums.popularity(table, items), stream.child("popularity"))


# --- people ---------------------------------------------------------------------------------------------------------


def behaviour(trait: str, chosen: pl.DataFrame, sessions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """What each person did in the simulation, in the terms of one trait (units: `TRAIT_BEHAVIOUR`).

    activity: items chosen per session. conformity: mean of (rating - item's mean training rating)^2. diversity: the
    least number of genres that hold 80 % of what they chose, an item counting once for each of its genres (it grows with
    the number of choices). pickiness: mean rating given. The last three follow the formulas of the traits themselves
    (Zhang et al., "On Generative Agents in Recommendation", SIGIR 2024, section 3.1; see `agents.traits`).

    Returns:
        Columns user, behaviour; only people for whom it is defined, sorted by user.
    """
    if trait == "activity":
        found = sessions.group_by("user").agg(behaviour=pl.col("interactions").sum() / pl.len())
    elif trait == "diversity":
        counts = _genre_weights(chosen, items).group_by("user", "genre").agg(count=pl.len())
        before = pl.col("count").sort(descending=True).cum_sum().shift(1, fill_value=0) / pl.col("count").sum()
        # The tolerance keeps 4 / 5 from missing the 80 % line by rounding.
        found = counts.group_by("user").agg(behaviour=(before < GENRE_COVER - 1e-9).sum().cast(pl.Float64))
    else:
        rated = chosen.join(items.select("item", "train_mean_rating"), on="item").filter(pl.col("rating").is_not_null())
        value = pl.col("rating") if trait == "pickiness" else (pl.col("rating") - pl.col("train_mean_rating")) ** 2
        found = rated.group_by("user").agg(behaviour=value.mean()).drop_nulls()
    return found.sort("user")


def behaviour_by_level(trait: str, people: pl.DataFrame, behaviours: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Mean behaviour of the people of each level of a trait.

    Args:
        trait: name of the trait.
        people: one row per person, with the columns ``<trait>_level`` and ``<trait>_value``.
        behaviours: see `behaviour`.
        stream: randomness of the intervals.

    Returns:
        Columns level (low, medium, high), people (count), mean, low, high; levels without people are left out.
    """
    joined = people.select("user", level=f"{trait}_level").join(behaviours, on="user").drop_nulls()
    rows = []
    for level in LEVELS:
        values = joined.filter(pl.col("level") == level).sort("user")["behaviour"].to_numpy()
        if values.size:
            estimate = bootstrap_ratio(values, np.ones(values.size), stream.child(trait, level))
            row = {"level": level, "people": values.size, "mean": estimate.value}
            rows.append({**row, "low": estimate.low, "high": estimate.high})
    floats = dict.fromkeys(("mean", "low", "high"), pl.Float64())
    return pl.DataFrame(rows, schema={"level": pl.String(), "people": pl.Int64(), **floats})


def trait_correlation(trait: str, people: pl.DataFrame, behaviours: pl.DataFrame) -> float:
    """Spearman's rank correlation of a trait's value (training data) with the simulated behaviour, in [-1, 1]; NaN if undefined."""
    joined = people.select("user", value=f"{trait}_value").join(behaviours, on="user").drop_nulls()
    if joined["value"].n_unique() < 2 or joined["behaviour"].n_unique() < 2:
        return float("nan")
    return float(joined.select(pl.corr("value", "behaviour", method="spearman")).item())


def _ratio(found: pl.DataFrame, stream: Stream) -> Estimate:
    return bootstrap_ratio(found["a"].to_numpy(), found["b"].to_numpy(), stream)


def _genre_weights(table: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Columns user, genre, weight: one row per row of `table` and genre of its item."""
    genres = items.filter(pl.col("genres").list.len() > 0).select("item", genre="genres", weight=1.0 / pl.col("genres").list.len())
    return table.select("user", "item").join(genres, on="item").explode("genre")

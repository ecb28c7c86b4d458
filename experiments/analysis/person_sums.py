"""Metrics of people as two sums per person, one function per metric: a mean over rows is ``sum(a) / sum(b)`` over people.

Sums per person are what intervals over people, paired comparisons and rounds need: they add up over rounds, and a person drawn
twice counts twice. Every function returns a table with the columns user, a (numerator) and b (denominator), float64, sorted by
user; people without a row that counts are left out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from experiments.analysis import list_metrics
from simulator.positives import least_positive


def watch_rate(impressions: pl.DataFrame) -> pl.DataFrame:
    """Chosen of shown items; the ratio is in [0, 1]."""
    return per_person(impressions, pl.col("chosen").sum(), pl.len())


def like_rate(impressions: pl.DataFrame, scale: tuple[float, float]) -> pl.DataFrame:
    """Liked (see `liked`) of shown items; the ratio is in [0, 1].

    Args:
        impressions: with a column rating. scale: lowest and highest rating of the data.
    """
    return per_person(impressions.select("user", liked=liked(impressions, scale)), pl.col("liked").sum(), pl.len())


def liked(impressions: pl.DataFrame, scale: tuple[float, float]) -> pl.Series:
    """Whether each shown item was chosen and rated at least three quarters up the scale."""
    return (impressions["rating"] >= least_positive(scale)).fill_null(value=False)


def mean_rating(impressions: pl.DataFrame) -> pl.DataFrame:
    """Sum and number of the ratings given; the ratio is in the data's units."""
    return per_person(impressions.filter(pl.col("rating").is_not_null()), pl.col("rating").sum(), pl.len())


def pages_per_session(sessions: pl.DataFrame) -> pl.DataFrame:
    """Pages and sessions."""
    return per_person(sessions, pl.col("pages").sum(), pl.len())


def interactions_per_session(sessions: pl.DataFrame) -> pl.DataFrame:
    """Items chosen and sessions; sessions without any count as 0."""
    return per_person(sessions, pl.col("interactions").sum(), pl.len())


def satisfaction(sessions: pl.DataFrame) -> pl.DataFrame:
    """Sum of the satisfaction with sessions and their number; the ratio is in 1 to 10."""
    return per_person(sessions.filter(pl.col("satisfaction").is_not_null()), pl.col("satisfaction").sum(), pl.len())


def popularity(table: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Sum and number of the popularity percentiles of the items in `table`; see `metrics.average_popularity`."""
    ranks = items.select("item", percentile=(pl.col("train_count").rank("average") - 0.5) / max(items.height, 1))
    return per_person(table.join(ranks, on="item"), pl.col("percentile").sum(), pl.len())


def page_diversity(impressions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Sum over pages of the mean distance of two items of the page, and number of pages; the ratio is in [0, 1].

    The distance is ``1 - cosine`` of the items' genres (Ziegler et al., WWW 2005; `list_metrics.intra_list_diversity`). Pages with
    fewer than two items that have genres are left out.
    """
    known = items.filter(pl.col("genres").list.len() > 0).select("item", "genres")
    shown = impressions.select("user", "session", "page", "item").join(known, on="item", maintain_order="left")
    if not shown.height:
        return per_person(shown, pl.col("page").sum(), pl.len())
    seen = shown.select("item", "genres").unique("item").sort("item").with_row_index("code")
    genres = {name: place for place, name in enumerate(sorted(set(seen["genres"].explode())))}
    features = np.zeros((seen.height, len(genres)))
    for row, own in enumerate(seen["genres"]):
        features[row, [genres[name] for name in own]] = 1.0
    places = shown.join(seen.select("item", "code"), on="item", maintain_order="left")
    pages = places.group_by("user", "session", "page", maintain_order=True).agg(pl.col("code").cast(pl.Int64))
    pages = pages.filter(pl.col("code").list.len() > 1)
    longest = max((len(page) for page in pages["code"]), default=0)
    ranked = np.full((pages.height, longest), -1, dtype=np.int64)
    for row, codes in enumerate(pages["code"]):
        ranked[row, : len(codes)] = codes.to_numpy()
    distance = 1.0 - list_metrics.cosine_similarity(features)
    values = list_metrics.intra_list_diversity(ranked, distance, longest)
    return per_person(pages.select("user", diversity=pl.Series(values, dtype=pl.Float64)), pl.col("diversity").sum(), pl.len())


def novelty(impressions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Sum of the surprise of the shown items, ``log2(all training interactions / the item's)`` bits, and their number.

    An item without a training interaction counts as one with one (Castells et al., "Novelty and diversity metrics", 2011;
    `list_metrics.self_information`).
    """
    counts = items["train_count"].to_numpy()
    surprise = items.select("item", surprise=pl.Series(list_metrics.self_information(counts, float(max(counts.sum(), 1)))))
    return per_person(impressions.select("user", "item").join(surprise, on="item"), pl.col("surprise").sum(), pl.len())


def per_person(table: pl.DataFrame, numerator: pl.Expr, denominator: pl.Expr) -> pl.DataFrame:
    """The two sums of each person in a table with a column user."""
    return table.group_by("user").agg(a=numerator.cast(pl.Float64), b=denominator.cast(pl.Float64)).sort("user")

"""Metrics that studies add to those of comparisons: genres of a page, popularity, the long tail, leaving."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.analysis import list_metrics
from experiments.analysis import person_sums as sums
from experiments.analysis.compared_metrics import BY_KEY, CHOOSING, LEAVING, Metric, Part
from simulator.dataset import Domain

TAIL = 0.2
"""The long tail is what the head that holds 80 % of the training interactions leaves (`list_metrics.tail_items`)."""


def genre_entropy(part: Part) -> pl.DataFrame:
    """Sum over pages of the entropy of the page's genres, bits, and number of pages.

    ``- sum p log2 p`` with p the share of a genre on the page, an item's weight divided evenly over its genres. Every page has the same
    number of items, so that long sessions do not look more varied.
    """
    p = pl.col("p")
    pages = _genres_of_pages(part).group_by("user", "session", "page").agg(value=-(p * p.log(2)).sum())
    return sums.per_person(pages, pl.col("value").sum(), pl.len())


def top_genre_share(part: Part) -> pl.DataFrame:
    """Sum over pages of the share of the page's most frequent genre, and number of pages; see `genre_entropy`."""
    pages = _genres_of_pages(part).group_by("user", "session", "page").agg(value=pl.col("p").max())
    return sums.per_person(pages, pl.col("value").sum(), pl.len())


def favourite_share(part: Part) -> pl.DataFrame:
    """Shown items, in genre weights, of the genre that each person had most of in the training part, and all of them."""
    weighted = _weights(part.run.real.select("user", "item"), part.run.items).group_by("user", "genre").agg(pl.col("weight").sum())
    favourite = weighted.sort("user", "weight", "genre", descending=[False, True, False]).unique("user", keep="first", maintain_order=True)
    shown = _weights(part.impressions.select("user", "item"), part.run.items)
    joined = shown.join(favourite.select("user", favourite="genre"), on="user")
    is_favourite = pl.col("genre") == pl.col("favourite")
    return sums.per_person(joined, (pl.col("weight") * is_favourite).sum(), pl.col("weight").sum())


def tail_share(part: Part) -> pl.DataFrame:
    """Shown items of the long tail, and shown items."""
    items = part.run.items
    counts = items["train_count"].fill_null(0).to_numpy().astype(np.float64)
    tail = items.select("item", tail=pl.Series(list_metrics.tail_items(counts, TAIL, "interactions")))
    return sums.per_person(part.impressions.select("user", "item").join(tail, on="item"), pl.col("tail").sum(), pl.len())


def leaving(part: Part) -> pl.DataFrame:
    """Pages after which the person left, and pages."""
    return sums.per_person(part.pages, pl.col("leave").sum(), pl.len())


def _genres_of_pages(part: Part) -> pl.DataFrame:
    """The share p of each genre on each page, one row per page and genre."""
    key = ["user", "session", "page"]
    weights = _weights(part.impressions.select(*key, "item"), part.run.items).group_by(*key, "genre").agg(pl.col("weight").sum())
    return weights.sort(*key, "genre").with_columns(p=pl.col("weight") / pl.col("weight").sum().over(key))


def _weights(table: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """One row per row of `table` and genre of its item, with weight 1 over the number of its genres."""
    genres = items.filter(pl.col("genres").list.len() > 0).select("item", genre="genres", weight=1.0 / pl.col("genres").list.len())
    return table.join(genres, on="item").explode("genre")


METRICS: Mapping[str, Metric] = {
    **BY_KEY,
    **{
        metric.key: metric
        for metric in (
            Metric("genre_entropy", "genre entropy of a page", "bits", "range", 1, sums=genre_entropy),
            Metric("top_genre_share", "top genre's share of a page", "share of shown {items}", "range", -1, True, sums=top_genre_share),
            Metric("favourite_share", "favourite genre's share", "share of shown {items}", "range", -1, True, sums=favourite_share),
            Metric("tail_share", "long tail's share", "share of shown {items}", "range", 1, True, sums=tail_share),
            Metric(
                "popularity",
                "popularity of the shown",
                "percentile of the catalog",
                "range",
                -1,
                True,
                sums=lambda part: sums.popularity(part.impressions, part.run.items),
            ),
            Metric(
                "chosen_popularity",
                "popularity of the chosen",
                "percentile of the catalog",
                "range",
                -1,
                True,
                sums=lambda part: sums.popularity(part.impressions.filter(pl.col("chosen")), part.run.items),
            ),
            Metric(
                "interactions",
                "choices per session",
                "{items}",
                "use",
                1,
                expected=(CHOOSING, LEAVING),
                sums=lambda part: sums.interactions_per_session(part.sessions),
            ),
            Metric("leaving", "leaving", "share of pages after which people leave", "use", -1, True, sums=leaving, expected=(LEAVING,)),
        )
    },
}
"""By key: what an analysis may be asked for."""


def named(metric: Metric, domain: Domain) -> str:
    """Name and unit in the words of a domain, for axes."""
    return "{} ({})".format(*metric.in_words(domain))

"""Reviews as numbers: words, codes of words, and which reviews belong to whom. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from simulator.dataset import REVIEW
from simulator.errors import DataError

_WORD = r"[\p{L}\p{N}]+(?:'\p{L}+)?"
_LONGEST = 30
"""Characters of a word; longer ones are addresses and noise."""


@dataclass(frozen=True, eq=False)
class ReviewTexts:
    """Reviews with at least one known word, oldest first.

    Attributes:
        users, items: who wrote each about what, int64, shape (reviews,).
        words: codes of all words, from 1, the reviews laid end to end, int64.
        starts: where each review starts in `words`, and the end, int64, shape (reviews + 1,).
    """

    users: np.ndarray
    items: np.ndarray
    words: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


def require_reviews(interactions: pl.DataFrame, recommender: object) -> None:
    """Stops if there is nothing to read.

    Raises:
        DataError: no interaction has a review.
    """
    if REVIEW not in interactions.columns or interactions[REVIEW].null_count() == interactions.height:
        raise DataError(
            f"{type(recommender).__name__} learns from reviews, and the data set has none; use one with reviews, such as "
            "dataset.use = 'environments.datasets.amazon:AmazonReviews', or name the column with dataset.review if "
            "dataset.use = 'environments.datasets.tables:InteractionTables'."
        )


def vocabulary(interactions: pl.DataFrame, most: int) -> np.ndarray:
    """The words of most reviews, the commonest first, alphabetically where equal; str, at most `most` of them."""
    found = _split(interactions).select("row", "word").unique()
    counted = found.group_by("word").agg(times=pl.len()).sort(["times", "word"], descending=[True, False])
    return np.array(counted["word"].head(most).to_list(), dtype=str)


def encode(interactions: pl.DataFrame, known: np.ndarray, most: int) -> ReviewTexts:
    """The reviews of a log as codes; words that are not known are left out.

    Args:
        interactions: with the column `REVIEW`, null where there is no review.
        known: the words; the code of the first is 1.
        most: words of a review that are kept, the first ones.
    """
    codes = pl.DataFrame({"word": known, "code": np.arange(1, len(known) + 1)}, schema={"word": pl.String, "code": pl.Int64})
    words = _split(interactions).join(codes, on="word", how="inner", maintain_order="left")
    words = words.filter(pl.int_range(pl.len()).over("row") < most)
    rows, lengths = np.unique(words["row"].to_numpy(), return_counts=True)
    picked = interactions.sort("timestamp", maintain_order=True, nulls_last=False).select("user", "item")[rows.astype(np.uint32)]
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    users, items = (picked[column].to_numpy().astype(np.int64) for column in ("user", "item"))
    return ReviewTexts(users, items, words["code"].to_numpy().astype(np.int64), starts)


def documents(owners: np.ndarray, n_owners: int, most: int) -> np.ndarray:
    """Which reviews belong to each person or item, the newest `most`.

    Args:
        owners: code of the owner of each review, oldest review first.
        n_owners: number of owners.
        most: reviews of one owner that are kept.

    Returns:
        Numbers of reviews, oldest first, padded with -1 at the end, int64, shape (n_owners, longest, at least 1).
    """
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=n_owners)
    ends = np.cumsum(counts)
    from_the_end = np.repeat(ends, counts) - 1 - np.arange(len(owners))
    kept = from_the_end < most
    sizes = np.minimum(counts, most)
    matrix = np.full((n_owners, max(int(sizes.max(initial=0)), 1)), -1, dtype=np.int64)
    matrix[np.arange(matrix.shape[1]) < sizes[:, None]] = order[kept]
    return matrix


def _split(interactions: pl.DataFrame) -> pl.DataFrame:
    """Columns row (in order of time) and word, in order, one row per word."""
    ordered = interactions.sort("timestamp", maintain_order=True, nulls_last=False)
    text = pl.col(REVIEW).str.replace_all("’", "'").str.to_lowercase()
    split = ordered.select(row=pl.int_range(pl.len()), word=text.str.extract_all(_WORD)).explode("word")
    return split.filter(pl.col("word").str.len_chars() <= _LONGEST)

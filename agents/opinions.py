"""What somebody's ratings of some items say about others: through people who rated both, and through what the items are.

Both are sums over a history, made in a fixed order and without BLAS, so that they are the same to the bit in whatever batch or
process they are asked for (as in `agents.affinity`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from agents.affinity import MOST_DENSE, RatingFactors, most_frequent, ridge, standardised
from simulator.dataset import Catalog

OPINIONS = ("neighbours", "contents")
"""Columns of `Opinions.columns`."""

PARTS = ("place", "similarity", "contents")

SHRINKAGE = 80.0
"""People in common at which a similarity counts half."""

FEW = 1.0
"""Added to the sum of similarities, so that few and distant neighbours say little."""

CONTENTS_L2 = 5.0
YEARS = 10.0
"""Distance in years at which two items share nothing of their age any more."""

_BLOCK = 512


class Opinions:
    """Two forecasts of what a person thinks of an item beyond its and their own level, from their ratings of other items.

    With ``r_uj`` a rating without the levels of the person and the item (`agents.affinity.RatingFactors.left`):

    - neighbours: ``sum_j s_ij r_uj / (FEW + sum_j s_ij)`` over the history, with s_ij the cosine of the two items' r over the people who
      rated both, times ``n_ij / (n_ij + SHRINKAGE)`` for n_ij such people, and 0 where it is negative (Sarwar et al., "Item-based
      collaborative filtering recommendation algorithms", WWW 2001, section 3; shrunk as in Koren, "Factor in the neighbors", TKDD
      2010, eq. 2);
    - contents: ``x_i . w_u``, with w_u the ridge regression of r_uj on x_j: genres, year, and popularity of the items.

    The constants were found on validation people of MovieLens-100K.

    Attributes:
        place: row of each item in `similarity`, or -1, int32, shape (n_items,).
        similarity: s, float32, shape (m, m), m at most `MOST_DENSE`.
        contents: x, float64, shape (n_items, p).
    """

    def __init__(self, place: np.ndarray, similarity: np.ndarray, contents: np.ndarray) -> None:
        self.place, self.similarity, self.contents = place, similarity, contents

    @classmethod
    def fit(cls, users: np.ndarray, items: np.ndarray, left: np.ndarray, n_users: int, catalog: Catalog) -> Opinions:
        """Compares all pairs of items, the `MOST_DENSE` most often rated ones.

        Args:
            users, items: one entry per training rating. left: what the rating has beyond the levels of person and item.
            n_users: people in the data. catalog: what the items are.
        """
        counts = np.bincount(items, minlength=len(catalog))
        covered, place = most_frequent(counts, MOST_DENSE)
        return cls(place, _similarity(users, place[items], left, n_users, len(covered)), _contents(catalog, counts))

    def columns(self, history: np.ndarray, left: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Columns `OPINIONS`, float64, shape (len(items), 2); 0 without a history.

        Args:
            history: item codes that somebody rated. left: what each of these ratings has beyond the levels of person and item.
            items: item codes.
        """
        found = np.zeros((len(items), len(OPINIONS)))
        if not len(history):
            return found
        known, rows = self.place[history] >= 0, self.place[items]
        covered = np.flatnonzero(rows >= 0)
        if known.any() and len(covered):
            weights = self.similarity[np.ix_(rows[covered], self.place[history[known]])].astype(np.float64)
            found[covered, 0] = np.einsum("ij,j->i", weights, left[known]) / (FEW + weights.sum(axis=1))
        found[:, 1] = np.einsum("ij,j->i", self.contents[items], ridge(self.contents[history], left, CONTENTS_L2))
        return found

    def save(self, folder: Path) -> None:
        """Writes ``opinions_<part>.npy`` for each of `PARTS`; the similarities are to be mapped into memory."""
        for name in PARTS:
            np.save(folder / f"opinions_{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Opinions | None:
        """Restores what `save` wrote, or None if nothing did; processes on one machine share the similarities."""
        if not (folder / f"opinions_{PARTS[0]}.npy").is_file():
            return None
        return cls(*(np.asarray(np.load(folder / f"opinions_{name}.npy", mmap_mode="r")) for name in PARTS))


def fit_opinions(
    ratings: RatingFactors, users: np.ndarray, items: np.ndarray, given: np.ndarray, n_users: int, catalog: Catalog
) -> Opinions:
    """`Opinions` of what ratings have beyond the levels that were fitted to them.

    Args:
        ratings: the levels. users, items, given: one entry per training rating. n_users, catalog: as in `Opinions.fit`.
    """
    left = given - ratings.mean - ratings.bias[items]
    own = np.bincount(users, weights=left, minlength=n_users) / (np.bincount(users, minlength=n_users) + ratings.PERSON_SHRINKAGE)
    return Opinions.fit(users, items, left - own[users], n_users, catalog)


def _similarity(users: np.ndarray, columns: np.ndarray, left: np.ndarray, n_users: int, n: int) -> np.ndarray:
    kept = columns >= 0
    where, shape = (users[kept], columns[kept]), (n_users, n)
    values, ones = (sparse.csc_matrix((data, where), shape=shape) for data in (left[kept], np.ones(int(kept.sum()))))
    squares = values.multiply(values).tocsc()
    found = np.zeros((n, n), dtype=np.float32)
    for first in range(0, n, _BLOCK):
        part = slice(first, first + _BLOCK)
        together = np.asarray((ones.T @ ones[:, part]).todense())
        lengths = np.sqrt(np.asarray((squares.T @ ones[:, part]).todense()) * np.asarray((ones.T @ squares[:, part]).todense()))
        products = np.asarray((values.T @ values[:, part]).todense())
        alike = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        found[:, part] = np.maximum(alike, 0.0) * together / (together + SHRINKAGE)
    np.fill_diagonal(found, 0.0)
    return found


def _contents(catalog: Catalog, counts: np.ndarray) -> np.ndarray:
    """Genres and year of every item, each of length 1 or 0, and its popularity, standardised; shape (n_items, p)."""
    years = catalog.items["year"].cast(float).fill_null(float("nan")).to_numpy()
    newest, oldest = (np.nanmax(years), np.nanmin(years)) if np.isfinite(years).any() else (0.0, 0.0)
    marks = np.arange(newest, oldest - YEARS, -YEARS)
    near = np.nan_to_num(np.maximum(0.0, 1.0 - np.abs(years[:, None] - marks) / YEARS))
    parts = (catalog.genre_matrix.astype(np.float64), near)
    lengths = [np.sqrt(np.square(part).sum(axis=1, keepdims=True)) for part in parts]
    scaled = [np.divide(part, length, out=np.zeros_like(part), where=length > 0) for part, length in zip(parts, lengths, strict=True)]
    popularity = standardised(np.log1p(counts.astype(np.float64)), np.arange(len(counts)))
    return np.column_stack([*scaled, popularity])

"""What a recommender may know of the items: genres, year, and what the training part says about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from environments.recommenders.ranking import interaction_matrix
from simulator.dataset import Dataset
from simulator.seeds import Stream

MEAN_STRENGTH = 10.0
"""Ratings of the overall mean that complete an item's own."""


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Features of all items.

    Attributes:
        names: one for each column.
        values: float32 in [-1, 1], shape (n_items, n_features).
        factors: which columns are factors; their dot product says how often two items are had by the same people.
    """

    names: tuple[str, ...]
    values: np.ndarray
    factors: slice


def item_features(train: Dataset, factors: int, stream: Stream) -> ItemFeatures:
    """The features of the items of a training part.

    ==================  ==========================================================================================
    ``genre: ...``      1 where the item has the genre
    ``year``            0 for the oldest item of the catalog, 1 for the newest; 0.5 where it is not known
    ``popularity``      log(1 + people who had it) over the largest such number
    ``mean rating``     place on the rating scale of the mean, completed by ten ratings of the overall mean; 0 without ratings
    ``factor ...``      item factors: the k largest singular triplets U S V' of the matrix of who had what, each row divided by the
                        root of its number of items; the rows of V, scaled to a largest entry of 1
    ==================  ==========================================================================================

    Args:
        train: the training part.
        factors: k, at least 0; fewer where the data has no more.
        stream: of the randomised decomposition (Halko, Martinsson and Tropp, SIAM Review 53, 2011).
    """
    catalog, n = train.catalog, train.n_items
    matrix = interaction_matrix(train.interactions, n)
    counts = np.bincount(matrix.indices, minlength=n)
    logs = np.log1p(counts)
    years = catalog.items["year"].to_numpy().astype(np.float64)
    known = np.isfinite(years)
    year = np.full(n, 0.5)
    if known.any() and np.ptp(years[known]) > 0:
        year[known] = (years[known] - years[known].min()) / np.ptp(years[known])
    columns = [catalog.genre_matrix, year[:, None], (logs / max(logs.max(), 1.0))[:, None], _mean_rating(train)[:, None]]
    k = min(factors, min(matrix.shape) - 1)
    if k > 0:
        columns.append(_factors(matrix, k, stream))
    names = [*(f"genre: {name}" for name in catalog.genre_names), "year", "popularity", "mean rating", *(f"factor {j}" for j in range(k))]
    values = np.hstack(columns).astype(np.float32)
    return ItemFeatures(tuple(names), values, slice(len(names) - k, len(names)))


def _mean_rating(train: Dataset) -> np.ndarray:
    if not train.has_ratings or train.rating_scale is None:
        return np.zeros(train.n_items)
    items, ratings = train.interactions["item"].to_numpy(), train.interactions["rating"].to_numpy().astype(np.float64)
    sums = np.bincount(items, weights=ratings, minlength=train.n_items) + MEAN_STRENGTH * ratings.mean()
    low, high = train.rating_scale
    means = sums / (np.bincount(items, minlength=train.n_items) + MEAN_STRENGTH)
    places: np.ndarray = np.clip((means - low) / (high - low), 0.0, 1.0)
    return places


def _factors(matrix: sparse.csr_array, k: int, stream: Stream) -> np.ndarray:
    lengths = np.maximum(np.diff(matrix.indptr), 1)
    normed = sparse.csr_matrix(sparse.diags_array(1.0 / np.sqrt(lengths)) @ matrix)
    _, values, right = randomized_svd(normed, k, random_state=stream.integer())
    items = right.T * values / max(values[0], 1e-12)
    scaled: np.ndarray = items / max(float(np.abs(items).max()), 1e-12)
    return scaled

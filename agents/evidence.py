"""What behaviour in the training part says about a person and an item, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from agents.exposures import hide, items_by_user
from simulator.dataset import Dataset
from simulator.seeds import Stream
from simulator.spread import standard

LATE_SHARE = 0.2
"""Of each person's interactions, what a choice model is fitted to tell from other items."""

LEAST_SD = 1e-3
"""Ratings spread at least so much around what is expected, the data's units."""

FEATURES = ("popularity", "affinity", "quality")
"""Columns of `Evidence.features`."""


class Evidence:
    """Popularity, affinity and quality of items for a person, from training interactions only.

    - popularity: natural log of 1 + number of training interactions of the item;
    - affinity: mean cosine similarity (Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms",
      equation 2 on 0/1 data, shrunk by co-occurrence n / (n + 20)) between the item and the items of the person's history;
    - quality: the item's mean rating, shrunk to the overall mean by 10 pseudo-ratings, minus the overall mean; 0 without ratings.

    Each is standardised over the catalog (affinity per person).

    Args:
        interactions: `INTERACTIONS_SCHEMA`, training part.
        n_users, n_items: sizes of the data set.
    """

    def __init__(self, interactions: pl.DataFrame, n_users: int, n_items: int) -> None:
        users, items = interactions["user"].to_numpy(), interactions["item"].to_numpy()
        counts = np.bincount(items, minlength=n_items).astype(np.float64)
        self.popularity = standard(np.log1p(counts))
        ratings = interactions["rating"]
        if interactions.height and ratings.null_count() == 0:
            values = ratings.to_numpy().astype(np.float64)
            self.mean_rating = float(values.mean())
            sums = np.bincount(items, weights=values, minlength=n_items)
            self.item_bias = (sums + 10.0 * self.mean_rating) / (counts + 10.0) - self.mean_rating
            residual = values - self.mean_rating - self.item_bias[items]
            per_user = np.bincount(users, minlength=n_users)
            user_bias = np.bincount(users, weights=residual, minlength=n_users) / (per_user + 5.0)
            self.rating_sd = max(float(np.std(residual - user_bias[users])), LEAST_SD)
        else:
            self.mean_rating, self.item_bias, self.rating_sd = 0.0, np.zeros(n_items), 1.0
        self.quality = standard(self.item_bias)
        matrix = sparse.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=(n_users, n_items))
        matrix.data[:] = 1.0
        together = (matrix.T @ matrix).tocoo()
        norm = np.sqrt(np.maximum(counts, 1.0))
        similarity = together.data / (norm[together.row] * norm[together.col]) * (together.data / (together.data + 20.0))
        off_diagonal = together.row != together.col
        self._similarity = sparse.csr_matrix(
            (similarity[off_diagonal].astype(np.float32), (together.row[off_diagonal], together.col[off_diagonal])),
            shape=(n_items, n_items),
        )

    def affinity(self, history: np.ndarray) -> np.ndarray:
        """Standardised affinity of every item for somebody with this history (item codes), shape (n_items,)."""
        if len(history) == 0:
            return np.zeros(len(self.popularity))
        return standard(np.asarray(self._similarity[np.unique(history)].mean(axis=0), dtype=np.float64).ravel())

    def features(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Features of some items for somebody with this history, shape (len(items), 3), columns `FEATURES`."""
        return np.column_stack([self.popularity[items], self.affinity(history)[items], self.quality[items]])

    def save(self, folder: Path) -> None:
        """Writes ``evidence.npz``."""
        np.savez(
            folder / "evidence.npz",
            popularity=self.popularity,
            quality=self.quality,
            item_bias=self.item_bias,
            scalars=np.array([self.mean_rating, self.rating_sd]),
            data=self._similarity.data,
            indices=self._similarity.indices,
            indptr=self._similarity.indptr,
        )

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Restores what `save` wrote."""
        stored = np.load(folder / "evidence.npz")
        evidence = cls.__new__(cls)
        evidence.popularity, evidence.quality, evidence.item_bias = stored["popularity"], stored["quality"], stored["item_bias"]
        evidence.mean_rating, evidence.rating_sd = map(float, stored["scalars"])
        n = len(evidence.popularity)
        evidence._similarity = sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=(n, n))
        return evidence


def choice_examples(
    train: Dataset, rng: Stream, *, among: np.ndarray | None = None, people: int = 2_000, negatives: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled examples for a choice model, from the training part alone.

    A fifth of each person's training interactions are the positives: the latest, or where the data has no times a drawn one. The evidence
    is computed from the other four fifths, as it will be in the simulation, where the future is not known. Negatives are random items
    without interaction.

    Args:
        train: the training part, rows sorted by person and time.
        rng: person u draws from ``rng.child("negatives", user_id)``, so that other people cannot matter.
        among: user codes of those who may be learned from; None is everybody. people: at most so many of them are used.
        negatives: per positive.

    Returns:
        features, shape (n, 3), and labels (1 chosen, 0 not), shape (n,).
    """
    parts = hide(train, np.arange(train.n_users), LATE_SHARE, "temporal" if train.has_times else "random", rng.child("hide"))
    evidence = Evidence(parts.observed.interactions, train.n_users, train.n_items)
    histories = items_by_user(parts.observed.interactions, train.n_users)
    recent = items_by_user(parts.hidden, train.n_users)
    able = [user for user in range(train.n_users) if len(histories[user]) and len(recent[user])]
    chosen = able if among is None else np.intersect1d(able, among).tolist()
    if len(chosen) > people:
        chosen = sorted(rng.child("people").generator().choice(chosen, size=people, replace=False).tolist())
    rows, labels, ids = [], [], train.users["user_id"].to_list()
    for user in chosen:
        positive = recent[user][:20]
        known = np.zeros(train.n_items, dtype=bool)
        known[histories[user]] = known[recent[user]] = True
        unknown = np.flatnonzero(~known)
        if len(unknown) == 0:
            continue
        size = min(negatives * len(positive), len(unknown))
        drawn = rng.child("negatives", ids[user]).generator().choice(unknown, size=size, replace=False)
        rows.append(evidence.features(histories[user], np.concatenate([positive, drawn])))
        labels.append(np.concatenate([np.ones(len(positive)), np.zeros(len(drawn))]))
    return (np.concatenate(rows), np.concatenate(labels)) if rows else (np.zeros((0, len(FEATURES))), np.zeros(0))


def star_probabilities(means: np.ndarray, sd: float, values: Sequence[float]) -> np.ndarray:
    """Probability of each rating value if ratings are a normal variable rounded to the nearest value.

    Args:
        means: expected rating before rounding, shape (n,). sd: standard deviation, > 0. values: rating values, ascending.

    Returns:
        shape (n, len(values)); rows sum to 1.
    """
    from scipy.stats import norm  # noqa: PLC0415 - slow to import, not needed by language-model people

    grid = np.array(values, dtype=np.float64)
    cuts = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
    return np.diff(norm.cdf((cuts[None, :] - means[:, None]) / sd), axis=1)

"""How well items go with a history: closed-form linear item models and factors, on interactions alone or on ratings.

They know a person by a history, so that people who were not in the data, and histories that grow, need nothing special.
Every score is a sum over the items of a history, made in a fixed order and without BLAS, so that it is the same to the
bit in whatever batch or process it is asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import svds

from simulator.spread import spreads

MOST_DENSE = 5_000
"""Dense item-item weights cover at most so many items, the most popular ones (100 MB); the factors cover all."""

ROUNDING = 1e-12
"""Variance, as a share of squared size, below which scores of a history do not differ but for rounding (weights are float32)."""


def most_frequent(counts: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The items that dense weights cover: those that occur, at most so many, the most frequent ones.

    Returns:
        Their codes in ascending order, shape (m,), and the row of each item among them, or -1, int32, shape (n_items,).
    """
    covered = np.sort(np.argsort(-counts, kind="stable")[: min(most, int((counts > 0).sum()))])
    place = np.full(len(counts), -1, dtype=np.int32)
    place[covered] = np.arange(len(covered), dtype=np.int32)
    return covered, place


class ItemWeights:
    """A linear item-item model, standardised per history.

    With x the history as a 0/1 row, the weights minimise ``|X D - X D B|^2 + l2 |B|^2`` with a diagonal of zeros (Steck,
    "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eq. 8), where ``D = diag(count^-debias)`` takes weight off
    popular items (Steck, "Markov random fields for collaborative filtering", NeurIPS 2019, section 4). `l2` is `strength` times
    the mean of the diagonal of ``D X'X D``, so that it means the same for data sets of different sizes.

    A score is the sum of weights from the history's items, minus the expected sum over all items, over the standard
    deviation of such a sum if the items of the history were independent.

    Attributes:
        place: row of each item in `weights`, or -1, int32, shape (n_items,).
        weights: float32, shape (m, m): row j holds the weights *into* item j.
        mean, variance: of each column over the rows, float64, shape (m,).
    """

    def __init__(self, place: np.ndarray, weights: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
        self.place, self.weights, self.mean, self.variance = place, weights, mean, variance

    @classmethod
    def fit(cls, matrix: sparse.csr_matrix, strength: float, debias: float = 0.0, most: int = MOST_DENSE) -> ItemWeights:
        """Solves for the weights; cubic in the number of covered items.

        Args:
            matrix: 0/1, shape (n_users, n_items). strength: of the regularisation, > 0. debias: in [0, 1]. most: items covered.
        """
        counts = np.asarray(matrix.sum(axis=0)).ravel()
        covered, place = most_frequent(counts, most)
        down = counts[covered] ** -debias
        part = (matrix[:, covered] @ sparse.diags(down)).tocsr().astype(np.float64)
        gram = np.asfortranarray((part.T @ part).toarray())
        gram[np.diag_indices_from(gram)] += strength * float(np.diag(gram).mean()) if len(covered) else 0.0
        if not len(covered):
            return cls(place, np.zeros((0, 0), dtype=np.float32), np.zeros(0), np.zeros(0))
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
        # B_ij = -P_ij / P_jj from item i into item j; transposed, and with D taken in, so that a history is plain 0/1.
        weights = (inverse / -np.diag(inverse)[:, None] * down[None, :]).astype(np.float32)
        np.fill_diagonal(weights, 0.0)
        wide = weights.mean(axis=0, dtype=np.float64)
        return cls(place, weights, wide, (np.square(weights).mean(axis=0, dtype=np.float64) - wide**2).clip(min=0.0))

    def scores(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Standardised scores of some items, shape (len(items),); 0 for what is not covered, and where nothing differs."""
        known = self.place[history]
        known = known[known >= 0]
        rows = self.place[items]
        scores = np.zeros(len(items))
        variance = float(self.variance[known].sum())
        if variance <= ROUNDING * float(np.square(self.mean[known]).sum()):
            return scores
        spread = float(np.sqrt(variance))
        covered = np.flatnonzero(rows >= 0)
        # doubles before the sum: then every row is summed by itself, whatever other rows are asked for
        sums = self.weights[np.ix_(rows[covered], known)].astype(np.float64).sum(axis=1)
        scores[covered] = (sums - float(self.mean[known].sum())) / spread
        return scores

    def save(self, folder: Path, name: str) -> None:
        """Writes ``<name>.npy`` (the weights, to be mapped into memory) and ``<name>.npz``."""
        np.save(folder / f"{name}.npy", self.weights)
        np.savez(folder / f"{name}.npz", place=self.place, mean=self.mean, variance=self.variance)

    @classmethod
    def load(cls, folder: Path, name: str) -> ItemWeights:
        """Restores what `save` wrote; processes on one machine share the weights."""
        stored = np.load(folder / f"{name}.npz")
        return cls(stored["place"], np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")), stored["mean"], stored["variance"])


def dampened_vectors(matrix: sparse.csr_matrix, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors of a matrix whose rows and columns are scaled by ``count^-1/4``, and the counts of the columns, at least 1.

    Args:
        matrix: 0/1, shape (n_users, n_items). rank: of the decomposition, less where the matrix is smaller.

    Returns:
        Shapes (n_items, rank) and (n_items,); one vector of zeros where there is nothing to decompose.
    """
    of_user, of_item = (np.maximum(np.asarray(matrix.sum(axis=axis)).ravel(), 1.0) for axis in (1, 0))
    scaled = (sparse.diags(of_user**-0.25) @ matrix @ sparse.diags(of_item**-0.25)).tocsr().astype(np.float64)
    rank = min(rank, min(matrix.shape) - 1)
    if rank < 1:
        right = np.zeros((matrix.shape[1], 1))
    elif min(matrix.shape) < 4 * rank:
        right = np.linalg.svd(scaled.toarray(), full_matrices=False)[2][:rank].T
    else:
        right = svds(scaled, k=rank, v0=np.ones(min(matrix.shape)))[2].T
    return right, of_item


class Factors:
    """A truncated singular value decomposition of the interactions, standardised per history.

    The matrix is scaled by ``count^-1/4`` of people and items before, as PureSVD with dampened popularity (Cremonesi, Koren &
    Turrin, "Performance of recommender algorithms on top-N recommendation tasks", RecSys 2010; Nikolakopoulos et al.,
    "EigenRec", 2019). The score of item j is ``out_j . sum_h into_h``, standardised over the whole catalog.

    Attributes:
        into, out: float64, shape (n_items, rank).
    """

    def __init__(self, into: np.ndarray, out: np.ndarray) -> None:
        self.into, self.out = into, out
        self._mean = out.mean(axis=0)
        self._covariance = np.cov(out.T, bias=True).reshape(out.shape[1], out.shape[1])

    @classmethod
    def fit(cls, matrix: sparse.csr_matrix, rank: int) -> Factors:
        """Decomposes a 0/1 matrix, shape (n_users, n_items)."""
        right, of_item = dampened_vectors(matrix, rank)
        return cls(np.ascontiguousarray(right * of_item[:, None] ** -0.25), np.ascontiguousarray(right * of_item[:, None] ** 0.25))

    def scores(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Standardised scores of some items, shape (len(items),); 0 for an empty history, or where nothing differs."""
        person = self.into[history].sum(axis=0)
        variance = float(np.einsum("i,ij,j->", person, self._covariance, person))
        if variance <= ROUNDING * float(np.einsum("i,i->", person**2, self._mean**2 + np.diag(self._covariance))):
            return np.zeros(len(items))
        return np.asarray(np.einsum("ij,j->i", self.out[items] - self._mean, person) / np.sqrt(variance))


class RatingFactors:
    """What a person will think of an item: biases and a few factors of what is left, by alternating least squares.

    ``r_ui ~ mean + b_i + b_u + p_u . q_i`` (Koren, Bell & Volinsky, "Matrix factorization techniques for recommender systems",
    IEEE Computer 2009), with shrunken biases, and the factors fitted to the residuals with ``l2`` on each person and item.
    A person's b_u and p_u follow from their history and ratings in closed form.

    Attributes:
        mean: overall mean rating. bias: of each item, shape (n_items,). factors: shape (n_items, rank).
    """

    ITEM_SHRINKAGE, PERSON_SHRINKAGE, SWEEPS = 5.0, 4.0, 8

    def __init__(self, mean: float, bias: np.ndarray, factors: np.ndarray, l2: float) -> None:
        self.mean, self.bias, self.factors, self.l2 = mean, bias, factors, l2

    @classmethod
    def fit(cls, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, shape: tuple[int, int], rank: int, l2: float) -> RatingFactors:
        """Fits biases, then factors.

        Args:
            users, items, ratings: one entry per training rating. shape: (n_users, n_items). rank: >= 1. l2: > 0.
        """
        mean = float(ratings.mean())
        of_user, of_item = np.zeros(shape[0]), np.zeros(shape[1])
        user_counts, item_counts = np.bincount(users, minlength=shape[0]), np.bincount(items, minlength=shape[1])
        for _ in range(cls.SWEEPS):
            left = ratings - mean - of_user[users]
            of_item = np.bincount(items, weights=left, minlength=shape[1]) / (item_counts + cls.ITEM_SHRINKAGE)
            left = ratings - mean - of_item[items]
            of_user = np.bincount(users, weights=left, minlength=shape[0]) / (user_counts + cls.PERSON_SHRINKAGE)
        by_user = sparse.csr_matrix((left - of_user[users], (users, items)), shape=shape)
        by_item = by_user.T.tocsr()
        # Deterministic start: cosines of different frequency over the items, small.
        factors = 0.1 * np.cos(np.outer(np.arange(1, shape[1] + 1) * 0.618034, np.arange(1, rank + 1)) * 2.0 * np.pi)
        people = np.zeros((shape[0], rank))
        for _ in range(cls.SWEEPS):
            people = _solve_all(by_user, factors, l2)
            factors = _solve_all(by_item, people, l2)
        return cls(mean, of_item, factors, l2)

    def left(self, history: np.ndarray, ratings: np.ndarray) -> tuple[float, np.ndarray]:
        """Bias of somebody with these ratings of this history, and what each rating has beyond both biases, shape (len(history),)."""
        left = ratings.astype(np.float64) - self.mean - self.bias[history]
        own = float(left.sum() / (len(left) + self.PERSON_SHRINKAGE))
        return own, left - own

    def person(self, history: np.ndarray, ratings: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Bias and factors of somebody with this history and these ratings of it."""
        if ratings is None or len(history) == 0:
            return 0.0, np.zeros(self.factors.shape[1])
        own, left = self.left(history, ratings)
        return own, ridge(self.factors[history], left, self.l2)

    def parts(self, history: np.ndarray, ratings: np.ndarray | None, items: np.ndarray) -> np.ndarray:
        """Bias of the person, bias of the item, and the factors' product, shape (len(items), 3); their sum is the rating minus `mean`."""
        own, vector = self.person(history, ratings)
        return np.column_stack([np.full(len(items), own), self.bias[items], np.einsum("ij,j->i", self.factors[items], vector)])


def _solve_all(matrix: sparse.csr_matrix, factors: np.ndarray, l2: float) -> np.ndarray:
    solved = np.zeros((matrix.shape[0], factors.shape[1]))
    for row, (start, end) in enumerate(zip(matrix.indptr[:-1].tolist(), matrix.indptr[1:].tolist(), strict=True)):
        if end > start:
            solved[row] = ridge(factors[matrix.indices[start:end]], matrix.data[start:end], l2)
    return solved


def ridge(factors: np.ndarray, values: np.ndarray, l2: float) -> np.ndarray:
    """The ridge regression of values, shape (n,), on rows, shape (n, k): weights, shape (k,)."""
    square = np.einsum("ni,nj->ij", factors, factors)
    square[np.diag_indices_from(square)] += l2
    return np.asarray(np.linalg.solve(square, np.einsum("ni,n->i", factors, values)))


def standardised(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Values of all items, of mean 0 and variance 1 over these items where they are known, and 0 where not."""
    found = values[items]
    found = found[np.isfinite(found)]
    spread = float(spreads(found))
    if spread == 0.0:
        return np.zeros(len(values))
    return np.where(np.isfinite(values), (values - found.mean()) / spread, 0.0)

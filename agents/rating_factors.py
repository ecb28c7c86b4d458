"""What a person will think of an item: Bayesian factors of ratings, with what people rated, whatever they gave, as side information.

The ratings are ``p_u . q_i + b_u + c_i`` plus noise of a variance of the person's own, drawn from the posterior by Gibbs sampling
(Salakhutdinov & Mnih, "Bayesian probabilistic matrix factorization using Markov chain Monte Carlo", ICML 2008). A person's and an item's
factors have prior means that are linear in features (Simm et al., "Macau: scalable Bayesian factorization with high-dimensional side
information using MCMC", MLSP 2017): the singular vectors of who rated what. That people rate some items and not others says what they
like (Koren, "Factorization meets the neighborhood", KDD 2008, on implicit feedback).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import svds

from simulator.seeds import Stream

MANY = 300_000
"""From so many ratings on there are more factors and features, and fewer sweeps."""

MOST_SWEEPS = 200
NOISE_SHAPE = 5.0
"""Shape of the gamma distribution of people's noise precisions."""

BYTES = 16_000_000
LEAST_KEPT = 20
"""Samples are kept up to so many bytes, at least `LEAST_KEPT`; float32."""


@dataclass(frozen=True)
class Sizes:
    """How large a model is. Attributes: factors; features of a side, perhaps 0; sweeps, of which a quarter is left out."""

    factors: int
    features: int
    sweeps: int

    @classmethod
    def of(cls, n: int, shape: tuple[int, int], *, features: bool = True) -> Sizes:
        """For n ratings; shape: (n_users, n_items)."""
        many = n > MANY
        wide = min(50 if many else 30, shape[0] // 10, shape[1] // 10) if features else 0
        return cls(16 if many else 10, wide, 40 if many else int(np.clip(20_000_000 / max(n, 1), 60, MOST_SWEEPS)))


@dataclass(frozen=True, eq=False)
class Features:
    """Who rated what, in few numbers.

    With A the 0/1 matrix of who rated what, divided by the roots of its sums of rows and columns, features are its leading left
    singular vectors for people and right ones for items, scaled to mean square 1. Where there are any, a last feature is
    ``log(1 + ratings)`` of the person or the item, standardised: what few have rated is not as far from the rest as the vectors have it.

    Attributes:
        users, items: shape (n_users, d + 1), (n_items, d + 1), or with no column. scales: from ``A y_i`` (a row of A times `items`) to the
            features of the row, shape (d,). item_roots: roots of how many rated each item, at least 1, shape (n_items,).
        usual: mean and standard deviation of people's log counts.
    """

    users: np.ndarray
    items: np.ndarray
    scales: np.ndarray
    item_roots: np.ndarray
    usual: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def fit(cls, users: np.ndarray, items: np.ndarray, shape: tuple[int, int], d: int) -> Features:
        """Decomposes the matrix from a fixed start; d may be 0."""
        matrix = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
        matrix.data[:] = 1.0
        rows, columns = (np.sqrt(np.maximum(np.asarray(matrix.sum(axis=axis)).ravel(), 1.0)) for axis in (1, 0))
        if d < 1:
            return cls(np.zeros((shape[0], 0)), np.zeros((shape[1], 0)), np.zeros(0), columns)
        scaled = (sparse.diags(1.0 / rows) @ matrix @ sparse.diags(1.0 / columns)).tocsr()
        left, sizes, right = svds(scaled, k=d, v0=np.ones(min(shape)) / np.sqrt(min(shape)))
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 1e-9 * sizes.max()]
        sides = (left[:, order] * np.sqrt(shape[0]), right[order].T * np.sqrt(shape[1]))
        logs = [np.log1p(np.bincount(codes, minlength=n)) for codes, n in zip((users, items), shape, strict=True)]
        usual = [(float(values.mean()), max(float(values.std()), 1e-9)) for values in logs]
        of_user, of_item = (
            np.column_stack([vectors, (values - mean) / spread]) for vectors, values, (mean, spread) in zip(sides, logs, usual, strict=True)
        )
        return cls(of_user, of_item, np.sqrt(shape[0] / shape[1]) / sizes[order], columns, usual[0])

    def of_history(self, items: np.ndarray) -> np.ndarray:
        """Features of somebody who rated these items, shape (d + 1,): those of the person in the fit who rated the same."""
        d = len(self.scales)
        if not d:
            return np.zeros(0)
        weights = 1.0 / (self.item_roots[items] * np.sqrt(max(1, len(items))))
        count = (np.log1p(len(items)) - self.usual[0]) / self.usual[1]
        return np.append(np.einsum("i,id->d", weights, self.items[items, :d]) * self.scales, count)


@dataclass(eq=False)
class _Side:
    """People or items while sampling: rows z (factors, own level, and a column for the other side's level), and their prior."""

    rows: np.ndarray
    features: np.ndarray  # with a column of ones, shape (n, d + 1)
    precision: np.ndarray
    weights: np.ndarray  # of the features, shape (d + 1, k)
    ridge: float = 1.0

    @classmethod
    def start(cls, features: np.ndarray, k: int, generator: np.random.Generator) -> _Side:
        n = len(features)
        with_ones = np.column_stack([features, np.ones(n)])
        return cls(0.3 * generator.standard_normal((n, k)), with_ones, np.eye(k), np.zeros((with_ones.shape[1], k)))

    def draw_prior(self, generator: np.random.Generator) -> None:
        """Draws precision and weights, given the rows; the precision without knowing the weights.

        Both are conjugate (Bishop, "Pattern recognition and machine learning", 2006, section 2.3.6; Simm et al., section 2).
        """
        n, k = self.rows.shape
        d = self.features.shape[1] - 1
        penalty = np.diag(np.append(np.full(d, self.ridge), 1.0))
        square = self.features.T @ self.features + penalty
        cross = self.features.T @ self.rows
        factor = linalg.cho_factor(square, lower=True)
        mean = linalg.cho_solve(factor, cross)
        scatter = self.rows.T @ self.rows - cross.T @ mean + 0.1 * k * np.eye(k)
        self.precision = _wishart(k + n, scatter, generator)
        # W = mean + square^(-1/2) E precision^(-1/2)
        noise = linalg.solve_triangular(factor[0], generator.standard_normal((d + 1, k)), lower=True, trans=1)
        self.weights = mean + linalg.solve_triangular(linalg.cholesky(self.precision, lower=True), noise.T, lower=True, trans=1).T
        if d:
            size = float(np.einsum("dk,kl,dl->", self.weights[:d], self.precision, self.weights[:d]))
            self.ridge = float(generator.gamma(1.0 + 0.5 * d * k) / (1.0 + 0.5 * size))

    def draw_rows(self, data: _Ratings, other: _Side, noise: np.ndarray | None, generator: np.random.Generator) -> None:
        """Draws all rows, given the other side.

        Args:
            data: ratings with a row for each of this side. other: the other side. noise: precision of each of this side's rows (then
                the rows of `data` are not weighted), or None where `data.weights` has them rating by rating.
        """
        n, k = self.rows.shape
        known = np.column_stack([other.rows[:, :-1], np.ones(len(other.rows))])
        level = other.rows[:, -1]
        upper = np.triu_indices(k)
        products = known[:, upper[0]] * known[:, upper[1]]
        weighted = data.weighted()
        left = data.targets(level)
        both = np.zeros((n, k, k))
        summed = weighted @ products
        right = left @ known
        if noise is not None:
            summed *= noise[:, None]
            right *= noise[:, None]
        both[:, upper[0], upper[1]] = summed
        both[:, upper[1], upper[0]] = summed
        both += self.precision
        right += (self.features @ self.weights) @ self.precision
        lower = np.linalg.cholesky(both)
        self.rows = _draw_normal(lower, right, generator)


@dataclass(eq=False)
class _Ratings:
    """Ratings in rows of one side, with the other side's codes as columns: a sparse pattern whose values change from sweep to sweep."""

    pattern: sparse.csr_matrix
    given: np.ndarray
    weights: np.ndarray

    def weighted(self) -> sparse.csr_matrix:
        return sparse.csr_matrix((self.weights, self.pattern.indices, self.pattern.indptr), shape=self.pattern.shape)

    def targets(self, level: np.ndarray) -> sparse.csr_matrix:
        values = self.weights * (self.given - level[self.pattern.indices])
        return sparse.csr_matrix((values, self.pattern.indices, self.pattern.indptr), shape=self.pattern.shape)


def _draw_normal(lower: np.ndarray, right: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws of normal rows with precisions ``L L'`` and means ``(L L')^-1 right``, shape (n, k); by substitution, all rows at once."""
    n, k = right.shape
    found = np.ascontiguousarray(right.T)
    by_column = np.ascontiguousarray(lower.transpose(1, 2, 0))
    for j in range(k):
        if j:
            found[j] -= np.einsum("jn,jn->n", by_column[j, :j], found[:j])
        found[j] /= by_column[j, j]
    found += generator.standard_normal((n, k)).T
    for j in range(k - 1, -1, -1):
        if j + 1 < k:
            found[j] -= np.einsum("jn,jn->n", by_column[j + 1 :, j], found[j + 1 :])
        found[j] /= by_column[j, j]
    return np.ascontiguousarray(found.T)


def _wishart(freedom: float, inverse_scale: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A draw with this inverse of the scale (Smith & Hocking, "Wishart variate generator", Applied Statistics 1972)."""
    k = len(inverse_scale)
    bartlett = np.tril(generator.standard_normal((k, k)), -1)
    bartlett[np.diag_indices(k)] = np.sqrt(generator.chisquare(freedom - np.arange(k)))
    # The scale is (C C')^-1, whose root is C'^-1.
    root = linalg.solve_triangular(linalg.cholesky(inverse_scale, lower=True), bartlett, lower=True, trans=1)
    return np.asarray(root @ root.T)


@dataclass(frozen=True, eq=False)
class RatingFactors:
    """Samples from the posterior of the factors.

    Attributes:
        centre, scale: of the ratings; samples are of ``(rating - centre) / scale``.
        users, items: (factors, level) of each sample, float32, shape (s, n_users, k), (s, n_items, k).
        precision, weights: of each sample, of the people's prior, shape (s, k, k), (s, d + 1, k). noise: usual noise precision, shape (s,).
        user_noise: mean noise variance of each person, the data's units squared, shape (n_users,).
        features: who rated what.
    """

    centre: float
    scale: float
    users: np.ndarray
    items: np.ndarray
    precision: np.ndarray
    weights: np.ndarray
    noise: np.ndarray
    user_noise: np.ndarray
    features: Features

    @classmethod
    def fit(
        cls, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, shape: tuple[int, int], rng: Stream, sizes: Sizes | None = None
    ) -> RatingFactors:
        """Draws from the posterior.

        Args:
            users, items, ratings: one entry per rating. shape: (n_users, n_items). rng: of the draws. sizes: by default `Sizes.of`.
        """
        sizes = sizes or Sizes.of(len(ratings), shape)
        chain = _Chain(users, items, ratings, shape, rng, sizes)
        burn = sizes.sweeps // 4
        n_kept = max(LEAST_KEPT, BYTES // (4 * (sum(shape) + 1) * (sizes.factors + 1)))
        after = np.arange(burn, sizes.sweeps)
        kept = set(after[np.unique(np.linspace(0, len(after) - 1, min(n_kept, len(after))).round().astype(np.int64))].tolist())
        samples: list[tuple[np.ndarray, ...]] = []
        variance = np.zeros(shape[0])
        for sweep in range(sizes.sweeps):
            chain.step()
            if sweep >= burn:
                variance += 1.0 / chain.noise
            if sweep in kept:
                samples.append(chain.sample())
        of_user, of_item, precision, weights, noise = (np.stack(parts) for parts in zip(*samples, strict=True))
        variance *= chain.scale**2 / len(after)
        return cls(chain.centre, chain.scale, of_user, of_item, precision, weights, noise, variance, chain.features)

    def expected(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected ratings by people of the fit, the data's units, shape (n,)."""
        total = np.zeros(len(users))
        for of_user, of_item in zip(self.users, self.items, strict=True):
            total += _products(of_user[users], of_item[items])
        return np.asarray(self.centre + self.scale * total / len(self.users))

    def tastes(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What of `expected` differs between people who differ in nothing but level, and between items alike; the data's units, shape (n,).

        The factors of both sides are taken from their means over these pairs, or what these people all think of an item would be in it.
        """
        total = np.zeros(len(users))
        for of_user, of_item in zip(self.users, self.items, strict=True):
            people, things = (side[:, :-1].astype(np.float64) for side in (of_user, of_item))
            total += np.einsum("nk,nk->n", people[users] - people[users].mean(axis=0), things[items] - things[items].mean(axis=0))
        return np.asarray(self.scale * total / len(self.users))

    def person(self, user: int) -> np.ndarray:
        """(factors, level) of somebody of the fit in each sample, float64, shape (s, k)."""
        return self.users[:, user].astype(np.float64)

    def folded_in(self, history: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """The same of anybody who gave these items these ratings, shape (s, k): the posterior mean, given each sample's items and prior."""
        about = np.append(self.features.of_history(history), 1.0)
        known = self.items[:, history].astype(np.float64)
        level = known[:, :, -1].copy()
        known[:, :, -1] = 1.0
        left = (ratings - self.centre) / self.scale - level
        both = self.precision + self.noise[:, None, None] * np.einsum("snk,snl->skl", known, known)
        prior = np.einsum("d,sdk,skl->sl", about, self.weights, self.precision)
        right = prior + self.noise[:, None] * np.einsum("snk,sn->sk", known, left)
        return np.asarray(np.linalg.solve(both, right[:, :, None])[:, :, 0])

    def of_person(self, person: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected ratings of some items by a person (of `person` or `folded_in`), the data's units, shape (len(items),)."""
        of_item = self.items[:, items].astype(np.float64)
        both = np.einsum("sik,sk->i", of_item[:, :, :-1], person[:, :-1]) + of_item[:, :, -1].sum(axis=0) + person[:, -1].sum()
        return np.asarray(self.centre + self.scale * both / len(person))


def _products(of_user: np.ndarray, of_item: np.ndarray) -> np.ndarray:
    """``p . q + b + c`` for pairs of rows (factors, level)."""
    return np.asarray(np.einsum("nk,nk->n", of_user[:, :-1], of_item[:, :-1]) + of_user[:, -1] + of_item[:, -1])


class _Chain:
    """The state of the sampler."""

    def __init__(
        self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, shape: tuple[int, int], rng: Stream, sizes: Sizes
    ) -> None:
        self.generator = rng.child("rating factors").generator()
        self.centre, self.scale = float(ratings.mean()), max(float(ratings.std()), 1e-9)
        given = (ratings - self.centre) / self.scale
        self.features = Features.fit(users, items, shape, sizes.features)
        k = sizes.factors + 1
        self.people = _Side.start(self.features.users, k, self.generator)
        self.things = _Side.start(self.features.items, k, self.generator)
        # The order of rows of the data does not matter; equal pairs stay apart.
        order = np.lexsort((given, items, users))
        self.users, self.items, self.given = users[order], items[order], given[order]
        self.turned = np.lexsort((self.users, self.items))
        ones = np.ones(len(given))
        self.by_user = _Ratings(_pattern(self.users, self.items, shape), self.given, ones)
        turned = _pattern(self.items[self.turned], self.users[self.turned], (shape[1], shape[0]))
        self.by_item = _Ratings(turned, self.given[self.turned], ones)
        self.counts = np.bincount(self.users, minlength=shape[0])
        self.noise, self.usual = np.full(shape[0], 1.5), 1.5

    def step(self) -> None:
        """One sweep: priors, people, items, noise."""
        self.people.draw_prior(self.generator)
        self.people.draw_rows(self.by_user, self.things, self.noise, self.generator)
        self.things.draw_prior(self.generator)
        self.by_item.weights = self.noise[self.users][self.turned]
        self.things.draw_rows(self.by_item, self.people, None, self.generator)
        error = self.given - self._fitted()
        squares = np.bincount(self.users, weights=error**2, minlength=len(self.noise))
        rate = NOISE_SHAPE / self.usual
        self.noise = self.generator.gamma(NOISE_SHAPE + 0.5 * self.counts) / (rate + 0.5 * squares)
        rate = self.generator.gamma(1.0 + NOISE_SHAPE * len(self.noise)) / (1.0 + self.noise.sum())
        self.usual = NOISE_SHAPE / rate

    def _fitted(self) -> np.ndarray:
        found = np.empty(len(self.given))
        for first in range(0, len(found), 100_000):
            part = slice(first, first + 100_000)
            found[part] = _products(self.people.rows[self.users[part]], self.things.rows[self.items[part]])
        return found

    def sample(self) -> tuple[np.ndarray, ...]:
        """Arrays of `RatingFactors` in its order, from `users` to `noise`."""
        rows = (self.people.rows.astype(np.float32), self.things.rows.astype(np.float32))
        return *rows, self.people.precision.copy(), self.people.weights.copy(), np.array(self.usual)


def _pattern(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Where ratings stand, in their order (sorted by row); equal places stay apart."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return sparse.csr_matrix((np.ones(len(rows)), columns, starts), shape=shape)

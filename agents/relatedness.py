"""How related items are to a history: seven scores, each a sum over the items of the history, exact in whatever order it is taken.

All weights are rounded to a grid, so that double-precision sums of them have no rounding error: a score does not depend on the order of the
history, on the batch, or on how many threads compute it, and what a longer history adds can be added to what is known of a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import polars as pl
from scipy import linalg, sparse

from agents.affinity import dampened_vectors, most_frequent
from simulator.dataset import Catalog

PAIR_BITS, FACTOR_BITS = 22, 14
"""Bits that weights of pairs of items, and numbers of factors, are rounded to, from the largest one down."""

MOST_DENSE: Final[int] = 5_000
"""Dense weights between items cover at most so many, the most frequent ones (100 MB)."""

MOST_NEIGHBOURS: Final[int] = 1_000
"""Sparse weights from an item keep at most so many of the others, the largest."""

EASE_L2, EASE_DEBIAS = 200.0, 0.25
RANK = 64
LIFT_SMOOTHING = 0.1
ORDER_REACH, ORDER_BACK, ORDER_SMOOTHING = 4, 0.7, 5.0
YEAR_BINS = (2, 5, 10)


def on_grid(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to multiples of a power of two, `bits` below the largest of them; float32, shape of `values`."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(values.shape, dtype=np.float32)
    step = 2.0 ** (np.ceil(np.log2(largest)) - bits)
    return np.asarray(np.rint(values / step) * step, dtype=np.float32)


class Related(Protocol):
    """Scores of the whole catalog for histories."""

    def of(self, histories: sparse.csr_matrix) -> np.ndarray:
        """Sums over the items of histories.

        Args:
            histories: 0/1 float64, shape (n, n_items).

        Returns:
            float64, shape (n, n_items); 0 for what is not covered. A history's own items have values that mean nothing.
        """
        ...

    def of_one(self, history: np.ndarray) -> np.ndarray:
        """The same numbers for one history of different item codes; sums for parts of a history add up to that of the whole."""
        ...

    def save(self, folder: Path, name: str) -> None:
        """Writes files that begin with the name."""
        ...


class Pairs:
    """Weights from item to item.

    Attributes:
        place: row of each item in `weights`, or -1, int32, shape (n_items,).
        weights: from the row's item to the column's, float32, shape (m, m), dense or sparse.
    """

    def __init__(self, place: np.ndarray, weights: Any) -> None:
        self.place, self.weights = place, weights
        self._covered = np.flatnonzero(place >= 0)
        self._all = len(self._covered) == len(place)

    def of(self, histories: sparse.csr_matrix) -> np.ndarray:
        """See `Related.of`."""
        known = histories if self._all else histories[:, self._covered]
        sums = known @ self.weights.astype(np.float64)
        return self._spread_out(sums.toarray() if not isinstance(sums, np.ndarray) else np.asarray(sums), len(self.place))

    def of_one(self, history: np.ndarray) -> np.ndarray:
        """See `Related.of_one`."""
        rows = self.place[history]
        rows = rows[rows >= 0]
        if not isinstance(self.weights, np.ndarray):
            found = self.weights[rows]
            sums = np.bincount(found.indices, weights=found.data, minlength=found.shape[1])
        else:
            sums = np.add.reduce(self.weights[rows], axis=0, dtype=np.float64)
        return self._spread_out(sums, len(self.place))

    def _spread_out(self, sums: np.ndarray, n_items: int) -> np.ndarray:
        if self._all:
            return sums
        found = np.zeros((*sums.shape[:-1], n_items))
        found[..., self._covered] = sums
        return found

    def save(self, folder: Path, name: str) -> None:
        """Writes ``<name>.npy`` (to be mapped into memory) or ``<name>.npz`` (sparse), and ``<name>-place.npy``."""
        np.save(folder / f"{name}-place.npy", self.place)
        _saved(folder, name, self.weights)

    @classmethod
    def load(cls, folder: Path, name: str) -> Pairs:
        """Restores what `save` wrote."""
        return cls(np.load(folder / f"{name}-place.npy"), _loaded(folder, name))


class Products:
    """Weights from item to item as products of factors.

    Attributes:
        into, out: float32, shape (n_items, rank), dense or sparse: the weight from j to i is ``into[j] . out[i]``.
    """

    def __init__(self, into: Any, out: Any) -> None:
        self.into, self.out = into, out
        # in double precision, so that sums of products are exact
        self._out = out.astype(np.float64)

    def of(self, histories: sparse.csr_matrix) -> np.ndarray:
        """See `Related.of`."""
        people = histories @ self.into.astype(np.float64)
        return np.asarray((self._out @ (people.toarray() if not isinstance(people, np.ndarray) else people).T).T)

    def of_one(self, history: np.ndarray) -> np.ndarray:
        """See `Related.of_one`."""
        rows = self.into[history]
        if not isinstance(rows, np.ndarray):
            person = np.bincount(rows.indices, weights=rows.data, minlength=rows.shape[1])
        else:
            person = np.add.reduce(rows, axis=0, dtype=np.float64)
        return np.asarray(self._out @ person)

    def save(self, folder: Path, name: str) -> None:
        """Writes ``<name>-into`` and ``<name>-out``, each ``.npy`` or (sparse) ``.npz``."""
        _saved(folder, f"{name}-into", self.into)
        _saved(folder, f"{name}-out", self.out)

    @classmethod
    def load(cls, folder: Path, name: str) -> Products:
        """Restores what `save` wrote."""
        return cls(_loaded(folder, f"{name}-into"), _loaded(folder, f"{name}-out"))


def load(folder: Path, name: str) -> Pairs | Products:
    """Restores what either class has saved under a name."""
    return Pairs.load(folder, name) if (folder / f"{name}-place.npy").is_file() else Products.load(folder, name)


def _saved(folder: Path, name: str, values: Any) -> None:
    """Writes an array as ``<name>.npy``, or a sparse matrix as ``<name>.npz``."""
    if isinstance(values, np.ndarray):
        np.save(folder / f"{name}.npy", values)
    else:
        sparse.save_npz(folder / f"{name}.npz", values)


def _loaded(folder: Path, name: str) -> Any:
    """An array that processes on one machine share, or a sparse matrix."""
    file = folder / f"{name}.npy"
    return np.asarray(np.load(file, mmap_mode="r")) if file.is_file() else sparse.csr_matrix(sparse.load_npz(folder / f"{name}.npz"))


# --- the scores ---


def ease(matrix: sparse.csr_matrix, counts: np.ndarray) -> Pairs | Products:
    """Weights of EASE on a matrix whose popular items are scaled down.

    With D = diag(count^-`EASE_DEBIAS`): ``P = (D X'X D + l I)^-1`` and weights ``-d_j P_ji / P_ii`` (Steck, "Embarrassingly shallow
    autoencoders for sparse data", WWW 2019, eq. 8; Steck, "Markov random fields for collaborative filtering", NeurIPS 2019, section 4);
    l is `EASE_L2` times the mean diagonal of ``D X'X D`` over that of ``X'X``. Where there are fewer users than items the same numbers
    come from the users' side: ``A = (X D D X' + l I)^-1``, weight ``d_j X_j' A X_i d_i / (1 - q_i)`` with ``q_i = d_i^2 X_i' A X_i``.

    Args:
        matrix: 0/1, shape (n_users, n_items). counts: of its columns.
    """
    users = np.flatnonzero(np.diff(matrix.indptr))
    fewer_users = len(users) < min(MOST_DENSE, int((counts > 0).sum()))
    covered, place = most_frequent(counts, len(counts) if fewer_users else MOST_DENSE)
    if not len(covered):
        return Pairs(place, np.zeros((0, 0), dtype=np.float32))
    down = counts[covered] ** -EASE_DEBIAS
    scaled = (matrix[users][:, covered] @ sparse.diags(down)).tocsr().astype(np.float64)
    l2 = EASE_L2 * float((counts[covered] * down**2).mean() / counts[covered].mean())
    if fewer_users:
        square = (scaled @ scaled.T).toarray()
        square[np.diag_indices_from(square)] += l2
        onto = scaled.T @ linalg.inv(square, overwrite_a=True, check_finite=False)
        share = np.asarray(scaled.T.multiply(onto).sum(axis=1)).ravel()
        into = np.zeros((len(counts), len(users)))
        into[covered] = onto * down[:, None]
        wide = sparse.csr_matrix((np.ones(len(covered)), (covered, np.arange(len(covered)))), shape=(len(counts), len(covered)))
        out = (wide @ sparse.diags(1.0 / np.maximum(1.0 - share, 1e-9)) @ scaled.T).tocsr()
        return Products(on_grid(into, FACTOR_BITS), _sparse_on_grid(out, FACTOR_BITS))
    gram = np.asfortranarray((scaled.T @ scaled).toarray())
    gram[np.diag_indices_from(gram)] += l2
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = -down[:, None] * inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return Pairs(place, on_grid(weights, PAIR_BITS))


def words(catalog: Catalog, *, described: bool = False) -> Products | None:
    """Products of TF-IDF rows of titles, genres and years, each of length 1; None if items have none of these.

    Terms are the words of the title (where `described`, of the description too), each genre twice, and the year in bins of `YEAR_BINS`
    years; weight ``tf * ln(n / df)`` (Salton &
    Buckley, "Term-weighting approaches in automatic text retrieval", 1988).
    """
    text = pl.concat_str(pl.col("title", "description").fill_null(""), separator=" ") if described else pl.col("title").fill_null("")
    table = catalog.items.select("item", title=text, genres=pl.col("genres"), year=pl.col("year"))
    title = (
        table.select("item", term=pl.col("title").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+"))
        .explode("term")
        .drop_nulls()
        .with_columns(term="w:" + pl.col("term"), times=pl.lit(1.0))
    )
    genre = (
        table.select("item", term=pl.col("genres")).explode("term").drop_nulls().with_columns(term="g:" + pl.col("term"), times=pl.lit(2.0))
    )
    years = [
        table.select("item", term=pl.format(f"y{width}:{{}}", pl.col("year") // width), times=pl.lit(1.0)).drop_nulls()
        for width in YEAR_BINS
    ]
    terms = pl.concat([title, genre, *years]).group_by("item", "term").agg(pl.col("times").sum())
    n = len(catalog)
    terms = terms.with_columns(df=pl.len().over("term")).filter((pl.col("df") > 1) & (pl.col("df") < n)).sort("term", "item")
    if terms.is_empty():
        return None
    codes = terms["term"].rle_id().to_numpy()
    values = terms["times"].to_numpy() * np.log(n / terms["df"].to_numpy())
    rows = sparse.csr_matrix((values, (terms["item"].to_numpy(), codes)), shape=(n, int(codes.max()) + 1))
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    rows = (sparse.diags(np.divide(1.0, length, out=np.zeros(n), where=length > 0)) @ rows).tocsr()
    rows = _sparse_on_grid(rows, FACTOR_BITS)
    return Products(rows, rows)


def decomposition(matrix: sparse.csr_matrix) -> Products:
    """A truncated singular value decomposition of the interactions, rows and columns scaled by ``count^-1/4``.

    PureSVD with dampened popularity (Cremonesi, Koren & Turrin, "Performance of recommender algorithms on top-N recommendation tasks",
    RecSys 2010; Nikolakopoulos et al., "EigenRec", 2019).
    """
    right, of_item = dampened_vectors(matrix, RANK)
    return Products(on_grid(right * of_item[:, None] ** -0.25, FACTOR_BITS), on_grid(right, FACTOR_BITS))


def order(users: np.ndarray, items: np.ndarray, counts: np.ndarray) -> Pairs:
    """Neighbours in the order of time: weight from j to i by how often i came within `ORDER_REACH` places after j, or before.

    Places 1, 2, ... after j count 1, 1/2, ...; before it `ORDER_BACK` of that; the sum over users is divided by
    ``sqrt((n_i + 5) (n_j + 5))``.

    Args:
        users, items: of the interactions, users ascending, each user's in the order of time. counts: of the items.
    """
    rows, columns, values = [], [], []
    for step in range(1, ORDER_REACH + 1):
        same = users[step:] == users[:-step]
        first, then = items[:-step][same], items[step:][same]
        rows += [first, then]
        columns += [then, first]
        values += [np.full(len(first), 1.0 / step), np.full(len(first), ORDER_BACK / step)]
    n = len(counts)
    found = sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
    return _scaled_pairs(found, lambda row, column: 1.0 / np.sqrt((counts[row] + ORDER_SMOOTHING) * (counts[column] + ORDER_SMOOTHING)))


def lift(together: sparse.csr_matrix, counts: np.ndarray, users: int) -> Pairs:
    """``ln(1 + C_ji / (n_j n_i / N + 0.1))``: how much more often two items are met by the same user than by chance.

    Args:
        together: users who met both, shape (n_items, n_items). counts: of the items. users: N.
    """
    found = together.copy()
    row, column = _places(found)
    found.data = np.log1p(found.data / (counts[row] * counts[column] / max(users, 1) + LIFT_SMOOTHING))
    return _kept(found)


def walk(matrix: sparse.csr_matrix, counts: np.ndarray) -> Pairs:
    """RP3beta with beta 1: the probability of a random walk from j over a user to i, over the popularity of i.

    Paudel, Christoffel, Newell & Bernstein, "Updatable, accurate, diverse, and scalable recommendations for interactive applications",
    ACM TiiS 7 (2017).
    """
    of_user = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    found = _between_items(matrix.T @ (sparse.diags(1.0 / of_user) @ matrix))
    return _scaled_pairs(found, lambda row, column: 1.0 / (counts[row] * counts[column]))


def together_of(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Users who met both of two items, 0 on the diagonal; float64, shape (n_items, n_items)."""
    return _between_items(matrix.T @ matrix)


def _between_items(product: Any) -> sparse.csr_matrix:
    """A product of items and items, without those of an item with itself."""
    found: sparse.csr_matrix = product.tocsr().astype(np.float64)
    found.setdiag(0.0)
    found.eliminate_zeros()
    return found


def _places(found: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(found.shape[0]), np.diff(found.indptr)), found.indices


def _scaled_pairs(found: sparse.csr_matrix, factor: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Pairs:
    found.data = found.data * factor(*_places(found))
    return _kept(found)


def _kept(found: sparse.csr_matrix) -> Pairs:
    """Weights on the grid, dense where most are there, else sparse with the largest of each row."""
    n = found.shape[0]
    if n <= MOST_DENSE and found.nnz > 0.2 * n * n:
        return Pairs(np.arange(n, dtype=np.int32), on_grid(found.toarray(), PAIR_BITS))
    if np.diff(found.indptr).max(initial=0) > MOST_NEIGHBOURS:
        found = _largest(found)
    return Pairs(np.arange(n, dtype=np.int32), _sparse_on_grid(found, PAIR_BITS))


def _sparse_on_grid(found: sparse.csr_matrix, bits: int) -> sparse.csr_matrix:
    found = found.tocsr()
    found.sort_indices()
    return sparse.csr_matrix((on_grid(found.data, bits), found.indices, found.indptr), shape=found.shape)


def _largest(found: sparse.csr_matrix) -> sparse.csr_matrix:
    keep = np.ones(found.nnz, dtype=bool)
    for start, end in zip(found.indptr[:-1].tolist(), found.indptr[1:].tolist(), strict=True):
        if end - start > MOST_NEIGHBOURS:
            ranked = np.lexsort((found.indices[start:end], -found.data[start:end]))
            keep[start + ranked[MOST_NEIGHBOURS:]] = False
    row, column = _places(found)
    return sparse.csr_matrix((found.data[keep], (row[keep], column[keep])), shape=found.shape)

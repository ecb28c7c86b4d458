"""What most recommenders share: matrices from logs, the best unseen items of a score matrix, state on disk.

Ties are always broken by item code, so that a list depends on neither the batch nor how many items are asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl
from scipy import sparse

from simulator.errors import RecommenderError
from simulator.records import Slate

BACKSTOP = 1e-6
"""Weight of the popularity share that orders items about which a neighbourhood or linear model knows nothing."""


_BLOCK = 8
"""Rows that a matrix product takes at once. With more, OpenBLAS's kernel for Haswell, which it also takes on processors that it does not
know yet, adds up rows at some places of a block in another order than at others."""

_GROUPS = 4
"""Groups of items for each item wanted; more leave fewer items to sort and cost more themselves."""


def interaction_matrix(interactions: pl.DataFrame, n_items: int) -> sparse.csr_array:
    """Who interacted with what, as a binary matrix.

    Args:
        interactions: columns `user` and `item`; repeated pairs count once.
        n_items: items of the catalog.

    Returns:
        float32 ones, shape (highest user code + 1, n_items), column indices sorted.
    """
    users = interactions["user"].to_numpy().astype(np.int64)
    return _binary(users * n_items + interactions["item"].to_numpy(), int(users.max()) + 1 if len(users) else 0, n_items)


def history_matrix(histories: Sequence[np.ndarray], n_items: int) -> sparse.csr_array:
    """Histories as a binary matrix; order and repetitions within a history do not matter.

    Args:
        histories: b arrays of item codes.
        n_items: items of the catalog.

    Returns:
        float32 ones, shape (b, n_items), column indices sorted.
    """
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    columns = np.concatenate(histories) if len(histories) else np.empty(0, dtype=np.int32)
    return _binary(rows * n_items + columns, len(histories), n_items)


def _binary(keys: np.ndarray, n_rows: int, n_items: int) -> sparse.csr_array:
    """The binary matrix of pairs given as ``row * n_items + column``; one sort for all is quicker than one for each row."""
    keys = np.sort(keys)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    rows, columns = np.divmod(keys, n_items)
    ends = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n_rows))))
    index = np.int32 if len(keys) < 2**31 else np.int64
    ones = np.ones(len(keys), dtype=np.float32)
    return sparse.csr_array((ones, columns.astype(index), ends.astype(index)), shape=(n_rows, n_items))


def popularity_share(interactions: pl.DataFrame, n_items: int) -> np.ndarray:
    """Share of the people in the log who interacted with each item, float32 in [0, 1], shape (n_items,)."""
    return share_of_people(interaction_matrix(interactions, n_items))


def share_of_people(matrix: sparse.csr_array) -> np.ndarray:
    """As `popularity_share`, from a binary matrix of shape (n_users, n_items)."""
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    people = int(np.count_nonzero(np.diff(matrix.indptr)))
    return (counts / max(people, 1)).astype(np.float32)


def product_by_row(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A matrix product whose rows do not depend on the other rows, so that the batch cannot matter.

    BLAS rounds differently for matrices of different height, and in high ones at different places, so it always gets blocks of one small
    height (`_BLOCK`).

    Args:
        left: float32, shape (b, k).
        right: float32, shape (k, n).
    """
    b = len(left)
    padded = np.zeros((-(-b // _BLOCK) * _BLOCK, left.shape[1]), dtype=left.dtype)
    padded[:b] = left
    product = np.empty((len(padded), right.shape[1]), dtype=left.dtype)
    for start in range(0, len(padded), _BLOCK):
        np.matmul(padded[start : start + _BLOCK], right, out=product[start : start + _BLOCK])
    return product[:b]


def sums_of_rows(owned: sparse.csr_array, table: np.ndarray) -> np.ndarray:
    """The product of a binary sparse matrix and a table: for each row of the matrix the sum of the table's rows that it names.

    Each sum is made on its own, in the order of the columns; a dense product would depend on the size of the batch. Where the process
    has loaded torch, torch's kernel makes the same sums in the same order, so to the bit the same, in half the time.

    Args:
        owned: ones, shape (b, k). table: float32, shape (k, n).
    """
    torch = sys.modules.get("torch")
    if torch is None or owned.shape[0] == 0:
        sums: np.ndarray = owned @ table
        return sums
    columns, starts = (torch.from_numpy(part.astype(np.int64)) for part in (owned.indices, owned.indptr[:-1]))
    with torch.inference_mode():
        return np.asarray(torch.nn.functional.embedding_bag(columns, torch.from_numpy(table), starts, mode="sum").numpy())


def top_unseen(scores: np.ndarray, histories: Sequence[np.ndarray], n: int) -> list[Slate]:
    """The n best items outside the history of each person: highest score first, then lowest item code.

    Args:
        scores: finite, shape (b, n_items). It is overwritten.
        histories: b arrays of item codes to leave out.
        n: items wanted, at least 1.

    Returns:
        One deterministic slate per row, shorter than n only where fewer items are left.
    """
    b = len(scores)
    if b == 0:
        return []
    rows = np.repeat(np.arange(b), [len(history) for history in histories])
    scores[rows, np.concatenate(histories).astype(np.intp)] = -np.inf
    _, items, values, ends = best_of_rows(scores, n)
    items, values = items.astype(np.int32), values.astype(np.float64)
    pieces = zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    return [Slate(items[start:end], values[start:end]) for start, end in pieces]


def best_of_rows(scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The n highest numbers of each row, highest first, of equal ones the first; -inf is left out.

    Args:
        scores: shape (b, m), b at least 1.
        n: how many, at least 1; fewer where a row has no more above -inf.

    Returns:
        Row, column and number of each, row by row, three arrays of equal length; and where the entries of each row end, shape (b,).
    """
    b, m = scores.shape
    least = np.full((b, 1), -np.inf)
    groups = _GROUPS * n
    if groups <= m:
        # at least n numbers are as high as the n-th of the highest of each group of columns, and few more
        highest = scores[:, : m - m % groups].reshape(b, -1, groups).max(axis=1)
        least = np.partition(highest, groups - n, axis=1)[:, groups - n, None]
    found = np.flatnonzero((scores >= least) & (scores > -np.inf))
    rows, values = found // m, scores.reshape(-1)[found]
    order = np.lexsort((-values, rows))  # stable, so that of equal numbers the first stays first
    counts = np.bincount(rows, minlength=b)
    kept = order[np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts) < n]
    return rows[kept], found[kept] % m, values[kept], np.cumsum(np.minimum(counts, n))


def top_unseen_of_order(order: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], n: int) -> list[Slate]:
    """As `top_unseen` where everybody has the same scores, without making a matrix.

    Args:
        order: all item codes, best first, shape (n_items,).
        scores: by item code, shape (n_items,).
        histories: b arrays of item codes to leave out.
        n: items wanted.
    """
    slates = []
    for history in histories:
        unseen = np.ones(len(order), dtype=bool)
        unseen[history] = False
        head = order[: n + len(history)]
        items = head[unseen[head]][:n].astype(np.int32)
        slates.append(Slate(items, scores[items].astype(np.float64)))
    return slates


def save_arrays(folder: Path, **arrays: np.ndarray) -> None:
    """Writes arrays to ``state.npz`` in `folder`, exactly; equal arrays give equal bytes."""
    np.savez(folder / "state.npz", allow_pickle=False, **arrays)


def load_arrays(folder: Path, *names: str) -> list[np.ndarray]:
    """Reads what `save_arrays` wrote, in the order of `names`.

    Raises:
        RecommenderError: the file is not there or is not the state of this recommender.
    """
    file = folder / "state.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except (OSError, KeyError, ValueError) as error:
        raise RecommenderError(f"{file} does not hold a fitted recommender of this kind ({error}); fit it again.") from error


def load_prefixed(folder: Path, prefix: str) -> dict[str, np.ndarray]:
    """Those arrays of ``state.npz`` whose name starts with `prefix`, by the rest of their name.

    Raises:
        RecommenderError: the file is not there or is damaged.
    """
    file = folder / "state.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}
    except (OSError, ValueError) as error:
        raise RecommenderError(f"{file} does not hold a fitted recommender of this kind ({error}); fit it again.") from error


def not_fitted(recommender: object) -> NoReturn:
    """Says that `recommend` or `save` came before `fit` or `load`.

    Raises:
        RecommenderError: always.
    """
    raise RecommenderError(f"{type(recommender).__name__} was used before fit or load was called.")

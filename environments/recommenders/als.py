"""Implicit ALS: weighted matrix factorisation by alternating least squares, trained by the library `implicit`."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse
from scipy.linalg.lapack import sposv

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import interaction_matrix, product_by_row, share_of_people
from simulator.dataset import Catalog
from simulator.errors import PluginError
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream


class ALSConfig(ComponentConfig):
    """Options of `ALS`.

    Attributes:
        dimension: length of the factors.
        iterations: alternations.
        alpha: how much more an interaction weighs than its absence, which weighs 1.
        l2: weight of the squared factors.
        warm_start: whether a further fit continues from the item factors of the one before.
    """

    dimension: int = Field(default=64, ge=1, le=65_536)
    iterations: int = Field(default=15, ge=1, le=100_000)
    alpha: float = Field(default=5.0, gt=0, le=1e12)
    l2: float = Field(default=30.0, gt=0, le=1e12)
    warm_start: bool = False


class ALS(ArrayRecommender):
    """The score of item i is ``p . q_i``, where p solves the person's own least squares for the history given.

    The factors minimise ``sum over all u, i of c_ui (x_ui - p_u . q_i)^2 + l2 (|P|^2 + |Q|^2)`` with x 1 for an
    interaction and 0 otherwise, c ``1 + alpha`` and 1 (Hu et al., "Collaborative filtering for implicit feedback
    datasets", ICDM 2008, eq. 3-4), trained by conjugate gradients in `implicit` (Frederickson). Given the items,
    ``p = (Q'Q + alpha Q_h'Q_h + l2 I)^-1 (1 + alpha) sum of q_i over the history h``, so it knows people by the history
    given at `recommend` only; new people and grown histories need nothing special. A millionth of the item's popularity
    share is added, which orders items for an empty history.

    Training needs `implicit` (pip install implicit); recommending needs numpy alone.
    """

    Config = ALSConfig
    names = ("items",)

    def __init__(self, config: ALSConfig | None = None) -> None:
        super().__init__()
        self.config = config or ALSConfig()
        self._items = np.empty((0, 0), dtype=np.float32)  # (n_items, dimension)
        self._columns = np.empty((0, 0), dtype=np.float32)
        self._all = np.empty((0, 0))  # Q'Q + l2 I

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal factors on the same machine.

        Raises:
            PluginError: `implicit` is not installed.
        """
        try:
            from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415 - an optional package, and only a fit needs it
        except ImportError as error:
            raise PluginError("ALS is trained by the package 'implicit', which is not installed; try: pip install implicit.") from error
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

        n_items, d = len(catalog), self.config.dimension
        matrix = interaction_matrix(interactions, n_items)
        if matrix.nnz == 0:
            self._learned(share_of_people(matrix), np.zeros((n_items, d), dtype=np.float32))
            return
        with threadpool_limits(1, "blas"):  # implicit has threads of its own
            model = AlternatingLeastSquares(
                factors=d,
                regularization=self.config.l2,
                alpha=1.0,
                iterations=self.config.iterations,
                random_state=rng.child("als").integer(),
            )
            if self.config.warm_start and self._items.shape == (n_items, d):
                model.item_factors = self._items.copy()
            weighted = sparse.csr_matrix(matrix * np.float32(1.0 + self.config.alpha))
            model.fit(weighted, show_progress=False)
        self._learned(share_of_people(matrix), np.asarray(model.item_factors))

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return (self._items,)

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        (self._items,) = arrays
        self._columns = np.ascontiguousarray(self._items.T)
        self._all = (self._columns @ self._items + self.config.l2 * np.eye(self._items.shape[1])).astype(np.float32)

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        people = np.empty((owned.shape[0], self._items.shape[1]), dtype=np.float32)
        wanted = np.float32(1.0 + self.config.alpha) * (owned @ self._items)
        for row, (start, end) in enumerate(zip(owned.indptr[:-1].tolist(), owned.indptr[1:].tolist(), strict=True)):
            mine = self._items.take(owned.indices[start:end], axis=0)
            weights = mine.T @ mine
            weights *= np.float32(self.config.alpha)
            weights += self._all
            _, people[row], failed = sposv(weights.T, wanted[row], overwrite_a=True)  # by Cholesky: half the work of LU
            if failed:  # l2 is too small for the precision
                weights = np.float32(self.config.alpha) * (mine.T @ mine) + self._all
                people[row] = np.linalg.lstsq(weights, wanted[row], rcond=None)[0]
        return product_by_row(people, self._columns)

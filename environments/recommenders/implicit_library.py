"""Any model of the `implicit` library (https://github.com/benfred/implicit), by its own name and options."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import interaction_matrix, popularity_share, product_by_row
from simulator.dataset import Catalog
from simulator.errors import ConfigError, RecommenderError, with_suggestion
from simulator.plugins import ComponentConfig, load
from simulator.seeds import Stream


class ImplicitLibraryConfig(ComponentConfig):
    """Options of `ImplicitLibrary`.

    Attributes:
        model: import path of the model's class, on the CPU: "implicit.cpu.bpr:BayesianPersonalizedRanking",
            "implicit.cpu.als:AlternatingLeastSquares", "implicit.cpu.lmf:LogisticMatrixFactorization",
            "implicit.nearest_neighbours:BM25Recommender" ...
        options: of that class, such as {factors = 64, iterations = 50}. Unless given, `random_state` comes from the run's seed
            and `num_threads` is 1, since several threads are not repeatable.
    """

    model: str = "implicit.cpu.als:AlternatingLeastSquares"
    options: dict[str, Any] = Field(default_factory=dict)


class ImplicitLibrary(ArrayRecommender):
    """Trains a model of `implicit`; recommends from its factors or similarities with numpy.

    Factor models: the score is the product of factors. ALS calculates a person's factors anew from the history given, so
    that new people and grown histories count. The other factor models cannot: people in the log keep the factors of the fit,
    and somebody new gets the mean of the factors of the items in their history. Nearest-neighbour models: the summed
    similarities to the history. A millionth of the popularity share is added, which orders items for an empty history.
    """

    Config = ImplicitLibraryConfig
    names = ("users", "items", "data", "indices", "indptr")

    def __init__(self, config: ImplicitLibraryConfig | None = None) -> None:
        super().__init__()
        self.config = config or ImplicitLibraryConfig()
        self._model: Any = None
        self._users = np.empty((0, 0), dtype=np.float32)
        self._items = np.empty((0, 0), dtype=np.float32)
        self._similarity: sparse.csr_array | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains the library's model.

        Raises:
            PluginError: the library is not installed, or has no such model.
            ConfigError: the model has no such option.
        """
        matrix = interaction_matrix(interactions, len(catalog))
        self._model = self._new_model(rng)
        from implicit.utils import ParameterWarning  # noqa: PLC0415 - the library may be absent

        with threadpool_limits(1, "blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # about a matrix that the library makes itself
            self._model.fit(sparse.csr_matrix(matrix), show_progress=False)
        nothing = np.empty((0, 0), dtype=np.float32)
        s = getattr(self._model, "similarity", None)
        factors = (nothing, nothing) if s is not None else (np.asarray(self._model.user_factors), np.asarray(self._model.item_factors))
        s = sparse.csr_array((0, 0), dtype=np.float64) if s is None else s
        self._learned(popularity_share(interactions, len(catalog)), *factors, s.data, s.indices, s.indptr)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        s = self._similarity if self._similarity is not None else sparse.csr_array((0, 0), dtype=np.float64)
        return self._users, self._items, s.data, s.indices, s.indptr

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        self._users, self._items, data, indices, indptr = arrays
        self._similarity = sparse.csr_array((data, indices, indptr), shape=(n_items, n_items)) if len(indptr) > 1 else None
        if self._similarity is None:
            self._model = self._model or self._new_model(Stream(0))  # after loading there is none, and ALS' formula needs one
            self._model.user_factors, self._model.item_factors = self._users, self._items

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        if self._similarity is not None:
            return np.asarray((owned @ self._similarity).toarray())
        return product_by_row(self._factors(user_ids, owned), np.ascontiguousarray(self._items.T))

    def _new_model(self, rng: Stream) -> Any:
        model = load(self.config.model, methods=("fit", "recommend"))
        allowed = inspect.signature(model).parameters
        for option in self.config.options:
            if option not in allowed:
                raise ConfigError(f"[recommender] options: {with_suggestion(f'option of {self.config.model}', option, allowed)}")
        ours = {"random_state": rng.integer(), "num_threads": 1}
        given = {**{name: value for name, value in ours.items() if name in allowed}, **self.config.options}
        with threadpool_limits(1, "blas"):  # the library warns about BLAS threads beside its own
            return model(**given)

    def _factors(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        lengths = np.diff(owned.indptr)
        factors = np.zeros((len(user_ids), self._items.shape[1]), dtype=np.float32)
        some = np.flatnonzero(lengths)
        if len(some) == 0:
            return factors
        try:
            with threadpool_limits(1, "blas"):
                factors[some] = self._model.recalculate_user(np.zeros(len(some), dtype=np.int32), sparse.csr_matrix(owned[some]))
        except NotImplementedError:
            known = (user_ids < len(self._users)) & (lengths > 0)
            new = np.flatnonzero((user_ids >= len(self._users)) & (lengths > 0))
            factors[known] = self._users[user_ids[known]]
            factors[new] = (owned[new] @ self._items) / lengths[new, None]
        if not np.isfinite(factors).all():
            raise RecommenderError(f"{self.config.model} gave factors that are not finite numbers; lower its learning rate.")
        return factors

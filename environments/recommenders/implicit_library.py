"""Any model of the `implicit` library (https://github.com/benfred/implicit), by its own name and options."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from environments.recommenders.ranking import (
    BACKSTOP,
    history_matrix,
    interaction_matrix,
    load_arrays,
    not_fitted,
    popularity_share,
    save_arrays,
    top_unseen,
)
from simulator.dataset import Catalog
from simulator.errors import ConfigError, RecommenderError, with_suggestion
from simulator.plugins import ComponentConfig, load
from simulator.records import Slate
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


class ImplicitLibrary:
    """Trains a model of `implicit`; recommends from its factors or similarities with numpy.

    Factor models: the score is the product of factors. ALS calculates a person's factors anew from the history given, so
    that new people and grown histories count. The other factor models cannot: people in the log keep the factors of the fit,
    and somebody new gets the mean of the factors of the items in their history. Nearest-neighbour models: the summed
    similarities to the history. A millionth of the popularity share is added, which orders items for an empty history.
    """

    Config = ImplicitLibraryConfig

    def __init__(self, config: ImplicitLibraryConfig | None = None) -> None:
        self.config = config or ImplicitLibraryConfig()
        self._model: Any = None
        self._backstop: np.ndarray | None = None
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
        similarity = getattr(self._model, "similarity", None)
        if similarity is None:
            self._similarity = None
            self._users, self._items = np.asarray(self._model.user_factors), np.asarray(self._model.item_factors)
        else:
            self._similarity = sparse.csr_array(similarity)
        self._backstop = np.float32(BACKSTOP) * popularity_share(interactions, len(catalog))

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._backstop is None:
            not_fitted(self)
        owned = history_matrix(histories, len(self._backstop))
        if self._similarity is not None:
            scores = (owned @ self._similarity).toarray()
        else:
            # not a matrix product: BLAS rounds differently for batches of different size
            scores = np.einsum("ud,id->ui", self._factors(user_ids, owned), self._items)
        return top_unseen(scores + self._backstop, histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._backstop is None:
            not_fitted(self)
        s = self._similarity if self._similarity is not None else sparse.csr_array((0, 0), dtype=np.float64)
        save_arrays(folder, users=self._users, items=self._items, backstop=self._backstop, data=s.data, indices=s.indices, indptr=s.indptr)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        names = ("users", "items", "backstop", "data", "indices", "indptr")
        self._users, self._items, self._backstop, data, indices, indptr = load_arrays(folder, *names)
        n = len(self._backstop)
        self._similarity = sparse.csr_array((data, indices, indptr), shape=(n, n)) if len(indptr) > 1 else None
        self._model = None
        if self._similarity is None:
            self._model = self._new_model(Stream(0))
            self._model.user_factors, self._model.item_factors = self._users, self._items

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

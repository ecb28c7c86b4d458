"""What recommenders that propagate factors over the graph of people and items share, without importing torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from environments.recommenders.factors import FactorRecommender
from environments.recommenders.ranking import interaction_matrix
from environments.recommenders.training_config import GraphConfig, Progress
from simulator.dataset import Catalog
from simulator.seeds import Stream

if TYPE_CHECKING:
    from torch import Tensor


class GraphRecommender(FactorRecommender):
    """Base: a subclass says where its factors start and how the graph smooths them; `fit` is here (see `graphs.train`).

    Training needs torch; recommending needs numpy alone.
    """

    config: GraphConfig

    def __init__(self) -> None:
        super().__init__()
        self.progress: Progress | None = None

    @abstractmethod
    def initial(self, n_users: int, n_items: int) -> dict[str, Tensor]:
        """Fresh weights by name; "users" (n_users, dimension) and "items" (n_items, dimension) are the factors e_0."""

    @abstractmethod
    def smoothed(self, weights: Mapping[str, Tensor], graph: Tensor, training: bool) -> Tensor:
        """The factors e of people and items, shape (n_users + n_items, d).

        Args:
            weights: as of `initial`. graph: see `graphs.adjacency`. training: whether this is a step of training.
        """

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal factors on the same machine's CPU.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        from environments.recommenders import graphs  # noqa: PLC0415 - torch is needed by a fit only

        matrix = interaction_matrix(interactions, len(catalog))
        earlier = self._earlier(len(catalog), self.config.warm_start)
        self._weights, users, items = graphs.train(matrix, self.config, rng, self.initial, self.smoothed, earlier, self.progress)
        self._use(matrix, users, items, None, self.config.fold_in_l2)

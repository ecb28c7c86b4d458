"""BPR: matrix factorisation trained to rank what people chose above what they did not."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.factors import FactorRecommender
from environments.recommenders.ranking import interaction_matrix
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.seeds import Stream


class BPRConfig(ComponentConfig):
    """Options of `BPR`.

    Attributes:
        dimension: length of the factors.
        epochs: passes over the interactions, during which the learning rate falls to 0.
        batch_size: pairs of a chosen and an unchosen item per step.
        learning_rate: of Adam, in the first epoch.
        l2: weight of the squared factors and item biases of each pair.
        fold_in_l2: ridge of the map from a history to a person's factors, in people.
    """

    dimension: int = Field(default=64, ge=1)
    epochs: int = Field(default=80, ge=1)
    batch_size: int = Field(default=4_096, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    l2: float = Field(default=0.0075, ge=0)
    fold_in_l2: float = Field(default=10.0, gt=0)


class BPR(FactorRecommender):
    """The score of item i for person u is ``p_u . q_i + b_i``.

    The factors minimise ``-log sigmoid(score_ui - score_uj) + l2 (|p_u|^2 + |q_i|^2 + |q_j|^2 + b_i^2 + b_j^2)`` over
    interactions (u, i) with j uniform over the items that u has not (Rendle et al., "BPR: Bayesian personalized ranking
    from implicit feedback", UAI 2009, section 4), by mini-batches and Adam.

    People are folded in as in `factors.FoldIn`.

    Training needs torch; recommending needs numpy alone, so that a process that only loads a fitted model never
    imports torch.
    """

    Config = BPRConfig

    def __init__(self, config: BPRConfig | None = None) -> None:
        super().__init__()
        self.config = config or BPRConfig()

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains from scratch; equal data and `rng` give equal factors on the same machine."""
        matrix = interaction_matrix(interactions, len(catalog))
        users, items, biases = train(matrix, self.config, rng)
        self._use(matrix, users, items, biases, self.config.fold_in_l2)


class NegativeSampler:
    """Draws items that a person has not, uniformly and without rejection.

    The r-th item outside a sorted history h is ``r + (number of k with h_k - k <= r)``; one binary search in the
    histories of all people, laid end to end, answers any number of draws.
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        """Prepares a binary matrix, shape (n_users, n_items), column indices sorted."""
        n_users, self._n_items = matrix.shape
        lengths = np.diff(matrix.indptr)
        self._starts = matrix.indptr[:-1].astype(np.int64)
        self.free = self._n_items - lengths
        users = np.repeat(np.arange(n_users, dtype=np.int64), lengths)
        ranks = np.arange(len(matrix.indices)) - self._starts[users]
        self._keys = users * (self._n_items + 1) + matrix.indices - ranks

    def draw(self, users: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """One item per entry of `users` (who must each lack an item), int64, shape (n,)."""
        free = self.free[users]
        r = np.minimum((generator.random(len(users)) * free).astype(np.int64), free - 1)
        passed = np.searchsorted(self._keys, users * (self._n_items + 1) + r, side="right") - self._starts[users]
        drawn: np.ndarray = r + passed
        return drawn


def train(matrix: sparse.csr_array, config: BPRConfig, rng: Stream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trains the factors.

    Args:
        matrix: who has what, shape (n_users, n_items).
        config: options.
        rng: all randomness; torch's own generator is not used.

    Returns:
        Person factors (n_users, dimension), item factors (n_items, dimension) and item biases (n_items,), float32.
    """
    import torch  # noqa: PLC0415 - only a fit needs it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # gradients are summed in an order of their own by each thread, so more than one is not repeatable
    try:
        return _optimise(matrix, config, rng)
    finally:
        torch.set_num_threads(threads)


def _optimise(matrix: sparse.csr_array, config: BPRConfig, rng: Stream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import torch  # noqa: PLC0415

    n_users, n_items = matrix.shape
    start = rng.child("start").generator()
    draw = rng.child("pairs").generator()
    scale = 0.1 * config.dimension**-0.5
    people = torch.from_numpy((scale * start.standard_normal((n_users, config.dimension))).astype(np.float32)).requires_grad_()
    factors = np.zeros((n_items, config.dimension + 1), dtype=np.float32)  # the last column holds the biases
    factors[:, :-1] = scale * start.standard_normal((n_items, config.dimension))
    items = torch.from_numpy(factors).requires_grad_()
    optimizer = torch.optim.Adam((people, items), lr=config.learning_rate)
    rows = torch.nn.functional.embedding  # its gradient is summed faster than that of an indexed tensor
    sampler = NegativeSampler(matrix)
    users, chosen = (indices.astype(np.int64) for indices in matrix.nonzero())
    usable = sampler.free[users] > 0  # who has everything has nothing to compare with
    users, chosen = users[usable], chosen[usable]
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - epoch / config.epochs)
        order = draw.permutation(len(users))
        pairs = np.stack((chosen[order], sampler.draw(users[order], draw)))
        batches = zip(
            torch.from_numpy(users[order]).split(config.batch_size), torch.from_numpy(pairs).split(config.batch_size, 1), strict=True
        )
        for user, pair in batches:
            p, q = rows(user, people), rows(pair, items)
            better = q[0] - q[1]
            margin = (p * better[:, :-1]).sum(1) + better[:, -1]
            loss = torch.nn.functional.softplus(-margin).sum() + config.l2 * (p.square().sum() + q.square().sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    trained = items.detach().numpy()
    return people.detach().numpy(), np.ascontiguousarray(trained[:, :-1]), trained[:, -1].copy()

"""BPR: matrix factorisation trained to rank what people chose above what they did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse
from scipy.special import expit

from environments.recommenders.epochs import run_epochs
from environments.recommenders.factors import FactorRecommender
from environments.recommenders.ranking import interaction_matrix
from environments.recommenders.training_config import EpochsConfig, Progress
from simulator.dataset import Catalog
from simulator.seeds import Stream

_DECAY = 0.9, 0.999
"""Of Adam's means of the gradient and of its square."""


class BPRConfig(EpochsConfig):
    """Options of `BPR`, besides those of `EpochsConfig`.

    Attributes:
        epochs: passes over the interactions at most, during which the learning rate falls to 0.
        batch_size: interactions per step at most, unless one person has more: a step takes whole people.
        learning_rate: of Adam for items, in the first epoch; that for people is larger by the root of the steps in an epoch. A warm
            start goes through the last `warm_epochs` of the fall only.
        validation_share: see `EpochsConfig`; by default nothing is held back, since the falling rate ends the training.
        dimension: length of the factors.
        l2: weight of the squared factors and item biases of each pair.
        fold_in_l2: ridge of the map from a history to a person's factors, in people.
    """

    epochs: int = Field(default=80, ge=1, le=1_000_000)
    batch_size: int = Field(default=8_192, ge=1, le=100_000_000)
    learning_rate: float = Field(default=0.03, gt=0, le=100)
    validation_share: float = Field(default=0.0, ge=0, lt=1)
    dimension: int = Field(default=64, ge=1, le=65_536)
    l2: float = Field(default=0.0075, ge=0, le=1e12)
    fold_in_l2: float = Field(default=10.0, gt=0, le=1e12)


class BPR(FactorRecommender):
    """The score of item i for person u is ``p_u . q_i + b_i``.

    The factors minimise ``-log sigmoid(score_ui - score_uj) + l2 (|p_u|^2 + |q_i|^2 + |q_j|^2 + b_i^2 + b_j^2)`` over
    interactions (u, i) with j uniform over the items that u has not (Rendle et al., "BPR: Bayesian personalized ranking
    from implicit feedback", UAI 2009, section 4), by mini-batches and Adam (Kingma and Ba, ICLR 2015).

    A mini-batch holds all interactions of some people, so that gradients are products of sparse matrices, summed in a fixed order
    by one thread: several times as fast as automatic differentiation, and repeatable to the bit. `LightGCN` with ``layers = 0``
    trains the same model without biases on CUDA. People are folded in as in `factors.FoldIn`.
    """

    Config = BPRConfig

    def __init__(self, config: BPRConfig | None = None) -> None:
        super().__init__()
        self.config = config or BPRConfig()
        self.progress: Progress | None = None

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal factors on the same machine.

        Raises:
            RecommenderError: training diverged.
        """
        matrix = interaction_matrix(interactions, len(catalog))
        earlier = self._earlier(len(catalog), self.config.warm_start)
        self._weights = train(matrix, self.config, rng, earlier, self.progress)
        users, items = self._weights["users"], self._weights["items"]
        self._use(matrix, users, np.ascontiguousarray(items[:, :-1]), items[:, -1].copy(), self.config.fold_in_l2)


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


class _Adam:
    """Adam for some rows of a table at a time; how often a row has had its turn is the same for all rows, up to one epoch."""

    def __init__(self, table: np.ndarray) -> None:
        self._table = table
        self._mean, self._square, self._spare = np.zeros_like(table), np.zeros_like(table), np.empty_like(table)

    def step(self, rows: np.ndarray | slice, gradient: np.ndarray, rate: float, turn: int) -> None:
        """Moves rows of the table against their gradients, which are overwritten; `turn` counts from 1."""
        mean, square = self._mean[rows], self._square[rows]
        spare = self._spare[: len(gradient)]
        np.multiply(gradient, gradient, out=spare)
        spare -= square
        spare *= np.float32(1.0 - _DECAY[1])
        square += spare
        gradient -= mean
        gradient *= np.float32(1.0 - _DECAY[0])
        mean += gradient
        if not isinstance(rows, slice):
            self._mean[rows], self._square[rows] = mean, square
        root = np.multiply(square, np.float32(1.0 / (1.0 - _DECAY[1] ** turn)), out=spare)
        np.sqrt(root, out=root)
        root += np.float32(1e-8)
        move = np.multiply(mean, np.float32(rate / (1.0 - _DECAY[0] ** turn)), out=gradient)
        move /= root
        self._table[rows] -= move


def train(
    matrix: sparse.csr_array,
    config: BPRConfig,
    rng: Stream,
    earlier: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Trains the factors.

    Args:
        matrix: who has what, shape (n_users, n_items).
        config: options.
        rng: all randomness.
        earlier: factors to continue from, as returned, or None.
        progress: gets a report after every epoch.

    Returns:
        "users", shape (n_users, dimension), and "items", shape (n_items, dimension + 1), whose last column holds the biases; float32.

    Raises:
        RecommenderError: training diverged.
    """
    (n_users, n_items), d = matrix.shape, config.dimension
    start, draw = rng.child("start").generator(), rng.child("pairs").generator()
    scale = 0.1 * d**-0.5
    people = (scale * start.standard_normal((n_users, d))).astype(np.float32)
    items = np.zeros((n_items, d + 1), dtype=np.float32)
    items[:, :-1] = scale * start.standard_normal((n_items, d))
    for table, name in ((people, "users"), (items, "items")):
        if earlier is not None:
            rows = min(len(table), len(earlier[name]))
            table[:rows] = earlier[name][:rows]
    known, validate = _validation(matrix, config, rng, people, items)
    adam_of_people, adam_of_items = _Adam(people), _Adam(items)
    longest = int(np.diff(known.indptr).max(initial=0))
    spare = np.empty((3, min(max(config.batch_size, longest), known.nnz), d + 1), dtype=np.float32)
    turns = 0
    # people have one step in an epoch where items have many, so theirs are longer
    stretch = np.sqrt(max(known.nnz / config.batch_size, 1.0))

    def epoch(number: int, last: int) -> float:
        nonlocal turns
        rate = config.learning_rate * (last + 1 - number) / config.epochs
        total = 0.0
        for users in _batches(known, config.batch_size, draw):
            turns += 1
            mine = np.ones((len(users), d + 1), dtype=np.float32)
            mine[:, :-1] = people[users]
            loss, of_people, of_items = _gradients(known[users], mine, items, config.l2, draw, spare)
            adam_of_people.step(users, of_people[:, :-1], rate * stretch, number)
            adam_of_items.step(slice(None), of_items, rate, turns)
            total += loss
        return total / max(known.nnz, 1)

    def keep() -> Callable[[], None]:
        copies = people.copy(), items.copy()

        def put_back() -> None:
            people[:], items[:] = copies

        return put_back

    run_epochs(config, epoch, keep, warm=earlier is not None, validate=validate, progress=progress)
    return {"users": people, "items": items}


def _batches(matrix: sparse.csr_array, size: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """People in random order, as many at once as have at most `size` interactions together, or one with more."""
    lengths = np.diff(matrix.indptr)
    usable = np.flatnonzero((lengths > 0) & (lengths < matrix.shape[1]))  # who has everything has nothing to compare with
    order = draw.permutation(usable)
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, before + size, side="right")), start + 1)
        yield order[start:end]
        start = end


def _gradients(
    chosen: sparse.csr_array, people: np.ndarray, items: np.ndarray, l2: float, draw: np.random.Generator, spare: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The summed loss (without its L2 term) of the interactions of a batch, and the gradients of factors.

    Args:
        chosen: who has what, shape (b, n_items).
        people: their factors and a one, shape (b, d + 1).
        items: factors and biases, shape (n_items, d + 1).
        l2: see `BPR`.
        draw: for one unchosen item per interaction.
        spare: room for three vectors of length d + 1 for each interaction, shape (3, at least the interactions, d + 1): memory that
            is new in every step costs a quarter of its time.

    Returns:
        The loss, the gradient of `people` and that of `items`.
    """
    b, n_items = chosen.shape
    lengths = np.diff(chosen.indptr)
    rows = np.repeat(np.arange(b, dtype=np.int64), lengths)
    better, worse = chosen.indices, NegativeSampler(chosen).draw(rows, draw).astype(chosen.indices.dtype)
    apart, others, mine = spare[:, : len(rows)]
    items.take(better, axis=0, out=apart, mode="clip")
    items.take(worse, axis=0, out=others, mode="clip")
    people.take(rows, axis=0, out=mine, mode="clip")
    apart -= others
    margins = np.einsum("kd,kd->k", mine, apart)
    slopes = -expit(-margins)
    places = np.arange(len(rows), dtype=chosen.indices.dtype)
    of_people = sparse.csr_array((slopes, places, chosen.indptr), shape=(b, len(rows))) @ apart
    of_people += (2.0 * l2 * lengths).astype(np.float32)[:, None] * people
    # one column per person for what they have, and one for what they have not
    columns = (
        np.concatenate((slopes, -slopes)),
        np.concatenate((better, worse)),
        np.concatenate((chosen.indptr, chosen.indptr[1:] + len(rows))),
    )
    of_items = sparse.csc_array(columns, shape=(n_items, 2 * b)) @ np.concatenate((people, people))
    counts = np.bincount(better, minlength=n_items) + np.bincount(worse, minlength=n_items)
    of_items += (2.0 * l2 * counts).astype(np.float32)[:, None] * items
    return float(np.logaddexp(0.0, -margins).sum(dtype=np.float64)), of_people, of_items


def _validation(
    matrix: sparse.csr_array, config: BPRConfig, rng: Stream, people: np.ndarray, items: np.ndarray
) -> tuple[sparse.csr_array, Callable[[], float] | None]:
    """What is trained on, and what judges an epoch, if something is held back."""
    if config.validation_share == 0:
        return matrix, None
    import torch  # noqa: PLC0415 - only a fit that holds something back needs it

    from environments.recommenders import training  # noqa: PLC0415

    known, wanted = training.hold_back(matrix, config.validation_share, rng.child("hold back"))
    validation = training.Validation(known, wanted, torch.device("cpu"), rng.child("validation"))

    def score(users: torch.Tensor) -> torch.Tensor:
        mine = np.ascontiguousarray(people[users.numpy()])
        return torch.from_numpy(mine @ items[:, :-1].T + items[:, -1])

    return known, (lambda: validation.ndcg(score)) if len(validation) else None

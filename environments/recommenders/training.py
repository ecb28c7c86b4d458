"""The training loop of the neural recommenders: seeds, device, mini-batches, early stopping. This file wraps torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from environments.recommenders.epochs import run_epochs
from environments.recommenders.training_config import Progress, TrainingConfig
from simulator.errors import RecommenderError
from simulator.seeds import Stream

VALIDATION_PEOPLE = 2_048
"""People whose lists are looked at after an epoch, at most; more cost time and change the decision little."""

_CUTOFF = 10
_LIKE = 8
"""Batches that are sorted by length together; with more, like and like would meet too often."""

_CELLS = 2**26
"""Entries of a score matrix held at once while validating."""


@contextmanager
def session(config: TrainingConfig, rng: Stream) -> Iterator[torch.device]:
    """Everything random inside comes from `rng`; what torch's generators and threads were before is restored after.

    Yields:
        The device to train on.

    Raises:
        RecommenderError: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise RecommenderError("device = 'cuda', but torch sees no CUDA device here; use device = 'auto' or 'cpu'.")
    device = torch.device("cuda" if there and config.device != "cpu" else "cpu")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device.type == "cuda" else ()):
        torch.manual_seed(rng.child("torch").integer())
        torch.set_num_threads(config.threads)
        try:
            yield device
        finally:
            torch.set_num_threads(threads)


def hold_back(matrix: sparse.csr_array, share: float, rng: Stream) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Splits the items of each person at random.

    Args:
        matrix: who has what, shape (n_users, n_items).
        share: of each person's items to hold back, in expectation; at least one item stays with everybody who has any.
        rng: of the draw.

    Returns:
        The part to train on and the part held back, both of the shape of `matrix`.
    """
    generator = rng.generator()
    lengths = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((generator.random(len(rows)), rows))
    rank = np.arange(len(rows)) - matrix.indptr[:-1][rows]
    # rounding up or down at random keeps the expected share for people with few items
    taken = np.minimum((share * lengths + generator.random(len(lengths))).astype(np.int64), np.maximum(lengths - 1, 0))
    held = np.zeros(len(rows), dtype=bool)
    held[order] = rank < (taken[rows] if share > 0 else 0)
    columns = matrix.indices
    parts = (sparse.csr_array((matrix.data[part], (rows[part], columns[part])), shape=matrix.shape) for part in (~held, held))
    train, valid = parts
    return train, valid


def start_from(initial: Mapping[str, Tensor], earlier: Mapping[str, np.ndarray] | None, device: torch.device) -> dict[str, Tensor]:
    """Parameters to train: the initial ones, overwritten by earlier weights as far as these reach.

    Args:
        initial: fresh weights by name.
        earlier: weights of a fit before; a table that has fewer rows than now fills the first ones, one that has more gives
            its first ones.
        device: where to train.
    """
    parameters = {}
    for name, fresh in initial.items():
        values = fresh.detach().to(device)
        if earlier is not None:
            old = torch.from_numpy(earlier[name]).to(device)
            rows = min(len(old), len(values))
            values[:rows] = old[:rows]
        parameters[name] = values.requires_grad_()
    return parameters


def to_arrays(parameters: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors as arrays on the host."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in parameters.items()}


def optimise(
    parameters: Mapping[str, Tensor],
    losses: Callable[[], Iterable[Tensor]],
    config: TrainingConfig,
    *,
    warm: bool = False,
    validate: Callable[[], float] | None = None,
    progress: Progress | None = None,
) -> None:
    """Trains in place, by Adam (Kingma and Ba, ICLR 2015), and leaves the parameters with the best validation.

    Args:
        parameters: what is trained.
        losses: one epoch; an iterator that computes the loss of each mini-batch when it is asked for it.
        config: options.
        warm: whether the parameters come from an earlier fit: then they themselves count in the comparison.
        validate: how good the parameters are now, larger is better; without it all epochs are run.
        progress: gets a report after every epoch.

    Raises:
        RecommenderError: the loss is not a number any more.
    """
    tensors = list(parameters.values())
    optimizer = torch.optim.Adam(tensors, lr=config.learning_rate, fused=True)

    def epoch(number: int, last: int) -> float:
        total, count = torch.zeros((), device=tensors[0].device), 0
        for group in optimizer.param_groups:
            group["lr"] = config.rate(number, last)
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            count += 1
        return float(total) / max(count, 1)

    def keep() -> Callable[[], None]:
        copies = [tensor.detach().clone() for tensor in tensors]

        def put_back() -> None:
            with torch.no_grad():
                for tensor, values in zip(tensors, copies, strict=True):
                    tensor.copy_(values)

        return put_back

    run_epochs(config, epoch, keep, warm=warm, validate=validate, progress=progress)


def shuffled(n: int, batch_size: int, device: torch.device, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
    """The numbers below n in random order, in batches; no batch if n is 0.

    Args:
        n: how many.
        batch_size: of each batch but the last.
        device: where.
        lengths: of n examples: batches hold examples of similar length, which are padded less.
    """
    if n == 0:
        return ()
    order = torch.randperm(n, device=device)
    if lengths is None:
        return tuple(order.split(batch_size))
    batches = [batch for some in order.split(_LIKE * batch_size) for batch in some[lengths[some].argsort(stable=True)].split(batch_size)]
    return tuple(batches[number] for number in torch.randperm(len(batches)).tolist())


class Rows:
    """A binary matrix on the device, from which batches of dense rows are cut."""

    def __init__(self, matrix: sparse.csr_array, device: torch.device) -> None:
        """Copies a matrix of shape (n_users, n_items) to the device."""
        self.n_users, self.n_items = matrix.shape
        self._starts = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
        self._columns = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)

    def dense(self, users: Tensor) -> Tensor:
        """The rows of some users, float32, shape (len(users), n_items)."""
        starts = self._starts[users]
        lengths = self._starts[users + 1] - starts
        ends = lengths.cumsum(0)
        rows = torch.repeat_interleave(torch.arange(len(users), device=users.device), lengths)
        within = torch.arange(len(rows), device=users.device) - (ends - lengths)[rows]
        dense = torch.zeros((len(users), self.n_items), device=users.device)
        dense[rows, self._columns[starts[rows] + within]] = 1.0
        return dense


class Validation:
    """NDCG@10 of the items held back among those that were not trained on, over at most `VALIDATION_PEOPLE` people."""

    def __init__(self, known: sparse.csr_array, wanted: sparse.csr_array, device: torch.device, rng: Stream) -> None:
        """Remembers what was trained on and what was held back, both of shape (n_users, n_items)."""
        people = np.flatnonzero(np.diff(wanted.indptr))
        if len(people) > VALIDATION_PEOPLE:
            people = np.sort(rng.generator().choice(people, VALIDATION_PEOPLE, replace=False))
        self._people = torch.from_numpy(people).to(device)
        self._known, self._wanted = Rows(known, device), Rows(wanted, device)
        self._discount = 1.0 / torch.log2(torch.arange(2, _CUTOFF + 2, device=device, dtype=torch.float32))

    def __len__(self) -> int:
        """Number of people."""
        return len(self._people)

    def ndcg(self, score: Callable[[Tensor], Tensor], width: int = 1) -> float:
        """The mean over people, in [0, 1].

        Args:
            score: from user codes, shape (b,), to scores, shape (b, n_items).
            width: numbers that `score` holds at once for each score.
        """
        total = 0.0
        for users in self._people.split(max(_CELLS // max(width * self._known.n_items, 1), 1)):
            scores = score(users).masked_fill(self._known.dense(users) > 0, -torch.inf)
            wanted = self._wanted.dense(users)
            top = scores.topk(min(_CUTOFF, scores.shape[1]), dim=1).indices
            discount = self._discount[: top.shape[1]]
            gained = (wanted.gather(1, top) * discount).sum(1)
            ideal = discount.cumsum(0)[wanted.sum(1).long().clamp(max=len(discount)) - 1]
            total += float((gained / ideal).sum())
        return total / max(len(self._people), 1)


class PairSampler:
    """Mini-batches of what people chose, with items that they have not, drawn uniformly on the device.

    The r-th item outside a sorted history h is ``r + (number of k with h_k - k <= r)``; one binary search in the
    histories of all people, laid end to end, answers any number of draws without rejection.
    """

    def __init__(self, matrix: sparse.csr_array, device: torch.device) -> None:
        """Prepares a binary matrix, shape (n_users, n_items), column indices sorted."""
        n_users, self._n_items = matrix.shape
        lengths = np.diff(matrix.indptr)
        users = np.repeat(np.arange(n_users, dtype=np.int64), lengths)
        starts = matrix.indptr[:-1].astype(np.int64)
        ranks = np.arange(len(users)) - starts[users]
        keys = users * (self._n_items + 1) + matrix.indices - ranks
        usable = lengths[users] < self._n_items  # who has everything has nothing to compare with
        self._keys, self._starts = torch.from_numpy(keys).to(device), torch.from_numpy(starts).to(device)
        self._free = torch.from_numpy((self._n_items - lengths).astype(np.int64)).to(device)
        self._users = torch.from_numpy(users[usable]).to(device)
        self._chosen = torch.from_numpy(matrix.indices[usable].astype(np.int64)).to(device)

    def draw(self, users: Tensor) -> Tensor:
        """An item that each of the people lacks, int64, shape of `users`."""
        free = self._free[users]
        r = torch.minimum((torch.rand(users.shape, device=users.device, dtype=torch.float64) * free).long(), free - 1)
        return r + torch.searchsorted(self._keys, users * (self._n_items + 1) + r, right=True) - self._starts[users]

    def epoch(self, batch_size: int, negatives: int = 1) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All interactions once, in random order.

        Yields:
            People, shape (b,); the item each chose, shape (b,); items they have not, shape (b, negatives).
        """
        for batch in shuffled(len(self._users), batch_size, self._users.device):
            users = self._users[batch]
            yield users, self._chosen[batch], self.draw(users[:, None].expand(-1, negatives).contiguous())

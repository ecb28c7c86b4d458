"""What recommenders that read histories in order share: training windows, serving, state. This file wraps torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn

from environments.recommenders import training
from environments.recommenders.ranking import (
    interaction_matrix,
    load_arrays,
    load_prefixed,
    not_fitted,
    popularity_share,
    product_by_row,
    save_arrays,
    top_unseen,
)
from environments.recommenders.training_config import Progress, TrainingConfig
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.records import Slate
from simulator.seeds import Stream

_BLOCK = 16
"""Histories that the network reads at once when it serves; always so many, since a product's rounding depends on its height."""

_SHORTEST = 8
"""Histories are padded to a power of two from this on."""


class SequentialConfig(TrainingConfig):
    """Options of recommenders that read histories in order, besides those of `TrainingConfig`; examples are windows.

    Attributes:
        dimension: length of the item vectors and of the network's state.
        max_length: items of a history that are read, the newest; training cuts longer ones into windows of this length.
        dropout: share of values set to 0 while training.
        cut_share: chance that a window ends at an earlier, random place, anew in each epoch.
        validation_share: share of the people whose last item is held back to decide when to stop.
    """

    dimension: int = Field(default=64, ge=1, le=65_536)
    max_length: int = Field(default=200, ge=2, le=100_000)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    cut_share: float = Field(default=0.0, ge=0, le=1)
    epochs: int = Field(default=200, ge=1, le=1_000_000)
    batch_size: int = Field(default=32, ge=1, le=100_000_000)
    validation_share: float = Field(default=0.5, ge=0, le=1)
    patience: int = Field(default=20, ge=1, le=1_000_000)


class Dropout(nn.Module):  # type: ignore[misc]
    """Sets a share of the values to 0 while training and lengthens the others, as `torch.nn.Dropout` does.

    One random 64-bit number decides about eight values, several times as fast on a CPU; so the share is rounded to 1/256.
    """

    def __init__(self, share: float) -> None:
        """Takes the share, in [0, 1)."""
        super().__init__()
        self._dropped = min(round(256 * share), 255)

    def forward(self, x: Tensor) -> Tensor:
        """The values, shape as given."""
        if not self.training or not self._dropped:
            return x
        bits = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = bits.view(torch.uint8)[: x.numel()].view(x.shape) >= self._dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self._dropped))


class SequentialNetwork(nn.Module, ABC):  # type: ignore[misc]
    """A network over item codes.

    Attributes:
        items: vectors of the items (first n_items rows) and of further symbols; the last row is the padding, zero.
        biases: of the items, shape (n_items,), or None.
    """

    items: nn.Embedding
    biases: nn.Parameter | None

    def __init__(self) -> None:
        """Makes a network without biases; a subclass may make them."""
        super().__init__()
        self.register_parameter("biases", None)

    def logits(self, states: Tensor, n_items: int) -> Tensor:
        """The scores of all items after states of shape (b, dimension), shape (b, n_items)."""
        return nn.functional.linear(states, self.items.weight[:n_items], self.biases)

    @abstractmethod
    def loss(self, windows: Tensor, lengths: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            windows: item codes in order, oldest first, padded at the end, int64, shape (b, length).
            lengths: items of each window, at least 2, int64, shape (b,).
        """

    @abstractmethod
    def states(self, windows: Tensor, lengths: Tensor) -> Tensor:
        """What the network expects after each window, to be multiplied by the items' vectors; shape (b, dimension).

        Args:
            windows, lengths: as in `loss`; a length may be 1.
        """


def next_item_entropy(states: Tensor, windows: Tensor, lengths: Tensor, items: Tensor) -> Tensor:
    """The mean cross-entropy of each next item under the softmax over all items.

    Args:
        states: after each position but the last, shape (b, length - 1, dimension).
        windows, lengths: as in `SequentialNetwork.loss`.
        items: vectors of the items, shape (n_items, dimension).
    """
    real = torch.arange(states.shape[1], device=states.device) < (lengths - 1)[:, None]
    return nn.functional.cross_entropy(states[real] @ items.T, windows[:, 1:][real])


def last_of(states: Tensor, lengths: Tensor) -> Tensor:
    """The state at the last real position of each row, shape (b, dimension)."""
    return states[torch.arange(len(states), device=states.device), lengths - 1]


class SequentialRecommender(ABC):
    """Base: the score of an item is ``state(history) . v_i`` with the state of a network after the newest items.

    A subclass makes the network; training, serving, saving and loading are here. It knows people by the history given at
    `recommend` only, so new people and grown histories need nothing special; an empty history is ranked by popularity.
    Training may happen on CUDA; recommending happens on the CPU, with one thread and blocks of one size, so that a list does
    not depend on the batch.
    """

    config: SequentialConfig

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._network: SequentialNetwork | None = None
        self._items = np.empty((0, 0), dtype=np.float32)  # (dimension, n_items)
        self._biases = np.zeros(1, dtype=np.float32)
        self._popularity = np.empty(0, dtype=np.float32)

    @abstractmethod
    def network(self, n_items: int, counts: np.ndarray) -> SequentialNetwork:
        """A new network with random weights from torch's generator.

        Args:
            n_items: items of the catalog.
            counts: people in the log who have each item, shape (n_items,).
        """

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal weights on the same machine's CPU. Rows without time keep their order.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        n_items = len(catalog)
        popularity = popularity_share(interactions, n_items)
        earlier = self._network if self.config.warm_start and len(self._popularity) == n_items else None
        with training.session(self.config, rng) as device:
            network = self.network(n_items, popularity)
            if earlier is not None:
                network.load_state_dict(earlier.state_dict())
            network.to(device)
            self._train(network, sequences_of(interactions), n_items, rng, earlier is not None)
            self._use(network.cpu().eval(), popularity)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._network is None:
            not_fitted(self)
        lengths = np.array([min(len(history), self.config.max_length) for history in histories], dtype=np.int64)
        # each history is padded to a length that depends on itself alone
        padded = np.minimum(np.maximum(_SHORTEST, 2 ** np.ceil(np.log2(np.maximum(lengths, 1)))), self.config.max_length).astype(np.int64)
        states = np.zeros((len(histories), self._items.shape[0]), dtype=np.float32)
        padding = self._network.items.num_embeddings - 1
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                for width in np.unique(padded[lengths > 0]):
                    rows = np.flatnonzero((padded == width) & (lengths > 0))
                    for start in range(0, len(rows), _BLOCK):
                        block = rows[start : start + _BLOCK]
                        windows = np.full((_BLOCK, width), padding, dtype=np.int64)
                        for place, row in enumerate(block):
                            windows[place, : lengths[row]] = histories[row][-lengths[row] :]
                        sizes = np.ones(_BLOCK, dtype=np.int64)
                        sizes[: len(block)] = lengths[block]
                        states[block] = self._network.states(torch.from_numpy(windows), torch.from_numpy(sizes))[: len(block)].numpy()
        finally:
            torch.set_num_threads(threads)
        scores = product_by_row(states, self._items) + self._biases
        scores[lengths == 0] = self._popularity
        return top_unseen(scores, histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._network is None:
            not_fitted(self)
        weights = {f"weights.{name}": tensor.numpy() for name, tensor in self._network.state_dict().items()}
        save_arrays(folder, popularity=self._popularity, **weights)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it, or it was fitted with another configuration.
        """
        (popularity,) = load_arrays(folder, "popularity")
        with torch.random.fork_rng(devices=()):  # the random weights of a new network are overwritten at once
            network = self.network(len(popularity), popularity)
        try:
            network.load_state_dict({name: torch.from_numpy(values) for name, values in load_prefixed(folder, "weights.").items()})
        except RuntimeError as error:
            raise RecommenderError(
                f"{folder} holds a {type(self).__name__} of another configuration ({str(error).splitlines()[-1].strip()}); fit it again."
            ) from error
        self._use(network.eval(), popularity)

    def _use(self, network: SequentialNetwork, popularity: np.ndarray) -> None:
        self._network, self._popularity = network.requires_grad_(False), popularity
        self._items = np.ascontiguousarray(network.items.weight[: len(popularity)].numpy().T)
        self._biases = np.zeros(1, dtype=np.float32) if network.biases is None else network.biases.numpy()

    def _train(self, network: SequentialNetwork, sequences: list[np.ndarray], n_items: int, rng: Stream, warm: bool) -> None:
        length, padding, device = self.config.max_length, network.items.num_embeddings - 1, network.items.weight.device
        rows = np.flatnonzero([len(sequence) >= 3 for sequence in sequences])
        chosen = rng.child("hold back").generator().random(len(rows)) < self.config.validation_share
        held = set(rows[chosen].tolist())
        parts = [sequence[:-1] if row in held else sequence for row, sequence in enumerate(sequences)]
        windows, newest = Windows(parts, length + 1, padding, device), Windows(parts, length, padding, device, newest=True)
        validation = None
        if held:
            known = interaction_matrix(_pairs(parts), n_items)
            wanted = interaction_matrix(
                _pairs([sequence[-1:] if row in held else sequence[:0] for row, sequence in enumerate(sequences)]), n_items
            )
            validation = training.Validation(known, wanted, device, rng.child("validation"))

        def losses() -> Iterator[Tensor]:
            network.train()
            for batch in training.shuffled(len(windows), self.config.batch_size, device, windows.lengths):
                yield network.loss(*windows.batch(batch, self.config.cut_share))

        def score(users: Tensor) -> Tensor:
            return network.logits(torch.cat([network.states(*newest.batch(part)) for part in users.split(512)]), n_items)

        def validate() -> float:
            network.eval()
            with torch.no_grad():
                return validation.ndcg(score) if validation else 0.0

        parameters = dict(network.named_parameters())
        training.optimise(parameters, losses, self.config, warm=warm, validate=validate if validation else None, progress=self.progress)


def sequences_of(interactions: pl.DataFrame) -> list[np.ndarray]:
    """Item codes of each person in the order of time, then of the rows; entry u belongs to person u and may be empty."""
    ordered = interactions.sort("user", "timestamp", maintain_order=True, nulls_last=True)
    users, items = ordered["user"].to_numpy(), ordered["item"].to_numpy().astype(np.int64)
    n_users = int(users.max()) + 1 if len(users) else 0
    return np.split(items, np.cumsum(np.bincount(users, minlength=n_users))[:-1]) if n_users else []


class Windows:
    """Windows of sequences on the device, made when they are asked for.

    They are cut from the newest end, so that only the oldest one of a sequence is shorter; neighbouring windows share one item, so that
    each item but the first follows one in a window.

    Attributes:
        lengths: items of each window, int64, shape (w,).
    """

    def __init__(self, sequences: Sequence[np.ndarray], length: int, padding: int, device: torch.device, *, newest: bool = False) -> None:
        """Cuts.

        Args:
            sequences: item codes, oldest first.
            length: items of a window at most; shorter ones than 2 are left out.
            padding: fills short windows at the end.
            device: where to put them.
            newest: whether to have exactly one window of each sequence, the newest, of any length.
        """
        sizes = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        ends = np.cumsum(sizes)
        starts = ends - sizes
        if not newest:
            several = [np.arange(end, start + 1, 1 - length) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
            starts = np.repeat(starts, [len(some) for some in several])
            ends = np.concatenate(several) if several else starts
        flat = np.concatenate((*sequences, [0])).astype(np.int64)
        self._items, self._starts, self._ends = (torch.from_numpy(part).to(device) for part in (flat, starts, ends))
        self._length, self._padding = length, padding
        self.lengths = (self._ends - self._starts).clamp(max=length)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._ends)

    def batch(self, numbers: Tensor, earlier: float = 0.0) -> tuple[Tensor, Tensor]:
        """Some of them.

        Args:
            numbers: which, int64, shape (b,).
            earlier: chance that a window ends earlier than it was cut, at a random place with at least one item before it. It
                then begins earlier too, as far as the sequence reaches.

        Returns:
            Windows, padded, int64, shape (b, longest of them), and their lengths, int64, shape (b,).
        """
        starts, ends = self._starts[numbers], self._ends[numbers]
        if earlier:
            places = self.lengths[numbers] - 1
            back = (torch.rand(places.shape, device=places.device) * places).long().clamp(max=places - 1)
            ends = torch.where(torch.rand(places.shape, device=places.device) < earlier, ends - back, ends)
        lengths = (ends - starts).clamp(max=self._length)
        places = torch.arange(int(lengths.max()), device=lengths.device)
        codes = self._items[((ends - lengths)[:, None] + places).clamp(max=len(self._items) - 1)]
        return codes.masked_fill(places >= lengths[:, None], self._padding), lengths


def _pairs(sequences: Sequence[np.ndarray]) -> pl.DataFrame:
    users = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    return pl.DataFrame({"user": users, "item": np.concatenate(sequences)})

"""Mult-VAE: a variational autoencoder of histories with a multinomial likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.ranking import (
    history_matrix,
    interaction_matrix,
    load_arrays,
    not_fitted,
    product_by_row,
    save_arrays,
    top_unseen,
)
from environments.recommenders.training_config import Progress, TrainingConfig
from simulator.dataset import Catalog
from simulator.records import Slate
from simulator.seeds import Stream

_NAMES = ("encode", "encode_bias", "code", "code_bias", "decode", "decode_bias", "items", "items_bias")


class MultVAEConfig(TrainingConfig):
    """Options of `MultVAE`, besides those of `TrainingConfig`; the examples of a batch are people.

    Attributes:
        dimension: length of a person's code.
        hidden: width of the layers between histories and codes.
        dropout: share of each history that is hidden from the encoder while training.
        beta: weight of the divergence from the prior.
        anneal_epochs: epochs in which that weight rises from 0 to `beta`.
        l2: weight of half the squared weights, per person.
    """

    dimension: int = Field(default=64, ge=1, le=65_536)
    hidden: int = Field(default=256, ge=1, le=65_536)
    epochs: int = Field(default=300, ge=1, le=1_000_000)
    batch_size: int = Field(default=256, ge=1, le=100_000_000)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    beta: float = Field(default=0.2, ge=0, le=1e6)
    anneal_epochs: int = Field(default=30, ge=1, le=1_000_000)
    l2: float = Field(default=0.0, ge=0, le=1e12)
    patience: int = Field(default=20, ge=1, le=1_000_000)


class MultVAE:
    """The score of an item is its logit in the softmax that a person's history is reconstructed from.

    Encoder and decoder have one layer of tanh each; codes are normal with a standard normal prior; the loss is
    ``-sum over the history of log softmax + beta KL`` (Liang et al., "Variational autoencoders for collaborative
    filtering", WWW 2018, eq. 2-6). It knows people by the history given at `recommend` only, so new people and grown
    histories need nothing special; recommending uses the mean of the code. Training needs torch; recommending needs numpy
    alone.
    """

    Config = MultVAEConfig

    def __init__(self, config: MultVAEConfig | None = None) -> None:
        self.config = config or MultVAEConfig()
        self.progress: Progress | None = None
        self._weights: dict[str, np.ndarray] = {}

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal weights on the same machine's CPU.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        matrix = interaction_matrix(interactions, len(catalog))
        same = bool(self._weights) and self._weights["items"].shape[1] == len(catalog)
        earlier = self._weights if self.config.warm_start and same else None
        self._weights = _train(matrix, self.config, rng, earlier, self.progress)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._weights:
            not_fitted(self)
        w, d = self._weights, self._weights["decode"].shape[0]
        owned = history_matrix(histories, w["items"].shape[1])
        lengths = np.sqrt(np.maximum(np.diff(owned.indptr), 1).astype(np.float32))[:, None]
        hidden = np.tanh(owned @ w["encode"] / lengths + w["encode_bias"])
        code = product_by_row(hidden, w["code"][:, :d]) + w["code_bias"][:d]
        decoded = np.tanh(product_by_row(code, w["decode"]) + w["decode_bias"])
        return top_unseen(product_by_row(decoded, w["items"]) + w["items_bias"], histories, n)

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._weights:
            not_fitted(self)
        save_arrays(folder, **self._weights)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        self._weights = dict(zip(_NAMES, load_arrays(folder, *_NAMES), strict=True))


def _train(
    matrix: sparse.csr_array, config: MultVAEConfig, rng: Stream, earlier: Mapping[str, np.ndarray] | None, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Trains the weights `_NAMES`: (n_items, hidden), (hidden, 2 dimension), (dimension, hidden), (hidden, n_items) and biases."""
    import torch  # noqa: PLC0415 - only a fit needs it
    from torch.nn import functional, init  # noqa: PLC0415

    from environments.recommenders import training  # noqa: PLC0415

    n_items, d, h = matrix.shape[1], config.dimension, config.hidden
    shapes = {"encode": (n_items, h), "code": (h, 2 * d), "decode": (d, h), "items": (h, n_items)}
    with training.session(config, rng) as device:
        known, wanted = training.hold_back(matrix, config.validation_share, rng.child("hold back"))
        initial: dict[str, torch.Tensor] = {}
        for name, shape in shapes.items():
            initial |= {name: init.xavier_normal_(torch.empty(*shape)), f"{name}_bias": torch.zeros(shape[1])}
        w = training.start_from(initial, earlier, device)
        histories = training.Rows(known, device)
        validation = training.Validation(known, wanted, device, rng.child("validation"))
        people = torch.from_numpy(np.flatnonzero(np.diff(known.indptr))).to(device)
        steps, annealed = 0, config.anneal_epochs * -(-len(people) // config.batch_size)

        def codes(history: torch.Tensor, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
            seen = functional.dropout(functional.normalize(history, dim=1), dropout)
            hidden = torch.tanh(seen @ w["encode"] + w["encode_bias"])
            mean, log_variance = (hidden @ w["code"] + w["code_bias"]).split(d, dim=1)
            return mean, log_variance

        def logits(code: torch.Tensor) -> torch.Tensor:
            return torch.tanh(code @ w["decode"] + w["decode_bias"]) @ w["items"] + w["items_bias"]

        def losses() -> Iterator[torch.Tensor]:
            nonlocal steps
            for batch in training.shuffled(len(people), config.batch_size, device):
                history = histories.dense(people[batch])
                mean, log_variance = codes(history, config.dropout)
                code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
                misfit = -(functional.log_softmax(logits(code), dim=1) * history).sum(1).mean()
                divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(1).mean()
                beta = config.beta * (1.0 if earlier is not None else min(steps / annealed, 1.0))
                squares = sum(tensor.square().sum() for tensor in w.values()) if config.l2 else 0.0
                yield misfit + beta * divergence + 0.5 * config.l2 * squares
                steps += 1

        def validate() -> float:
            with torch.no_grad():
                return validation.ndcg(lambda users: logits(codes(histories.dense(users), 0.0)[0]), width=2)

        training.optimise(w, losses, config, warm=earlier is not None, validate=validate if len(validation) else None, progress=progress)
        return training.to_arrays(w)

"""NeuMF: matrix factorisation and a multilayer perceptron, joined."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from environments.recommenders.factors import FoldedRecommender, FoldIn
from environments.recommenders.ranking import interaction_matrix, product_by_row
from environments.recommenders.training_config import Progress, TrainingConfig
from simulator.dataset import Catalog
from simulator.seeds import Stream


class NeuMFConfig(TrainingConfig):
    """Options of `NeuMF`, besides those of `TrainingConfig`.

    Attributes:
        dimension: length of the factors of each of the two parts.
        hidden: widths of the perceptron's layers after the factors of person and item; the time of serving grows with them.
        negatives: items that the person has not, for each interaction.
        dropout: share of the perceptron's inputs set to 0 while training.
        l2: weight of half the mean squared length of the factors of each batch.
        fold_in_l2: ridge of the map from a history to a person's factors, in people.
    """

    dimension: int = Field(default=64, ge=1, le=65_536)
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(default=(32, 16), min_length=1, max_length=16)
    negatives: int = Field(default=8, ge=1, le=1_000_000)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    l2: float = Field(default=1e-4, ge=0, le=1e12)
    fold_in_l2: float = Field(default=10.0, gt=0, le=1e12)


class NeuMF(FoldedRecommender):
    """The score is ``h . [p_u * q_i, mlp(p'_u, q'_i)]`` with ``*`` by element and an mlp of rectified layers.

    Trained as a classifier of interactions against uniform negatives by binary cross-entropy (He et al., "Neural
    collaborative filtering", WWW 2017, eq. 7-12), all parts together from random weights. People are folded in as in
    `factors.FoldIn`, both of a person's vectors at once. Training needs torch; recommending needs numpy alone.
    """

    Config = NeuMFConfig

    def __init__(self, config: NeuMFConfig | None = None) -> None:
        super().__init__()
        self.config = config or NeuMFConfig()
        self.progress: Progress | None = None
        self._first = np.empty((0, 0), dtype=np.float32)  # (hidden[0], n_items): the items' share of the first layer
        self._turned: list[np.ndarray] = []  # the further layers, each (width, width before)
        self._columns = np.empty((0, 0), dtype=np.float32)  # (dimension, n_items): h * q

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal weights on the same machine's CPU.

        Raises:
            RecommenderError: training diverged, or the device is not there.
        """
        matrix = interaction_matrix(interactions, len(catalog))
        self._weights = w = _train(matrix, self.config, rng, self._earlier(len(catalog), self.config.warm_start), self.progress)
        self._serve(FoldIn.fit(matrix, w["users"], w["items"], self.config.fold_in_l2))

    def _scores(self, people: np.ndarray) -> np.ndarray:
        # relu(a + b) = max(a, -b) + b, so that a layer is one maximum, and what is added goes into the next one's constants
        d, w = self.config.dimension, self._weights
        scores = product_by_row(people[:, :d], self._columns)
        rest = product_by_row(people[:, d:], w["layer0"][: w["layer0"].shape[0] // 2])
        added = [rest]
        for number in range(1, len(self.config.hidden)):
            rest = product_by_row(rest, w[f"layer{number}"]) + w[f"bias{number}"]
            added.append(rest)
        constants = product_by_row(rest, w["output"][d:, None])
        layers = [np.empty((width, scores.shape[1]), dtype=np.float32) for width in self.config.hidden]
        for row in range(len(scores)):  # products of the same shape for everybody, so that the batch cannot matter
            np.maximum(self._first, -added[0][row][:, None], out=layers[0])
            for number in range(1, len(layers)):
                np.matmul(self._turned[number - 1], layers[number - 1], out=layers[number])
                np.maximum(layers[number], -added[number][row][:, None], out=layers[number])
            scores[row] += w["output"][d:] @ layers[-1]
        scores += constants
        return scores

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return ()

    def _restore(self, fold: np.ndarray, residuals: np.ndarray, *arrays: np.ndarray) -> None:
        self._serve(FoldIn(self._weights["items"], fold, residuals))

    def _serve(self, folding: FoldIn) -> None:
        d, weights = self.config.dimension, self._weights
        self._folding = folding
        self._columns = np.ascontiguousarray((weights["items"][:, :d] * weights["output"][:d]).T)
        first = weights["layer0"]
        self._first = np.ascontiguousarray((weights["items"][:, d:] @ first[len(first) // 2 :] + weights["bias0"]).T)
        self._turned = [np.ascontiguousarray(weights[f"layer{number}"].T) for number in range(1, len(self.config.hidden))]


def _train(
    matrix: sparse.csr_array, config: NeuMFConfig, rng: Stream, earlier: Mapping[str, np.ndarray] | None, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Trains the weights: "users" and "items" (two vectors in a row), "layer0", "bias0" .. and "output"."""
    import torch  # noqa: PLC0415 - only a fit needs it
    from torch.nn import functional, init  # noqa: PLC0415

    from environments.recommenders import training  # noqa: PLC0415

    d, widths = config.dimension, (2 * config.dimension, *config.hidden)
    with training.session(config, rng) as device:
        known, wanted = training.hold_back(matrix, config.validation_share, rng.child("hold back"))
        initial = {name: 0.01 * torch.randn(n, 2 * d) for name, n in zip(("users", "items"), matrix.shape, strict=True)}
        for number, shape in enumerate(itertools.pairwise(widths)):
            initial |= {f"layer{number}": init.xavier_uniform_(torch.empty(*shape)), f"bias{number}": torch.zeros(shape[1])}
        initial["output"] = init.xavier_uniform_(torch.empty(d + widths[-1], 1))[:, 0]
        weights = training.start_from(initial, earlier, device)
        sampler = training.PairSampler(known, device)
        validation = training.Validation(known, wanted, device, rng.child("validation"))

        def tower(layer: torch.Tensor) -> torch.Tensor:
            for number in range(1, len(config.hidden)):
                layer = functional.relu(layer @ weights[f"layer{number}"] + weights[f"bias{number}"])
            return layer

        def losses() -> Iterator[torch.Tensor]:
            for users, chosen, others in sampler.epoch(config.batch_size, config.negatives):
                items = torch.cat((chosen[:, None], others), dim=1)
                p = functional.embedding(users, weights["users"])[:, None]
                q = functional.embedding(items, weights["items"])
                inputs = torch.cat((p[..., d:].expand(-1, items.shape[1], -1), q[..., d:]), dim=2)
                inputs = functional.dropout(inputs, config.dropout)
                hidden = tower(functional.relu(inputs @ weights["layer0"] + weights["bias0"]))
                scores = torch.cat((p[..., :d] * q[..., :d], hidden), dim=2) @ weights["output"]
                signs = torch.ones(items.shape[1], device=device)
                signs[0] = -1.0  # softplus(-score) for what was chosen, softplus(score) for the others
                squares = p.square().sum() + q.square().sum()
                yield functional.softplus(signs * scores).mean() + 0.5 * config.l2 / len(users) * squares

        def score(users: torch.Tensor) -> torch.Tensor:
            p, q, first = weights["users"][users], weights["items"], weights["layer0"]
            own, other = p[:, d:] @ first[:d], q[:, d:] @ first[d:] + weights["bias0"]
            hidden = tower(functional.relu(own[:, None] + other))
            return (p[:, :d] * weights["output"][:d]) @ q[:, :d].T + hidden @ weights["output"][d:]

        def validate() -> float:
            with torch.no_grad():
                return validation.ndcg(score, width=2 * max(config.hidden))

        training.optimise(
            weights, losses, config, warm=earlier is not None, validate=validate if len(validation) else None, progress=progress
        )
        return training.to_arrays(weights)

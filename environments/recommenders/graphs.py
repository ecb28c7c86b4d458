"""Factors that are propagated over the graph of people and items, and their training. This file wraps torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from environments.recommenders import training
from environments.recommenders.training_config import GraphConfig, Progress
from simulator.seeds import Stream


def adjacency(matrix: sparse.csr_array, device: torch.device) -> Tensor:
    """The graph of people (first) and items, each edge divided by the roots of the degrees of its two ends.

    ``A_ui = A_iu = 1 / sqrt(|items of u| |people of i|)`` (Kipf and Welling, ICLR 2017, without self-loops).

    Args:
        matrix: who has what, shape (n_users, n_items).
        device: where to put it.

    Returns:
        Symmetric, sparse rows of float32, shape (n_users + n_items, n_users + n_items).
    """
    n_users, n_items = matrix.shape
    pairs = matrix.tocoo()
    users, items = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    degrees = np.bincount(users, minlength=n_users).astype(np.float64), np.bincount(items, minlength=n_items).astype(np.float64)
    values = (1.0 / np.sqrt(degrees[0][users] * degrees[1][items])).astype(np.float32)
    n = n_users + n_items
    ends = np.concatenate((users, items + n_users)), np.concatenate((items + n_users, users))
    graph = sparse.csr_array((np.concatenate((values, values)), ends), shape=(n, n))
    graph.sort_indices()
    index = np.int32 if graph.nnz < 2**31 else np.int64
    parts = (torch.from_numpy(part).to(device) for part in (graph.indptr.astype(index), graph.indices.astype(index), graph.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that it is young, and that it checks nothing unless asked
        return torch.sparse_csr_tensor(*parts, size=(n, n), check_invariants=True)


class _Propagate(torch.autograd.Function):  # type: ignore[misc]
    """A symmetric matrix is its own transpose, so the gradient needs no second one, and none is made in every step."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, nodes: Tensor) -> Tensor:
        ctx.graph = graph
        return graph @ nodes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph @ gradient.contiguous()


def propagate(graph: Tensor, nodes: Tensor) -> Tensor:
    """``graph @ nodes`` for a symmetric graph, shape (n_users + n_items, d)."""
    result: Tensor = _Propagate.apply(graph, nodes)
    return result


def train(
    matrix: sparse.csr_array,
    config: GraphConfig,
    rng: Stream,
    initial: Callable[[int, int], Mapping[str, Tensor]],
    smoothed: Callable[[Mapping[str, Tensor], Tensor, bool], Tensor],
    earlier: Mapping[str, np.ndarray] | None,
    progress: Progress | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Trains by BPR's loss on interactions and uniform negatives: ``-log sigmoid(e_u . (e_i - e_j)) + l2 / 2 |e_0|^2``.

    While training, the graph has no edge that is held back for validation; the final factors use the whole log.

    Args:
        matrix: who has what, shape (n_users, n_items).
        config: options.
        rng: all randomness.
        initial, smoothed: see `graph_factors.GraphRecommender`.
        earlier: weights to continue from, or None.
        progress: gets a report after every epoch.

    Returns:
        The weights for a warm start, and the factors e of people (n_users, d) and items (n_items, d), float32.

    Raises:
        RecommenderError: training diverged, or the device is not there.
    """
    n_users = matrix.shape[0]
    with training.session(config, rng) as device:
        known, wanted = training.hold_back(matrix, config.validation_share, rng.child("hold back"))
        weights = training.start_from(initial(*matrix.shape), earlier, device)
        sampler = training.PairSampler(known, device)
        validation = training.Validation(known, wanted, device, rng.child("validation"))
        graph = adjacency(known, device)
        rows = torch.nn.functional.embedding  # its gradient is summed faster than that of an indexed tensor

        def losses() -> Iterator[Tensor]:
            for users, chosen, others in sampler.epoch(config.batch_size):
                pairs = torch.stack((chosen, others[:, 0]))
                p, better, worse = rows(torch.cat((users[None], n_users + pairs)), smoothed(weights, graph, True))
                margin = (p * (better - worse)).sum(1)
                squares = rows(users, weights["users"]).square().sum() + rows(pairs, weights["items"]).square().sum()
                yield torch.nn.functional.softplus(-margin).mean() + 0.5 * config.l2 / len(users) * squares

        def validate() -> float:
            with torch.no_grad():
                factors = smoothed(weights, graph, False)
                return validation.ndcg(lambda users: factors[users] @ factors[n_users:].T)

        training.optimise(
            weights, losses, config, warm=earlier is not None, validate=validate if len(validation) else None, progress=progress
        )
        with torch.no_grad():
            final = smoothed(weights, adjacency(matrix, device), False).cpu().numpy()
        return training.to_arrays(weights), final[:n_users].copy(), final[n_users:].copy()

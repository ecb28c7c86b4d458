"""Drawing the next token. Our own sampler, so that a seed means the same for every backend that gives logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CANDIDATES = 64
"""Only this many of the likeliest tokens can be drawn (top-k), so that a draw does not sort the vocabulary."""

TOP_P = 0.95
"""And of them the likeliest whose probabilities sum to this (nucleus sampling, Holtzman et al. 2020, section 3.1)."""

Allowed = Callable[[np.ndarray], np.ndarray]
"""Mask over token ids of those that a grammar permits next."""


def draw(logits: np.ndarray, temperature: float, rng: np.random.Generator, allowed: Allowed | None = None) -> int:
    """The next token.

    Args:
        logits: float32, shape (vocabulary,).
        temperature: divides the logits; 0 takes the likeliest token (the lowest id among equals) and draws nothing.
        rng: one uniform number is drawn from it.
        allowed: what a grammar permits; the likeliest candidates are tried first, then the whole vocabulary.

    Returns:
        A token id.

    Raises:
        ValueError: the grammar permits no token at all.
    """
    tokens = _likeliest(logits, np.arange(len(logits), dtype=np.int32))
    if allowed is not None:
        permitted = tokens[allowed(tokens)]
        if not len(permitted):
            everything = np.arange(len(logits), dtype=np.int32)
            permitted = _likeliest(logits, everything[allowed(everything)])
        tokens = permitted
    if not len(tokens):
        raise ValueError("the grammar permits no token")
    if temperature == 0 or len(tokens) == 1:
        return int(tokens[0])
    scaled = logits[tokens].astype(np.float64) / temperature
    weights = np.exp(scaled - scaled[0])
    cumulative = np.cumsum(weights / weights.sum())
    # A token is in the nucleus if those before it do not yet reach TOP_P.
    last = int(np.searchsorted(cumulative, TOP_P))
    uniform = rng.random() * cumulative[min(last, len(tokens) - 1)]
    return int(tokens[min(int(np.searchsorted(cumulative, uniform, side="right")), last, len(tokens) - 1)])


def _likeliest(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """At most `CANDIDATES` of the tokens, likeliest first, equal ones by id."""
    values = logits[tokens]
    if len(tokens) > CANDIDATES:
        threshold = np.partition(values, len(values) - CANDIDATES)[len(values) - CANDIDATES]
        tokens = tokens[values >= threshold]
        values = logits[tokens]
    return np.asarray(tokens[np.lexsort((tokens, -values))][:CANDIDATES])

"""Attention over rows of a pack that computes only what is seen: on a CPU, a page among others costs as much as alone.

A row holds a prefix and several pages that do not see each other (`experiments.tuning.packs`). A mask over the whole row hides the
other pages, but a CPU computes what it hides: three quarters of it all, nearly half of the time of a tuning. Here a row is taken apart
instead: prefixes see themselves, and every page sees its prefix and itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "usersim_pages"
"""Of this attention in transformers."""


@dataclass(frozen=True, eq=False)
class Pages:
    """Where the parts of a batch of rows lie, as numbers of places in the whole batch (row times width plus place).

    Attributes:
        prefix: places of each row's prefix, padded with 0, shape (b, p). page: those of each page, padded with 0, shape (pages, l).
        seen: places that a page sees: the prefix of its row, then its own, shape (pages, p + l).
        allowed: whether place i of a page may see the j-th of those, bool, shape (pages, 1, l, p + l).
        back: for every place of the batch, its number among all of `prefix` and then `page`, shape (b * width,).
    """

    prefix: torch.Tensor
    page: torch.Tensor
    seen: torch.Tensor
    allowed: torch.Tensor
    back: torch.Tensor

    @classmethod
    def of(cls, branches: np.ndarray) -> Pages | None:
        """The parts of rows by the branch of each place, -1 for padding, shape (b, width); None if there is no prefix or no page."""
        width = branches.shape[1]
        prefixes, pages, owners = [], [], []
        for row, own in enumerate(branches):
            bounds = [0, *(np.flatnonzero(np.diff(own)) + 1).tolist(), width]
            for first, end in pairwise(bounds):
                places = row * width + np.arange(first, end)
                if own[first] == 0:
                    prefixes.append(places)
                elif own[first] > 0:
                    pages.append(places)
                    owners.append(row)
        if len(prefixes) != len(branches) or not pages:
            return None
        prefix, is_prefix = _padded(prefixes)
        page, is_page = _padded(pages)
        own = np.array(owners)
        causal = np.tril(np.ones((page.shape[1], page.shape[1]), bool))[None] & is_page[:, None, :]
        shared = np.broadcast_to(is_prefix[own][:, None, :], (*page.shape, prefix.shape[1]))
        back = np.zeros(branches.size, np.int64)
        back[prefix[is_prefix]] = np.flatnonzero(is_prefix)
        back[page[is_page]] = prefix.size + np.flatnonzero(is_page)
        parts = (prefix, page, np.concatenate([prefix[own], page], axis=1), np.concatenate([shared, causal], axis=2)[:, None], back)
        return cls(*(torch.from_numpy(part) for part in parts))


def _padded(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    found = np.zeros((len(parts), max(map(len, parts))), np.int64)
    filled = np.arange(found.shape[1]) < np.array([len(part) for part in parts])[:, None]
    found[filled] = np.concatenate(parts)
    return found, filled


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    pages: Pages | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it; without `pages`, or with options that it does not know, that of torch with the mask.

    Returns:
        What places gathered, shape (b, t, heads, size), and None.
    """
    if pages is None or options.get("dropout"):
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return whole
    rows, heads, width, size = query.shape

    def flat(states: torch.Tensor) -> torch.Tensor:
        return states.transpose(1, 2).reshape(rows * width, states.shape[1], size)

    def part(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return states.index_select(0, places.flatten()).view(*places.shape, *states.shape[1:]).transpose(1, 2)

    asked, keys, values = flat(query), flat(key), flat(value)
    scaled = asked * options.get("scaling", size**-0.5)
    causal = torch.ones(pages.prefix.shape[1], pages.prefix.shape[1], dtype=torch.bool).tril()
    # Padding of a prefix lies behind it, where nothing before it can see it.
    found = [
        _attend(part(scaled, own), part(keys, seen), part(values, seen), allowed)
        for own, seen, allowed in ((pages.prefix, pages.prefix, causal), (pages.page, pages.seen, pages.allowed))
    ]
    both = torch.cat([states.transpose(1, 2).reshape(-1, heads, size) for states in found])
    return both.index_select(0, pages.back).view(rows, width, heads, size), None


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Plain attention: parts are so small that torch's own, which never holds all weights, takes more than twice as long with gradients.

    Args:
        query: shape (b, heads, l, size). key, value: shape (b, fewer heads, s, size). allowed: bool, shape (..., l, s).
    """
    rows, heads, length, size = query.shape
    shared = key.shape[1]
    # Heads that share keys are rows of one product.
    scores = query.reshape(rows, shared, -1, size) @ key.transpose(2, 3)
    scores = scores.view(rows, heads, length, -1).masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(dim=-1).view(rows, shared, -1, scores.shape[3])
    return (weights @ value).view(rows, heads, length, size)


def use(model: Any) -> None:
    """Lets a model of transformers attend like this where it is given `pages`, and as ever elsewhere."""
    ALL_ATTENTION_FUNCTIONS[NAME] = attention
    # The method for it is younger than the versions of transformers that we work with; layers read it here in all of them.
    model.config._attn_implementation = NAME

"""Vectors that a language model has learned to read in place of words: a soft prompt, and one vector per item.

A soft prompt is a few vectors in front of every prompt (Lester, Al-Rfou & Constant, "The power of scale for parameter-efficient
prompt tuning", EMNLP 2021). An item's vector stands beside its title, and is a projection of what a recommender knows of the item
(Liao et al., "LLaRA: large language-recommendation assistant", SIGIR 2024, section 3.2)::

    vector_i = W2 tanh(W1 f_i + b1) + b2          f_i: factors of the item, fitted on the training part of the learning people

To everything that computes with tokens a vector is one more token: its number is at least `FIRST`, which no vocabulary reaches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from simulator.errors import ModelError

FIRST = 1 << 24
"""Number of the first vector; smaller ones are tokens of the vocabulary."""

FILE = "vectors.safetensors"
"""File of an adapter that holds its vectors."""

_LAYERS = ("factors", "w1", "b1", "w2", "b2")


@dataclass(frozen=True)
class VectorTokens:
    """Which numbers the vectors of a model have.

    Attributes:
        soft: vectors of the soft prompt; they come first.
        items: ids of the items that have a vector, in order. Behind them stands one for all other items, if there are any.
    """

    soft: int = 0
    items: tuple[str, ...] = ()

    @property
    def opening(self) -> tuple[int, ...]:
        """The soft prompt."""
        return tuple(range(FIRST, FIRST + self.soft))

    def of(self, item_id: str) -> int:
        """The vector of an item.

        Raises:
            ModelError: this model has none for items.
        """
        if not self.items:
            raise unknown_vectors("this model or its adapter")
        return FIRST + self.soft + self._places.get(item_id, len(self.items))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.items)}


@dataclass(frozen=True, eq=False)
class Vectors:
    """Learned vectors in the order of their numbers.

    Attributes:
        tokens: which is which. table: float32, shape (vectors, size of the model's embeddings).
    """

    tokens: VectorTokens
    table: np.ndarray


def unknown_vectors(who: str) -> ModelError:
    """What is said where a prompt has vectors of items that nobody can read."""
    return ModelError(
        f"the prompt has vectors of items (decision.prompt.item_vectors or history_vectors), and {who} has none; leave these out, or "
        "use simulator.llm.transformers_model:TransformersModel with an adapter tuned with tuning.training.method = 'collaborative'."
    )


def present(folder: Path) -> bool:
    """Whether an adapter holds vectors."""
    return (folder / FILE).is_file()


def write(folder: Path, arrays: Mapping[str, np.ndarray], items: Sequence[str]) -> None:
    """Writes the vectors of an adapter.

    Args:
        folder: an existing folder.
        arrays: ``soft``, shape (n, d), or ``factors`` (items + 1, r), ``w1`` (h, r), ``b1`` (h,), ``w2`` (d, h) and ``b2`` (d,), or both.
        items: ids of the items in the order of the factors; the last row of these is for items without an id here.
    """
    from safetensors.numpy import save_file  # noqa: PLC0415 - needed here only

    save_file(
        {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()},
        folder / FILE,
        {"items": json.dumps(list(items))},
    )


def read(folder: Path) -> Vectors:
    """The vectors of an adapter.

    Raises:
        ModelError: the file is missing or damaged.
    """
    from safetensors import safe_open  # noqa: PLC0415 - needed here only

    try:
        with safe_open(folder / FILE, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            items = tuple(json.loads((file.metadata() or {})["items"]))
        parts = [arrays["soft"]] if "soft" in arrays else []
        if items:
            parts.append(projected(*(arrays[name] for name in _LAYERS)))
            if len(parts[-1]) != len(items) + 1:
                raise ValueError(f"{len(items)} items and {len(parts[-1])} rows")
        table = np.concatenate(parts).astype(np.float32)
    except Exception as error:  # safetensors has an exception class of its own for damaged files
        raise ModelError(f"'{folder / FILE}' is damaged ({error}); tune or copy it again.") from error
    return Vectors(VectorTokens(len(arrays["soft"]) if "soft" in arrays else 0, items), table)


def projected(factors: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """Vectors of items from their factors, shape (items, d); see above."""
    return np.asarray(np.tanh(factors @ w1.T + b1) @ w2.T + b2)

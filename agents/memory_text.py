"""How near a memory is to the items on a page, by their texts.

`WordSpace` compares words and needs no model. `EncoderSpace` wraps any class with
``encode(texts: list[str]) -> array of shape (n, d)``, such as a sentence encoder. `text_space` makes one per catalog and
shares it between all people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from agents.text import item_text, per_catalog
from simulator.dataset import Catalog
from simulator.errors import PluginError
from simulator.plugins import load


class TextSpace(Protocol):
    """Texts as vectors of one kind, compared with the items of one catalog."""

    def vector(self, text: str, item: int) -> Any:
        """The vector of the item if `item` is a code, of the text if it is -1.

        A memory about one item is near what that item is near; its own words ("gave it 4 stars") would only add noise.
        """

    def relevance(self, vectors: Sequence[Any], items: np.ndarray) -> np.ndarray:
        """Largest cosine similarity of each vector to any of the items, float64, shape (len(vectors),).

        Args:
            vectors: at least one result of `vector`.
            items: at least one item code.
        """


class WordSpace:
    """Cosine similarity of TF-IDF weights over the words of titles, years and genres of the catalog.

    Weights are scikit-learn's: ``tf * (ln((1 + n) / (1 + df)) + 1)``, rows of length 1 (Salton and Buckley,
    "Term-weighting approaches in automatic text retrieval", 1988). Words that no item has do not count.

    A vector is a pair (word numbers ascending, weights). Sums run over the words of one memory only, in this order, so a
    similarity does not depend on what else is remembered.
    """

    def __init__(self, catalog: Catalog) -> None:
        texts = _item_texts(catalog)
        if not any(re.search(r"\w", text) for text in texts):
            texts.append(catalog.domain.item)  # the vectorizer refuses to fit on no words at all
        self._vectorizer = TfidfVectorizer(token_pattern=r"\w+", strip_accents="unicode")
        self._items = self._sorted(self._vectorizer.fit_transform(texts))

    def vector(self, text: str, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Word numbers and weights."""
        if item >= 0:
            row = slice(self._items.indptr[item], self._items.indptr[item + 1])
            return self._items.indices[row], self._items.data[row]
        vector = self._sorted(self._vectorizer.transform([text]))
        return vector.indices, vector.data

    def relevance(self, vectors: Sequence[tuple[np.ndarray, np.ndarray]], items: np.ndarray) -> np.ndarray:
        """See `TextSpace`; in [0, 1]."""
        lengths = [len(words) for words, _ in vectors]
        memory = np.repeat(np.arange(len(vectors)), lengths)
        words = np.concatenate([words for words, _ in vectors])
        weights = np.concatenate([weights for _, weights in vectors])
        page = [self.vector("", int(item)) for item in items]
        # Only words that occur on the page matter, so the vocabulary's size does not.
        known = np.unique(np.concatenate([words for words, _ in page]))
        place = np.searchsorted(known, words)
        shared = place < len(known)
        shared[shared] = known[place[shared]] == words[shared]
        memory, place, weights = memory[shared], place[shared], weights[shared]
        best = np.zeros(len(vectors))
        for item_words, item_weights in page:
            query = np.zeros(len(known))
            query[np.searchsorted(known, item_words)] = item_weights
            np.maximum(best, np.bincount(memory, weights=weights * query[place], minlength=len(vectors)), out=best)
        return best

    @staticmethod
    def _sorted(matrix: Any) -> Any:
        matrix.sort_indices()
        return matrix


class EncoderSpace:
    """Cosine similarity of the vectors of a plugged-in encoder.

    The catalog is encoded once, as one list in order of item code; every other text alone. So numbers do not depend on
    how memories arrived, even where an encoder's arithmetic depends on its batch.

    Args:
        catalog: the items.
        encoder: the plug-in.
        name: its import path, for messages.

    Raises:
        PluginError: the encoder fails or returns something other than one finite vector per text.
    """

    def __init__(self, catalog: Catalog, encoder: Any, name: str) -> None:
        self._encoder = encoder
        self._name = name
        self._items = self._encode(_item_texts(catalog))

    def vector(self, text: str, item: int) -> np.ndarray:
        """A vector of length 1 (or 0 for a text that the encoder maps to the origin), float64, shape (d,)."""
        vector = self._items[item] if item >= 0 else self._encode([text])[0]
        return np.asarray(vector)

    def relevance(self, vectors: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """See `TextSpace`; in [-1, 1]."""
        # einsum adds in a fixed order; a BLAS product may not.
        return np.asarray(np.einsum("md,nd->mn", np.stack(vectors), self._items[items]).max(axis=1))

    def _encode(self, texts: list[str]) -> np.ndarray:
        try:
            vectors = np.asarray(self._encoder.encode(texts), dtype=np.float64)
        except Exception as error:
            raise PluginError(f"the text encoder '{self._name}' fails: {type(error).__name__}: {error}.") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise PluginError(
                f"the text encoder '{self._name}' returned an array of shape {vectors.shape} for {len(texts)} texts; "
                f"encode() must return one row of finite numbers per text, shape ({len(texts)}, d)."
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))


@per_catalog
def text_space(catalog: Catalog, encoder: str | None) -> TextSpace:
    """The space of a catalog, made once and shared.

    Args:
        catalog: the items.
        encoder: import path of a class with ``encode(texts) -> array of shape (n, d)``, or None to compare words.

    Raises:
        PluginError: the encoder cannot be loaded, made or used.
    """
    if encoder is None:
        return WordSpace(catalog)
    component = load(encoder, methods=("encode",))
    try:
        plugin = component()
    except Exception as error:
        raise PluginError(f"the text encoder '{encoder}' cannot be made without arguments: {type(error).__name__}: {error}.") from error
    return EncoderSpace(catalog, plugin, encoder)


def _item_texts(catalog: Catalog) -> list[str]:
    return [item_text(catalog, item, genres=10) for item in range(len(catalog))]

"""ContentBased: items whose text is like that of the history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import norm

from environments.recommenders.arrays import ArrayRecommender
from environments.recommenders.ranking import popularity_share, product_by_row
from simulator.dataset import Catalog
from simulator.errors import PluginError
from simulator.plugins import ComponentConfig, load
from simulator.seeds import Stream


class ContentBasedConfig(ComponentConfig):
    """Options of `ContentBased`.

    Attributes:
        encoder: import path of a class with ``encode(list of texts) -> array of shape (n, d)``, such as one around a
            sentence encoder; words are compared by TF-IDF if not given.
        max_words: words kept for TF-IDF, those of most texts.
    """

    encoder: str | None = None
    max_words: int = Field(default=20_000, ge=1, le=10_000_000)


class ContentBased(ArrayRecommender):
    """The score of an item is the cosine of its text vector and the sum of those of the history.

    A text is the title, the genres and the description. Without an encoder a text is a vector of words, ``(1 + log tf)
    (1 + log((1 + n) / (1 + df)))`` with tf the times that a word is in the text and df the texts that it is in, of length 1,
    in any language (Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988).
    The log serves only to order items for an empty history, by a millionth of the popularity share that is added to all
    scores. New people and new items need nothing special.
    """

    Config = ContentBasedConfig
    names = ("dense", "data", "indices", "indptr", "shape")

    def __init__(self, config: ContentBasedConfig | None = None) -> None:
        super().__init__()
        self.config = config or ContentBasedConfig()
        self._texts: sparse.csr_array | np.ndarray = np.empty((0, 0), dtype=np.float32)  # (n_items, d), rows of length 1 or 0

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Reads the items' texts.

        Raises:
            PluginError: the encoder is not there, fails, or gives something else than a vector of numbers for each text.
        """
        texts = item_texts(catalog)
        vectors = tf_idf(texts, self.config.max_words) if self.config.encoder is None else _encoded(texts, self.config.encoder)
        self._texts = vectors
        self._learned(popularity_share(interactions, len(catalog)), *self._arrays())

    def _arrays(self) -> tuple[np.ndarray, ...]:
        if isinstance(self._texts, np.ndarray):
            dense, t = self._texts, sparse.csr_array(np.empty((0, 0), dtype=np.float32))
        else:
            dense, t = np.empty((0, 0), dtype=np.float32), self._texts
        return dense, t.data, t.indices, t.indptr, np.array(t.shape)

    def _use(self, n_items: int, *arrays: np.ndarray) -> None:
        dense, data, indices, indptr, shape = arrays
        self._texts = dense if dense.size else sparse.csr_array((data, indices, indptr), shape=(int(shape[0]), int(shape[1])))

    def _scores(self, user_ids: np.ndarray, owned: sparse.csr_array) -> np.ndarray:
        if isinstance(self._texts, np.ndarray):
            people = owned @ self._texts
            scores = product_by_row(people, np.ascontiguousarray(self._texts.T))
            lengths = np.sqrt(np.einsum("ud,ud->u", people, people))
        else:
            words = owned @ self._texts
            scores = np.ascontiguousarray((self._texts @ words.T.toarray()).T)
            lengths = norm(words, axis=1)
        return scores / np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]


def item_texts(catalog: Catalog) -> list[str]:
    """Title, genres and description of each item, by code."""
    columns = (pl.col("title"), pl.col("genres").list.join(" "), pl.col("description"))
    return catalog.items.select(pl.concat_str(*columns, separator=". ", ignore_nulls=True)).to_series().fill_null("").to_list()


def tf_idf(texts: Sequence[str], max_words: int) -> sparse.csr_array:
    """Vectors of length 1 (0 for a text without words), float32, shape (len(texts), words); see `ContentBased`."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - only a fit needs it

    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=max_words, dtype=np.float32)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # not one word in any text
        return sparse.csr_array(np.zeros((len(texts), 1), dtype=np.float32))
    matrix.sort_indices()
    return sparse.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _encoded(texts: list[str], encoder: str) -> np.ndarray:
    try:
        vectors = np.asarray(load(encoder, methods=("encode",))().encode(texts), dtype=np.float32)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"the text encoder '{encoder}' failed on {len(texts)} texts: {type(error).__name__}: {error}.") from error
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise PluginError(
            f"the text encoder '{encoder}' gave an array of shape {vectors.shape} for {len(texts)} texts; "
            f"it must give finite numbers of shape ({len(texts)}, d)."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0)
    return unit

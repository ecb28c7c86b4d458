"""Taste in items without interactions, from what is written about them: titles, descriptions, genres and years.

A history says nothing of an item that nobody met, so it is told by what its words have in common with the items met, and by factors of
interactions that are foreseen from its words ("attribute-to-feature mapping", Gantner, Drumond, Freudenthaler, Rendle & Schmidt-Thieme,
"Learning attribute-to-feature mappings for cold-start recommendations", ICDM 2010). What each of these is worth is learned on items all of
whose interactions are hidden meanwhile, so that it may differ from what words are worth beside behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from scipy import linalg, sparse
from scipy.sparse.linalg import svds

from agents import relatedness
from agents.calibration import Calibration
from agents.choice_model import Logit, fit_logit
from agents.content import COLUMNS, Content
from agents.exposures import Negatives, people_split
from agents.related_scores import RelatedScores
from agents.relatedness import FACTOR_BITS, Products, Related, on_grid
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.files import read_document, write_document
from simulator.seeds import Stream
from simulator.spread import spreads

FOLDER: Final[str] = "cold"
FILE: Final[str] = "cold.json"
HIDDEN_SHARE: Final[float] = 0.2
"""Of the items with interactions, those that are hidden with all of them to learn the weights."""

TOPICS: Final[int] = 200
MAP_L2: Final[float] = 3.0
"""Ridge on the map from topics to factors, in units of the mean variance of topics."""

POSITIVES: Final[int] = 10
MOST_PEOPLE: Final[int] = 3_000
FEWEST_ROWS: Final[int] = 200
"""With fewer choices among hidden items nothing is learned, and new items stay what behaviour makes of them."""

L2: Final[float] = 30.0
CLIP: Final[float] = 6.0
BY_POPULARITY: Final[tuple[str, ...]] = ("popularity", "own popularity", "popularity above")
"""Columns of the evidence that hold for an item without interactions too: that it has none."""


@dataclass(frozen=True, eq=False)
class Choices:
    """What a user chose of new items, among others of the same popularity.

    Attributes:
        user: code. met: codes of the items of the history, ascending, none of them new. items: codes of new items, shape (n,).
        chosen: bool, shape (n,).
    """

    user: int
    met: np.ndarray
    items: np.ndarray
    chosen: np.ndarray


def matrix_of(data: Dataset) -> sparse.csr_matrix:
    """Interactions as a 0/1 matrix of users and items, float64, column codes ascending in each row."""
    rows = data.interactions
    shape = (data.n_users, data.n_items)
    matrix = sparse.csr_matrix((np.ones(rows.height), (rows["user"].to_numpy(), rows["item"].to_numpy())), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def some_items(data: Dataset, stream: Stream, share: float = HIDDEN_SHARE) -> np.ndarray:
    """A share of the items with interactions, codes in ascending order; the order of rows does not matter."""
    known = np.unique(data.interactions["item"].to_numpy())
    return np.sort(stream.generator().permutation(known)[: round(share * len(known))])


def without_items(data: Dataset, items: np.ndarray) -> Dataset:
    """The data without all interactions with some items, which stay in the catalog."""
    return data.with_interactions(data.interactions.filter(~pl.col("item").is_in(items.tolist())))


def choices(data: Dataset, new: np.ndarray, users: np.ndarray, stream: Stream) -> list[Choices]:
    """What users chose of some items, each beside one of these that they never met and that has about as many interactions.

    Args:
        data: with the interactions of the new items. new: item codes, ascending. users: codes; those who met nothing of the new items, or
            nothing else, are left out. stream: user u draws from ``stream.child(user_id)``.
    """
    matrix = matrix_of(data)
    place = np.full(data.n_items, -1, dtype=np.int64)
    place[new] = np.arange(len(new))
    negatives = Negatives(np.asarray(matrix.sum(axis=0)).ravel()[new], stream)
    ids, found = data.users["user_id"].to_list(), []
    for user in users.tolist():
        items = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
        own, met = place[items][place[items] >= 0], items[place[items] < 0]
        if not len(own) or not len(met):
            continue
        generator = stream.child(ids[user]).generator()
        positives = generator.permutation(own)[:POSITIVES].astype(np.int64)
        matched, _ = negatives.both(positives, 0, (own,), generator)
        if len(matched):
            both = new[np.concatenate([positives, matched])]
            found.append(Choices(user, met.astype(np.int64), both, np.arange(len(both)) < len(positives)))
    return found


class ColdScores:
    """Scores of items for a history that need no interactions with the items.

    Attributes:
        content: genres and years. related: scores of words and of factors foreseen from words.
    """

    def __init__(self, content: Content, related: RelatedScores) -> None:
        self.content, self.related = content, related

    @classmethod
    def fit(cls, train: Dataset, vectors: np.ndarray | None = None) -> ColdScores | None:
        """Computes all scores; None where items have no words, genres or years.

        Args:
            train: rows sorted by user and time. vectors: of the items' texts by a sentence encoder, shape (n_items, d), or None.
        """
        texts = relatedness.words(train.catalog, described=True)
        if texts is None:
            return None
        matrix = matrix_of(train)
        counts = np.asarray(matrix.sum(axis=0)).ravel()
        topics = _topics(texts.into.astype(np.float64))
        related: dict[str, Related] = {"texts": texts, "topics": _products(topics), "mapped": _mapped(matrix, counts, topics)}
        if train.catalog.items["description"].is_not_null().any() and (words := relatedness.words(train.catalog)) is not None:
            related["words"] = words
        if vectors is not None:
            centred = _of_length_one(vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0))
            related |= {"encoder": _products(centred), "mapped encoder": _mapped(matrix, counts, centred)}
        return cls(Content.fit(train), RelatedScores.of(related, matrix, counts))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns; those of a score begin with its name and a comma."""
        return (*COLUMNS, *self.related.names)

    def columns(self, user: int, met: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Columns `names` of items, float64, shape (len(items), len(names)).

        Args:
            user: code. met: different item codes, ascending. items: codes, none of them met.
        """
        return np.column_stack([self.content.columns(met, items), self.related.columns(user, met, items)])

    def of_choices(self, some: Sequence[Choices]) -> np.ndarray:
        """Columns of all items of choices, one below the other."""
        parts = [self.columns(one.user, one.met, one.items) for one in some]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.names)))


@dataclass(frozen=True, eq=False)
class Weights:
    """A ridge logistic regression on standardised columns, which tells chosen items from others as popular.

    Attributes:
        columns: places of the columns that are used. mean, spread: of these. model: their weights.
    """

    columns: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    model: Logit

    @classmethod
    def fit(cls, rows: np.ndarray, chosen: np.ndarray, people: np.ndarray, names: Sequence[str], columns: np.ndarray) -> Weights:
        """Learns the weights of some columns; arguments as of `agents.choice_model.fit_logit`."""
        own = rows[:, columns]
        spread = spreads(own)
        mean, spread = own.mean(axis=0), np.where(spread > 0, spread, np.inf)
        model = fit_logit(_standard(own, mean, spread), chosen, people, [names[k] for k in columns.tolist()], l2=L2)
        return cls(columns, mean, spread, model)

    def log_odds(self, rows: np.ndarray) -> np.ndarray:
        """Log-odds above those of an average item, shape (n,)."""
        return np.asarray(self.model.index(_standard(rows[:, self.columns], self.mean, self.spread)) - self.model.weights[0])


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows that weights are learned on: choices of users among items that were hidden with all their interactions.

    Attributes:
        names: of the columns. rows: shape (n, len(names)). chosen: 0/1. people: user codes.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    chosen: np.ndarray
    people: np.ndarray

    @classmethod
    def of(cls, train: Dataset, stream: Stream, vectors: np.ndarray | None = None) -> Lesson | None:
        """Hides items and asks users who are not held out about them; None where items have no texts or there is too little to learn from.

        Args:
            train: the training part. stream: says which items and users. vectors: as in `ColdScores.fit`.
        """
        split = people_split(train)
        users = stream.child("users").generator().permutation(np.concatenate([split.fit, split.validation]))[:MOST_PEOPLE]
        hidden = some_items(train, stream.child("hidden"))
        some = choices(train, hidden, np.sort(users), stream.child("choices"))
        if sum(len(one.items) for one in some) < FEWEST_ROWS:
            return None
        scores = ColdScores.fit(without_items(train, hidden), vectors)
        if scores is None:
            return None
        people = np.concatenate([np.full(len(one.items), one.user) for one in some])
        return cls(scores.names, scores.of_choices(some), np.concatenate([one.chosen for one in some]).astype(np.float64), people)

    def weights(self, scores: Sequence[str] | None = None) -> Weights:
        """Weights of all columns, or of those of some scores (`COLUMNS` and the names before the comma)."""
        wanted = [k for k, name in enumerate(self.names) if scores is None or name.partition(", ")[0] in scores]
        return Weights.fit(self.rows, self.chosen, self.people, self.names, np.array(wanted, dtype=np.int64))


class ColdItems:
    """What users make of the items of a catalog that nobody has met yet.

    Attributes:
        new: whether an item has no interactions, bool, shape (n_items,). scores, weights: see `ColdScores` and `Weights`.
    """

    def __init__(self, new: np.ndarray, scores: ColdScores, weights: Weights) -> None:
        self.new, self.scores, self.weights = new, scores, weights

    @classmethod
    def fit(cls, train: Dataset, stream: Stream) -> ColdItems | None:
        """Learns from the training part; None where no item is new, or nothing is written about items, or too little was chosen.

        Args:
            train: rows sorted by user and time. stream: of the choice of hidden items.
        """
        new = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items) == 0
        lesson = Lesson.of(train, stream) if new.any() else None
        scores = ColdScores.fit(train) if lesson is not None else None
        return None if lesson is None or scores is None else cls(new, scores, lesson.weights())

    def log_odds(self, user: int, met: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Log-odds of choosing new items above those of an average item, shape (len(items),); arguments as of `ColdScores.columns`."""
        return self.weights.log_odds(self.scores.columns(user, met, items))

    def instead(
        self, evidence: np.ndarray, calibration: Calibration, features: np.ndarray, user: int, history: np.ndarray, items: np.ndarray
    ) -> np.ndarray:
        """The evidence of items, that of new ones from their texts; the others keep theirs to the bit.

        A new item has the level that behaviour gives an item of no interactions, with everything else about it at its mean; what its
        texts say is added.

        Args:
            evidence: log-odds by behaviour, shape (n,). calibration: its weights. features: of `agents.behaviour.Behaviour`.
            user: code. history: item codes. items: item codes, shape (n,).
        """
        met = np.unique(history)
        which = np.flatnonzero(self.new[items] & ~np.isin(items, met))
        if not len(which):
            return evidence
        design = calibration.design
        columns = design.columns(features[which], np.full(len(which), np.log1p(len(met))))
        kept = np.array([name.partition(" x ")[0].startswith(BY_POPULARITY) for name in design.names])
        found = evidence.copy()
        found[which] = calibration.evidence.index(columns * kept) + self.log_odds(user, met, items[which])
        return found

    def save(self, folder: Path) -> None:
        """Writes a folder `FOLDER` within an existing one."""
        own = folder / FOLDER
        own.mkdir(exist_ok=True)
        self.scores.related.save(own)
        content = self.scores.content
        np.savez(own / "content.npz", new=self.new, **asdict(content))
        weights = self.weights
        document = {
            "columns": weights.columns,
            "mean": weights.mean,
            "spread": np.where(np.isinf(weights.spread), 0.0, weights.spread),
            "model": asdict(weights.model),
        }
        write_document(own / FILE, document, indent=1)

    @classmethod
    def load(cls, folder: Path) -> ColdItems | None:
        """Restores what `save` wrote; None where nothing was."""
        own = folder / FOLDER
        if not (own / FILE).is_file():
            return None
        document, _ = read_document(own / FILE, "make the run again", ConfigError, unlimited=True)
        spread, model = np.array(document["spread"]), document["model"]
        weights = Weights(
            np.array(document["columns"], dtype=np.int64),
            np.array(document["mean"]),
            np.where(spread > 0, spread, np.inf),
            Logit(**{**model, "names": tuple(model["names"]), "weights": np.array(model["weights"]), "errors": np.array(model["errors"])}),
        )
        with np.load(own / "content.npz") as stored:
            arrays = {name: stored[name] for name in stored.files if name != "new"}
            new = stored["new"]
        content = Content(**{**arrays, "year_strength": float(arrays["year_strength"])})
        return cls(new, ColdScores(content, RelatedScores.load(own)), weights)


def _standard(rows: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip((rows - mean) / spread, -CLIP, CLIP))


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(np.divide(rows, length, out=np.zeros(rows.shape), where=length > 1e-9))


def _products(rows: np.ndarray) -> Products:
    values = on_grid(rows, FACTOR_BITS)
    return Products(values, values)


def _topics(rows: sparse.csr_matrix) -> np.ndarray:
    """Latent topics of TF-IDF rows, each of length 1, shape (n_items, at most `TOPICS`).

    Deerwester, Dumais, Furnas, Landauer & Harshman, "Indexing by latent semantic analysis", JASIS 41 (1990).
    """
    rank = min(TOPICS, *rows.shape)
    if min(rows.shape) < 4 * rank:
        left, values, _ = np.linalg.svd(rows.toarray(), full_matrices=False)
        left, values = left[:, :rank], values[:rank]
    else:
        left, values, _ = svds(rows, k=rank, v0=np.ones(min(rows.shape)))
    return _of_length_one(left * values)


def _mapped(matrix: sparse.csr_matrix, counts: np.ndarray, texts: np.ndarray) -> Products:
    """Products of the factors of items met and those that ridge regression foresees from texts, weighted by the root of interactions.

    Args:
        matrix: 0/1, shape (n_users, n_items). counts: of its columns. texts: shape (n_items, d).
    """
    factors = relatedness.decomposition(matrix)
    into, out = factors.into.astype(np.float64), factors.out.astype(np.float64)
    known = np.flatnonzero(counts > 0)
    weight = np.sqrt(counts[known])[:, None]
    mean = (texts[known] * weight).sum(axis=0) / weight.sum()
    rows = texts[known] - mean
    square = (rows * weight).T @ rows
    square[np.diag_indices_from(square)] += max(MAP_L2 * float(np.trace(square)) / len(square), 1e-9)
    target = out[known] * counts[known][:, None] ** -0.25
    found = linalg.solve(square, (rows * weight).T @ target, assume_a="pos", check_finite=False)
    return Products(on_grid(into, FACTOR_BITS), on_grid((texts - mean) @ found, FACTOR_BITS))

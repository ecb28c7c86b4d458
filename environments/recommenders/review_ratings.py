"""What recommenders that predict ratings from reviews share: reading, training, serving, state. This file wraps torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn

from environments.recommenders import training
from environments.recommenders.biases import damped_means, rated_rows
from environments.recommenders.ranking import load_arrays, load_prefixed, not_fitted, product_by_row, save_arrays, top_unseen
from environments.recommenders.review_texts import ReviewTexts, documents, encode, require_reviews, vocabulary
from environments.recommenders.training_config import Progress, TrainingConfig
from simulator.dataset import Catalog
from simulator.records import Slate
from simulator.seeds import Stream

_BLOCK = 512
"""People or items whose reviews are read at once outside of training."""

_DAMPING = (5.0, 10.0)
"""Of the biases that training starts from: of people and of items, see `biases.Biases`."""

_SIDES = ("user", "item")


class ReviewConfig(TrainingConfig):
    """Options of recommenders that read reviews, besides those of `TrainingConfig`; examples are ratings.

    Attributes:
        vocabulary: words that are known, those of most reviews.
        review_words: words of a review that are read, the first ones.
        reviews: reviews of a person or an item that are read, the newest ones.
        word_dimension: length of the word vectors, which are learned.
        window: words that a filter of the convolution sees at once.
        filters: filters of the convolution.
        dimension: length of the vectors of people and items.
        dropout: share of values set to 0 while training.
        l2: weight of half the mean squared length of the vectors and biases of each batch.
        exclude_target: whether the review that belongs to a rating is hidden while that rating is trained on. When somebody is
            recommended something, no such review exists yet; a model that was trained with it learns to read the rating off it
            (the leak of many replications). False is there to measure that.
        validation_share: share of the ratings held back, with their reviews, to decide by their RMSE when to stop.
    """

    vocabulary: int = Field(default=20_000, ge=1, le=10_000_000)
    review_words: int = Field(default=100, ge=1, le=100_000)
    reviews: int = Field(default=20, ge=1, le=10_000)
    word_dimension: int = Field(default=64, ge=1, le=65_536)
    window: int = Field(default=3, ge=1, le=1_000)
    filters: int = Field(default=64, ge=1, le=65_536)
    dimension: int = Field(default=32, ge=1, le=65_536)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    l2: float = Field(default=1e-3, ge=0, le=1e12)
    exclude_target: bool = True
    epochs: int = Field(default=50, ge=1, le=1_000_000)
    batch_size: int = Field(default=256, ge=1, le=100_000_000)
    patience: int = Field(default=5, ge=1, le=1_000_000)


class WordWindows(nn.Module):  # type: ignore[misc]
    """A convolution over words, and for each filter the largest rectified value in a review; a review without words gives 0."""

    def __init__(self, config: ReviewConfig) -> None:
        super().__init__()
        self._window = config.window
        self.convolution = nn.Conv1d(config.word_dimension, config.filters, config.window)

    def forward(self, vectors: nn.Embedding, words: Tensor, starts: Tensor, chosen: Tensor) -> Tensor:
        """The features of some reviews, shape (len(chosen), filters).

        Args:
            vectors: of the words; row 0 is the padding.
            words, starts: all reviews, see `ReviewTexts`.
            chosen: numbers of reviews.
        """
        lengths = starts[chosen + 1] - starts[chosen]
        review = torch.repeat_interleave(torch.arange(len(chosen), device=words.device), lengths)
        ends = lengths.cumsum(0)
        within = torch.arange(len(review), device=words.device) - (ends - lengths)[review]
        # laid end to end with padding between, so that a window starts at each word and never reaches into the next review
        slots = within + (ends - lengths)[review] + review * (self._window - 1)
        text = torch.zeros(len(review) + max(len(chosen), 1) * (self._window - 1) + 1, dtype=torch.int64, device=words.device)
        text[slots] = words[starts[chosen][review] + within]
        windows = self.convolution(vectors(text).T[None])[0].T[slots]
        features = torch.zeros((len(chosen), windows.shape[1]), device=words.device)  # the maximum with 0 is the rectifier
        return features.scatter_reduce(0, review[:, None].expand_as(windows), windows, "amax", include_self=True)


class Tower(nn.Module, ABC):  # type: ignore[misc]
    """One side of the network, people or items.

    Attributes:
        bias: of each, shape (n + 1, 1); the last row belongs to those that nothing is known of and stays 0.
    """

    def __init__(self, biases: Tensor) -> None:
        super().__init__()
        self.bias = nn.Embedding.from_pretrained(torch.cat((biases, torch.zeros(1)))[:, None], freeze=False)

    def forget_unknown(self) -> None:
        """Sets to 0 what belongs to those that nothing is known of; weights of an earlier fit may have reached there."""
        with torch.no_grad():
            self.bias.weight[-1] = 0

    @abstractmethod
    def forward(self, codes: Tensor, features: Tensor, others: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the tower says of a batch.

        Args:
            codes: of the people (or items), shape (b,).
            features: of their reviews, 0 where there is none, shape (b, reviews, filters).
            others: codes of the items (or people) of these reviews, any valid code where there is none, shape (b, reviews).
            real: where there is a review, shape (b, reviews).

        Returns:
            Vectors, shape (b, k); biases, shape (b,); the share of each review in the vector, shape (b, reviews).
        """


@dataclass(frozen=True)
class Texts:
    """The reviews on the device, and which belong to whom.

    Attributes:
        words, starts: see `ReviewTexts`. writers, products: codes of who wrote each review about what.
        owned: `documents` of people ("user") and of items ("item"), one row more than there are for those that nothing is known of.
    """

    words: Tensor
    starts: Tensor
    writers: Tensor
    products: Tensor
    owned: dict[str, Tensor]

    @classmethod
    def on(cls, device: torch.device, texts: ReviewTexts, shape: tuple[int, int], most: int) -> Texts:
        """Copies reviews to a device.

        Args:
            device: where to.
            texts: the reviews.
            shape: numbers of people and of items.
            most: reviews of one person or item that are kept.
        """
        owned = {
            side: torch.from_numpy(documents(owners, size + 1, most)).to(device)
            for side, owners, size in zip(_SIDES, (texts.users, texts.items), shape, strict=True)
        }
        words, starts, users, items = (torch.from_numpy(part).to(device) for part in (texts.words, texts.starts, texts.users, texts.items))
        return cls(words, starts, users, items, owned)


class ReviewNetwork(nn.Module):  # type: ignore[misc]
    """Word vectors, and for each side a convolution and a tower; ``rating = mean + b_u + b_i + p_u . q_i``."""

    def __init__(self, n_words: int, config: ReviewConfig, people: Tower, items: Tower) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words + 1, config.word_dimension, padding_idx=0)
        nn.init.normal_(self.words.weight[1:], std=0.1)
        self.windows = nn.ModuleDict({side: WordWindows(config) for side in _SIDES})
        self.towers = nn.ModuleDict(dict(zip(_SIDES, (people, items), strict=True)))
        self._dropout = config.dropout

    def side(self, name: str, codes: Tensor, texts: Texts, without: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What the tower of a side says of some codes, see `Tower.forward`.

        Args:
            name: "user" or "item".
            codes: shape (b,).
            texts: the reviews.
            without: for each of `codes` the item (or person) whose common review must not be read, or None.
        """
        reviews = texts.owned[name][codes]
        real = reviews >= 0
        others = (texts.products if name == "user" else texts.writers)[reviews.clamp(min=0)] if len(texts.writers) else reviews * 0
        if without is not None:
            real = real & (others != without[:, None])
        chosen, places = torch.unique(reviews[real], return_inverse=True)
        read = self.windows[name](self.words, texts.words, texts.starts, chosen)
        features = torch.zeros((*reviews.shape, read.shape[1]), device=codes.device)
        features[real] = nn.functional.dropout(read[places], self._dropout, self.training)
        vectors, biases, shares = self.towers[name](codes, features, others, real)
        return vectors, biases, shares

    def ratings(self, users: Tensor, items: Tensor, texts: Texts, *, hide: bool) -> tuple[Tensor, Tensor]:
        """The ratings of pairs relative to the mean, shape (b,), and half the mean squared length of what they are made of.

        Args:
            users, items: codes, shape (b,).
            texts: the reviews.
            hide: whether the review that a pair has in common is hidden.
        """
        p, b_u, _ = self.side("user", users, texts, items if hide else None)
        q, b_i, _ = self.side("item", items, texts, users if hide else None)
        squares = p.square().sum(1) + q.square().sum(1) + b_u.square() + b_i.square()
        return b_u + b_i + (p * q).sum(1), 0.5 * squares.mean()


class ReviewRatingRecommender(ABC):
    """Base of recommenders that predict ratings from reviews; a subclass makes the towers.

    Minimises the squared error of the ratings. A person is what they wrote, an item what was written about it, in the log
    given to `fit`; interactions without a review, such as all simulated ones, count by their rating alone. Recommending
    ranks by the predicted rating; the towers of everybody are computed at the end of `fit`, so serving is one matrix product,
    with numpy, on the CPU. Somebody new has no reviews and no bias, whatever their history: they get the items' biases and what the
    items' reviews say to an empty document.
    """

    config: ReviewConfig

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._state: dict[str, np.ndarray] = {}
        self._weights: dict[str, np.ndarray] = {}
        self._columns = np.empty((0, 0), dtype=np.float32)  # (dimension, n_items): the transposed item vectors

    @abstractmethod
    def towers(self, shape: tuple[int, int], biases: tuple[Tensor, Tensor]) -> tuple[Tower, Tower]:
        """New towers of people and items with random weights from torch's generator.

        Args:
            shape: numbers of people and of items.
            biases: to start from, shapes (n_users,) and (n_items,).
        """

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Refuses data without reviews or ratings (see `simulator.protocols.DataChecker`).

        Raises:
            DataError: there are none.
        """
        require_reviews(interactions, self)
        rated_rows(interactions, self)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains; equal data and `rng` give equal weights on the same machine's CPU.

        Raises:
            DataError: there are no reviews or no ratings.
            RecommenderError: training diverged, or the device is not there.
        """
        require_reviews(interactions, self)
        rated = rated_rows(interactions, self)
        shape = (int(interactions["user"].max()) + 1, len(catalog))  # type: ignore[arg-type]
        held = rng.child("hold back").generator().random(interactions.height) < self.config.validation_share
        unrated = interactions["rating"].is_null().to_numpy()
        kept = interactions.filter(~held | unrated)
        if kept["rating"].count() == 0:
            kept, held = interactions, np.zeros_like(held)
        earlier = self._weights if self.config.warm_start and self._weights and len(self._state["item"]) == shape[1] else None
        known = vocabulary(kept, self.config.vocabulary) if earlier is None else self._state["vocabulary"]
        mean, *biases = self._means(kept, shape)
        with training.session(self.config, rng) as device:
            starts = tuple(torch.from_numpy(values.astype(np.float32)) for values in biases)
            network = ReviewNetwork(len(known), self.config, *self.towers(shape, (starts[0], starts[1])))
            network.load_state_dict(training.start_from(network.state_dict(), earlier, torch.device("cpu")))
            for tower in network.towers.values():
                tower.forget_unknown()
            network.to(device)
            held_back = interactions.filter(held & ~unrated)
            self._train(network, self._texts(kept, known, shape, device), kept, held_back, mean, earlier is not None)
            network.eval()
            everything = self._texts(interactions, known, shape, device)
            range_of = np.array([mean, rated["rating"].min(), rated["rating"].max()], dtype=np.float64)
            state = {"range": range_of, "vocabulary": known, **self._served(network, everything, interactions, shape)}
            self._use(state, training.to_arrays(network.state_dict()))

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`); scores are predicted ratings.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._state:
            not_fitted(self)
        rows = self._rows(user_ids)
        scores = product_by_row(self._state["user"][rows], self._columns).astype(np.float64)
        scores += self._state["range"][0] + self._state["user_bias"][rows][:, None] + self._state["item_bias"]
        return top_unseen(scores, histories, n)

    def predict_ratings(self, user_ids: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The expected ratings (see `simulator.protocols.RatingPredictor`), inside the range of those that were fitted.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._state:
            not_fitted(self)
        rows, (mean, lowest, highest) = self._rows(user_ids), self._state["range"]
        together = np.einsum("nk,nk->n", self._state["user"][rows], self._state["item"][items], dtype=np.float64)
        ratings = mean + self._state["user_bias"][rows] + self._state["item_bias"][items] + together
        clipped: np.ndarray = np.clip(ratings, lowest, highest)
        return clipped

    def save(self, folder: Path) -> None:
        """Writes ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._state:
            not_fitted(self)
        weights = {f"weights.{name}": values for name, values in self._weights.items()}
        save_arrays(folder, **{f"state.{name}": values for name, values in self._state.items()}, **weights)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        load_arrays(folder, "state.range", "state.user", "state.item")
        self._use(load_prefixed(folder, "state."), load_prefixed(folder, "weights."))

    def _use(self, state: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> None:
        self._state, self._weights = state, weights
        self._columns = np.ascontiguousarray(state["item"].T)

    def _rows(self, user_ids: np.ndarray) -> np.ndarray:
        """Rows of the people's arrays; the last one is for whoever is new."""
        last = len(self._state["user"]) - 1
        return np.where(user_ids < last, user_ids, last)

    def _texts(self, interactions: pl.DataFrame, known: np.ndarray, shape: tuple[int, int], device: torch.device) -> Texts:
        return Texts.on(device, encode(interactions, known, self.config.review_words), shape, self.config.reviews)

    @staticmethod
    def _means(interactions: pl.DataFrame, shape: tuple[int, int]) -> tuple[float, np.ndarray, np.ndarray]:
        rated = interactions.filter(pl.col("rating").is_not_null())
        users, items, ratings = (rated[column].to_numpy() for column in ("user", "item", "rating"))
        return damped_means(users, items, ratings, shape, _DAMPING)

    def _train(self, network: ReviewNetwork, texts: Texts, kept: pl.DataFrame, held_back: pl.DataFrame, mean: float, warm: bool) -> None:
        config, device = self.config, texts.words.device
        users, items, ratings = _columns(kept.filter(pl.col("rating").is_not_null()), device)
        held_users, held_items, held_ratings = _columns(held_back, device)

        def losses() -> Iterator[Tensor]:
            network.train()
            for batch in training.shuffled(len(users), config.batch_size, device):
                rated, squares = network.ratings(users[batch], items[batch], texts, hide=config.exclude_target)
                yield (rated + mean - ratings[batch]).square().mean() + config.l2 * squares

        def validate() -> float:
            network.eval()
            with torch.no_grad():
                parts = zip(held_users.split(_BLOCK), held_items.split(_BLOCK), strict=True)
                rated = torch.cat([network.ratings(one, other, texts, hide=True)[0] for one, other in parts])
            return -float((rated + mean - held_ratings).square().mean().sqrt())

        check = validate if len(held_users) else None
        training.optimise(dict(network.named_parameters()), losses, config, warm=warm, validate=check, progress=self.progress)

    def _served(self, network: ReviewNetwork, texts: Texts, interactions: pl.DataFrame, shape: tuple[int, int]) -> dict[str, np.ndarray]:
        """Vectors and biases of everybody, one more person for whoever is new, and the share of each review of the items."""
        arrays: dict[str, np.ndarray] = {}
        for name, size in zip(_SIDES, shape, strict=True):
            # whoever nobody has met is nobody in particular
            met = np.bincount(interactions[name].to_numpy(), minlength=size + 1) > 0
            codes = torch.from_numpy(np.where(met, np.arange(size + 1), size)).to(texts.words.device)
            with torch.no_grad():
                parts = [network.side(name, part, texts) for part in codes.split(_BLOCK)]
            vectors, biases, shares = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
            rows = size + (name == "user")
            arrays |= {name: vectors[:rows], f"{name}_bias": biases[:rows].astype(np.float64)}
            if name == "item":
                owned = texts.owned[name][:size]
                writers = texts.writers[owned.clamp(min=0)] if len(texts.writers) else owned
                arrays |= {"writers": torch.where(owned >= 0, writers, -1).cpu().numpy(), "shares": shares[:rows]}
        return arrays


def _columns(rated: pl.DataFrame, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and ratings on the device."""
    users, items = (torch.from_numpy(rated[column].to_numpy().astype(np.int64)).to(device) for column in ("user", "item"))
    return users, items, torch.from_numpy(rated["rating"].to_numpy().copy()).to(device)

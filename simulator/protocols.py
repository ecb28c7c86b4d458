"""All seams. A plug-in is any class with these methods; it inherits nothing.

Every method that may be slow takes a batch and returns a list of the same length in the same order.

A component is built from its section of the experiment file (`simulator.plugins.build`). If its class has an attribute
`Config`, a pydantic model, the section is checked against it and the class is called with the checked model first;
otherwise the section must be empty and the class is called without it. What else each kind is called with:

=================  ==========================================================
DatasetLoader      nothing else
Recommender        nothing else
LanguageModel      nothing else
Memory             ``catalog`` (keyword), once per person
DecisionModel      ``context: DecisionContext`` (keyword)
=================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl

from simulator.dataset import Catalog, Dataset
from simulator.records import (
    Action,
    Closing,
    Completion,
    Decision,
    GenerationRequest,
    MemoryRecord,
    ModelIdentity,
    Page,
    PageRequest,
    Prompt,
    Scores,
    Situation,
    Slate,
    Usage,
    UserProfile,
)
from simulator.seeds import Stream


class Recommender(Protocol):
    """Ranks items for people. Frozen between two calls of `fit`.

    A recommender that draws its ranking at random returns propensities, and gives `recommend` one more keyword,
    ``exclude: Sequence[np.ndarray] | None = None``: item codes per person that must not be in the slate although they
    are not in the history. The feed passes items already shown there, so that the propensities stay exact.

    One that repairs answers from elsewhere has an attribute ``repairs``, a mapping from the kind of repair to how often it was
    needed so far; a run sums them up by round. One that can go on from what `load` restored has an option ``warm_start`` in its
    `Config`, which ``refit = "warm"`` turns on.
    """

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Learns from the log so far.

        Args:
            interactions: `INTERACTIONS_SCHEMA` of `simulator.dataset`: positive interactions, ratings may be null. Data with reviews
                has one more column, `REVIEW`, of the training part only; it is null on every simulated interaction.
            catalog: all items that may be recommended.
            rng: all randomness of the fit comes from here.
        """

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best items that are not in the history, for each person.

        Args:
            user_ids: user codes, int32, shape (b,). Codes not seen by `fit` are new people; rank for them from their history.
            histories: b arrays of item codes, oldest first.
            n: items wanted; a slate is shorter only when fewer unseen items exist.
            rng: for each person use ``rng.child(int(user))``, so that the batch cannot matter.
        """

    def save(self, folder: Path) -> None:
        """Writes the fitted state into an existing empty folder."""

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, so that `recommend` returns the same slates."""


@runtime_checkable
class DataChecker(Protocol):
    """What a recommender may do besides: refuse data that it cannot be fitted to, before anything is prepared."""

    def check_data(self, interactions: pl.DataFrame, catalog: Catalog) -> None:
        """Stops at what `fit` would stop at.

        Args:
            interactions: the training part. catalog: all items.

        Raises:
            UsersimError: the data lacks what the recommender needs, or is too large for it.
        """


@runtime_checkable
class RatingPredictor(Protocol):
    """What a recommender may do besides: say how it thinks people would rate items. `usersim evaluate-recommenders` then measures it."""

    def predict_ratings(self, user_ids: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The expected rating of each pair of a person and an item.

        Args:
            user_ids: user codes, shape (n,); codes not seen by `fit` are new people.
            items: item codes, shape (n,).

        Returns:
            In the units of the ratings that `fit` saw, finite, float64, shape (n,).
        """


class Environment(Protocol):
    """The place: answers requests for pages and learns what was done on them."""

    def serve(self, requests: Sequence[PageRequest]) -> list[Page | None]:
        """The next page of each person; None when nothing is left to show."""


class Memory(Protocol):
    """What one person remembers. One instance per person.

    One that wants insights has an attribute ``reflection_due``: whether the session that ends now should end with one.
    """

    def remember(self, records: Sequence[MemoryRecord]) -> None:
        """Stores new records in order; may forget others (see `MemoryRecord.forgotten`)."""

    def recall(self, page: Page, time: int) -> tuple[MemoryRecord, ...]:
        """The records that matter in front of this page, most relevant first. Counts as a recall."""

    def records(self) -> list[MemoryRecord]:
        """Every record ever stored, with its present state, ordered by number. Round-trips through `restore`."""

    def restore(self, records: Sequence[MemoryRecord]) -> None:
        """Replaces the contents by what `records` returned earlier."""


class LanguageModel(Protocol):
    """Inference. Two verbs: `score` reads probabilities inside prompts, `generate` writes text."""

    @property
    def identity(self) -> ModelIdentity:
        """What must be equal for two runs to be comparable to the byte."""

    @property
    def usage(self) -> Usage:
        """Work done since loading."""

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request."""

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens of this model."""

    def close(self) -> None:
        """Frees the model; further calls are errors."""


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What a decision model may use besides the situations.

    Attributes:
        catalog: the items. actions: what people can do in this experiment.
        language_model: the shared language model, or None if the experiment has none.
        rating_scale: (lowest, highest) rating of the data, or None without ratings.
        page_size: items on a page. max_pages: pages at which a session ends at the latest.
        seed: of the run.
    """

    catalog: Catalog
    actions: tuple[Action, ...]
    language_model: LanguageModel | None
    rating_scale: tuple[float, float] | None
    page_size: int
    max_pages: int
    seed: int


class DecisionModel(Protocol):
    """The user side: from situations to what people do.

    One whose decisions depend on nothing that people remember (`Situation.memories`) says so by an attribute ``reads_memories``, False or
    a static method from its options to a bool; then nobody's memories are made.
    """

    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Prepares on the training part only, once per run, before the first round. May do nothing."""

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """What each person does on their page. Randomness comes from `Situation.stream` only."""

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """How each person looks back on the session that ended with this page."""

    def save(self, folder: Path) -> None:
        """Writes what `fit` learned into an existing empty folder."""

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""


@runtime_checkable
class Anchorable(Protocol):
    """A decision model whose people can be made to choose a wanted share of what they are shown (`experiments.anchoring`).

    The share is met on pages that a recommender fills, and a decision model knows no recommender when it is fitted.
    """

    @property
    def asked_share(self) -> float | None:
        """The share of shown items that is wanted, in (0, 1); None where the data tells it and nothing is to be moved."""

    def rehearsing(self) -> Anchorable:
        """The same people, fitted, who move on their own and ask no language model: what it says is stood for."""

    def own_level(self, profile: UserProfile) -> float:
        """Log-odds by which somebody chooses more often than the usual person."""

    def anchor(self, shift: float, usual: np.ndarray, level_slope: float = 1.0) -> None:
        """Moves everybody.

        Args:
            shift: log-odds of choosing that are added to those that were fitted or loaded; replaces an earlier shift.
            usual: quantiles of the log-odds of choosing what is usually shown, without what people's own levels add, with the shift.
            level_slope: log-odds by which what is usually shown is chosen more often per unit of `own_level`; less than 1 where those
                who choose more have less left to choose.
        """

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """As `DecisionModel.decide`."""

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """As `DecisionModel.close_sessions`."""


@runtime_checkable
class Candid(Protocol):
    """What a decision model may say of itself after `DecisionModel.fit` or `load`; reports, summaries and data cards repeat it."""

    @property
    def assumptions(self) -> Sequence[str]:
        """What is assumed of people and not estimated, a sentence each."""

    @property
    def warnings(self) -> Sequence[str]:
        """What could not be estimated as asked, a sentence each."""


class DatasetLoader(Protocol):
    """Reads one raw format."""

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: one sentence with file, line, column, what was found and what is allowed.
        """

"""Any scorer of LensKit (https://lenskit.org), by its own name and options. Needs the package `lenskit` (tried: 2025.8.1)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from environments.recommenders.ranking import BACKSTOP, load_arrays, not_fitted, popularity_share, save_arrays, top_unseen
from simulator.dataset import Catalog
from simulator.errors import ConfigError, RecommenderError
from simulator.plugins import ComponentConfig, load
from simulator.records import Slate
from simulator.seeds import Stream


class LensKitLibraryConfig(ComponentConfig):
    """Options of `LensKitLibrary`.

    Attributes:
        model: import path of the scorer, such as "lenskit.knn:ItemKNNScorer", "lenskit.als:ImplicitMFScorer".
        options: of its configuration, such as {max_nbrs = 20, feedback = "implicit"}.
        ratings: whether it is given the ratings, for scorers that predict them.
    """

    model: str = "lenskit.als:ImplicitMFScorer"
    options: dict[str, Any] = Field(default_factory=dict)
    ratings: bool = False


class LensKitLibrary:
    """Ranks by a LensKit scorer, which gets each person's code and present history, so that new people and grown histories count.

    Items that the scorer gives no score follow below the others, by popularity. The state is LensKit's own, pickled: load only
    runs that you trust.
    """

    Config = LensKitLibraryConfig

    def __init__(self, config: LensKitLibraryConfig | None = None) -> None:
        self.config = config or LensKitLibraryConfig()
        self._scorer: Any = None
        self._popularity = np.empty(0, dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains the scorer.

        Raises:
            PluginError: LensKit is not installed, or has no such scorer.
            ConfigError: the scorer refuses the options, or ratings are wanted and missing.
        """
        model = load(self.config.model, methods=("train",))
        import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with LensKit
        from lenskit.data import DatasetBuilder  # type: ignore[import-not-found]  # noqa: PLC0415
        from lenskit.training import TrainingOptions  # type: ignore[import-not-found]  # noqa: PLC0415

        if self.config.ratings and interactions["rating"].null_count():
            raise ConfigError("[recommender] ratings = true, but not every interaction has a rating; use ratings = false.")
        last = interactions.unique(("user", "item"), keep="last", maintain_order=True)
        table = pd.DataFrame({"user_id": last["user"].to_numpy(), "item_id": last["item"].to_numpy()})
        if self.config.ratings:
            table["rating"] = last["rating"].to_numpy()
        builder = DatasetBuilder("interactions")
        builder.add_entities("item", np.arange(len(catalog)))
        builder.add_entities("user", np.unique(last["user"].to_numpy()))
        builder.add_interactions("rating", table, entities=["user", "item"], missing="error", default=True)
        try:
            scorer = model(**self.config.options)
        except (ValidationError, TypeError) as error:
            raise ConfigError(f"[recommender] options: {self.config.model} refuses them: {str(error).splitlines()[-1].strip()}.") from error
        scorer.train(builder.build(), TrainingOptions(rng=rng.integer()))
        self._scorer, self._popularity = scorer, popularity_share(interactions, len(catalog))

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._scorer is None:
            not_fitted(self)
        from lenskit.data import ItemList, RecQuery  # noqa: PLC0415

        candidates = ItemList(item_ids=np.arange(len(self._popularity)))
        scores = np.empty((len(user_ids), len(self._popularity)))
        for row, (user, history) in enumerate(zip(user_ids, histories, strict=True)):
            query = RecQuery(user_id=int(user), history_items=ItemList(item_ids=np.unique(history)))
            scores[row] = self._scorer(query, candidates).scores()
        missing = ~np.isfinite(scores)
        lowest = np.min(scores, axis=1, initial=0.0, where=~missing, keepdims=True)
        scores = np.where(missing, lowest - 1.0, scores)
        return top_unseen(scores + BACKSTOP * self._popularity, histories, n)

    def save(self, folder: Path) -> None:
        """Writes the pickled scorer and ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._scorer is None:
            not_fitted(self)
        (folder / "scorer.pickle").write_bytes(pickle.dumps(self._scorer))
        save_arrays(folder, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (self._popularity,) = load_arrays(folder, "popularity")
        try:
            self._scorer = pickle.loads((folder / "scorer.pickle").read_bytes())
        except (OSError, ImportError, pickle.UnpicklingError) as error:
            raise RecommenderError(f"{folder} does not hold a LensKit scorer that opens here ({error}); fit it again.") from error

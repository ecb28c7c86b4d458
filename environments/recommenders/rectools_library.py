"""Any model of RecTools (https://github.com/MobileTeleSystems/RecTools), by its own name and options.

Needs the package `rectools` (tried: 0.19.0). On Python 3.11 and 3.12 its release asks for numpy below 2, so that pip does not
install it beside this project; it works with numpy 2 when installed with ``pip install --no-deps rectools typeguard fastrlock
pm-implicit``, or in an environment where numpy is 1.26, in which this project's recommenders pass their tests too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import BACKSTOP, load_arrays, not_fitted, popularity_share, save_arrays, top_unseen
from simulator.dataset import Catalog
from simulator.errors import ConfigError, PluginError, RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class RecToolsLibraryConfig(ComponentConfig):
    """Options of `RecToolsLibrary`.

    Attributes:
        model: class name, such as "EASEModel", "ImplicitALSWrapperModel", "PureSVDModel", "SASRecModel".
        options: of its RecTools configuration, such as {regularization = 100.0} or {model = {factors = 64}}.
        by_history: whether the model ranks by the history that it is given and not by factors of the people in the fit: true for
            EASEModel, ImplicitItemKNNWrapperModel, SASRecModel, BERT4RecModel; false for ALS, BPR, PureSVD.
    """

    model: str = "EASEModel"
    options: dict[str, Any] = Field(default_factory=dict)
    by_history: bool = True


class RecToolsLibrary:
    """Ranks by a RecTools model.

    With `by_history` everybody, new people too, is ranked by the present history. Without it, people in the log are ranked by
    what the fit learned about them, and new people by popularity. Items that the model does not score follow below the others,
    by popularity. People are asked for one at a time, since the library's products round differently for batches of different
    size: some milliseconds per person.
    """

    Config = RecToolsLibraryConfig

    def __init__(self, config: RecToolsLibraryConfig | None = None) -> None:
        self.config = config or RecToolsLibraryConfig()
        self._model: Any = None
        self._fitted_on: Any = None
        self._log = np.empty((2, 0), dtype=np.int64)  # the pairs of the fit, for models that look them up
        self._popularity = np.empty(0, dtype=np.float32)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Trains the model; `options` without a seed get the run's where the model has one.

        Raises:
            PluginError: RecTools is not installed.
            ConfigError: it has no such model, or the model refuses the options.
        """
        try:
            from rectools.models import model_from_config  # type: ignore[import-not-found]  # noqa: PLC0415
        except ImportError as error:
            raise PluginError(f"RecToolsLibrary needs the package 'rectools' ({error}); see {__name__} on how to install it.") from error
        pairs = interactions.unique(("user", "item"), keep="last", maintain_order=True)
        self._log = pairs.select("user", "item").to_numpy().T.astype(np.int64)
        self._popularity = popularity_share(interactions, len(catalog))
        self._fitted_on = _dataset(self._log)
        try:
            self._model = model_from_config({"cls": self.config.model, **self._seeded(rng)})
        except (ValueError, TypeError) as error:
            raise ConfigError(f"[recommender] {self.config.model} of RecTools: {' '.join(str(error).split())[:300]}.") from error
        self._model.fit(self._fitted_on)

    def recommend(self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream) -> list[Slate]:
        """The n best unseen items (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._model is None:
            not_fitted(self)
        known_people, known_items = self._fitted_on.user_id_map.external_ids, self._fitted_on.item_id_map.external_ids
        scores = np.full((len(user_ids), len(self._popularity)), np.nan)
        for row, (user, history) in enumerate(zip(user_ids.tolist(), histories, strict=True)):
            items = history[np.isin(history, known_items)].astype(np.int64)
            if self.config.by_history:
                if len(items) == 0:
                    continue
                dataset = self._histories_of(user, items)
            elif user in known_people:
                dataset = self._fitted_on
            else:
                continue
            table = self._model.recommend([user], dataset, k=len(known_items), filter_viewed=False)
            scores[row, table["item_id"].to_numpy()] = table["score"].to_numpy()
        missing = ~np.isfinite(scores)
        lowest = np.min(scores, axis=1, initial=0.0, where=~missing, keepdims=True)
        return top_unseen(np.where(missing, lowest - 1.0, scores) + BACKSTOP * self._popularity, histories, n)

    def save(self, folder: Path) -> None:
        """Writes RecTools' own file and ``state.npz``.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._model is None:
            not_fitted(self)
        self._model.save(folder / "model.rectools")
        save_arrays(folder, log=self._log, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote; RecTools' file is a pickle, so load only runs that you trust.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        from rectools.models import load_model  # noqa: PLC0415

        self._log, self._popularity = load_arrays(folder, "log", "popularity")
        try:
            self._model = load_model(folder / "model.rectools")
        except OSError as error:
            raise RecommenderError(f"{folder} does not hold a RecTools model ({error}); fit it again.") from error
        self._fitted_on = _dataset(self._log)

    def _seeded(self, rng: Stream) -> dict[str, Any]:
        options, seed = dict(self.config.options), rng.integer()
        if self.config.model in {"ImplicitALSWrapperModel", "ImplicitBPRWrapperModel"}:
            options["model"] = {"random_state": seed, "num_threads": 1, **options.get("model", {})}
        elif self.config.model in {"RandomModel", "PureSVDModel", "LightFMWrapperModel"}:
            options.setdefault("random_state", seed)
        return options

    def _histories_of(self, user: int, items: np.ndarray) -> Any:
        """One person's present history, in the item numbering of the fit."""
        from rectools.dataset import Dataset, IdMap, Interactions  # type: ignore[import-not-found]  # noqa: PLC0415

        item_map = self._fitted_on.item_id_map
        # RecTools takes the highest item that somebody has for the size of its matrix: nobody, -1, has that one
        raw = _table(np.append(np.full(len(items), user), -1), np.append(items, item_map.external_ids[-1]))
        user_map = IdMap.from_values(raw["user_id"].to_numpy())
        return Dataset(user_map, item_map, Interactions.from_raw(raw, user_map, item_map))


def _dataset(pairs: np.ndarray) -> Any:
    from rectools.dataset import Dataset  # noqa: PLC0415

    return Dataset.construct(_table(pairs[0], pairs[1]))


def _table(users: np.ndarray, items: np.ndarray) -> Any:
    """RecTools' columns; times only say what came first."""
    import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with RecTools

    times = pd.Timestamp(0) + pd.to_timedelta(np.arange(len(users)), unit="s")
    return pd.DataFrame({"user_id": users, "item_id": items, "weight": 1.0, "datetime": times})

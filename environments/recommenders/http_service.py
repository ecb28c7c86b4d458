"""A recommender behind HTTP: any service that speaks the JSON of `environments.recommenders.replies`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from pydantic import Field
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from environments.recommenders.ranking import load_arrays, not_fitted, popularity_share, save_arrays
from environments.recommenders.replies import Repair, ReplyReader, checked, fit_message, recommend_message, state_of
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class HttpServiceConfig(ComponentConfig):
    """Options of `HttpService`.

    Attributes:
        url: of the service, such as "http://localhost:8000/recommender"; the requests go to its paths /fit and /recommend.
        fits: whether /fit is asked to learn from the log; false for a service that has its own model.
        state: name of the model to use where `fits` is false.
        timeout_seconds: for an answer to /recommend. fit_timeout_seconds: for one to /fit.
        attempts: how often a request is sent before it fails; answers with status 4xx are never asked for again.
        wait_seconds: pause before the second attempt, doubled before each further one.
        headers: sent with every request, such as an authorisation.
        repair: "refuse" stops at an answer that breaks the contract, "repair" repairs and counts it (`ReplyReader`).
    """

    url: str = Field(pattern=r"^https?://")
    fits: bool = True
    state: str = ""
    timeout_seconds: float = Field(default=10.0, gt=0)
    fit_timeout_seconds: float = Field(default=3_600.0, gt=0)
    attempts: int = Field(default=3, ge=1)
    wait_seconds: float = Field(default=0.5, ge=0)
    headers: dict[str, str] = Field(default_factory=dict)
    repair: Repair = "refuse"


class _Unavailable(Exception):
    """The service could not be reached, or answered with status 5xx: worth another attempt."""


class HttpService:
    """Sends *fit* and *recommend* as POST requests with JSON bodies to a service.

    What the service learns stays there under the name that it answered to *fit*; `save` writes that name, so it must keep
    its states as long as runs that use them are continued. The promise of equal logs for equal seeds is only as good as
    the service: it must answer the same to the same request.

    Attributes:
        reader: reads and repairs the answers.
    """

    Config = HttpServiceConfig

    def __init__(self, config: HttpServiceConfig) -> None:
        self.config = config
        self.reader = ReplyReader(f"the service at {config.url}", config.repair)
        self._client = httpx.Client(headers=config.headers)
        self._state: str | None = None
        self._item_ids = np.empty(0, dtype=object)
        self._popularity = np.empty(0)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Asks the service to learn from the log, unless it has its own model.

        Raises:
            RecommenderError: the service cannot be reached, is too slow, or answers something else than a state.
        """
        self._remember(catalog.item_ids, popularity_share(interactions, len(catalog)))
        if self.config.fits:
            reply = self._ask("fit", fit_message(interactions, catalog, rng), self.config.fit_timeout_seconds)
            self._state = state_of(reply, f"the service at {self.config.url}")
        else:
            self._state = self.config.state

    def recommend(
        self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream, exclude: Sequence[np.ndarray] | None = None
    ) -> list[Slate]:
        """The slates that the service answers (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted, or the service fails or breaks the contract.
        """
        if self._state is None:
            not_fitted(self)
        message = recommend_message(self._state, user_ids, histories, exclude, n, rng, self._item_ids)
        forbidden = [np.concatenate(pair) for pair in zip(histories, exclude, strict=True)] if exclude is not None else histories
        return self.reader.read(self._ask("recommend", message, self.config.timeout_seconds), forbidden, n)

    @property
    def repairs(self) -> Mapping[str, int]:
        """Kind of repair -> how often an answer needed it, since this was made."""
        return self.reader.repairs

    def save(self, folder: Path) -> None:
        """Writes the name of the state and what is needed to read answers.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if self._state is None:
            not_fitted(self)
        (folder / "service.json").write_text(json.dumps({"state": self._state, "items": self._item_ids.tolist()}), encoding="utf-8")
        save_arrays(folder, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote; whether the service still knows the state shows at the first request.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (popularity,) = load_arrays(folder, "popularity")
        try:
            stored = json.loads((folder / "service.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecommenderError(f"{folder} does not hold a fitted {type(self).__name__} ({error}); fit it again.") from error
        self._state = stored["state"]
        self._remember(np.array(stored["items"], dtype=object), popularity)

    def _remember(self, item_ids: np.ndarray, popularity: np.ndarray) -> None:
        self._item_ids, self._popularity = item_ids, popularity
        self.reader.use(item_ids, popularity)

    def _ask(self, path: str, message: dict[str, Any], timeout: float) -> object:
        config = self.config
        try:
            for attempt in Retrying(
                stop=stop_after_attempt(config.attempts),
                wait=wait_exponential(multiplier=config.wait_seconds),
                retry=retry_if_exception_type(_Unavailable),
            ):
                with attempt:
                    return self._ask_once(f"{config.url.rstrip('/')}/{path}", message, timeout)
        except RetryError as error:
            last = error.last_attempt.exception()
            raise RecommenderError(f"{config.url}/{path} failed {config.attempts} times, last: {last}; is the service running?") from last
        raise AssertionError("an attempt either returns or raises")  # pragma: no cover

    def _ask_once(self, url: str, message: dict[str, Any], timeout: float) -> object:
        try:
            response = self._client.post(url, json=message, timeout=timeout)
        except httpx.TimeoutException as error:
            raise _Unavailable(f"no answer within {timeout:g} s") from error
        except httpx.TransportError as error:
            raise _Unavailable(str(error)) from error
        if response.status_code >= 500:
            raise _Unavailable(f"status {response.status_code}: {response.text[:200]}")
        if response.status_code >= 400:
            raise RecommenderError(f"{url} refused the request with status {response.status_code}: {response.text[:200]}")
        try:
            return checked(response.json(), f"the service at {self.config.url}")
        except ValueError as error:
            raise RecommenderError(f"{url} answered something that is not JSON: {response.text[:120]!r}.") from error

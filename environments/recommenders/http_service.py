"""A recommender behind HTTP: any service that speaks the JSON of `environments.recommenders.replies`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import polars as pl
from pydantic import Field, model_validator
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from environments.recommenders.ranking import load_arrays, not_fitted, popularity_share, save_arrays
from environments.recommenders.replies import (
    OwnIds,
    Repair,
    ReplyReader,
    checked,
    fit_message,
    parsed,
    recommend_message,
    state_of,
)
from simulator.credentials import Address, Variable, check_settings, secret_headers, without
from simulator.dataset import Catalog
from simulator.errors import ConfigError, RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream
from simulator.web import TooLargeError, WebClient, readable, through

LARGEST_ANSWER = 64 * 10**6
"""Bytes of an answer at most: lists for a cohort are some hundred kilobytes."""


class HttpServiceConfig(ComponentConfig):
    """Options of `HttpService`.

    Attributes:
        url: of the service, such as "http://localhost:8000/recommender"; the requests go to its paths /fit and /recommend.
        fits: whether /fit is asked to learn from the log; false for a service that has its own model.
        state: name of the model to use where `fits` is false.
        timeout_seconds: for an answer to /recommend, to its last byte. fit_timeout_seconds: for one to /fit.
        attempts: how often a request is sent before it fails; answers with status 4xx are never asked for again.
        wait_seconds: pause before the second attempt, doubled before each further one.
        headers: sent with every request; only such as hold no secret, see `simulator.credentials.HARMLESS_HEADERS`.
        headers_env: header -> name of the environment variable that holds its value, such as {Authorization = "MY_SERVICE"} where
            MY_SERVICE is "Bearer ...".
        headers_file: file with further headers, one "Name: value" a line; neither is ever stored or shown.
        repair: "refuse" stops at an answer that breaks the contract, "repair" repairs and counts it (`ReplyReader`).
    """

    url: Address
    fits: bool = True
    state: str = ""
    timeout_seconds: float = Field(default=10.0, gt=0, le=1e6)
    fit_timeout_seconds: float = Field(default=3_600.0, gt=0, le=1e6)
    attempts: int = Field(default=3, ge=1, le=1_000)
    wait_seconds: float = Field(default=0.5, ge=0, le=86_400)
    headers: dict[str, str] = Field(default_factory=dict)
    headers_env: dict[str, Variable] = Field(default_factory=dict)
    headers_file: Path | None = None
    repair: Repair = "refuse"

    @model_validator(mode="after")
    def _without_secrets(self) -> Self:
        try:
            check_settings({"headers": self.headers}, "recommender")
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return self


class _Unavailable(Exception):
    """The service could not be reached, was too slow, or answered with status 5xx: worth another attempt."""


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
        secret = secret_headers(config.headers_env, config.headers_file)
        self._secrets = tuple(secret.values())
        self._client = WebClient({"Content-Type": "application/json", **config.headers, **secret})
        self._state: str | None = None
        self._ids = OwnIds(np.empty(0, dtype=object), np.empty(0, dtype=object))
        self._popularity = np.empty(0)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Asks the service to learn from the log, unless it has its own model.

        Raises:
            RecommenderError: the service cannot be reached, is too slow, or answers something else than a state.
        """
        self._remember(OwnIds.of(catalog), popularity_share(interactions, len(catalog)))
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
        message = recommend_message(self._state, user_ids, histories, exclude, n, rng, self._ids)
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
        (folder / "service.json").write_text(json.dumps({"state": self._state}), encoding="utf-8")
        self._ids.write(folder / "ids.json")
        save_arrays(folder, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote; whether the service still knows the state shows at the first request.

        Raises:
            RecommenderError: the folder does not hold it.
        """
        (popularity,) = load_arrays(folder, "popularity")
        try:
            state = json.loads((folder / "service.json").read_text(encoding="utf-8"))["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecommenderError(f"{folder} does not hold a fitted {type(self).__name__} ({error}); fit it again.") from error
        self._remember(OwnIds.read(folder / "ids.json"), popularity)
        self._state = str(state)

    def _remember(self, ids: OwnIds, popularity: np.ndarray) -> None:
        self._ids, self._popularity = ids, popularity
        self.reader.use(ids.items, popularity)

    def _ask(self, path: str, message: dict[str, Any], timeout: float) -> object:
        config = self.config
        url = f"{config.url.rstrip('/')}/{path}"
        content = json.dumps(message)
        try:
            for attempt in Retrying(
                stop=stop_after_attempt(config.attempts),
                wait=wait_exponential(multiplier=config.wait_seconds),
                retry=retry_if_exception_type(_Unavailable),
            ):
                with attempt:
                    return self._ask_once(url, content, timeout)
        except RetryError as error:
            last = error.last_attempt.exception()
            raise RecommenderError(f"{url} failed {config.attempts} times{through(url)}, last: {last}; is the service running?") from last
        raise AssertionError("an attempt either returns or raises")  # pragma: no cover

    def _ask_once(self, url: str, content: str, timeout: float) -> object:
        try:
            answer = self._client.exchange("POST", url, seconds=timeout, most=LARGEST_ANSWER, content=content)
        except TooLargeError as error:
            raise RecommenderError(f"{url}: {error}, which no list for these people is; correct the service.") from error
        except httpx.TimeoutException as error:
            raise _Unavailable(f"no answer within {timeout:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise RecommenderError(f"'{url}' cannot be asked ({error}); correct recommender.url.") from error
        except httpx.RequestError as error:
            raise _Unavailable(str(error)) from error
        # A service may repeat what it was sent.
        text = readable(without(answer.text, self._secrets))
        if answer.status >= 500:
            raise _Unavailable(f"status {answer.status}: {text[:200]}")
        if 300 <= answer.status < 400:
            raise RecommenderError(
                f"{url} sends requests elsewhere (status {answer.status}); give the address that answers as recommender.url."
            )
        if answer.status >= 400:
            raise RecommenderError(f"{url} refused the request with status {answer.status}: {text[:200]}")
        try:
            return checked(parsed(answer.body), f"the service at {self.config.url}")
        except ValueError as error:
            raise RecommenderError(f"{url} answered something that is not JSON: {text[:120]!r}.") from error

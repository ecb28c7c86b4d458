"""Requests to a language model behind HTTP: many at once, answered in their order, asked again when something fails.

What happens to a request that fails:

=====================================  ==============================================================================
no connection                          again; after the last retry `ServerError`
429, 5xx, timeout, connection cut,     again, after the server's ``Retry-After`` or an exponentially growing time with
no JSON                                jitter; after the last retry the reply has a status ("timeout", "error 500",
                                       "cut off", "unreadable") - but 429, or several such requests in a row, is
                                       `ServerError`: a run must not go on with people whose server is gone
401, 403                               `ModelError`: the key
402, no quota left                     `ServerError`
other                                  not asked again; the reply has the status "error 400" and so on
=====================================  ==============================================================================
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)

from simulator.errors import ModelError, ServerError
from simulator.llm.limits import Ledger

FAILURES_IN_A_ROW = 3
"""So many requests that fail after all retries, with no success between them, mean that the server is gone."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: `body` is sent as JSON to `path` (POST), or nothing is (GET) if it is None."""

    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        document: the JSON object; empty unless the status is "ok".
        status: "ok" or what went wrong. text: the raw reply in that case.
    """

    document: Mapping[str, Any] = field(default_factory=dict)
    status: str = "ok"
    text: str = ""


class _Again(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, status: str, text: str, after: float | None = None) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text, self.after = status, text, after


class HttpServer:
    """A server that answers JSON with JSON.

    Args:
        base_url: what paths are appended to.
        key: sent as bearer token, or None. key_name: where it came from, for messages.
        concurrency: requests under way at once.
        timeout: seconds for one attempt, from sending to the last byte.
        retries: attempts after the first. first_wait: seconds before the first of them; then doubled.
        longest_wait: most seconds of one wait, also of one that the server asks for.
        ledger: paces the requests and counts their tokens.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        key_name: str,
        *,
        concurrency: int,
        timeout: float,
        retries: int,
        first_wait: float,
        longest_wait: float,
        ledger: Ledger,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._key, self._key_name = key, key_name
        self._timeout, self._retries, self._longest_wait = timeout, retries, longest_wait
        self._ledger = ledger
        self._client = httpx.Client(
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="language-model-server")
        self._backoff = wait_exponential(multiplier=first_wait, max=longest_wait) + wait_random(0, first_wait)
        self._stopped = threading.Event()
        self._failures, self._failures_lock = 0, threading.Lock()

    def ask(self, requests: Sequence[Request], *, retries: int | None = None, trial: bool = False) -> list[Reply]:
        """The replies, in the order of the requests whatever comes first.

        Args:
            requests: what is asked.
            retries: attempts after the first, at most; None takes as many as the server was made with.
            trial: these only find out what the server can do, so what fails does not count towards its being gone.

        Raises:
            BudgetError: the budget is used up.
            ServerError: the server cannot be reached or keeps failing.
            ModelError: the key is refused.
        """
        attempts = 1 + (self._retries if retries is None else min(retries, self._retries))
        futures = [self._threads.submit(self._persistently, request, attempts, trial) for request in requests]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in futures if future.done() and (error := future.exception()) is not None]
            if failed:
                raise failed[0]
            return [future.result() for future in futures]
        finally:
            # After an error or an interrupt nobody may go on asking, or sleep through a long wait.
            self._stopped.set()
            for future in futures:
                future.cancel()
            wait(futures)
            self._stopped.clear()

    def close(self) -> None:
        """Closes all connections."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _persistently(self, request: Request, attempts: int, trial: bool) -> Reply:
        retrying = Retrying(
            stop=stop_any(stop_after_attempt(attempts), stop_when_event_set(self._stopped)),
            wait=self._wait,
            retry=retry_if_exception_type(_Again),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            reply: Reply = retrying(self._once, request)
        except _Again as error:
            return self._given_up(error, attempts, trial)
        with self._failures_lock:
            self._failures = 0
        return reply

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.after if isinstance(error, _Again) else None
        return max(self._backoff(state), asked or 0.0)

    def _sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _once(self, request: Request) -> Reply:
        self._ledger.check()
        self._sleep(self._ledger.turn())
        if self._stopped.is_set():
            raise _Again("stopped", "another request failed")
        try:
            status, headers, text = self._exchange(request)
        except httpx.ConnectError as error:
            raise _Again("unreachable", str(error)) from error
        except httpx.ConnectTimeout as error:
            raise _Again("unreachable", "no connection in time") from error
        except httpx.TimeoutException as error:
            self._ledger.add_lost()
            raise _Again("timeout", f"no answer within {self._timeout:g} s") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ModelError(f"'{self._url}' cannot be asked: {error}; give base_url like http://localhost:8000/v1.") from error
        except httpx.RequestError as error:
            self._ledger.add_lost()
            raise _Again("cut off", f"{type(error).__name__}: {error}") from error
        return self._judged(request, status, headers, text)

    def _exchange(self, request: Request) -> tuple[int, httpx.Headers, str]:
        # The body is read in pieces: the timeouts of httpx hold for each piece, not for a reply that trickles in.
        deadline = time.monotonic() + self._timeout
        content = None if request.body is None else json.dumps(request.body)
        with self._client.stream("GET" if content is None else "POST", f"{self._url}/{request.path}", content=content) as response:
            pieces = []
            for piece in response.iter_bytes():
                pieces.append(piece)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the reply took too long")
        return response.status_code, response.headers, b"".join(pieces).decode("utf-8", "replace")

    def _judged(self, request: Request, code: int, headers: httpx.Headers, text: str) -> Reply:
        text = text.replace(self._key, "***") if self._key else text
        said = _message(text)
        if code in (401, 403):
            had = (
                f"the key in {self._key_name}" if self._key else "a request without a key (name its environment variable with api_key_env)"
            )
            raise ModelError(f"the server at {self._url} does not accept {had}: {code} {said}")
        if code == 402 or (code == 429 and "insufficient_quota" in text):
            raise ServerError(f"the account at {self._url} has nothing left to spend: {code} {said}; top it up, then `usersim resume`.")
        if 300 <= code < 400:
            raise ModelError(
                f"the server at {self._url} sends requests elsewhere ({code} to {headers.get('location')}); use that as base_url."
            )
        if code in (408, 425, 429) or code >= 500:
            after = _retry_after(headers.get("retry-after"))
            if after is not None and after > self._longest_wait:
                raise ServerError(
                    f"the server at {self._url} answers {code} and asks to wait {after:.0f} s, more than longest_wait_s = "
                    f"{self._longest_wait:g}; finished cohorts are kept: continue then with `usersim resume`."
                )
            if after is not None:
                self._ledger.pause(after)
            raise _Again(f"error {code}", said, after)
        if code >= 400:
            return Reply(status=f"error {code}", text=said)
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            self._ledger.add_lost()
            raise _Again("unreadable", f"the reply is no JSON object: {text[:300]!r}")
        self._enter(request, document)
        return Reply(document)

    def _enter(self, request: Request, document: Mapping[str, Any]) -> None:
        if request.body is None:
            return
        told = document.get("usage")
        if isinstance(told, dict) and isinstance(told.get("prompt_tokens"), int):
            self._ledger.add(told["prompt_tokens"], told.get("completion_tokens") or 0)
        else:
            self._ledger.add(
                estimated_tokens(json.dumps(request.body)), estimated_tokens(json.dumps(document.get("choices"))), estimated=True
            )

    def _given_up(self, error: _Again, attempts: int, trial: bool) -> Reply:
        if self._stopped.is_set():
            return Reply(status="stopped")
        with self._failures_lock:
            self._failures += not trial
            many = self._failures >= FAILURES_IN_A_ROW
        tries = f"{attempts} attempts" if attempts > 1 else "one attempt"
        later = "finished cohorts are kept: continue with `usersim resume` when it runs again"
        if error.status == "unreachable":
            raise ServerError(
                f"there is no server at {self._url} ({error.text}, {tries}); start it or correct base_url; {later}."
            ) from error
        if many or error.status == "error 429":
            raise ServerError(f"the server at {self._url} keeps failing ({tries}; last: {error}); {later}.") from error
        return Reply(status=error.status, text=error.text)


def estimated_tokens(text: str) -> int:
    """Tokens of a text whose tokeniser is unknown: one per four bytes, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def key_from(variable: str | None) -> str | None:
    """The key that an environment variable holds; None if no variable is named.

    Raises:
        ModelError: the variable is empty or holds no key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(f"the environment variable {variable} (api_key_env) is not set; put the key of the server there.")
    if not (key.isascii() and key.isprintable()):
        raise ModelError(f"the environment variable {variable} (api_key_env) does not hold a key: it has characters no key has.")
    return key


def _message(text: str) -> str:
    """What a server says went wrong, at most 300 characters, on one line."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    error = document.get("error", document) if isinstance(document, dict) else text
    said = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return " ".join(str(said).split())[:300]


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3); None if there is none or it cannot be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())

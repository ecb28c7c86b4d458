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
more bytes than an answer may have     `ServerError`
other                                  not asked again; the reply has the status "error 400" and so on
=====================================  ==============================================================================
"""

from __future__ import annotations

import json
import os
import re
import threading
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

from simulator.credentials import masked, without
from simulator.errors import ModelError, ServerError
from simulator.llm.limits import Ledger
from simulator.web import TooLargeError, WebClient, readable, through

LARGEST_ANSWER = 256 * 10**6
"""Bytes of an answer at most: a page of two thousand tokens with a thousand likeliest ones at each is about a quarter of it."""

MOST_TOKENS = 10**9
"""No count of tokens of one request is larger; what a server tells beyond is no count."""

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
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._client = WebClient(headers, connections=concurrency)
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
        except TooLargeError as error:
            raise ServerError(f"the server at {self._url} misbehaves: {error}, which no answer of a language model is.") from error
        except (httpx.ConnectError, httpx.ProxyError) as error:
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
            raise _Again("cut off", f"{type(error).__name__}: {masked(str(error))}") from error
        return self._judged(request, status, headers, text)

    def _exchange(self, request: Request) -> tuple[int, httpx.Headers, str]:
        content = None if request.body is None else json.dumps(request.body)
        answer = self._client.exchange(
            "GET" if content is None else "POST", f"{self._url}/{request.path}", seconds=self._timeout, most=LARGEST_ANSWER, content=content
        )
        # A server may repeat what it was sent.
        return answer.status, answer.headers, without(answer.text, [self._key] if self._key else [])

    def _judged(self, request: Request, code: int, headers: httpx.Headers, text: str) -> Reply:
        said = _message(text)
        if code in (401, 403):
            had = (
                f"the key in {self._key_name}" if self._key else "a request without a key (name its environment variable with api_key_env)"
            )
            raise ModelError(f"the server at {self._url} does not accept {had}: {code} {said}")
        if code == 402 or (code == 429 and "insufficient_quota" in text):
            raise ServerError(f"the account at {self._url} has nothing left to spend: {code} {said}; top it up, then `usersim resume`.")
        if 300 <= code < 400:
            place = _place(headers.get("location"))
            raise ModelError(
                f"the server at {self._url} sends requests elsewhere ({code} to {place}); if that is right, use it as base_url."
            )
        if code >= 400 and refuses_system(said):
            return Reply(status=f"error {code}", text=said)  # it would say the same again
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
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._ledger.add_lost()
            raise _Again("unreadable", f"the reply is no JSON object: {masked(text[:300])!r}")
        self._enter(request, document)
        return Reply(document)

    def _enter(self, request: Request, document: Mapping[str, Any]) -> None:
        if request.body is None:
            return
        told = told_usage(document)
        if told is not None:
            self._ledger.add(told.prompt, told.completion)
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
            by = through(self._url)
            what = f"the server at {self._url} cannot be reached{by}" if by else f"there is no server at {self._url}"
            mend = "start it, or correct base_url" + (", or name its host in NO_PROXY" if by else "")
            raise ServerError(f"{what} ({error.text}, {tries}); {mend}; {later}.") from error
        if many or error.status == "error 429":
            raise ServerError(f"the server at {self._url} keeps failing ({tries}; last: {error}); {later}.") from error
        return Reply(status=error.status, text=error.text)


@dataclass(frozen=True, slots=True)
class ToldUsage:
    """Tokens of one request, as the server tells: of the prompt, of the completion, and of the prompt those that were kept."""

    prompt: int
    completion: int
    kept: int


def told_usage(document: Mapping[str, Any]) -> ToldUsage | None:
    """What a reply tells of its tokens, whatever types its numbers have; None where it does not tell.

    Counts may be numbers or texts of numbers ("5", 5.0); what is negative, broken or no number is not told.
    """
    usage = document.get("usage")
    if not isinstance(usage, Mapping) or (prompt := _count(usage.get("prompt_tokens"))) is None:
        return None
    details = usage.get("prompt_tokens_details")
    kept = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    return ToldUsage(prompt, _count(usage.get("completion_tokens")) or 0, min(kept or 0, prompt))


_NO_SYSTEM = re.compile(
    r"system\W.{0,60}(?:not|n't|un)[ -]?(?:be )?(?:support|allow|accept|permit|avail)|roles must alternate", re.IGNORECASE | re.DOTALL
)


def refuses_system(said: str) -> bool:
    """Whether a server says that its model's template has no place for a system turn, as those of Gemma and some of Mistral have none."""
    return bool(_NO_SYSTEM.search(said))


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and len(value) > 20):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MOST_TOKENS and number == int(number) else None


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
    except (ValueError, RecursionError):
        document = None
    error = document.get("error", document) if isinstance(document, dict) else text
    said = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return masked(readable(str(said))[:300])


def _place(location: str | None) -> str:
    """Where a server sends a request, without names, passwords and what stands behind '?'."""
    try:
        url = httpx.URL(location or "")
    except (httpx.InvalidURL, ValueError):
        return "nowhere"
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))[:200] if url.host else "another place"


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3); None if there is none or it cannot be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())

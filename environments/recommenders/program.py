"""A recommender in a program of its own, in any language and with any libraries, reached over its stdin and stdout."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from pydantic import Field

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
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream
from simulator.web import readable, size_of

LARGEST_ANSWER = 64 * 10**6
"""Bytes of an answer at most: lists for a cohort are some hundred kilobytes."""


class ProgramConfig(ComponentConfig):
    """Options of `Program`.

    Attributes:
        command: the program and its arguments, such as ["python3", "my_recommender.py"]; no shell is involved.
        timeout_seconds: for an answer to *recommend* or *load*. fit_timeout_seconds: for one to *fit* or *save*.
        restarts: how often a program that died or hung is started again and given its saved state, per request.
        environment: variables added to the program's environment, which is that of usersim; what is secret belongs into that one.
        repair: "refuse" stops at an answer that breaks the contract, "repair" repairs and counts it (`ReplyReader`).
    """

    command: list[str] = Field(min_length=1)
    timeout_seconds: float = Field(default=30.0, gt=0, le=1e6)
    fit_timeout_seconds: float = Field(default=3_600.0, gt=0, le=1e6)
    restarts: int = Field(default=1, ge=0, le=1_000_000)
    environment: dict[str, str] = Field(default_factory=dict)
    repair: Repair = "refuse"


class Program:
    """Speaks JSON lines with a program: one document per line in, one per line out, in turn.

    Each line in is a document of `environments.recommenders.replies` with one more key, ``"do"``: "fit", "recommend", and two of its
    own: ``{"do": "save", "folder": "..."}``, answered by ``{}`` once the program has written its state into that folder, and
    ``{"do": "load", "folder": "..."}``, answered by ``{"state": "any text"}``. The program must write nothing else to stdout;
    what it writes to stderr ends up in the message if it fails. It ends when its stdin does.

    Attributes:
        reader: holds the counts of repairs.
    """

    Config = ProgramConfig

    def __init__(self, config: ProgramConfig) -> None:
        self.config = config
        self.reader = ReplyReader(f"the program {config.command[0]}", config.repair)
        self._conversation: _Conversation | None = None
        self._state: str | None = None
        self._folder: Path | None = None  # where the program's present state was saved, to restart from
        self._ids = OwnIds(np.empty(0, dtype=object), np.empty(0, dtype=object))
        self._popularity = np.empty(0)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Has the program learn from the log.

        Raises:
            RecommenderError: it cannot be started, ends, is too slow, or answers something else than a state.
        """
        self._remember(OwnIds.of(catalog), popularity_share(interactions, len(catalog)))
        self._folder = None
        reply = self._ask({"do": "fit", **fit_message(interactions, catalog, rng)}, self.config.fit_timeout_seconds)
        self._state = state_of(reply, self._name)

    def recommend(
        self, user_ids: np.ndarray, histories: Sequence[np.ndarray], n: int, rng: Stream, exclude: Sequence[np.ndarray] | None = None
    ) -> list[Slate]:
        """The slates that the program answers (see `simulator.protocols.Recommender`).

        Raises:
            RecommenderError: it has not been fitted, or the program fails or breaks the contract.
        """
        if self._state is None:
            not_fitted(self)
        message = {"do": "recommend", **recommend_message(self._state, user_ids, histories, exclude, n, rng, self._ids)}
        forbidden = [np.concatenate(pair) for pair in zip(histories, exclude, strict=True)] if exclude is not None else histories
        return self.reader.read(self._ask(message, self.config.timeout_seconds), forbidden, n)

    @property
    def repairs(self) -> Mapping[str, int]:
        """Kind of repair -> how often an answer needed it, since this was made."""
        return self.reader.repairs

    def save(self, folder: Path) -> None:
        """Has the program write its state into a folder within `folder`.

        Raises:
            RecommenderError: it has not been fitted, or the program fails.
        """
        if self._state is None:
            not_fitted(self)
        own = folder.resolve() / "program"
        own.mkdir()
        self._ask({"do": "save", "folder": str(own)}, self.config.fit_timeout_seconds)
        self._folder = own
        self._ids.write(folder / "ids.json")
        save_arrays(folder, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Has the program read what `save` had it write.

        Raises:
            RecommenderError: the folder does not hold it, or the program fails.
        """
        (popularity,) = load_arrays(folder, "popularity")
        self._remember(OwnIds.read(folder / "ids.json"), popularity)
        self._folder = folder.resolve() / "program"
        self._state = state_of(self._ask({"do": "load", "folder": str(self._folder)}, self.config.timeout_seconds), self._name)

    def close(self) -> None:
        """Ends the program."""
        if self._conversation is not None:
            self._conversation.end()
            self._conversation = None

    @property
    def _name(self) -> str:
        return f"the program {self.config.command[0]}"

    def _remember(self, ids: OwnIds, popularity: np.ndarray) -> None:
        self._ids, self._popularity = ids, popularity
        self.reader.use(ids.items, popularity)

    def _ask(self, message: dict[str, Any], timeout: float) -> object:
        for attempt in range(1 + self.config.restarts):
            try:
                if self._conversation is None:
                    self._conversation = _Conversation(self.config.command, self.config.environment)
                    if self._folder is not None and message["do"] == "recommend":
                        self._conversation.ask({"do": "load", "folder": str(self._folder)}, self.config.timeout_seconds)
                return checked(self._conversation.ask(message, timeout), self._name)
            except _Broken as broken:
                self.close()
                restartable = message["do"] != "recommend" or self._folder is not None
                if attempt == self.config.restarts or not restartable:
                    raise RecommenderError(f"{self._name} {broken} while it was asked to {message['do']}.") from broken
        raise AssertionError("the last attempt either returns or raises")  # pragma: no cover


class _Broken(Exception):
    """The program died, hung, wrote too much, or wrote something that is not JSON."""


class _Conversation:
    """A running program. Threads read what it writes and write what it is told, so that waiting for either can end."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment}
            )
        except (OSError, ValueError) as error:
            raise RecommenderError(f"the program {command[0]} cannot be started ({error}); check recommender.command.") from error
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # Room for the one answer that is waited for, so that a program that never stops writing waits too, and fills nothing.
        self._lines: queue.Queue[bytes] = queue.Queue(maxsize=1)
        self._letters: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._last_words: deque[bytes] = deque(maxlen=2)
        self._over = threading.Event()
        threads = [
            threading.Thread(target=_read, args=(process.stdout, self._lines, self._over), daemon=True),
            threading.Thread(target=_write, args=(process.stdin, self._letters), daemon=True),
            threading.Thread(target=_listen, args=(process.stderr, self._last_words), daemon=True),
        ]
        for thread in threads:
            thread.start()
        self._listener = threads[2]
        self.end = weakref.finalize(self, _end, process, threads, self._letters, self._over)

    def ask(self, message: dict[str, Any], timeout: float) -> object:
        """Sends one document and waits for one.

        Raises:
            _Broken: there is no usable answer in time.
        """
        if not self._lines.empty():
            early = self._lines.get()
            raise _Broken(f"wrote {early[:120]!r} to stdout without having been asked" if early else self._obituary())
        self._letters.put(json.dumps(message).encode() + b"\n")
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise _Broken(f"did not answer within {timeout:g} s") from None
        if not line:
            raise _Broken(self._obituary())
        if len(line) > LARGEST_ANSWER:
            raise _Broken(f"wrote a line of more than {size_of(LARGEST_ANSWER)}, which no list for these people is,")
        try:
            return parsed(line)
        except ValueError as error:
            raise _Broken(f"wrote {line[:120]!r} to stdout, which is not a line of JSON") from error

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._listener.join(1)
        last = b"".join(self._last_words).decode(errors="replace").strip().splitlines()[-1:]
        return f"ended with status {self._process.returncode}" + (f" ({readable(last[0])[:200]})" if last else "")


def _read(stream: IO[bytes], lines: queue.Queue[bytes], over: threading.Event) -> None:
    """Hands on line after line, none longer than one byte more than an answer may be, and an empty one at the end."""
    line = b"\n"
    while line and not over.is_set():
        try:
            line = stream.readline(LARGEST_ANSWER + 1)
        except (OSError, ValueError):  # closed
            line = b""
        while not over.is_set():
            try:
                lines.put(line, timeout=0.2)
                break
            except queue.Full:
                continue


def _write(stream: IO[bytes], letters: queue.SimpleQueue[bytes | None]) -> None:
    """Writes what is put into the queue until None comes; that a program has gone shows at its stdout."""
    while (letter := letters.get()) is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(letter)
            stream.flush()
    with contextlib.suppress(OSError, ValueError):
        stream.close()


def _listen(stream: IO[bytes], last: deque[bytes]) -> None:
    """Keeps the end of what a program writes to stderr."""
    with contextlib.suppress(OSError, ValueError):
        while piece := stream.read1(4_096):  # type: ignore[attr-defined]
            last.append(piece)


def _end(
    process: subprocess.Popen[bytes], threads: Sequence[threading.Thread], letters: queue.SimpleQueue[bytes | None], over: threading.Event
) -> None:
    over.set()
    letters.put(None)
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for thread in threads:
        thread.join(2)
    for thread, stream in zip(threads, (process.stdout, process.stdin, process.stderr), strict=True):
        # A child of the program may still hold its end; then the thread waits, and closing would wait for the thread.
        if stream is not None and not thread.is_alive():
            with contextlib.suppress(OSError):
                stream.close()

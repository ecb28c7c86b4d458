"""A recommender in a program of its own, in any language and with any libraries, reached over its stdin and stdout."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from pydantic import Field

from environments.recommenders.ranking import load_arrays, not_fitted, popularity_share, save_arrays
from environments.recommenders.replies import Repair, ReplyReader, checked, fit_message, recommend_message, state_of
from simulator.dataset import Catalog
from simulator.errors import RecommenderError
from simulator.plugins import ComponentConfig
from simulator.records import Slate
from simulator.seeds import Stream


class ProgramConfig(ComponentConfig):
    """Options of `Program`.

    Attributes:
        command: the program and its arguments, such as ["python3", "my_recommender.py"]; no shell is involved.
        timeout_seconds: for an answer to *recommend* or *load*. fit_timeout_seconds: for one to *fit* or *save*.
        restarts: how often a program that died or hung is started again and given its saved state, per request.
        environment: variables added to the program's environment.
        repair: "refuse" stops at an answer that breaks the contract, "repair" repairs and counts it (`ReplyReader`).
    """

    command: list[str] = Field(min_length=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    fit_timeout_seconds: float = Field(default=3_600.0, gt=0)
    restarts: int = Field(default=1, ge=0)
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
        self._item_ids = np.empty(0, dtype=object)
        self._popularity = np.empty(0)

    def fit(self, interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> None:
        """Has the program learn from the log.

        Raises:
            RecommenderError: it cannot be started, ends, is too slow, or answers something else than a state.
        """
        self._remember(catalog.item_ids, popularity_share(interactions, len(catalog)))
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
        message = {"do": "recommend", **recommend_message(self._state, user_ids, histories, exclude, n, rng, self._item_ids)}
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
        (folder / "items.json").write_text(json.dumps(self._item_ids.tolist()), encoding="utf-8")
        save_arrays(folder, popularity=self._popularity)

    def load(self, folder: Path) -> None:
        """Has the program read what `save` had it write.

        Raises:
            RecommenderError: the folder does not hold it, or the program fails.
        """
        (popularity,) = load_arrays(folder, "popularity")
        self._remember(np.array(json.loads((folder / "items.json").read_text(encoding="utf-8")), dtype=object), popularity)
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

    def _remember(self, item_ids: np.ndarray, popularity: np.ndarray) -> None:
        self._item_ids, self._popularity = item_ids, popularity
        self.reader.use(item_ids, popularity)

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
    """The program died, hung or wrote something that is not JSON."""


class _Conversation:
    """A running program. Lines are read by a thread, so that waiting for them can end."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the conversation ends
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env={**os.environ, **environment}
            )
        except OSError as error:
            self._errors.close()
            raise RecommenderError(f"the program {command[0]} cannot be started ({error}); check recommender.command.") from error
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        self.end = weakref.finalize(self, _end, self._process, self._reader, self._errors)

    def ask(self, message: dict[str, Any], timeout: float) -> object:
        """Sends one document and waits for one.

        Raises:
            _Broken: there is no usable answer.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except (BrokenPipeError, queue.Empty) as error:
            raise _Broken(f"did not answer within {timeout:g} s" if isinstance(error, queue.Empty) else self._obituary()) from error
        if not line:
            raise _Broken(self._obituary())
        try:
            return json.loads(line)
        except ValueError as error:
            raise _Broken(f"wrote {line[:120]!r} to stdout, which is not a line of JSON") from error

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"ended with status {self._process.returncode}" + (f" ({last[0][:200]})" if last else "")


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes], reader: threading.Thread, errors: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    reader.join(2)
    if process.stdout is not None:
        process.stdout.close()
    errors.close()

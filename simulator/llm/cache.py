"""Answers of a language model, kept in a SQLite file and given again.

A score is kept under the model's identity and the prompt. Texts are kept under the identity and the whole list of requests
with their streams: a generated batch is a function of its list, so it is found as a whole or written again as a whole.
What a server failed to answer is kept too, but only `replay-only` gives it back; otherwise it is asked again.

Each answer has a checksum, and one that does not match it is asked again. Where the model can be asked, the file is a convenience: if it
cannot be opened or written, the answers of this process are kept in memory; if it is damaged, it is put aside.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from simulator.errors import ModelError
from simulator.protocols import LanguageModel
from simulator.records import Completion, GenerationRequest, ItemVector, ModelIdentity, Probe, Prompt, Scores, Usage

CacheMode = Literal["read-write", "replay-only"]

_TABLES = """
CREATE TABLE IF NOT EXISTS identities (source TEXT PRIMARY KEY, identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, failed INTEGER NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID;
"""
_KNOWN_FILE = 0x55534C4D
"""SQLite's application id of these files ("USLM")."""
_MOST_KEYS = 500
_CHECKED = re.compile(r"([0-9a-f]{16}):")
"""What an answer begins with that has a checksum; those of older versions have none."""

_log = logging.getLogger(__name__)


class CachedLanguageModel:
    """A language model that asks another one only what is not in a file (see `simulator.protocols.LanguageModel`).

    Several processes may use one file. Where two compute the same answer at once, both go on with the one stored first.

    Args:
        make: makes the model; never called with `replay-only`.
        path: the file; made if there is none, unless with `replay-only`.
        mode: "read-write" asks the model for what is missing, "replay-only" never.
        source: what the model is made from, such as its section of an experiment file; tells `replay-only` its identity.
        ours: whether the file can be nothing but a cache, so that one that is no database is a damaged cache.

    Raises:
        ModelError: the file is another program's, or (replay-only) cannot be used or holds nothing of this model.
    """

    def __init__(
        self, make: Callable[[], LanguageModel], path: Path, mode: CacheMode = "read-write", source: str = "", *, ours: bool = False
    ) -> None:
        self.path, self.mode = path, mode
        self._model: LanguageModel | None = None
        self._file = _opened(path) if mode == "replay-only" else _opened_or_memory(path, ours=ours)
        if mode == "replay-only":
            self._identity = self._stored_identity(source)
        else:
            self._model = make()
            self._identity = self._model.identity
            self._run("INSERT OR REPLACE INTO identities VALUES (?, ?)", (source, _canonical(asdict(self._identity))))
        self._prefix = _canonical(asdict(self._identity))
        self.hits = self.misses = 0

    @property
    def identity(self) -> ModelIdentity:
        """That of the model whose answers these are."""
        return self._identity

    @property
    def usage(self) -> Usage:
        """Work really done since loading: that of the answers that were missing."""
        return self._model.usage if self._model is not None else Usage()

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """See `simulator.protocols.LanguageModel`.

        Raises:
            ModelError: an answer is missing with replay-only, or the model cannot do it.
        """
        keys = [self._key("score", [_parts(prompt) for prompt in prompt.segments]) for prompt in prompts]
        known = self._found(keys)
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        if missing:
            first = dict(zip(keys, prompts, strict=True))
            model = self._asked(first[missing[0]].text)
            scores = model.score([first[key] for key in missing])
            known |= self._kept({key: (_failed(score.status), _scores_json(score)) for key, score in zip(missing, scores, strict=True)})
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return [_scores(known[key]) for key in keys]

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """See `simulator.protocols.LanguageModel`; a batch of requests is kept as a whole.

        Raises:
            ModelError: the batch is missing with replay-only, or the model cannot do it.
        """
        if not requests:
            return []
        key = self._key("generate", [_request(request) for request in requests])
        known = self._found([key])
        if key in known:
            self.hits += 1
        else:
            self.misses += 1
            last = requests[0]
            completions = self._asked(last.prompt.text if last.prompt is not None else last.messages[-1].text).generate(requests)
            failed = any(_failed(completion.status) for completion in completions)
            known = self._kept({key: (failed, _canonical([asdict(completion) for completion in completions]))})
        return [Completion(**entry) for entry in json.loads(known[key])]

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens; kept like an answer.

        Raises:
            ModelError: it is missing with replay-only.
        """
        key = self._key("count_tokens", text)
        known = self._found([key])
        if key not in known:
            known = self._kept({key: (False, str(self._asked(text).count_tokens(text)))})
        return int(known[key])

    def close(self) -> None:
        """Closes the file, and the model if there is one."""
        self._file.close()
        if self._model is not None:
            self._model.close()

    # --- the file ---

    def _key(self, kind: str, asked: Any) -> bytes:
        return hashlib.blake2b(_canonical([kind, self._prefix, asked]).encode(), digest_size=20).digest()

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        wanted = list(dict.fromkeys(keys))
        usable = "" if self.mode == "replay-only" else " AND failed = 0"
        found: dict[bytes, str] = {}
        for start in range(0, len(wanted), _MOST_KEYS):
            some = wanted[start : start + _MOST_KEYS]
            places = ", ".join("?" * len(some))
            for key, failed, answer in self._run(f"SELECT key, failed, answer FROM answers WHERE key IN ({places}){usable}", some):
                text = _believed(key, failed, answer)
                if text is not None:
                    found[key] = text
                else:
                    self._drop(key)
        return found

    def _drop(self, key: bytes) -> None:
        """An answer that is not what was written is asked again, where that can be."""
        _log.warning("an answer in the cache %s is damaged; %s.", self.path, "it is asked again" if self._model else "it is not taken")
        if self._model is not None:
            self._run("DELETE FROM answers WHERE key = ?", (key,))

    def _kept(self, answers: Mapping[bytes, tuple[bool, str]]) -> dict[bytes, str]:
        """Stores answers; returns what the file holds then, which may come from another process."""
        rows = [(key, int(failed), f"{_checksum(key, failed, answer)}:{answer}") for key, (failed, answer) in answers.items()]
        self._do(lambda file: _insert(file, rows))
        stored = self._found(list(answers))
        return {key: stored.get(key, answer) for key, (_, answer) in answers.items()}

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._do(lambda file: file.execute(statement, values).fetchall())

    def _do(self, work: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        """Works with the file; where it fails and a model can be asked, with one in memory from then on."""
        try:
            return work(self._file)
        except sqlite3.ProgrammingError as error:
            raise ModelError("this language model was closed; make a new one.") from error
        except sqlite3.Error as error:
            if self.mode == "replay-only":
                raise _refused(self.path, error) from error
            self._file.close()
            self._file = _in_memory(self.path, error)
            return work(self._file)

    def _asked(self, about: str) -> LanguageModel:
        if self._model is None:
            raise ModelError(
                f"the cache {self.path} does not hold the answer to the text that ends with {about[-120:]!r}, and cache = "
                '"replay-only" asks no model; the experiment is not the one whose answers were kept, or use cache = "read-write".'
            )
        return self._model

    def _stored_identity(self, source: str) -> ModelIdentity:
        rows = dict(self._run("SELECT source, identity FROM identities"))
        identities = {rows[source]} if source in rows else set(rows.values())
        if len(identities) != 1:
            names = ", ".join(sorted({json.loads(identity)["name"] for identity in identities}))
            held = f"holds answers of several models ({names}), none made from this section" if names else "holds no answers"
            raise ModelError(f'the cache {self.path} {held}; cache = "replay-only" needs the file of a run with this [language_model].')
        return ModelIdentity(**json.loads(identities.pop()))


def _opened(path: Path) -> sqlite3.Connection:
    """The file, to read from.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    if not path.is_file():
        raise ModelError(f'there is no cache at {path}; cache = "replay-only" needs the file that cache = "read-write" left there.')
    try:
        file = _connected(path)
        _tables_of(file, path)
        file.execute("PRAGMA query_only = ON")
    except (sqlite3.Error, OSError) as error:
        raise _refused(path, error) from error
    return file


def _opened_or_memory(path: Path, *, ours: bool) -> sqlite3.Connection:
    """The file, made if there is none, to read and write; one in memory where that cannot be.

    Raises:
        ModelError: it is another program's, or (unless it is `ours`) no database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _ready(path)
        except sqlite3.DatabaseError as error:
            kind = getattr(error, "sqlite_errorcode", None)
            if kind == sqlite3.SQLITE_NOTADB and not ours:
                raise _refused(path, error) from error
            if kind not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            aside = path.with_name(f"{path.name}.damaged")
            _log.warning("the cache %s is damaged (%s): it is put aside as %s, and begun anew.", path, error, aside.name)
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return _ready(path)
    except (sqlite3.Error, OSError) as error:
        return _in_memory(path, error)


def _ready(path: Path) -> sqlite3.Connection:
    file = _connected(path)
    if not _tables_of(file, path):
        # SQLite does not wait for others while it changes the journal, so processes take turns.
        with FileLock(f"{path}.lock"):
            file.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer
            file.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id = {_KNOWN_FILE}; {_TABLES} COMMIT;")
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute("BEGIN IMMEDIATE")  # whether it may be written shows here
    file.execute("COMMIT")
    return file


def _connected(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)


def _tables_of(file: sqlite3.Connection, path: Path) -> int:
    """How many tables a file has.

    Raises:
        ModelError: they are another program's.
    """
    # In one statement: another process may be making the tables at this moment.
    known, tables = file.execute("SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id").fetchone()
    if known != _KNOWN_FILE and tables:
        raise ModelError(f"{path} is another program's database, not a cache of answers; name another file with language_model.cache_path.")
    return int(tables)


def _in_memory(path: Path, error: Exception) -> sqlite3.Connection:
    reason = getattr(error, "strerror", None) or error
    _log.warning("the cache %s cannot be used (%s); going on without it, so that the model is asked everything again.", path, reason)
    file = _connected(":memory:")
    file.executescript(_TABLES)
    return file


def _refused(path: Path, error: Exception) -> ModelError:
    return ModelError(f"the cache {path} cannot be used ({error}); remove it, or name another with language_model.cache_path.")


def _insert(file: sqlite3.Connection, rows: Sequence[tuple[bytes, int, str]]) -> list[Any]:
    """Stores answers in one transaction; what another process has stored meanwhile stays, unless it is a failure."""
    file.execute("BEGIN IMMEDIATE")
    try:
        file.executemany(
            "INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET failed = excluded.failed, "
            "answer = excluded.answer WHERE failed = 1",
            rows,
        )
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    return []


def _checksum(key: bytes, failed: bool | int, answer: str) -> str:
    return hashlib.blake2b(key + bytes([int(failed)]) + answer.encode(), digest_size=8).hexdigest()


def _believed(key: bytes, failed: int, answer: Any) -> str | None:
    """An answer without its checksum, or None if it does not match it, or, where it has none, is no JSON."""
    if not isinstance(answer, str):
        return None
    told = _CHECKED.match(answer)
    if told is not None:
        text = answer[told.end() :]
        return text if told[1] == _checksum(key, failed, text) else None
    try:
        json.loads(answer)
    except ValueError:
        return None
    return answer


def _failed(status: str) -> bool:
    """Whether a status is the server's failure and not the model's answer, so that asking again may help."""
    return status in ("timeout", "cut off") or status.startswith("error ")


# --- what is written ---


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _parts(segment: Any) -> list[Any]:
    return [_part(part) for part in segment.parts]


def _part(part: str | Probe | ItemVector) -> Any:
    if isinstance(part, Probe):
        return [part.name, list(part.labels)]
    return {"item": part.item_id} if isinstance(part, ItemVector) else part


def _request(request: GenerationRequest) -> list[Any]:
    prompt = None if request.prompt is None else [_parts(segment) for segment in request.prompt.segments]
    messages = [[message.role, message.text] for message in request.messages]
    stream = [int(request.stream.seed), *(name if isinstance(name, str) else int(name) for name in request.stream.path)]
    schema = None if request.schema is None else dict(request.schema)
    return [messages, prompt, request.max_tokens, request.temperature, list(request.stop), stream, schema]


def _scores_json(scores: Scores) -> str:
    # Python writes the shortest decimal that reads back as the same float64, so no bit is lost.
    logprobs = [np.asarray(values, np.float64).tolist() for values in scores.logprobs]
    return _canonical({"logprobs": logprobs, "mass": [float(mass) for mass in scores.mass], "status": scores.status, "reply": scores.reply})


def _scores(answer: str) -> Scores:
    read = json.loads(answer)
    return Scores(tuple(np.array(values) for values in read["logprobs"]), tuple(read["mass"]), read["status"], read["reply"])

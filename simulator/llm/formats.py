"""Formats of a model file for llama.cpp: which there are, rewriting a file in one of them, and the pages on which they are compared.

The same weights can be computed up to four times faster in another format of the file, and which one wins depends on
the processor; `simulator.llm.engines` measures and chooses.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from simulator.downloads import sha256
from simulator.errors import ModelError
from simulator.files import write_atomically
from simulator.llm import labels, llama_native
from simulator.llm.llama_native import Weights
from simulator.llm.llama_prompts import Compiler, Vocabulary
from simulator.paths import cache_folder
from simulator.records import Probe, Prompt, Segment

AS_IS = "as-is"
CANDIDATES = (AS_IS, "bf16", "f16", "q8_0", "q4_0")
"""Formats that ``auto`` measures."""

FLOATS = ("bf16", "f16")
"""Formats in which llama.cpp's CPU code sums each number by itself, so that it cannot depend on its neighbours in a batch."""

MOST_BYTES = 2 * 2**30
"""``auto`` leaves a file alone that is larger than this: measuring would take minutes, and copies much space."""

_ITEMS = 6


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model file ready to be loaded.

    Attributes:
        path: in the chosen format. format: its name. sha256: of the original file. engine: what computes it.
        repacks: whether llama.cpp may keep the weights in an order of its own.
    """

    path: Path
    format: str
    sha256: str
    engine: str = "llama.cpp"
    repacks: bool = True


def kept_with(format_: str) -> llama_native.KeptFormat:
    """The number format of kept keys and values: that of the weights, if this machine computes it quickest, else half precision."""
    return "bf16" if format_ == "bf16" else "f16"


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; remembered with its size and time of change, because hashing gigabytes takes seconds."""
    found = path.stat()
    key = f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}"
    with notes("fingerprints") as known:
        if key not in known:
            known[key] = sha256(path)
        return str(known[key])


def converted(path: Path, digest: str, name: str, threads: int) -> Path:
    """The file in another format, rewritten if that was not done before. Safe in several processes at once.

    Args:
        path: a GGUF file. digest: its SHA-256. name: of the format. threads: to convert with.

    Raises:
        ModelError: the file is damaged or cannot be converted.
    """
    file = target(digest, name)
    if file.is_file():
        return file
    Weights(path).close()  # what cannot be used is refused before it is rewritten
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            write_atomically(file, lambda scratch: llama_native.quantize(path, scratch, name, threads))
    return file


def folder() -> Path:
    """Where rewritten files and notes about them are kept."""
    place = cache_folder() / "formats"
    place.mkdir(parents=True, exist_ok=True)
    return place


def target(digest: str, name: str) -> Path:
    """Where a file in another format is kept. May not exist yet."""
    return folder() / f"{digest[:16]}-{name}.gguf"


def held(digest: str, name: str) -> FileLock:
    """A lock that is held while a format of a model is tried."""
    return FileLock(folder() / f"{digest[:16]}-{name}.trial.lock")


@contextmanager
def notes(name: str) -> Iterator[dict[str, Any]]:
    """A JSON file of the cache, held by one process at a time; written if it was changed."""
    file = folder() / f"{name}.json"
    with FileLock(file.with_suffix(".lock")):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        known: dict[str, Any] = found if isinstance(found, dict) else {}
        before = json.dumps(known)
        yield known
        if json.dumps(known) != before:
            write_atomically(file, json.dumps(known, indent=1).encode())


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


_FIRST = ("The Silent", "A Distant", "Two Crimson", "Our Last", "Beyond the", "Midnight", "The Broken", "Little", "An Honest", "Seven")
_SECOND = ("Harbour", "Winter", "Lanterns", "Promise", "Orchard", "Detective", "Mirror", "Rebels", "Thief", "Summers")
_GENRES = ("Drama", "Comedy", "Crime, Thriller", "Romance", "Animation, Children", "Science Fiction", "Horror", "War, Drama")


def page(number: int) -> Prompt:
    """One fixed page of invented films, with the probes of a real one."""
    who = (
        f"Below is what one person did on a film site. The person: {25 + 9 * number} years old; favourite genres "
        f"{_GENRES[number % 8]}, {_GENRES[(number + 3) % 8]}; rates {'generously' if number % 2 else 'fairly'}.\nPage {number + 1}.\n"
    )
    parts: list[str | Probe] = [who]
    for item in range(_ITEMS):
        k = number * _ITEMS + item
        title = f"{_FIRST[(7 * k + 3) % len(_FIRST)]} {_SECOND[(3 * k + k // 10) % len(_SECOND)]}"
        parts += [f"{item + 1}. {title} ({1958 + (13 * k) % 64}) {_GENRES[(5 * k) % len(_GENRES)]} | watch:", Probe("watch", ("yes", "no"))]
        parts += [" stars:", Probe("stars", ("1", "2", "3", "4", "5")), "\n"]
    return Prompt((Segment(tuple(parts)),))


@dataclass(frozen=True, slots=True)
class FixedPage:
    """A page in tokens of one model: the tokens, and for each probe the offset where it is read and the tokens that begin its labels."""

    tokens: np.ndarray
    offsets: tuple[int, ...]
    wanted: tuple[tuple[int, ...], ...]


def fixed_page(vocabulary: Vocabulary, number: int, longest: int = 512) -> FixedPage:
    """The fixed page of a number, as a prompt is compiled, or its beginning.

    Args:
        vocabulary: of the model. number: of the page. longest: most tokens; fewer if the model was trained for less.
    """
    longest = min(longest, vocabulary.trained_context or longest)
    try:
        compiled = Compiler(vocabulary, 1_000_000).prompt(page(number))
    except ModelError:
        # A vocabulary that has no tokens for these labels; some others are as good for a comparison.
        tokens = np.array(vocabulary.tokenize(page(number).text), np.int32)[:longest]
        offsets = tuple(range(len(tokens) // 2, len(tokens), max(1, len(tokens) // 16)))
        return FixedPage(tokens, offsets, ((3, 4, 5, 6),) * len(offsets))
    read = [
        (compiled.starts[place.chunk] + place.offset, tuple(labels.wanted(place.spelling)))
        for place in compiled.places
        if compiled.starts[place.chunk] + place.offset < longest
    ]
    return FixedPage(np.concatenate(compiled.chunks)[:longest], tuple(at for at, _ in read), tuple(wanted for _, wanted in read))

"""Rewriting a model's weights in the format that this machine computes fastest.

The same weights can be computed up to four times faster in another format of the file, and which one wins depends on
the processor. ``auto`` measures the candidates once per model and machine: the time for a page-like batch of tokens, and how far the
next-token distributions at the probes of fixed pages move from the file's own (mean Kullback-Leibler divergence, in nats). The
fastest candidate that stays close enough is kept in the cache; the others are deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from simulator.downloads import sha256
from simulator.llm import llama_native
from simulator.llm.llama_native import Sequences, Weights
from simulator.paths import cache_folder

AS_IS = "as-is"
CANDIDATES = (AS_IS, "bf16", "f16", "q8_0", "q4_0")
"""Formats that ``auto`` measures."""

FLOATS = ("bf16", "f16")
"""Formats in which llama.cpp's CPU code sums each number by itself, so that it cannot depend on its neighbours in a batch."""

MOST_BYTES = 2 * 2**30
"""``auto`` leaves a file alone that is larger than this: measuring would take minutes, and copies much space."""

_PAGES, _ITEMS = 2, 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model file ready to be loaded. `sha256` is that of the original file, `path` the one in the chosen format."""

    path: Path
    format: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One candidate: prompt tokens per second of one thread, and the mean divergence from the original in nats."""

    tokens_per_second: float
    divergence: float


def kept_with(format_: str) -> llama_native.KeptFormat:
    """The number format of kept keys and values: that of the weights, if this machine computes it quickest, else half precision."""
    return "bf16" if format_ == "bf16" else "f16"


@dataclass(frozen=True, slots=True)
class Choice:
    """The format that was taken, and what was measured of every candidate."""

    format: str
    measured: dict[str, Measurement]


def prepare(path: Path, wanted: str, *, threads: int, gpu_layers: int, max_divergence: float) -> Prepared:
    """The file in the wanted format, converted and measured if that was not done before. Safe in several processes at once.

    Args:
        path: a GGUF file. wanted: "auto", or one of `CANDIDATES`.
        threads: to convert with. gpu_layers: as in `Weights`.
        max_divergence: what "auto" accepts.

    Raises:
        ModelError: the file is damaged or cannot be converted.
    """
    if wanted == AS_IS:
        return Prepared(path, AS_IS, fingerprint(path))
    if wanted == "auto" and path.stat().st_size > MOST_BYTES:
        _log.info("%s is larger than %d MB and is used as it is; choose a format to rewrite it.", path.name, MOST_BYTES >> 20)
        return Prepared(path, AS_IS, fingerprint(path))
    digest = fingerprint(path)
    if wanted == "auto":
        wanted = choose(path, threads=threads, gpu_layers=gpu_layers, max_divergence=max_divergence).format
    return Prepared(path if wanted == AS_IS else _converted(path, digest, wanted, threads), wanted, digest)


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; remembered with its size and time of change, because hashing gigabytes takes seconds."""
    found = path.stat()
    key = f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}"
    with _notes("fingerprints") as known:
        if key not in known:
            known[key] = sha256(path)
        return str(known[key])


def measurements(path: Path, *, threads: int, gpu_layers: int = 0) -> dict[str, Measurement]:
    """Measures every candidate now, on one thread. Leaves converted files in the cache.

    Args:
        path: a GGUF file. threads, gpu_layers: as in `prepare`.

    Raises:
        ModelError: the file is damaged or cannot be converted.
    """
    digest = fingerprint(path)
    results: dict[str, Measurement] = {}
    original = np.empty(0)
    for name in CANDIDATES:
        weights = Weights(path if name == AS_IS else _converted(path, digest, name, threads), gpu_layers)
        distributions, speed = _measure(weights, name, flash=gpu_layers != 0)
        weights.close()
        original = original if len(original) else distributions
        divergence = float((np.exp(original) * (original - distributions)).sum(axis=1).mean())
        results[name] = Measurement(round(speed, 1), max(0.0, divergence))
    return results


def fastest(results: dict[str, Measurement], max_divergence: float) -> str:
    """The fastest format that is close enough; the file as it is always is."""
    close = [name for name, result in results.items() if name == AS_IS or result.divergence <= max_divergence]
    return max(close, key=lambda name: results[name].tokens_per_second)


def choose(path: Path, *, threads: int, gpu_layers: int, max_divergence: float, anew: bool = False) -> Choice:
    """The format that "auto" takes, measured now if it was not measured on this machine before.

    Args:
        path: a GGUF file. threads, gpu_layers, max_divergence: as in `prepare`.
        anew: measures again in any case.

    Raises:
        ModelError: the file is damaged or cannot be converted.
    """
    digest = fingerprint(path)
    # The number of threads is not part of the key: all workers of a run must take the same format.
    described = f"{processor()}|{platform.machine()}|{os.cpu_count()}|{llama_native.features()}|{gpu_layers != 0}"
    machine = hashlib.blake2b(described.encode(), digest_size=8).hexdigest()
    key = f"{digest}|{machine}|{llama_native.VERSION}|{max_divergence}"
    with _notes("choices") as known:
        if key not in known or anew:
            _log.info("%s: measuring in which format this machine computes it quickest (once per model).", path.name)
            results = measurements(path, threads=threads, gpu_layers=gpu_layers)
            winner = fastest(results, max_divergence)
            known[key] = {"format": winner, "measured": {name: asdict(result) for name, result in results.items()}}
            for name in results:
                if name not in (AS_IS, winner):
                    _target(digest, name).unlink(missing_ok=True)
            told = ", ".join(
                f"{name} {result.tokens_per_second:.0f} tokens/s a thread ({result.divergence:.1e})" for name, result in results.items()
            )
            _log.info("%s: format %s is the fastest within a divergence of %g: %s.", path.name, winner, max_divergence, told)
        found = known[key]
        return Choice(str(found["format"]), {name: Measurement(**measured) for name, measured in found["measured"].items()})


def _converted(path: Path, digest: str, name: str, threads: int) -> Path:
    target = _target(digest, name)
    if target.is_file():
        return target
    Weights(path).close()  # what cannot be used is refused before it is rewritten
    with FileLock(target.with_suffix(".lock")):
        if not target.is_file():
            scratch = target.with_suffix(f".{os.getpid()}.part")
            try:
                llama_native.quantize(path, scratch, name, threads)
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)
    return target


def _folder() -> Path:
    folder = cache_folder() / "formats"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _target(digest: str, name: str) -> Path:
    return _folder() / f"{digest[:16]}-{name}.gguf"


@contextmanager
def _notes(name: str) -> Iterator[dict[str, Any]]:
    """A JSON file of the cache, held by one process at a time; written if it was changed."""
    file = _folder() / f"{name}.json"
    with FileLock(file.with_suffix(".lock")):
        try:
            notes: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            notes = {}
        before = json.dumps(notes)
        yield notes
        if json.dumps(notes) != before:
            scratch = file.with_suffix(f".{os.getpid()}.part")
            scratch.write_text(json.dumps(notes, indent=1), encoding="utf-8")
            scratch.replace(file)


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _measure(weights: Weights, name: str, *, flash: bool) -> tuple[np.ndarray, float]:
    """Log-probabilities of every token at the probes of the fixed pages, and prompt tokens per second (best of several)."""
    # One thread: on a busy machine several wait for each other, and the order of the formats is the same.
    sequence = Sequences(weights, streams=1, cells=1024, batch=512, threads=1, flash=flash, kept=kept_with(name))
    rows: list[np.ndarray] = []
    speed = 0.0
    for number in (*range(_PAGES), *range(_PAGES)):
        tokens, probes = _page(weights, number)
        batch, wanted = np.array(tokens, np.int32), np.array(probes)
        sequence.cut(0, 0)
        started = time.perf_counter()
        logits = sequence.extend([batch], [0], [wanted])[0]
        # The best of several: everything that disturbs a measurement makes it slower.
        speed = max(speed, len(tokens) / (time.perf_counter() - started))
        if len(rows) < _PAGES:
            rows.append(logits.astype(np.float64))
    sequence.close()
    logits = np.concatenate(rows)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), speed


_FIRST = ("The Silent", "A Distant", "Two Crimson", "Our Last", "Beyond the", "Midnight", "The Broken", "Little", "An Honest", "Seven")
_SECOND = ("Harbour", "Winter", "Lanterns", "Promise", "Orchard", "Detective", "Mirror", "Rebels", "Thief", "Summers")
_GENRES = ("Drama", "Comedy", "Crime, Thriller", "Romance", "Animation, Children", "Science Fiction", "Horror", "War, Drama")


def _page(weights: Weights, number: int) -> tuple[list[int], list[int]]:
    """One fixed page of invented films: its tokens and the offsets of its probes."""
    tokens = weights.tokenize(
        f"Below is what one person did on a film site. The person: {25 + 9 * number} years old; favourite genres "
        f"{_GENRES[number]}, {_GENRES[number + 3]}; rates {'generously' if number % 2 else 'fairly'}.\nPage {number + 1}.\n"
    )
    probes = []
    for item in range(_ITEMS):
        k = number * _ITEMS + item
        title = f"{_FIRST[(7 * k + 3) % len(_FIRST)]} {_SECOND[(3 * k + k // 10) % len(_SECOND)]}"
        tokens += weights.tokenize(f"{item + 1}. {title} ({1958 + (13 * k) % 64}) {_GENRES[(5 * k) % len(_GENRES)]} | watch:")
        probes.append(len(tokens) - 1)
        tokens += weights.tokenize(" stars:")
        probes.append(len(tokens) - 1)
        tokens += weights.tokenize("\n")
    return tokens, probes

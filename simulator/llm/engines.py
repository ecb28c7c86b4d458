"""Which engine computes a model, in which type of numbers: chosen by measurement, once per machine and model.

Candidates are llama.cpp in each format of a GGUF file (`simulator.llm.formats`), and torch in float32, bfloat16 and int8 for models that
`simulator.llm.packed_weights` knows. Each is tried in a child process (`simulator.llm.trials`), because a library that was built wrongly
kills whoever computes with it. Measured are prompt tokens per second of one thread, tokens per second of texts, and how far the label
probabilities of fixed pages move from those of the file in float32 (mean Kullback-Leibler divergence, in nats). The fastest that stays
close enough computes scores; texts are written by the same, unless another writes them much faster.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from simulator.errors import ModelError
from simulator.execution import cores
from simulator.llm import formats, gguf_index, llama_native, packed_weights, trials
from simulator.llm.formats import AS_IS, Prepared
from simulator.llm.trials import REMEDY, Trial

LLAMA: Final[str] = "llama.cpp"
TORCH: Final[str] = "torch"

FORMATS: Final[Mapping[str, str]] = {
    "bf16": LLAMA,
    "f16": LLAMA,
    "float32": TORCH,
    "bfloat16": TORCH,
    "int8": TORCH,
    "q8_0": LLAMA,
    "q4_0": LLAMA,
    AS_IS: LLAMA,
}
"""Every format and the engine that computes it, in the order in which one is taken where several are equally fast."""

TIE: Final[float] = 0.9
"""From this share of the fastest on, a format counts as equally fast."""

WRITES: Final[float] = 2.0
"""So many times as fast another format must write, before texts are written by another than the one that scores: a second set of weights,
with what it keeps, takes some 400 MB in every worker."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One candidate.

    Attributes:
        tokens_per_second: of prompts, one thread. writing: tokens per second of eight texts. divergence: mean, nats; NaN if it was not
            compared.
        fault: why it cannot be used ("SIGILL", or a sentence), or None.
    """

    tokens_per_second: float
    divergence: float
    writing: float = 0.0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What computes a model: the format of scores and that of texts, what was measured of every candidate, and the seconds it took."""

    format: str
    texts: str
    measured: dict[str, Measurement]
    seconds: float = 0.0


def engine_of(format_: str) -> str:
    """The engine that computes a format."""
    return FORMATS[format_]


def candidates(path: Path, gpu_layers: int, engine: str = "auto") -> tuple[str, ...]:
    """The formats that a model can be computed in here.

    Args:
        path: a GGUF file. engine: "auto", or one of the two.
        gpu_layers: as in `simulator.llm.llama_native.Weights`; what a GPU computes, only llama.cpp does.
    """
    torch_can = engine != LLAMA and gpu_layers == 0 and why_not_torch(path) is None
    return tuple(name for name, own in FORMATS.items() if (own == LLAMA and engine != TORCH) or (own == TORCH and torch_can))


def why_not_torch(path: Path) -> str | None:
    """Why torch cannot compute a model here, or None if it can."""
    for package in ("torch", "safetensors", "gguf"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    return packed_weights.unknown(gguf_index.read(path))


def prepare(
    path: Path, wanted: str, *, threads: int, gpu_layers: int, max_divergence: float, engine: str = "auto", texts: str | None = None
) -> tuple[Prepared, Prepared]:
    """What computes scores and what writes texts, converted, tried and measured if that was not done before.

    Args:
        path: a GGUF file. wanted: "auto", or one of `FORMATS`. threads: to convert with. gpu_layers: as in `Weights`.
        max_divergence: what "auto" accepts. engine: "auto", or the only one that may be taken. texts: the format of texts, or None.

    Raises:
        ModelError: the file is damaged, cannot be converted, or nothing here can compute it.
    """
    if wanted != "auto" and engine not in ("auto", engine_of(wanted)):
        allowed = ", ".join(name for name, own in FORMATS.items() if own == engine)
        raise ModelError(
            f'[language_model] format = "{wanted}" is not computed by engine = "{engine}"; allowed with it are: auto, {allowed}.'
        )
    if wanted == "auto" and path.stat().st_size > formats.MOST_BYTES:
        _log.info("%s is larger than %d MB and is used as it is; choose a format to rewrite it.", path.name, formats.MOST_BYTES >> 20)
        wanted = AS_IS
    if wanted == "auto":
        choice = choose(path, threads=threads, gpu_layers=gpu_layers, max_divergence=max_divergence, engine=engine)
        scores, texts = choice.format, texts or choice.texts
    else:
        scores, texts = wanted, texts or wanted
    first = _usable(path, scores, threads, gpu_layers)
    return first, first if texts == scores else _usable(path, texts, threads, gpu_layers)


def choose(path: Path, *, threads: int, gpu_layers: int, max_divergence: float, engine: str = "auto", anew: bool = False) -> Choice:
    """What "auto" takes, measured now if it was not measured on this machine with these libraries before.

    Args:
        path: a GGUF file. threads, gpu_layers, max_divergence, engine: as in `prepare`. anew: measures again in any case.

    Raises:
        ModelError: the file is damaged, or no candidate can compute it.
    """
    digest = formats.fingerprint(path)
    key = "|".join((digest, machine(gpu_layers), _libraries(), str(max_divergence), engine))
    with formats.notes("choices") as known:
        if anew or _read(known.get(key)) is None:
            _log.info("%s: measuring how this machine computes it fastest (once per model).", path.name)
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=formats.folder(), prefix="trial-") as scratch:
                names = candidates(path, gpu_layers, engine)
                measured = measure(path, names, Path(scratch), threads=threads, gpu_layers=gpu_layers, max_divergence=max_divergence)
                scores, texts = chosen(measured, max_divergence)
                for name in {scores, texts} - {AS_IS}:
                    made = Path(scratch) / f"{name}.safetensors"
                    if made.is_file():
                        os.replace(made, packed_file(digest, name))
            for name in formats.CANDIDATES:
                if name not in (AS_IS, scores, texts):
                    formats.target(digest, name).unlink(missing_ok=True)
            seconds = round(time.perf_counter() - started, 1)
            _say(path, measured, scores, texts, max_divergence)
            known[key] = {
                "format": scores,
                "texts": texts,
                "seconds": seconds,
                "measured": {name: asdict(result) for name, result in measured.items()},
            }
        choice = _read(known[key])
    assert choice is not None
    return choice


def _read(note: Any) -> Choice | None:
    """A choice as it was noted, or None if the note is not there or damaged."""
    try:
        measured = {str(name): Measurement(**own) for name, own in note["measured"].items()}
        choice = Choice(str(note["format"]), str(note["texts"]), measured, float(note["seconds"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return choice if {choice.format, choice.texts} <= set(FORMATS) else None


def measure(
    path: Path, names: Iterable[str], scratch: Path, *, threads: int, gpu_layers: int = 0, max_divergence: float = 0.01
) -> dict[str, Measurement]:
    """Measures formats now, each in a child process; llama.cpp's and torch's at the same time where there are two cores.

    Args:
        path: a GGUF file. names: of `FORMATS`. scratch: folder for what the children leave. threads, gpu_layers, max_divergence: as in
            `prepare`.

    Raises:
        ModelError: the file itself is damaged.
    """
    names, digest = tuple(names), formats.fingerprint(path)
    found: dict[str, Trial] = {}

    def run(engine: str) -> None:
        own = tuple(name for name in names if engine_of(name) == engine)
        job = trials.Job(engine, own, str(path), digest, str(scratch), True, threads, gpu_layers, max_divergence=max_divergence)
        for trial in _tried(job):
            found[trial.format] = trial

    runs = [threading.Thread(target=run, args=(engine,)) for engine in (LLAMA, TORCH) if any(engine_of(name) == engine for name in names)]
    for one in runs:
        one.start()
        if cores() == 1:
            one.join()
    for one in runs:
        one.join()
    usable = [name for name in ("float32", AS_IS, *FORMATS) if name in found and found[name].works]
    results = {}
    for name in (name for name in names if name in found):
        trial = found[name]
        divergence = trial.divergence(found[usable[0]]) if trial.works else float("nan")
        results[name] = Measurement(round(trial.speed, 1), divergence, round(trial.writing, 1), trial.death or trial.reason)
    return results


def chosen(results: Mapping[str, Measurement], max_divergence: float) -> tuple[str, str]:
    """The formats of scores and of texts: the fastest that are close enough; the file as it is always is, if it can be computed.

    Raises:
        ModelError: none can be computed.
    """
    usable = {name: result for name, result in results.items() if result.fault is None}
    if not usable:
        reasons = sorted({str(result.fault) for result in results.values()})
        deaths = [reason for reason in reasons if " " not in reason or reason.startswith("no answer")]
        if deaths:
            raise ModelError(f"nothing on this machine can compute the model: every format ended with {', '.join(reasons)}; {REMEDY}.")
        raise ModelError(reasons[0] if reasons else "nothing on this machine can compute the model.")
    close = {name: result for name, result in usable.items() if name == AS_IS or result.divergence <= max_divergence} or usable
    scores = _fastest({name: result.tokens_per_second for name, result in close.items()})
    texts = _fastest({name: result.writing for name, result in close.items()})
    return scores, texts if close[texts].writing > WRITES * close[scores].writing else scores


def _fastest(speeds: Mapping[str, float]) -> str:
    best = max(speeds.values())
    return next(name for name in FORMATS if name in speeds and speeds[name] >= TIE * best)


def _say(path: Path, measured: Mapping[str, Measurement], scores: str, texts: str, max_divergence: float) -> None:
    told = ", ".join(
        f"{engine_of(name)} {name} {result.tokens_per_second:.0f} tokens/s a thread ({result.divergence:.1e})"
        for name, result in measured.items()
        if result.fault is None
    )
    also = "" if texts == scores else f", texts with {engine_of(texts)} in {texts}"
    _log.info(
        "%s: computed with %s in %s%s, the fastest within a divergence of %g: %s.",
        path.name,
        engine_of(scores),
        scores,
        also,
        max_divergence,
        told,
    )
    dead = {name: result.fault for name, result in measured.items() if result.fault is not None}
    if dead:
        _log.warning(
            "%s: left out because they cannot be computed here: %s. %s",
            path.name,
            ", ".join(f"{engine_of(name)} {name} ({fault})" for name, fault in dead.items()),
            f"To have them, {REMEDY}." if any(engine_of(name) == LLAMA for name in dead) else "",
        )


# --- what works ---


def _tried(job: trials.Job) -> Iterator[Trial]:
    """Tries formats in a child, and those of llama.cpp that die once more in the plain order of weights; remembers what each did."""
    for first in trials.attempt(job):
        trial, repacks = first, True
        if first.death is not None and job.engine == LLAMA and job.gpu_layers == 0:
            (again,) = trials.attempt(dataclasses.replace(job, formats=(first.format,), repacks=False))
            trial, repacks = (again, False) if again.works else (first, True)
        with formats.notes("trials") as known:
            fault = trial.death or trial.reason
            known[_trial_key(job.digest, trial.format, job.gpu_layers)] = {
                "fault": fault,
                "dies": trial.death is not None,
                "repacks": repacks,
            }
        yield trial


def _usable(path: Path, name: str, threads: int, gpu_layers: int) -> Prepared:
    """A format that was seen to work here, tried now if that was not done before, converted and ready to be loaded.

    Raises:
        ModelError: it does not work.
    """
    digest = formats.fingerprint(path)
    engine = engine_of(name)
    if engine == TORCH and (reason := why_not_torch(path)) is not None:
        raise ModelError(f"'{path}' cannot be computed by torch in {name}: {reason}; use engine = \"{LLAMA}\" in [language_model].")
    file = packed_file(digest, name) if engine == TORCH else path if name == AS_IS else formats.target(digest, name)
    key = _trial_key(digest, name, gpu_layers)
    told = _told(key)
    # A format that kills its process is not tried again. Any other failure is: it may have been a full disk, and its sentence names a path.
    if told is None or (not told["dies"] and (told["fault"] is not None or not file.is_file())):
        with formats.held(digest, name), tempfile.TemporaryDirectory(dir=formats.folder(), prefix="trial-") as scratch:
            if told is None or told["fault"] is not None or not file.is_file():  # another process may have been quicker
                list(_tried(trials.Job(engine, (name,), str(path), digest, str(scratch), False, threads, gpu_layers)))
                made = Path(scratch) / f"{name}.safetensors"
                if made.is_file():
                    os.replace(made, file)
        told = _told(key)
        assert told is not None
    if told["fault"] is not None:
        if told["dies"]:
            raise ModelError(
                f"{engine} cannot compute '{path.name}' in {name} on this machine ({told['fault']}); use format = \"auto\", or {REMEDY}."
            )
        raise ModelError(str(told["fault"]))
    return Prepared(file, name, digest, engine, bool(told["repacks"]))


def _told(key: str) -> dict[str, Any] | None:
    """What a format did when it was tried, or None if it was not, or the note is damaged."""
    with formats.notes("trials") as known:
        told = known.get(key)
    return told if isinstance(told, dict) and {"fault", "dies", "repacks"} <= set(told) else None


def _trial_key(digest: str, name: str, gpu_layers: int) -> str:
    return "|".join((digest, name, machine(gpu_layers), _libraries()))


def machine(gpu_layers: int = 0) -> str:
    """A digest of what the processor is; the number of threads is not part of it, since all workers of a run must take the same format."""
    described = f"{formats.processor()}|{platform.machine()}|{os.cpu_count()}|{llama_native.features()}|{gpu_layers != 0}"
    return hashlib.blake2b(described.encode(), digest_size=8).hexdigest()


@lru_cache
def _libraries() -> str:
    """A digest of what computes: llama.cpp's libraries as they are on the disk, the version of torch, the code that prepares weights."""
    parts = [llama_native.VERSION, *(formats.fingerprint(file) for file in llama_native.library_files()), _torch_version()]
    own = Path(__file__).parent
    parts += [formats.fingerprint(own / f"{name}.py") for name in ("packed_weights", "packed_network", "trial_work")]
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "no torch"


def packed_file(digest: str, name: str) -> Path:
    """Where prepared weights of torch are kept; they belong to this machine and these libraries."""
    key = hashlib.blake2b(f"{machine()}|{_libraries()}".encode(), digest_size=4).hexdigest()
    return formats.folder() / f"{digest[:16]}-{name}-{key}.safetensors"

"""Trying formats of a model in a child process, so that a broken library kills the child and not the user's command.

llama.cpp built by GCC for a processor with AMX dies of an illegal instruction at the first product of a quantised file (llama.cpp's pull
request 26954: the configuration of the tiles is optimised away); any other library may have a fault of its own. What a format did is
remembered per library and machine, so it is tried once.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final

import numpy as np

PATIENCE: Final[float] = 90.0
"""Seconds without a word after which a child hangs."""

REMEDY: Final[str] = (
    "build llama-cpp-python again so that it works here: CMAKE_ARGS=\"-DCMAKE_C_FLAGS='-fno-tree-dse -fno-dse' "
    "-DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'\" pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python "
    "llama-cpp-python"
)
"""What to do about a library that dies."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tried.

    Attributes:
        engine: "llama.cpp" or "torch". formats: in this order. path: a GGUF file. digest: its SHA-256.
        folder: for what the child leaves. measure: whether speeds and distributions are wanted, or only whether it works.
        max_divergence: what torch's prepared weights must keep, if float32 is among the formats.
        threads: to convert with. gpu_layers: on the GPU. repacks: as in `simulator.llm.llama_native.Weights`.
    """

    engine: str
    formats: tuple[str, ...]
    path: str
    digest: str
    folder: str
    measure: bool = True
    threads: int = 1
    gpu_layers: int = 0
    repacks: bool = True
    max_divergence: float = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one format.

    Attributes:
        format: its name. death: how it killed the child ("SIGILL", "no answer for 90 s"), or None. reason: why it was refused, or None.
        speed: prompt tokens per second of one thread. writing: tokens per second of eight texts. logits: of the labels at each probe of
            the fixed pages.
    """

    format: str
    death: str | None = None
    reason: str | None = None
    speed: float = 0.0
    writing: float = 0.0
    logits: tuple[tuple[float, ...], ...] = field(default=(), compare=False, repr=False)

    @property
    def works(self) -> bool:
        """Whether it computed."""
        return self.death is None and self.reason is None

    def divergence(self, truth: Trial) -> float:
        """Mean Kullback-Leibler divergence of its label probabilities from those of another, nats."""
        return divergence(self.logits, truth.logits)


def divergence(logits: Sequence[Sequence[float]], truth: Sequence[Sequence[float]]) -> float:
    """Mean Kullback-Leibler divergence, nats, of the distributions over labels that some logits stand for, from the true ones.

    Args:
        logits, truth: of the labels of each probe.
    """
    divergences = []
    for own, other in zip(logits, truth, strict=True):
        p, q = (_log_softmax(np.array(row)) for row in (own, other))
        divergences.append(float((np.exp(q) * (q - p)).sum()))
    return max(0.0, float(np.mean(divergences)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max()
    return np.asarray(logits - np.log(np.exp(logits).sum()))


def command() -> list[str]:
    """What starts a child that imports the same packages as this process."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from simulator.llm.trial_work import main; main()"]


def attempt(job: Job, start: Sequence[str] | None = None, patience: float = PATIENCE) -> Iterator[Trial]:
    """Tries formats one after another, each told as soon as it is known, and again if it was measured again.

    A child that dies is followed by another for the rest.

    Args:
        job: what to try. start: the command of a child. patience: seconds that a child may say nothing.
    """
    left, known = list(job.formats), dict[str, Trial]()
    while left:
        told = _child({**_as_json(job), "formats": left}, list(start or command()), patience)
        begun: str | None = None
        for name, answer in told:
            if isinstance(answer, str):
                # One that dies before it begins (a package that cannot be imported) dies the same way of the rest.
                for dead in [begun] if begun is not None else list(left):
                    left.remove(dead)
                    # A child that leaves by itself was not killed by a library: it says what it stumbled over.
                    yield Trial(dead, reason=f"it could not be tried: {answer}") if answer.startswith("exit") else Trial(dead, death=answer)
            elif answer["step"] == "begin":
                begun = name
            elif answer["step"] == "again":
                known[name] = replace(known[name], speed=max(known[name].speed, float(answer["speed"])))
                yield known[name]
            else:
                left.remove(name)
                known[name] = _trial(name, answer)
                yield known[name]


def _as_json(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}


def _trial(name: str, answer: dict[str, Any]) -> Trial:
    if answer["step"] == "failed":
        return Trial(name, reason=str(answer.get("reason")))
    return Trial(name, speed=float(answer["speed"]), writing=float(answer["writing"]), logits=tuple(map(tuple, answer["logits"])))


def _child(job: dict[str, Any], start: list[str], patience: float) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """The answers of one child; the last one is how it died, if it died before its work was done."""
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, when the child has ended
    process = subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8")
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    stdout = process.stdout

    def listen() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(None)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    unanswered = set(job["formats"])
    try:
        try:
            process.stdin.write(json.dumps(job))
            process.stdin.close()
        except BrokenPipeError:
            pass
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                if unanswered:
                    yield "", f"no answer for {patience:g} s"
                return
            if line is None:
                # Until then: after its last answer a child still leaves files.
                if unanswered:
                    yield "", _death(process.wait(), complaints)
                return
            answer = json.loads(line)
            if answer["step"] in ("done", "failed"):
                unanswered.discard(answer["format"])
            yield answer["format"], answer
    finally:
        process.kill()
        process.wait()
        listener.join(timeout=5)
        stdout.close()
        complaints.close()


def _death(status: int, complaints: IO[bytes]) -> str:
    """A child's end in words: the name of the signal that killed it, or its exit status and the last line of what it complained about."""
    if status >= 0:
        complaints.seek(0)
        lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
        return f"exit status {status}" + (f", {lines[-1][:200]}" if lines else "")
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

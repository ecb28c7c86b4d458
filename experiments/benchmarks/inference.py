"""The benchmark of inference: every figure in one run, written to one file after every part.

A part that fails does not lose the others: its sentence stands under ``failures``, and it can be repeated alone.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

from experiments import build
from experiments.benchmarks.agreement import agreement
from experiments.benchmarks.engine_speed import speedup_over_llama
from experiments.benchmarks.prefix_floor import floor
from experiments.benchmarks.recording import Recorded, experiment, record
from experiments.benchmarks.speed import share_of_ceiling, speedup_over_chat
from experiments.benchmarks.whole_runs import make_run, same_log, thousand_people
from simulator.execution import cores
from simulator.llm.formats import processor
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.run_directory import write_atomically

OUTPUT: Final[Path] = Path("results/benchmarks/inference.json")
PARTS: Final[tuple[str, ...]] = ("engines", "ceiling", "breakdown", "chat", "agreement", "log", "people", "make_run")
PACKAGES: Final[tuple[str, ...]] = ("usersim", "llama-cpp-python", "numpy", "polars", "mesa")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        recorded: people whose pages are asked again. repetitions: turns of what is compared. chats: chat calls per turn.
        compared: pages compared with the plain evaluation. reference: reference pages of either way.
        log: people of the runs whose logs are compared. users_of_make_run: of the experiment of `make run`; None takes it as it is.
    """

    recorded: int
    repetitions: int
    chats: int
    compared: int
    reference: int
    log: int
    users_of_make_run: int | None = None


FULL: Final[Size] = Size(recorded=64, repetitions=3, chats=10, compared=80, reference=32, log=24)
QUICK: Final[Size] = Size(recorded=12, repetitions=2, chats=2, compared=8, reference=4, log=10, users_of_make_run=12)


class Benchmark:
    """Measures part by part.

    Args:
        people: of the full run. size: of everything else. folder: for runs, emptied by the caller.
    """

    def __init__(self, people: int, size: Size, folder: Path) -> None:
        self._people, self._size, self._folder = people, size, folder

    @cached_property
    def _recorded(self) -> Recorded:
        return record(self._folder / "recorded", self._size.recorded)

    def engines(self) -> dict[str, Any]:
        """The chosen engine beside llama.cpp, and beside the rate at which this processor multiplies."""
        return speedup_over_llama(self._recorded, self._size.repetitions)

    def ceiling(self) -> dict[str, Any]:
        """Tokens of pages per second of llama.cpp over its own plain prompt speed."""
        return share_of_ceiling(self._recorded, self._size.repetitions)

    def breakdown(self) -> dict[str, Any]:
        """Where the time of a run with one worker goes, and how many tokens could be saved by keeping every prefix."""
        recorded = self._recorded
        model = LlamaCpp(LlamaCppConfig(threads=1))
        least, total = floor(recorded.prompts, model)
        model.close()
        whole = sum(recorded.seconds.values())
        tokens: Any = recorded.summary["tokens"]
        return {
            "time_share": {name: round(seconds / whole, 4) for name, seconds in recorded.seconds.items()},
            "recorded_people": self._size.recorded,
            "recorded_seconds": round(whole, 1),
            "tokens_computed_floor": round(least / total, 4),
            "recorded_tokens_computed_share": round(tokens["computed_tokens"] / tokens["prompt_tokens"], 4),
        }

    def chat(self) -> dict[str, Any]:
        """Pages per second over those of a chat call per page."""
        return speedup_over_chat(self._recorded, self._size.repetitions, self._size.chats)

    def agreement(self) -> dict[str, Any]:
        """Divergence from a plain evaluation of the file as shipped."""
        return agreement(self._recorded, self._size.compared, self._size.reference)

    def log(self) -> dict[str, Any]:
        """Whether the log is the same however the run went."""
        config = experiment(self._size.log, "cohort_size=5", "rounds=2", "name=same-log")
        folder = self._folder / "log"
        folder.mkdir()
        return same_log(folder, config)

    def people(self) -> dict[str, Any]:
        """The full run."""
        everybody = build.data(experiment(1)).train.n_users
        synthetic = max(0, self._people - everybody)
        config = experiment(min(self._people, everybody), f"population.synthetic={synthetic}")
        folder = self._folder / "people"
        folder.mkdir()
        return thousand_people(folder, config, self._people)

    def make_run(self) -> dict[str, Any]:
        """What `make run` does after set-up, with empty caches."""
        folder = self._folder / "make-run"
        folder.mkdir()
        return make_run(folder, self._size.users_of_make_run)


def run(people: int, size: Size, output: Path, parts: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Measures the parts and writes the result after each; parts that are not repeated stay as they are in `output`.

    Args:
        people: of the full run. size: of everything else. output: JSON file.
        parts: of `PARTS`. say: told what is going on.
    """
    result = _before(output) if set(parts) != set(PARTS) else {}
    failures, measured = dict(result.get("failures", {})), dict(result.get("measured", {}))
    result |= _circumstances()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        benchmark = Benchmark(people, size, Path(place))
        for part in parts:
            say(f"{part}: {str(getattr(Benchmark, part).__doc__).strip()}")
            try:
                result |= getattr(benchmark, part)()
                failures.pop(part, None)
                measured[part] = {"date": _now(), "people": people if part == "people" else None, **asdict(size)}
            except Exception as error:  # the other parts are still worth measuring
                failures[part] = f"{type(error).__name__}: {error}"
                say(f"{part} failed: {failures[part]}")
            result |= {"failures": failures, "measured": measured}
            write_atomically(output, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _before(output: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _circumstances() -> dict[str, Any]:
    """Machine, model and versions."""
    model = LlamaCpp(LlamaCppConfig())
    identity = model.identity
    model.close()
    return {
        "date": _now(),
        "machine": {
            "processor": processor(),
            "cores": cores(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": platform.platform(),
            "load_before": round(psutil.getloadavg()[0], 2),
        },
        "model": {"name": identity.name, "sha256": identity.sha256, "backend": identity.backend, **identity.settings},
        "processes": cores(),
        "threads_each": 1,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
    }

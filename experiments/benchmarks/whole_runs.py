"""Whole runs through the command line: a thousand people with time and memory, and the same log however it came about."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from experiments import build
from experiments import config as configuration
from experiments.config import ExperimentConfig
from simulator.errors import RunError
from simulator.execution import cores
from simulator.paths import cache_folder
from simulator.run_directory import write_atomically

SAMPLE_SECONDS = 2.0
"""Between two looks at the memory; a look takes time from what is measured."""


class PeakMemory:
    """Samples the memory of a process and all its descendants while it runs (a context).

    Each page of memory is counted once: shared pages are divided by the number of processes that share them
    (proportional set size); where the system does not tell that, memory of one process alone (unique set size) is summed.

    Attributes:
        peak: largest sum seen, bytes.
    """

    def __init__(self, process: int) -> None:
        self.peak = 0
        self._root = psutil.Process(process)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            with contextlib.suppress(psutil.Error):
                self.peak = max(self.peak, sum(_memory(one) for one in (self._root, *self._root.children(recursive=True))))


def _memory(process: psutil.Process) -> int:
    """Bytes of one process; 0 if it has just ended."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        pass
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def written(folder: Path, config: ExperimentConfig) -> Path:
    """An experiment file in a folder."""
    file = folder / f"{config.name}.toml"
    write_atomically(file, configuration.dump(config, build.resolved(config)))
    return file


def command(*arguments: str) -> list[str]:
    """The command line that runs usersim with this Python."""
    return [sys.executable, "-m", "experiments.cli", *arguments]


def thousand_people(folder: Path, config: ExperimentConfig, people: int) -> dict[str, Any]:
    """A full run with the workers that `usersim run` takes by default: seconds from start to end of the process, peak memory.

    Args:
        folder: new, for the run. config: the experiment. people: how many it has.
    """
    file = written(folder, config)
    started = time.perf_counter()
    process = subprocess.Popen(command("run", str(file), "--output", str(folder / "run"), "--json"), stdout=subprocess.PIPE, text=True)
    with PeakMemory(process.pid) as memory:
        output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RunError(f"the run of {people} people ended with status {process.returncode}; see its message above.")
    summary = json.loads(output)
    tokens = summary["tokens"]
    return {
        "thousand_people_seconds": round(seconds * 1000 / people, 1),
        "people": people,
        "run_seconds": round(seconds, 1),
        "simulation_seconds": summary["simulation_seconds"],
        "run_pages": summary["pages"],
        "run_pages_per_second": summary["pages_per_second"],
        "tokens_computed_share": round(tokens["computed_tokens"] / tokens["prompt_tokens"], 4),
        "run_tokens": tokens,
        "peak_memory_gb": round(memory.peak / 1e9, 3),
        "workers": summary["workers"],
        "fallback_share": summary["fallback_share"],
    }


def make_run(folder: Path, users: int | None = None) -> dict[str, Any]:
    """The last command of `make run` with empty caches but for data and model, which set-up and the commands before it have fetched.

    Args:
        folder: new, for the cache and the run. users: how many, or None for those of the experiment.
    """
    cache = folder / "cache"
    for name in ("data", "models"):
        if (cache_folder() / name).is_dir():
            shutil.copytree(cache_folder() / name, cache / name, copy_function=_linked)
    fewer = [] if users is None else ["--set", f"population.users={users}"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command("run", "movielens", *fewer, "--output", str(folder / "run"), "--json"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "USERSIM_CACHE": str(cache)},
    )
    with PeakMemory(process.pid) as memory:
        output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RunError(f"`usersim run movielens` ended with status {process.returncode}; see its message above.")
    summary = json.loads(output)
    return {
        "make_run_seconds": round(seconds, 1),
        "make_run_simulation_seconds": summary["simulation_seconds"],
        "make_run_people": summary["people"],
        "make_run_pages": summary["pages"],
        "make_run_tokens": summary["tokens"],
        "make_run_peak_memory_gb": round(memory.peak / 1e9, 3),
    }


def _linked(source: str, target: str) -> None:
    """A file in two places without a second copy of its bytes, where the file system allows that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def same_log(folder: Path, config: ExperimentConfig) -> dict[str, Any]:
    """Whether a small run has the same log with 1 and 2 workers, killed and resumed, with an empty and a full cache of answers.

    Args:
        folder: new, for the runs. config: the experiment.
    """
    file = written(folder, config)
    cached = ["--set", "language_model.cache=read-write", "--set", f"language_model.cache_path={folder / 'answers.sqlite'}"]
    hashes = {
        "1 worker": _hashes(folder / "one", file, "--workers", "1"),
        "2 workers": _hashes(folder / "two", file, "--workers", "2"),
        "killed and resumed": _killed(folder / "killed", file),
        "cache cold": _hashes(folder / "cold", file, "--workers", str(cores()), *cached),
        "cache warm": _hashes(folder / "warm", file, "--workers", str(cores()), *cached),
    }
    first = hashes["1 worker"]
    differ = {way: sorted(table for table in first if own[table] != first[table]) for way, own in hashes.items() if own != first}
    return {"same_log": not differ, "same_log_sha256": first["impressions"], "logs_that_differ": differ, "logs_compared": list(hashes)}


def _hashes(output: Path, file: Path, *options: str) -> dict[str, str]:
    _call("run", str(file), "--output", str(output), *options)
    return _read(output)


def _read(output: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((output / "summary.json").read_text(encoding="utf-8"))["sha256"]
    return found


def _call(*arguments: str) -> None:
    done = subprocess.run(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise RunError(f"`usersim {arguments[0]}` ended with status {done.returncode} and said: {said[0]}")


def _killed(output: Path, file: Path) -> dict[str, str]:
    """Kills (-9) a run with all its processes as soon as its first cohort is stored, then resumes it."""
    process = subprocess.Popen(
        command("run", str(file), "--output", str(output), "--workers", "2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(output.glob("rounds/*/cohort-*")):
        time.sleep(0.05)
    if process.poll() is not None:
        raise RunError("the run that was to be killed ended before its first cohort was stored; give it more people.")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if (output / "summary.json").is_file():
        raise RunError("the run that was to be killed was complete already; give it more people.")
    _call("resume", str(output), "--workers", "2")
    return _read(output)

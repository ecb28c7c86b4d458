"""Whether memory will suffice, said before anything is computed: a library that gets none ends the whole process without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import RunError, UsersimError

if TYPE_CHECKING:
    from experiments.config import ExperimentConfig

GIB = 2**30

COMMAND = 1.2 * GIB
"""Addresses that a command needs with all libraries it may load; they are mapped before any of its work."""

RUN = 1.0 * GIB
"""Addresses that a run needs beyond those that are taken when it begins: arrays of the data, threads, figures."""

WORKER = 0.25 * GIB
"""Memory of a process without a language model; a model comes on top."""


def too_few_addresses(needed: float = COMMAND) -> str:
    """Why the limit on addresses (``ulimit -v``) leaves too few, one sentence; empty if it does not.

    Args:
        needed: bytes beyond those that are taken now.
    """
    limit, taken = _limit(), _taken()
    if limit is None or limit - taken >= needed:
        return ""
    return (
        f"this shell allows {limit / GIB:.1f} GiB of memory addresses (ulimit -v), and about {(taken + needed) / GIB:.1f} GiB are needed; "
        "allow more (`ulimit -v unlimited`)."
    )


def check(config: ExperimentConfig, workers: int) -> None:
    """Checks that there is memory for the processes of a run and the weights of its language model.

    Weights are counted once, though some backends hold a copy in each process: only what cannot be is refused.

    Args:
        config: of the run. workers: processes that simulate.

    Raises:
        RunError: there is not; says what is needed, what there is, and what to change.
    """
    weights = _weights(config)
    told = too_few_addresses(RUN + weights)
    if told:
        raise RunError(told)
    needed, free = weights + workers * WORKER, _free()
    if needed > free:
        model = f"{weights / GIB:.1f} GiB of weights and " if weights else ""
        raise RunError(
            f"a run with {workers} {'worker needs' if workers == 1 else 'workers needs'} at least {needed / GIB:.1f} GiB of memory ({model}"
            f"{workers} x {WORKER / GIB:.2f} GiB), and {free / GIB:.1f} GiB are free; close other programs, use fewer --workers"
            f"{' or a smaller model' if weights else ''}."
        )


def _weights(config: ExperimentConfig) -> float:
    """Bytes of the files of the language model in this process, 0 where it is elsewhere or not found: others say that."""
    from experiments import build  # noqa: PLC0415 - slow, and `too_few_addresses` is asked before anything is loaded
    from simulator.llm.models import resolve  # noqa: PLC0415

    if not build.uses_language_model(config) or config.language_model is None:
        return 0.0
    options = config.language_model.options
    if "base_url" in options or not config.language_model.use.startswith(("simulator.llm.llama_cpp:", "simulator.llm.transformers_model:")):
        return 0.0
    try:
        found = resolve(options.get("path"))
        files = [found] if found.is_file() else list(found.glob("*.safetensors"))
        return float(sum(file.stat().st_size for file in files))
    except (UsersimError, OSError):
        return 0.0


def _limit() -> int | None:
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _taken() -> int:
    """Addresses that this process has mapped, 0 where that is not known."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _free() -> float:
    """Bytes that programs can still get of the machine, and at most what a container is allowed altogether."""
    import psutil  # noqa: PLC0415

    free = [float(psutil.virtual_memory().available)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        free += [float(limit)] if limit.isdigit() else []
    return min(free)

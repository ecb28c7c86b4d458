"""Where cohorts are simulated: here, or in processes. One seam, `map`.

The work of one process is a *worker*: a callable made once per process by a picklable factory (so that a language
model is loaded once), then called with one task after another. Results come back in the order they finish; nothing
about a result may depend on that order (see `simulator.seeds`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import psutil

from simulator.errors import RunError, WorkerError

Task = TypeVar("Task")
Result = TypeVar("Result")
Worker = Callable[[Task], Result]
WorkerFactory = Callable[[], Callable[[Task], Result]]


GUARD = 'what starts the run under `if __name__ == "__main__":`'
"""What a script needs that starts processes."""


class Execution(Protocol):
    """Runs tasks somewhere."""

    def map(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """The results of all tasks, in the order they finish. An exception of a task is raised here."""

    def close(self) -> None:
        """Frees what the workers hold."""


class Here(Generic[Task, Result]):
    """Runs tasks one after another in this process; the worker is made at the first task."""

    def __init__(self, factory: WorkerFactory[Task, Result]) -> None:
        self._factory = factory
        self._worker: Worker[Task, Result] | None = None

    def map(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Execution.map`."""
        for task in tasks:
            if self._worker is None:
                self._worker = self._factory()
            yield self._worker(task)

    def close(self) -> None:
        """Drops the worker, closing what it holds if it can."""
        closing = getattr(self._worker, "close", None)
        if closing is not None:
            closing()
        self._worker = None


class Processes(Generic[Task, Result]):
    """Runs tasks in `workers` processes that live until `close`.

    Processes are spawned, not forked: an inference library with threads does not survive a fork.
    """

    def __init__(self, factory: WorkerFactory[Task, Result], workers: int) -> None:
        end_if_importing_main()
        main = getattr(sys.modules["__main__"], "__file__", None)
        if main is not None and not Path(main).is_file():
            raise RunError(
                f"workers import the main script, which is no file here ({main}): save it in one, with {GUARD}, or use workers=1."
            )
        context = multiprocessing.get_context("spawn")
        self._begun = context.Event()
        begin = (factory, os.getpid(), workers, self._begun)
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=begin)

    def map(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Execution.map`.

        Raises:
            WorkerError: a worker process died. RunError: none of them could begin.
        """
        futures: list[Future[Result]] = [self._pool.submit(_call_worker, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            if not self._begun.is_set():
                raise RunError(
                    f"the worker processes ended before they had begun. If this is a script, each of them imports it: write {GUARD}, "
                    "or use workers=1. If it has that already, they were killed, or memory was short."
                ) from error
            raise WorkerError(
                "a worker process ended unexpectedly (killed, or out of memory); nothing that was finished is lost: "
                "continue with `usersim resume`, with fewer --workers if memory was short."
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def execution(factory: WorkerFactory[Task, Result], workers: int) -> Here[Task, Result] | Processes[Task, Result]:
    """The execution for a number of workers: here for 1, otherwise in that many processes."""
    return Here(factory) if workers == 1 else Processes(factory, workers)


def end_if_importing_main() -> None:
    """Ends this process without a word if it is a worker that is importing the main script, which has begun to run itself in it.

    So nothing is done twice by a script without the guard; the process that started the workers then says what to write.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def release_memory() -> None:
    """Gives memory that is no longer used back to the system, where the C library can (glibc); a heap keeps it otherwise."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """Physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def own_cores() -> int:
    """Cores that this process may keep busy: all, or its share of them where other workers run beside it."""
    return max(1, cores() // _side_by_side)


_side_by_side = 1
"""Worker processes that run at once, this one among them."""

_worker: Callable[[Any], Any] | None = None
_worker_factory: Callable[[], Callable[[Any], Any]] | None = None


def _start_worker(factory: Callable[[], Callable[[Any], Any]], parent: int, workers: int, begun: Event) -> None:
    global _worker_factory, _side_by_side
    begun.set()
    _worker_factory, _side_by_side = factory, workers
    _end_with_parent(parent)


def _call_worker(task: Any) -> Any:
    # Made here and not in the initializer, so that an error of the factory reaches the caller as itself.
    global _worker  # noqa: PLW0603
    if _worker is None:
        assert _worker_factory is not None
        _worker = _worker_factory()
    return _worker(task)


def _end_with_parent(parent: int) -> None:
    """Ends this process when the parent is gone, so that a killed run leaves nothing behind."""
    import threading  # noqa: PLC0415
    import time  # noqa: PLC0415

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

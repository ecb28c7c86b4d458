"""``run.log``: the messages of everything that was done in a run's folder, with times; each further start appends."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.credentials import masked

LOG = "run.log"
"""File of a run."""

OURS = ("simulator", "agents", "environments", "experiments")
"""Loggers whose messages are kept."""


class RunLog(logging.Handler):
    """Appends messages to a run's log, one line each; what cannot be written is left out, since a log stops nothing."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.INFO)
        self.file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message. The file is opened anew, so that several processes can append to it."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = masked(record.getMessage()).replace("\n", "\n    ")
        try:
            with self.file.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{when} {record.levelname.lower()} {message}\n")
        except OSError:
            pass


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Keeps messages and Python's warnings in the log of a run's folder while the block lasts."""
    detach = _attach(RunLog(folder / LOG))
    try:
        yield
    finally:
        detach()


def join_log(folder: Path) -> None:
    """Lets a worker process write into the log of a run's folder until it ends; nothing in a process that nobody started as a worker."""
    if multiprocessing.parent_process() is not None:
        _attach(RunLog(folder / LOG))


def _attach(handler: RunLog) -> Callable[[], None]:
    loggers = [logging.getLogger(name) for name in OURS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        text = f"{filename}:{lineno}: {category.__name__}: {message}"
        handler.handle(logging.LogRecord("py.warnings", logging.WARNING, filename, lineno, text, None, None))
        shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show

    def detach() -> None:
        warnings.showwarning = shown
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

    return detach

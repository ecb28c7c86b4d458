"""Work that writes into a run's folder: one process at a time, with its messages kept."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.errors import UsersimError
from simulator.run_directory import RunDirectory
from simulator.run_lock import locked
from simulator.run_log import logged

_log = logging.getLogger(__name__)


@contextmanager
def working_in(folder: Path, command: str) -> Iterator[None]:
    """Holds the lock of a complete run while the block lasts, and keeps its messages.

    Args:
        folder: of the run. command: what is done, such as "usersim plot".

    Raises:
        RunError: there is no complete run, or another process writes into it.
    """
    RunDirectory.open(folder, complete=True)
    with locked(folder, command), told(folder, command):
        yield


@contextmanager
def told(folder: Path, command: str) -> Iterator[None]:
    """Keeps the messages of the block in the log of a run's folder, how it began and how it ended among them."""
    with logged(folder):
        _log.info("%s: process %d on %s", command, os.getpid(), platform.node())
        try:
            yield
        except UsersimError as error:
            _log.error("%s", error)
            raise
        except BaseException as error:
            _log.error("ended by %s: %s", type(error).__name__, error)
            raise
        _log.info("%s: done", command)

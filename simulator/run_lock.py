"""One process at a time writes into a run: a lock on its folder that says who holds it, and that ends with the process."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from simulator.errors import RunError

LOCK = "run.lock"
"""File of a run while somebody writes into it: who, on which machine, since when, doing what."""

_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of a run's folder while the block lasts.

    The lock is the system's (``flock``), so that of a process which was killed is free at once, whatever its file still says.

    Args:
        folder: of the run; exists.
        doing: what the holder does, in the words of the command line, such as "usersim resume".

    Raises:
        RunError: another process holds it; names process, machine and time.
    """
    file = folder / LOCK
    handle = _acquire(file)
    owner = {"process": os.getpid(), "machine": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds"), "doing": doing}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)
        yield
    finally:
        file.unlink(missing_ok=True)  # before it is free, so that nobody can hold a file that is gone
        os.close(handle)


def _acquire(file: Path) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = _held(file)
            os.close(handle)
            raise RunError(f"{file.parent} {held}; wait until it has ended, or end it. What it has finished is kept.") from None
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                _log.warning("the file system of %s has no locks: take care that no two processes write into it.", file.parent)
                return handle
            os.close(handle)
            raise
        if _is(handle, file):
            return handle
        os.close(handle)  # the one before removed the file between our opening and locking it


def _is(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _held(file: Path) -> str:
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        return f"is being written by process {owner['process']} on {owner['machine']} since {owner['since']} ({owner['doing']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "is being written by another process"

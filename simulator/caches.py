"""Entries of a cache: kept where they can be, and never a reason to stop. What depends on one can always be computed again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from simulator.errors import UsersimError
from simulator.files import remove

T = TypeVar("T")

_log = logging.getLogger(__name__)


def found(file: Path, read: Callable[[Path], T]) -> T | None:
    """An entry, or None: there is none, it cannot be read, or it is damaged; then it is removed, and a warning says so.

    Args:
        file: the entry, a file or folder. read: reads and checks it; what it raises means damage.
    """
    try:
        return read(file) if file.exists() else None
    except UsersimError as error:
        _warn(f"{str(error).rstrip('.')}. It is dropped, and made again.")
        with contextlib.suppress(OSError):
            remove(file)
    except OSError as error:
        _warn(f"the cache {file.parent} cannot be read ({error.strerror}); going on without what it holds.")
    return None


def keep(file: Path, write: Callable[[Path], object]) -> bool:
    """Writes an entry, and whether that was possible; a warning says it where not.

    Args:
        file: the entry; its folder is made. write: writes it there, atomically (`simulator.files`).
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file)
    except OSError as error:
        _warn(
            f"the cache {file.parent} cannot be written ({error.strerror}); going on, and what could be kept there is computed again next "
            "time (USERSIM_CACHE names another folder)."
        )
        return False
    return True


@cache
def _warn(text: str) -> None:
    """Says it once."""
    _log.warning("%s", text)

"""Standard streams that cannot be written to never stop a command half-way: what is lost is noted, and the command says so at its end."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO, cast


class Guarded:
    """A text stream whose failing writes raise nothing; everything else is the stream's own.

    Args:
        stream: what is written to, or None where the process was started without it (``>&-``).

    Attributes:
        lost: why something that was written did not arrive, None as long as everything did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.lost: OSError | None = None
        self._closed = stream is None
        self._stream: TextIO = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115 - lives as long as the process
        reconfigure = getattr(self._stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # titles in any script, whatever the terminal can show

    def write(self, text: str) -> int:
        """Writes, or notes that it cannot."""
        if self._closed and text:
            self.lost = OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            self._stream.write(text)
        except OSError as error:
            self.lost = error
        return len(text)

    def flush(self) -> None:
        """Flushes, or notes that it cannot."""
        try:
            self._stream.flush()
        except OSError as error:
            self.lost = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> tuple[Guarded, Guarded]:
    """Puts guarded streams in place of stdout and stderr, and something in place of streams that are closed.

    A file that is opened later must not get the number of a stream, or whatever is printed would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    return out, err


def ended(out: Guarded, err: Guarded, status: int) -> int:
    """The exit status of a command with this status, once everything has been written: not 0 if something was lost, and stderr says so.

    Whoever closes a pipe (``| head``) knows it and is told nothing.
    """
    out.flush()
    if out.lost is not None and not isinstance(out.lost, BrokenPipeError):
        err.write(f"usersim: standard output: {out.lost.strerror}; what was to be printed there is lost.\n")
    err.flush()
    for number, stream in ((1, out), (2, err)):
        if stream.lost is not None:
            # Python flushes once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            status = status or (1 if isinstance(stream.lost, BrokenPipeError) else 2)
    return status

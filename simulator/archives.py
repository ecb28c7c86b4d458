"""Zip files from elsewhere: nothing is unpacked before it is known how much it will be, and nothing beyond that."""

from __future__ import annotations

import zipfile
import zlib
from typing import IO

from simulator.web import size_of

SMALLEST_LIMIT = 64 * 10**6
"""Bytes that any archive may unpack to."""

LARGEST_RATIO = 20
"""Times its own size that a larger archive from elsewhere may unpack to; text packs to a fifth or a tenth, a bomb to a thousandth."""

LARGEST_RATIO_OF_OWN = 200
"""The same of a file of one's own, which may hold the same few words again and again."""

UNREADABLE = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError, OverflowError, OSError)
"""What reading a damaged, locked or strange archive can raise; wrap only the reading in it."""


class BombError(Exception):
    """An archive would unpack to more than is allowed; nothing of it was unpacked."""


def most_unpacked(packed: int, ratio: int = LARGEST_RATIO) -> int:
    """Bytes to which an archive of so many bytes may unpack."""
    return max(SMALLEST_LIMIT, ratio * packed)


def read_up_to(packed: IO[bytes], most: int) -> bytes:
    """All that comes out of what unpacks while it is read, if that is at most `most` bytes.

    Raises:
        BombError: it is more; what was read is forgotten. What reading raises, see `UNREADABLE`.
    """
    pieces, size = [], 0
    while piece := packed.read(1 << 20):
        size += len(piece)
        if size > most:
            raise BombError(f"unpacks to more than {size_of(most)}")
        pieces.append(piece)
    return b"".join(pieces)


def check_declared(content: zipfile.ZipFile, members: tuple[str, ...], most: int) -> None:
    """Passes if these members unpack to at most `most` bytes together, by what the archive itself says.

    Raises:
        BombError: they are larger. KeyError: a member is not there.
    """
    declared = sum(content.getinfo(member).file_size for member in members)
    if declared > most:
        raise BombError(f"would unpack to {size_of(declared)}, where at most {size_of(most)} are expected")


def unpack(content: zipfile.ZipFile, member: str, target: IO[bytes]) -> None:
    """Writes one member, but not more of it than the archive declares, whatever its data would unpack to.

    Raises:
        KeyError: it is not there. BombError: it is more than declared. Others of `UNREADABLE`: it is damaged.
    """
    declared, written = content.getinfo(member).file_size, 0
    with content.open(member) as packed:
        while piece := packed.read(1 << 20):
            written += len(piece)
            if written > declared:
                raise BombError(f"unpacks to more than the {size_of(declared)} that it declares")
            target.write(piece)
    if written != declared:
        raise EOFError(f"{member} ends after {size_of(written)} of {size_of(declared)}")

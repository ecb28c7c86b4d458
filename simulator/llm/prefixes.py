"""Which prefixes of prompts are kept, so that only what is new must be computed.

What was computed for a prefix lies in ordinary memory as bytes and is copied into a sequence of the backend when it is
needed (about a millisecond, against a hundred to compute it). So the number of people whose prefix is kept is bounded by memory
and not by the backend's number of sequences. Copies are exact, so what is kept cannot change a number; only the time differs.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Key = bytes
"""Digest of a prefix: all its chunks, in order, with their boundaries."""


def chain(chunks: Sequence[np.ndarray]) -> tuple[Key, ...]:
    """The digest of each prefix ``chunks[:1]``, ``chunks[:2]``, ...; equal only for equal chunks."""
    keys: list[Key] = []
    before = b""
    for chunk in chunks:
        before = hashlib.blake2b(before + chunk.tobytes(), digest_size=16).digest()
        keys.append(before)
    return tuple(keys)


@dataclass(frozen=True, slots=True)
class Known:
    """The longest known beginning of a prefix.

    Attributes:
        chunks: how many chunks it has. state: bytes that hold it, and perhaps more behind it; None if it is empty.
        name: of the kept prefix that holds it.
    """

    chunks: int
    state: np.ndarray | None = None
    name: Key | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: tuple[Key, ...]
    state: np.ndarray


class Prefixes:
    """Kept prefixes, from their digests to bytes.

    Args:
        budget: bytes; the least recently used are dropped beyond it.
        whole: whether a kept prefix can only be used to its end, because its bytes do not hold every part of it. Nothing is
            then shared between people who only begin alike.
    """

    def __init__(self, budget: int, *, whole: bool = False) -> None:
        self._budget = budget
        self.whole = whole
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._holders: dict[Key, OrderedDict[Key, None]] = {}
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Memory used by kept prefixes."""
        return self._bytes

    def find(self, keys: Sequence[Key]) -> Known:
        """The longest known beginning of a prefix.

        Args:
            keys: of the chunks of the wanted prefix, from `chain`.
        """
        n = next((n for n in range(len(keys), 0, -1) if keys[n - 1] in (self._kept if self.whole else self._holders)), 0)
        if not n:
            return Known(0)
        holder = keys[n - 1] if self.whole else next(reversed(self._holders[keys[n - 1]]))
        self._kept.move_to_end(holder)
        return Known(n, self._kept[holder].state, holder)

    def keep(self, keys: Sequence[Key], state: np.ndarray, known: Known) -> None:
        """Keeps a prefix in place of the one that it extends or branched off from.

        The extended one is contained in it, and somebody whose memories changed does not come back with the old ones. Only
        the first chunk is what everybody shares; a prefix that only shares that is somebody else's and stays.

        Args:
            keys: of its chunks, at least one. state: its bytes. known: what `find` said before it was computed.
        """
        if known.chunks > 1 and known.name is not None and known.name in self._kept:
            self._drop(known.name)
        if keys[-1] in self._kept or state.nbytes > self._budget:
            return
        while self._bytes + state.nbytes > self._budget:
            self._drop(next(iter(self._kept)))
        self._kept[keys[-1]] = _Kept(tuple(keys), state)
        self._bytes += state.nbytes
        for key in keys:
            self._holders.setdefault(key, OrderedDict())[keys[-1]] = None

    def _drop(self, name: Key) -> None:
        kept = self._kept.pop(name)
        self._bytes -= kept.state.nbytes
        for key in kept.keys:
            del self._holders[key][name]
            if not self._holders[key]:
                del self._holders[key]

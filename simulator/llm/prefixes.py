"""Which prefixes of prompts are kept, so that only what is new must be computed.

One sequence is computed at a time; it is cut back to the part that the next prompt shares with it. What was computed
for other prefixes lies in ordinary memory as bytes and is copied back when it is needed (about a millisecond, against a hundred
to compute it). So the number of people whose prefix is kept is bounded by memory and not by the backend's number of sequences.

What is kept cannot change a number: a chunk is always computed in calls of its own, behind the same tokens in the same
cells, and copies are exact. Only the time differs.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Sequence0(Protocol):
    """The sequence that is computed (`simulator.llm.llama_native.Sequences`)."""

    def cut(self, stream: int, length: int) -> None:
        """Removes everything from position `length` on."""

    def save(self) -> np.ndarray:
        """What was computed, as bytes."""

    def restore(self, state: np.ndarray) -> None:
        """Replaces everything by what `save` returned."""


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: tuple[Key, ...]
    state: np.ndarray


class Prefixes:
    """The prefix in the live sequence, and those kept in memory.

    Args:
        sequence: the live sequence, empty.
        budget: bytes for kept prefixes; the least recently used are dropped beyond it.
    """

    def __init__(self, sequence: Sequence0, budget: int) -> None:
        self._sequence = sequence
        self._budget = budget
        self._live: list[tuple[Key, int]] = []
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._holders: dict[Key, OrderedDict[Key, None]] = {}
        self._bytes = 0
        self._left: Key | None = None

    @property
    def kept_bytes(self) -> int:
        """Memory used by kept prefixes."""
        return self._bytes

    def enter(self, keys: Sequence[Key], lengths: Sequence[int]) -> int:
        """Brings the longest known prefix into the live sequence and cuts everything else off.

        Args:
            keys: of the chunks of the wanted prefix, from `chain`. lengths: number of tokens up to the end of each chunk.

        Returns:
            How many of the chunks are there.
        """
        self._left = None
        live = _shared(keys, [key for key, _ in self._live])
        n = next((n for n in range(len(keys), live, -1) if keys[n - 1] in self._holders), live)
        if n > live:
            holder = next(reversed(self._holders[keys[n - 1]]))
            kept = self._kept[holder]
            self._kept.move_to_end(holder)
            self._sequence.restore(kept.state)
            # The first chunk is what everybody shares; a prefix that only shares that is somebody else's.
            if n > 1:
                self._left = holder
        self._sequence.cut(0, lengths[n - 1] if n else 0)
        self._live = list(zip(keys[:n], lengths[:n], strict=True))
        return n

    def append(self, key: Key, length: int) -> None:
        """Says that one more chunk of the prefix was computed in the live sequence; `length` tokens are there now."""
        self._live.append((key, length))

    def keep(self) -> None:
        """Keeps a copy of the live sequence, in place of the prefix that it extends or branched off from.

        The extended one is contained in it, and somebody whose memories changed does not come back with the old ones.
        """
        if self._left is not None:
            self._drop(self._left)
            self._left = None
        keys = tuple(key for key, _ in self._live)
        if not keys or keys[-1] in self._kept:
            return
        state = self._sequence.save()
        if state.nbytes > self._budget:
            return
        while self._bytes + state.nbytes > self._budget:
            self._drop(next(iter(self._kept)))
        self._kept[keys[-1]] = _Kept(keys, state)
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


def _shared(one: Sequence[Key], other: Sequence[Key]) -> int:
    n = 0
    while n < min(len(one), len(other)) and one[n] == other[n]:
        n += 1
    return n

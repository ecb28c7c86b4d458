"""Counter-based random streams, keyed by meaning and never by order of arrival.

A `Stream` is a name: the run's seed and a path such as ``("round", 0, "user", 42, "page", 3, "choose")``. Whoever
holds the same name draws the same numbers, in whatever process, order or batch. This is the only module that makes
random generators (a lint rule keeps it so).

The name is hashed with BLAKE2b to the 128-bit key of a Philox-4x64 generator (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), whose streams for different keys are independent for all practical purposes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

Key = str | int


@dataclass(frozen=True, slots=True)
class Stream:
    """A named source of random numbers.

    Attributes:
        seed: the run's seed, any Python integer.
        path: the words and numbers that name this stream below the seed.
    """

    seed: int
    path: tuple[Key, ...] = ()

    def child(self, *names: Key) -> Stream:
        """The stream of a more specific purpose; the path grows by `names`."""
        return Stream(self.seed, self.path + names)

    def key(self) -> int:
        """The 128-bit key of this name. Words and numbers do not collide: ``1`` and ``"1"`` differ."""
        digest = hashlib.blake2b(repr((int(self.seed), *self.path)).encode(), digest_size=16).digest()
        return int.from_bytes(digest, "little")

    def generator(self) -> np.random.Generator:
        """A new generator at the start of this stream; two calls return equal sequences."""
        return np.random.Generator(np.random.Philox(key=self.key()))

    def integer(self) -> int:
        """A seed in ``[0, 2**31)`` for libraries that want a plain integer."""
        return self.key() % 2**31

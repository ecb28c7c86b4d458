"""Serving a cohort on all cores of this process: people are answered in parts, next to each other.

What a recommender says to a person depends on nobody else in the call, so how people are divided changes no bit. Threads suffice,
since what takes time here happens in compiled code, outside of Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from simulator.execution import own_cores
from simulator.records import Slate

FEWEST = 16
"""People for whom a thread is worth its start."""

Answer = Callable[[np.ndarray, Sequence[np.ndarray]], list[Slate]]
"""Slates for user codes, shape (b,), and their b histories."""


def in_parts(answer: Answer, user_ids: np.ndarray, histories: Sequence[np.ndarray]) -> list[Slate]:
    """What `answer` says to everybody, asked for neighbouring people in as many parts as there are cores.

    Args:
        answer: what it says to a person may not depend on who else is asked for. user_ids: shape (b,). histories: b arrays of item codes.
    """
    if not len(user_ids):
        return []
    parts = min(own_cores(), len(user_ids) // FEWEST)
    if parts < 2:
        return answer(user_ids, histories)
    ends = [len(user_ids) * part // parts for part in range(parts + 1)]

    def part(start: int, end: int) -> list[Slate]:
        return answer(user_ids[start:end], histories[start:end])

    answers = _threads(parts).map(part, ends[:-1], ends[1:])
    return [slate for slates in answers for slate in slates]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="recommender")

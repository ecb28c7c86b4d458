"""What people remember: nothing, the last things, or what matters in front of a page.

A memory belongs to one person and holds `MemoryRecord` s. Records that are dropped keep existing, marked with the time at
which they were forgotten, so that the log can show them; they are never recalled again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from agents.memory_text import text_space
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.records import MemoryRecord, Page

SECONDS_PER_HOUR = 3600.0


class NoMemory:
    """Remembers nothing. The control that shows what memory is worth."""

    class Config(ComponentConfig):
        """No options."""

    def __init__(self, config: Config, *, catalog: Catalog) -> None:
        pass

    def remember(self, records: Sequence[MemoryRecord]) -> None:
        """Stores nothing."""

    def recall(self, page: Page, time: int) -> tuple[MemoryRecord, ...]:
        """Nothing."""
        return ()

    def records(self) -> list[MemoryRecord]:
        """Nothing."""
        return []

    def restore(self, records: Sequence[MemoryRecord]) -> None:
        """Stores nothing."""


class RecentMemory:
    """Holds the last records and recalls the newest, whatever the page shows."""

    class Config(ComponentConfig):
        """Options of `RecentMemory`.

        Attributes:
            capacity: records held; older ones are forgotten.
            recall: records recalled in front of a page.
        """

        capacity: int = Field(default=20, ge=1, le=1_000_000)
        recall: int = Field(default=3, ge=1, le=10_000)

    def __init__(self, config: Config, *, catalog: Catalog) -> None:
        self._config = config
        self._store = _Store()

    def remember(self, records: Sequence[MemoryRecord]) -> None:
        """Stores new records and forgets all but the last `capacity`.

        Raises:
            ValueError: a number does not follow the numbers stored before.
        """
        self._store.add(records)
        self._store.forget(self._store.held[: -self._config.capacity])

    def recall(self, page: Page, time: int) -> tuple[MemoryRecord, ...]:
        """The newest `recall` records, newest first."""
        return self._store.touch(reversed(self._store.held[-self._config.recall :]), time)

    def records(self) -> list[MemoryRecord]:
        """Every record ever stored, ordered by number."""
        return self._store.records()

    def restore(self, records: Sequence[MemoryRecord]) -> None:
        """Replaces the contents by what `records` returned.

        Raises:
            ValueError: two records have the same number.
        """
        self._store = _Store.of(records)


class RetrievalMemory:
    """Recalls what is recent, relevant to the page and important; forgets what is old and unimportant.

    Recall is that of Park et al., "Generative Agents" (UIST 2023), section 4.1: the sum of recency, relevance and
    importance, each scaled to [0, 1] over the held records (all equal: 0), with a weight each.

    - recency: ``decay ** hours`` since the record was last recalled, or made;
    - relevance: largest cosine similarity of the record to an item of the page (`agents.memory_text`);
    - importance: `MemoryRecord.importance`.

    Forgetting is that of Wang et al., "User Behavior Simulation with Large Language Model based Agents" (RecAgent; ACM
    TOIS 2025, arXiv 2306.02552), section on long-term memory: a record M with importance s and recency r is forgotten
    with probability ``g(M) = 1 - (s + r) / 2 * max(r ** beta, delta)``. Here it is no draw: when more than `capacity`
    records are held, those with the highest g are dropped, the older first among equals. `beta` and `delta` default to
    the values of RecAgent's published code (which puts the record's rank in place of r inside the power).
    Insights last longer than what they rest on, since they are more important.

    Reflection follows Park et al., section 4.2: an insight is due once the importance of what was remembered since the last one
    sums up to `reflect_after`. Their threshold is 150 with importance from 1 to 10, which is 15 here and made their agents reflect
    two or three times a day; people who come for a few pages at a time would never get there, so ours is lower.
    """

    class Config(ComponentConfig):
        """Options of `RetrievalMemory`.

        Attributes:
            capacity: records held at most.
            recall: records recalled in front of a page at most.
            recency, relevance, importance: weights of the three scores, not all 0.
            decay: what an hour without a recall leaves of a record's recency, in (0, 1]; 0.995 is Park et al.'s.
            beta, delta: the shape of forgetting; a smaller beta forgets age more slowly, delta keeps importance at work
                among very old records.
            encoder: import path of a class with ``encode(list of texts) -> array of shape (n, d)`` to compare texts
                with; compares words if not given.
            reflection: whether people write insights at the end of sessions.
            reflect_after: sum of importance since the last insight from which on the next one is written; 0 is after every session.
        """

        capacity: int = Field(default=200, ge=1, le=1_000_000)
        recall: int = Field(default=4, ge=1, le=10_000)
        recency: float = Field(default=1.0, ge=0.0, le=1e6)
        relevance: float = Field(default=1.0, ge=0.0, le=1e6)
        importance: float = Field(default=1.0, ge=0.0, le=1e6)
        decay: float = Field(default=0.995, gt=0.0, le=1.0)
        beta: float = Field(default=1.5, gt=0.0, le=1e6)
        delta: float = Field(default=0.01, gt=0.0, lt=1.0)
        encoder: str | None = None
        reflection: bool = True
        reflect_after: float = Field(default=3.0, ge=0.0, le=1e9)

        @model_validator(mode="after")
        def _something_counts(self) -> RetrievalMemory.Config:
            if self.recency + self.relevance + self.importance == 0:
                raise ValueError("recency, relevance and importance are all 0; at least one of these weights must be above 0")
            return self

    def __init__(self, config: Config, *, catalog: Catalog) -> None:
        self._config = config
        self._space = text_space(catalog, config.encoder)
        self._store = _Store()
        self._vectors: dict[int, Any] = {}  # of held records, by number

    def remember(self, records: Sequence[MemoryRecord]) -> None:
        """Stores new records; what no longer fits is forgotten at the time of the newest record.

        Raises:
            ValueError: a number does not follow the numbers stored before.
            PluginError: the text encoder fails.
        """
        self._store.add(records)
        self._read(records)
        excess = len(self._store.held) - self._config.capacity
        if excess > 0:
            held = self._store.held
            worst = np.argsort(-self._forgetting(held, self._store.now), kind="stable")[:excess]
            dropped = [held[index].record for index in worst]
            self._store.forget([held[index] for index in worst])
            for number in dropped:
                del self._vectors[number]

    def recall(self, page: Page, time: int) -> tuple[MemoryRecord, ...]:
        """The `recall` records with the highest score, best first, the newer first among equals."""
        held = self._store.held[::-1]
        if not held:
            return ()
        config = self._config
        score = config.importance * _scaled(np.array([record.importance for record in held]))
        score += config.recency * _scaled(self._recency(held, time))
        if config.relevance:
            score += config.relevance * _scaled(self._space.relevance([self._vectors[record.record] for record in held], page.items))
        best = np.argsort(-score, kind="stable")[: config.recall]
        return self._store.touch([held[index] for index in best], time)

    def records(self) -> list[MemoryRecord]:
        """Every record ever stored, ordered by number."""
        return self._store.records()

    def restore(self, records: Sequence[MemoryRecord]) -> None:
        """Replaces the contents by what `records` returned.

        Raises:
            ValueError: two records have the same number.
            PluginError: the text encoder fails.
        """
        self._store = _Store.of(records)
        self._vectors = {}
        self._read(self._store.held)

    @property
    def reflection_due(self) -> bool:
        """Whether enough has happened since the last insight for another one."""
        if not self._config.reflection:
            return False
        total = 0.0
        for record in reversed(self._store.records()):
            if record.kind == "insight":
                break
            total += record.importance
        return total >= self._config.reflect_after

    def _read(self, records: Iterable[MemoryRecord]) -> None:
        for record in records:
            self._vectors[record.record] = self._space.vector(record.text, record.item)

    def _recency(self, records: Sequence[MemoryRecord], time: int) -> np.ndarray:
        seconds = time - np.array([record.last_recall for record in records], dtype=np.float64)
        return np.asarray(self._config.decay ** (np.maximum(seconds, 0.0) / SECONDS_PER_HOUR))

    def _forgetting(self, records: Sequence[MemoryRecord], time: int) -> np.ndarray:
        recency = self._recency(records, time)
        importance = np.array([record.importance for record in records])
        kept = (importance + recency) / 2.0 * np.maximum(recency**self._config.beta, self._config.delta)
        return np.asarray(1.0 - kept)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Min-max scaled to [0, 1]; equal values say nothing and become 0."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low)) if high > low else np.zeros_like(values)


class _Store:
    """All records of a person by number, and those that are held."""

    def __init__(self) -> None:
        self._all: dict[int, MemoryRecord] = {}
        self._held: dict[int, None] = {}  # ordered set: numbers of held records, ascending
        self.now = 0

    @classmethod
    def of(cls, records: Sequence[MemoryRecord]) -> _Store:
        store = cls()
        store.add(sorted(records, key=lambda record: record.record))
        return store

    @property
    def held(self) -> list[MemoryRecord]:
        """The records that are not forgotten, oldest first."""
        return [self._all[number] for number in self._held]

    def add(self, records: Sequence[MemoryRecord]) -> None:
        last = next(reversed(self._all), -1)
        for record in records:
            if record.record <= last:
                raise ValueError(f"memory record {record.record} comes after record {last}; numbers of a person's records must grow.")
            last = record.record
            # A record that was never recalled counts from when it was made.
            self._all[last] = record if record.recalls else replace(record, last_recall=record.time)
            if record.forgotten is None:
                self._held[last] = None
            self.now = max(self.now, record.time)

    def forget(self, records: Iterable[MemoryRecord]) -> None:
        for record in records:
            del self._held[record.record]
            self._all[record.record] = replace(record, forgotten=self.now)

    def touch(self, records: Iterable[MemoryRecord], time: int) -> tuple[MemoryRecord, ...]:
        touched = tuple(replace(record, recalls=record.recalls + 1, last_recall=time) for record in records)
        self._all.update((record.record, record) for record in touched)
        return touched

    def records(self) -> list[MemoryRecord]:
        return list(self._all.values())

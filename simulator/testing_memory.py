"""The tests that every memory must pass; authors of a memory inherit them.

from simulator.testing_memory import MemoryContract

class TestMyMemory(MemoryContract):
    def memory(self, catalog):
        return MyMemory(MyMemory.Config(), catalog=catalog)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from simulator.dataset import FILMS, ITEMS_SCHEMA, Catalog
from simulator.protocols import Memory
from simulator.records import Impression, MemoryKind, MemoryRecord, Page
from simulator.seeds import Stream

DAY = 86_400
START = 1_000_000_000

_TITLES = (
    ("Heat", 1995, ["Action", "Crime"]),
    ("Fargo", 1996, ["Crime", "Drama"]),
    ("Twister", 1996, ["Action", "Adventure"]),
    ("Babe", 1995, ["Children", "Comedy"]),
    ("Casino", 1995, ["Crime", "Drama"]),
    ("Toy Story", 1995, ["Animation", "Children"]),
    ("Alien", 1979, ["Horror", "Sci-Fi"]),
    ("Aliens", 1986, ["Action", "Sci-Fi"]),
    ("Ghost", 1990, ["Romance"]),
    ("Clueless", 1995, ["Comedy"]),
    ("Brazil", 1985, ["Sci-Fi"]),
    ("Psycho", 1960, ["Horror"]),
)


def films() -> Catalog:
    """Twelve films with genres, codes 0 to 11."""
    rows = {
        "item": range(len(_TITLES)),
        "item_id": [f"f{code}" for code in range(len(_TITLES))],
        "title": [title for title, _, _ in _TITLES],
        "year": [year for _, year, _ in _TITLES],
        "genres": [genres for _, _, genres in _TITLES],
        "description": [None] * len(_TITLES),
    }
    return Catalog(pl.DataFrame(rows, schema=ITEMS_SCHEMA), FILMS)


def page_of(*items: int, number: int = 1) -> Page:
    """A page that shows these items, each with propensity 1."""
    shown = (Impression(position=place, item=item, score=1.0 / place, propensity=1.0) for place, item in enumerate(items, start=1))
    return Page(number=number, policy="test", impressions=tuple(shown))


def random_records(stream: Stream, catalog: Catalog, n: int, *, first: int = 0, start: int = START) -> list[MemoryRecord]:
    """Records of all kinds with growing numbers and times, some of equal time and importance.

    Args:
        stream: all randomness.
        catalog: the items they are about.
        n: how many.
        first: number of the first one.
        start: simulated seconds of the earliest.
    """
    draw = stream.generator()
    kinds: tuple[MemoryKind, ...] = ("seen", "chosen", "rated", "feeling", "insight")
    records = []
    time = start
    for number in range(first, first + n):
        kind = kinds[int(draw.integers(len(kinds)))]
        item = int(draw.integers(len(catalog))) if kind in ("chosen", "rated") else -1
        title = catalog.titles[int(draw.integers(len(catalog)))]
        time += int(draw.choice([0, 30, DAY]))
        references = tuple(range(max(0, number - 2), number)) if kind == "insight" else ()
        records.append(
            MemoryRecord(
                record=number,
                kind=kind,
                round=0,
                session=(number - first) // 6,
                time=time,
                text=f"I thought of {title}.",
                item=item,
                importance=float(draw.integers(0, 11)) / 10,
                references=references,
                last_recall=time,
            )
        )
    return records


class MemoryContract:
    """What holds for every memory. Inherit, define `memory`, and set `keeps_records = False` if it stores nothing."""

    keeps_records = True

    def memory(self, catalog: Catalog) -> Memory:
        """A new, empty memory of one person."""
        raise NotImplementedError

    def _lived(self, catalog: Catalog, stream: Stream) -> tuple[Memory, int]:
        """A memory that took in 60 records in several visits and was asked in between, and the time afterwards."""
        memory = self.memory(catalog)
        draw = stream.child("pages").generator()
        time, number = START, 0
        for visit in range(6):
            new = random_records(stream.child(visit), catalog, 10, first=number, start=time)
            memory.remember(new)
            number += len(new)
            time = new[-1].time + int(draw.integers(60, 30 * DAY))
            memory.recall(page_of(*_some_items(draw, catalog)), time)
        return memory, time

    def test_a_new_memory_is_empty(self) -> None:
        """Nothing is recalled before something was remembered."""
        memory = self.memory(films())
        assert memory.records() == []
        assert memory.recall(page_of(0, 1, 2), START) == ()

    def test_every_record_is_kept_with_its_contents(self) -> None:
        """Forgetting marks a record; it never loses or changes one."""
        catalog = films()
        records = random_records(Stream(1), catalog, 60)
        memory = self.memory(catalog)
        for begin in range(0, 60, 7):
            memory.remember(records[begin : begin + 7])
            memory.recall(page_of(0, 1), records[min(begin + 6, 59)].time)
        kept = [replace(record, recalls=0, last_recall=record.time, forgotten=None) for record in memory.records()]
        assert kept == (records if self.keeps_records else [])

    def test_a_recall_returns_held_records_once_and_counts(self) -> None:
        """What comes back is held, unique, and marked as recalled now; everything else stays as it was."""
        catalog = films()
        for seed in range(5):
            memory, time = self._lived(catalog, Stream(seed))
            before = {record.record: record for record in memory.records()}
            recalled = memory.recall(page_of(3, 5, 9), time)
            assert len({record.record for record in recalled}) == len(recalled)
            assert bool(recalled) == self.keeps_records
            for record in recalled:
                old = before[record.record]
                assert old.forgotten is None
                before[record.record] = replace(old, recalls=old.recalls + 1, last_recall=time)
                assert record == before[record.record]
            assert memory.records() == list(before.values())

    def test_records_are_ordered_by_number(self) -> None:
        """Numbers grow strictly."""
        memory, _ = self._lived(films(), Stream(2))
        numbers = [record.record for record in memory.records()]
        assert numbers == sorted(set(numbers))

    def test_a_restored_memory_goes_on_as_if_nothing_had_happened(self) -> None:
        """Recall and forgetting after a round trip equal those without it."""
        catalog = films()
        for seed in range(5):
            memory, time = self._lived(catalog, Stream(seed))
            copy = self.memory(catalog)
            copy.restore(memory.records())
            assert copy.records() == memory.records()
            _go_on((memory, copy), catalog, time, Stream(seed).child("later"))

    def test_restoring_replaces_what_was_there(self) -> None:
        """Nothing of the earlier contents shows afterwards."""
        catalog = films()
        memory, time = self._lived(catalog, Stream(3))
        other, _ = self._lived(catalog, Stream(4))
        other.restore(memory.records())
        assert other.records() == memory.records()
        _go_on((memory, other), catalog, time, Stream(3).child("later"))

    def test_equal_lives_give_equal_memories(self) -> None:
        """There is no hidden randomness, and no dependence on the catalog object."""
        first, _ = self._lived(films(), Stream(5))
        second, _ = self._lived(films(), Stream(5))
        assert first.records() == second.records()

    def test_people_do_not_share_memories(self) -> None:
        """What one person lives through leaves another person's memory as it was."""
        catalog = films()
        alone, _ = self._lived(catalog, Stream(6))
        neighbour = self.memory(catalog)
        neighbour.remember(random_records(Stream(8), catalog, 60))
        together, time = self._lived(catalog, Stream(6))
        neighbour.recall(page_of(1, 2), time)
        assert together.records() == alone.records()


def _some_items(draw: np.random.Generator, catalog: Catalog) -> list[int]:
    return [int(item) for item in draw.choice(len(catalog), size=5, replace=False)]


def _go_on(memories: Sequence[Memory], catalog: Catalog, time: int, stream: Stream) -> None:
    """Lets memories live through the same things and asserts that they stay equal."""
    draw = stream.generator()
    first = 1 + max((record.record for record in memories[0].records()), default=-1)
    for visit in range(4):
        page = page_of(*_some_items(draw, catalog))
        recalls = [memory.recall(page, time) for memory in memories]
        assert all(recall == recalls[0] for recall in recalls)
        new = random_records(stream.child(visit), catalog, 8, first=first, start=time)
        first, time = first + len(new), new[-1].time + DAY
        for memory in memories:
            memory.remember(new)
        assert all(memory.records() == memories[0].records() for memory in memories)

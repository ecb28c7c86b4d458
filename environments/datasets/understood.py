"""How a data set was understood, in the words of the terminal and of data cards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from simulator.dataset import Dataset


def told(dataset: Dataset) -> list[str]:
    """What every command that reads data says on the terminal: two lines of how it was understood, and a line for each note."""
    rows = dataset.interactions
    counts = f"{dataset.n_users:,} people, {dataset.n_items:,} {dataset.catalog.domain.items}, {rows.height:,} interactions"
    holds = [counts, f"ratings {dataset.understood['rating scale']}" if "rating scale" in dataset.understood else "no ratings"]
    times = rows["timestamp"].drop_nulls()
    if times.len():
        holds.append(
            f"times {iso_time(times.min())} to {iso_time(times.max())} ({dataset.understood.get('time unit', 'seconds since 1970')})"
        )
    else:
        holds.append("no times")
    if "left out" in dataset.understood:
        holds.append(f"left out {dataset.understood['left out']}")
    lines = [f"data {dataset.name}: {'; '.join(holds)}"]
    files = [f"{what}: {how}" for what, how in dataset.understood.items() if what not in ("rating scale", "time unit", "left out")]
    if files:
        lines.append(f"data {dataset.name} was read as: {'. '.join(files)}")
    return [*lines, *(f"note: {note}" for note in dataset.notes)]


def iso_time(seconds: Any) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; None of None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).isoformat().replace("+00:00", "Z")

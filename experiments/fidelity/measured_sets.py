"""Data sets that are measured one after another into one JSON file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.errors import UsersimError
from simulator.files import write_atomically
from simulator.paths import without_places


def read(output: Path) -> dict[str, Any]:
    """What was measured so far: an object with ``data``."""
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {"data": {}}
    return found


def run(
    names: Sequence[str], output: Path, measure: Callable[[str], Mapping[str, Any]], about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Measures data sets; the file is written after each, and those that are not measured now stay as they are.

    Args:
        names: of the data sets. output: a JSON file, an object with ``data``. about: further keys of the file.
        measure: makes the figures of a data set of its name; where it raises a `UsersimError`, its sentence stands under ``not_measured``.

    Returns:
        The contents of the file, with ``seconds`` in what was measured now.
    """
    found = read(output)
    found |= about or {}
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        started = time.perf_counter()
        try:
            own = measure(name)
        except UsersimError as error:
            own = {"not_measured": without_places(str(error))}
        found["data"][name] = {**own, "seconds": round(time.perf_counter() - started, 1)}
        write_atomically(output, (json.dumps(found, indent=1) + "\n").encode())
    return found

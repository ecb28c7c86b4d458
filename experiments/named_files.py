"""What stands in the files and folders that settings name: what a run depends on besides the settings themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import RunError
from simulator.files import read_document

MOST_FILES = 100
"""Of a folder that a setting names, at most so many files count by their content."""


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of what stands in the files and folders that settings name, by the key of the setting.

    Of a run's folder count the tables and what its decision model learned, and not what was found out about it since.

    Args:
        settings: ``section.key`` -> value, with full paths.
    """
    found = {}
    for key, value in settings.items():
        if not isinstance(value, str) or "/" not in value:  # a word is no path, though a file may be called so
            continue
        path = Path(value).expanduser()
        try:
            parts = list(_parts(path))
        except OSError:  # a text that is too long for a path, say
            continue
        if parts:
            found[key] = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return found


def _parts(path: Path) -> Iterator[bytes]:
    if path.is_file():
        yield path.read_bytes()
    elif path.is_dir():
        summary = path / "summary.json"
        if summary.is_file():
            try:
                yield json.dumps(read_document(summary, "")[0].get("sha256"), sort_keys=True).encode()
            except RunError:
                yield summary.read_bytes()
            path = path / "decisions"
        for file in sorted(path.rglob("*.json"))[:MOST_FILES]:
            yield file.read_bytes()

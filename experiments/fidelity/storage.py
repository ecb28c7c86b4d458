"""Intermediate results in the report's folder, so that an interrupted report goes on where it was; what is damaged is measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from simulator import caches
from simulator.errors import RunError
from simulator.files import read_document, read_table, write_document

_AGAIN = "it is measured again"


def read_part(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored result of a part, if it was made with the same settings; one that is damaged is dropped, with a warning.

    Args:
        folder: of the parts. name: of the part. settings: everything that the result depends on, as JSON.
    """
    stored = caches.found(folder / f"{name}.json", _read)
    if stored is None or stored.get("settings") != json.loads(json.dumps(settings)):
        return None
    result: dict[str, Any] = stored["result"]
    return result


def write_part(folder: Path, name: str, settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Stores the result of a part and returns it as it will be read again."""
    again: dict[str, Any] = json.loads(json.dumps(result, ensure_ascii=False, allow_nan=False))
    write_document(folder / f"{name}.json", {"settings": dict(settings), "result": again}, indent=1)
    return again


def read_frame(file: Path) -> pl.DataFrame | None:
    """A table that `simulator.files.write_table` wrote; None if there is none, or it is damaged: then it is dropped, with a warning."""
    return caches.found(file, lambda path: read_table(path, _AGAIN))


def _read(file: Path) -> dict[str, Any]:
    document, untouched = read_document(file, _AGAIN)
    if not untouched or not isinstance(document.get("result"), dict):
        raise RunError(f"{file} does not hold what was measured; {_AGAIN}.")
    return document

"""Intermediate results in the report's folder, so that an interrupted report goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from simulator.run_directory import write_atomically


def read_part(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored result of a part, if it was made with the same settings.

    Args:
        folder: of the parts. name: of the part. settings: everything that the result depends on, as JSON.
    """
    try:
        stored = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    if not isinstance(stored, dict) or stored.get("settings") != json.loads(json.dumps(settings)):
        return None
    result: dict[str, Any] = stored["result"]
    return result


def write_part(folder: Path, name: str, settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Stores the result of a part and returns it as it will be read again."""
    text = json.dumps({"settings": settings, "result": result}, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / f"{name}.json", (text + "\n").encode())
    again: dict[str, Any] = json.loads(text)["result"]
    return again


def write_frame(file: Path, frame: pl.DataFrame) -> None:
    """Writes a Parquet file so that it appears whole or not at all."""
    temporary = file.parent / f".{file.name}.part"
    frame.write_parquet(temporary)
    temporary.rename(file)

"""Tables of measured figures in Markdown documents, between two marks, so that a command writes what the document quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator.errors import ConfigError
from simulator.files import write_atomically


def between(text: str, start: str, end: str, table: str) -> str | None:
    """A document with the table between two marks replaced; None if the marks do not stand in it once each, in this order."""
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed or start in rest or end in after:
        return None
    return f"{before}{start}\n{table}\n{end}{after}"


def write(page: Path, start: str, end: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Writes a table between two marks of a document; whether that changed it.

    Args:
        page: a Markdown file. start, end: lines that stand in it once. rows: column -> text; what a row lacks is left empty.

    Raises:
        ConfigError: the document lacks the marks.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(row.get(name, '') for name in names)} |" for row in rows]
    new = between(text, start, end, "\n".join(lines))
    if new is None:
        raise ConfigError(f"{page} lacks the two lines between which the table goes: {start} and {end}.")
    if new != text:
        write_atomically(page, new.encode())
    return new != text

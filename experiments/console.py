"""What commands print: progress on stderr, results on stdout, errors as one sentence. The only module that prints."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from simulator.credentials import masked
from simulator.run_log import OURS

stderr = Console(stderr=True)
"""For people: progress, notes, errors."""

stdout = Console()
"""For results."""


def emit(document: Mapping[str, Any], *, as_json: bool, title: str = "", rows: Sequence[tuple[str, Any]] | None = None) -> None:
    """Prints a result: one JSON document, or a two-column table of `rows` (of the document's entries if None)."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
        return
    shown = [(name, str(value)) for name, value in (rows if rows is not None else document.items())]
    if _plain():
        _lines(title, [f"{name}: {value}" for name, value in shown])
        return
    table = Table(title=title or None, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for name, value in shown:
        table.add_row(Text(name), Text(value))  # as it is: brackets in a path or a title are no markup
    stdout.print(table)


def emit_table(records: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "", columns: Sequence[str] | None = None) -> None:
    """Prints rows of equal shape: a JSON list in a document ``{"rows": [...]}``, or a table with a header.

    Where the terminal is too narrow for a column to hold its longest word or interval, each row becomes a small table of its own, so
    that no number is broken.
    """
    if as_json:
        emit({"rows": list(records)}, as_json=True)
        return
    names = list(columns or (records[0].keys() if records else ()))
    if _plain():
        _lines(title, ["; ".join(f"{name}: {record.get(name, '')}" for name in names) for record in records])
        return
    cells = [[str(record.get(name, "")) for name in names] for record in records]
    widths = _widths([names, *cells], stdout.width - 3 * len(names) - 1)
    if widths is None:
        stdout.print(title, markup=False, highlight=False, style="bold")
        for row in cells:
            _print_block(names, row)
        return
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="cyan")
    for name, width in zip(names, widths, strict=True):
        table.add_column(escape(name), overflow="fold", width=width)
    for row in cells:
        table.add_row(*map(escape, row))
    stdout.print(table)


def _print_block(names: Sequence[str], row: Sequence[str]) -> None:
    """One row of a table as lines of name and value; empty values are left out."""
    table = Table(show_header=False, title=escape(row[0]) or None, title_justify="left", title_style="cyan")
    widest = max(map(cell_len, names), default=0)
    table.add_column(overflow="fold", min_width=min(widest, stdout.width // 3))
    table.add_column(overflow="fold")
    for name, value in zip(names[1:], row[1:], strict=True):
        if value:
            table.add_row(escape(name), escape(value))
    stdout.print(table)


_UNITS = re.compile(r"(?:\S+ )?\[[^\]]*\]\S*|\S+")
"""What must stay on one line: words, and numbers with their intervals in brackets."""


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """A width for each column, so that every word and interval fits on a line; None if they do not fit into `room` cells."""
    columns = list(zip(*rows, strict=True))
    whole = [max((cell_len(cell) for cell in column), default=0) for column in columns]
    least = [max((cell_len(unit) for cell in column for unit in _UNITS.findall(cell)), default=0) for column in columns]
    if sum(least) > room:
        return None
    widths = list(least)
    for _ in range(room - sum(least)):
        short = [place for place, width in enumerate(widths) if width < whole[place]]
        if not short:
            break
        widths[max(short, key=lambda place: whole[place] - widths[place])] += 1
    return widths


def _plain() -> bool:
    """Whether no table would be readable here: a terminal that is very narrow, or can only show lines."""
    return stdout.width < 30 or os.environ.get("TERM") == "dumb"


def _lines(title: str, lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in ([title] if title else []) + list(lines)))


def finite(value: Any) -> Any:
    """A document for JSON, which has no infinity and no NaN: an unlimited interval or unknown value becomes null; paths become text."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value) if isinstance(value, Path) else value


def note(text: str) -> None:
    """A line for people, on stderr; a secret that has its usual form is masked, wherever the text comes from."""
    stderr.print(masked(text), markup=False, highlight=False, soft_wrap=True)


def fail(text: str) -> None:
    """The line that says why a command has failed, on stderr, however quiet it is."""
    quiet, stderr.quiet = stderr.quiet, False
    note(text)
    stderr.quiet = quiet


class _Notes(logging.Handler):
    """Shows what the library logs as notes, the same words once a command: several runs of it may read the same data.

    Where everything is shown, each comes with its time and origin.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self.level <= logging.DEBUG:
            note(f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.name}: {text}")
        elif text not in self.said:
            self.said.add(text)
            note(text)


_notes = _Notes()


def set_volume(volume: Literal["quiet", "normal", "verbose"]) -> None:
    """How much a command tells on stderr; results on stdout are always printed. May be called again.

    Args:
        volume: "quiet" for nothing but why it failed; "normal" for progress, notes and what the simulator logs, such as which format
            of a model it has chosen; "verbose" for everything that any package of usersim logs, with times.
    """
    stderr.quiet = volume == "quiet"
    _notes.said.clear()
    _notes.setLevel(logging.DEBUG if volume == "verbose" else logging.INFO)
    for name in OURS:
        logger = logging.getLogger(name)
        shown = volume == "verbose" or name == "simulator"
        logger.setLevel(logging.DEBUG if volume == "verbose" else logging.INFO if shown else logging.NOTSET)
        if shown and _notes not in logger.handlers:
            logger.addHandler(_notes)
        elif not shown:
            logger.removeHandler(_notes)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr with elapsed and remaining time; silent when stderr is not a terminal."""
    with Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ) as display:
        yield display


class Stages(Protocol):
    """Tells how far a command is: `done` steps of `total` (0: unknown) in the stage `what`."""

    def __call__(self, what: str, done: int, total: int, *, detail: str = "", more: str = "") -> None:
        """Shows it: `detail` stands beside the bar, `more` behind the stage in a line."""


@contextmanager
def stages(every: float = 30.0) -> Iterator[Stages]:
    """Progress in stages: a bar on a terminal, otherwise a line when a stage begins, and within it every so many seconds."""
    with progress() as display:
        task = display.add_task("starting", total=None, detail="")
        started, last, last_what = time.monotonic(), 0.0, ""

        def report(what: str, done: int, total: int, *, detail: str = "", more: str = "") -> None:
            nonlocal last, last_what
            display.update(task, description=what, completed=done, total=total or None, detail=detail)
            now = time.monotonic()
            if not stderr.is_terminal and (what != last_what or now - last >= every):
                note(f"[{now - started:6.1f} s] {what}{more}")
                last = now
            last_what = what

        yield report

"""`usersim verify`: whether a run on disk is still what it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import Json
from experiments.console import emit, emit_table, stages

Run = Annotated[Path, typer.Argument(help="Folder of a run.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("verify", help="Check that a run is whole and unchanged: settings, shards, people, tables, every file.")(verify)


def verify(run: Run, json: Json = False) -> None:
    """Verifies a run; the exit status is 0 only if nothing is wrong."""
    from experiments.verify import verify as look  # noqa: PLC0415 - slow imports, and only here

    with stages() as tell:
        tell("looking at every file", 0, 0)
        checks = [asdict(check) for check in look(run)]
    whole = all(check["state"] != "wrong" for check in checks)
    if json:
        emit({"run": str(run), "whole": whole, "checks": checks}, as_json=True)
    else:
        emit_table(checks, as_json=False, title=f"usersim verify {run}", columns=("check", "state", "found"))
    if not whole:
        raise typer.Exit(1)

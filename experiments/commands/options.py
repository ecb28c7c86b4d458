"""Arguments and options that several commands have, with the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="Experiment file (.toml), or the name of one that comes with usersim.")]
Run = Annotated[Path, typer.Argument(help="Folder of a complete run.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting; may be repeated.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all randomness, instead of the file's.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; changes nothing but the speed [default: cores].")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]

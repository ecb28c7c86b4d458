"""`usersim config`: an experiment file with every default, its JSON schema, and a reference of all settings."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import Config, Json, Seed, Set
from experiments.console import emit, note

app = typer.Typer(
    help="Show the settings of experiments: with defaults, as a schema, as a reference.", no_args_is_help=True, rich_markup_mode=None
)

Output = Annotated[Path | None, typer.Option("--output", help="Write into this file instead of on the terminal.")]


@app.command("show")
def show_command(config: Config, set_: Set = None, seed: Seed = None, json: Json = False) -> None:
    """An experiment with every default filled in, as TOML that can be run; all of it is checked."""
    import tomllib  # noqa: PLC0415

    from experiments import build  # noqa: PLC0415 - slow imports, and only here
    from experiments import config as configuration  # noqa: PLC0415

    checked = configuration.read(config, [*(set_ or []), *([] if seed is None else [f"seed={seed}"])])
    text = configuration.dump(checked, build.resolved(checked)).decode()
    if json:
        emit(tomllib.loads(text), as_json=True)
    else:
        sys.stdout.write(text)


@app.command("schema")
def schema_command(output: Output = None) -> None:
    """JSON schema of an experiment file, with the options of all components; editors complete and check with it."""
    from experiments import settings_reference  # noqa: PLC0415

    _tell(json_text.dumps(settings_reference.schema(), indent=1) + "\n", output)


@app.command("reference")
def reference_command(output: Output = None) -> None:
    """Every setting as Markdown: keys, allowed values, defaults, meaning."""
    from experiments import settings_reference  # noqa: PLC0415

    _tell(settings_reference.reference(), output)


def _tell(text: str, output: Path | None) -> None:
    from simulator.files import write_atomically  # noqa: PLC0415

    if output is None:
        sys.stdout.write(text)
        return
    write_atomically(output, text.encode())
    note(f"written to {output}")

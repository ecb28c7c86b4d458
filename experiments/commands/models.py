"""`usersim models`: list, get and describe language models."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.commands.fetching import From, FromOption, Json, fetched
from experiments.console import emit, emit_table
from simulator.llm import models

app = typer.Typer(help="List, fetch and describe language models.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_command(json: Json = False) -> None:
    """The models that can be fetched by name. Any other GGUF file works by its path."""
    rows = [
        {
            "name": model.name,
            "state": "here" if models.is_present(model.name) else "absent",
            "about": model.about,
            "MB": round(model.size / 1e6),
            "licence": model.licence,
            "sha256": model.sha256,
            "path": str(model.path),
        }
        for model in models.known().values()
    ]
    emit_table(rows, as_json=json, columns=("name", "state", "about", "MB", "licence"))


@app.command("get")
def get_command(
    name: Annotated[str, typer.Argument(help="A name that `usersim models list` shows.")] = models.DEFAULT,
    source: FromOption = From.auto,
    json: Json = False,
) -> None:
    """Fetch a model into the cache, once, verified."""
    fetched(name, lambda step: models.get(name, source.value, step), json)


@app.command("describe")
def describe_command(
    model: Annotated[str, typer.Argument(metavar="PATH-or-NAME", help="A known name or a GGUF file.")] = models.DEFAULT, json: Json = False
) -> None:
    """Read a model file's header."""
    emit(models.describe(model), as_json=json)

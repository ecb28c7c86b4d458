"""`usersim data`: list, get and describe data sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from environments.datasets import sources
from experiments.commands.fetching import From, FromOption, fetched
from experiments.commands.options import Json
from experiments.console import emit, emit_table

app = typer.Typer(help="List, fetch and describe data sets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_command(json: Json = False) -> None:
    """The data sets that can be fetched by name."""
    rows = [
        {
            "name": dataset.name,
            "state": "here" if dataset.is_present else "absent",
            "about": dataset.about,
            "from": ", ".join(source.kind for source in dataset.sources),
            "loader": dataset.loader,
            "terms": dataset.terms,
            "path": str(dataset.folder),
        }
        for dataset in sources.known().values()
    ]
    emit_table(rows, as_json=json, columns=("name", "state", "about", "from"))


@app.command("get")
def get_command(
    name: Annotated[str, typer.Argument(help="A name that `usersim data list` shows.")], source: FromOption = From.auto, json: Json = False
) -> None:
    """Fetch a data set into the cache, once, verified."""
    fetched(name, lambda step: sources.get(name, source.value, step), json)


@app.command("describe")
def describe_command(
    dataset: Annotated[str, typer.Argument(metavar="PATH-or-NAME", help="A known name, a folder, or a file of interactions.")],
    json: Json = False,
) -> None:
    """Count, check and summarise a data set, and say what is unavailable with it."""
    description = sources.describe(dataset)
    emit(description, as_json=json, title=description["name"], rows=_rows(description))


def _rows(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """The description for people."""
    per_user, per_item = found["interactions_per_user"], found["interactions_per_item"]
    known = ", ".join(f"{what} {share:.0%}" for what, share in found["known_share"].items())
    rows = [
        ("people", f"{found['users']:,}"),
        (found["domain"], f"{found['items']:,}, {found['items_with_interactions']:,} with interactions"),
        ("interactions", f"{found['interactions']:,}, density {found['density']:.3%}"),
        ("per person", f"mean {per_user['mean']:g}, median {per_user['median']:g}"),
        ("per item", f"mean {per_item['mean']:g}, median {per_item['median']:g}"),
        ("ratings", ", ".join(f"{rating}: {count:,}" for rating, count in found["ratings"].items()) or "none"),
        ("times", f"{found['first_time']} to {found['last_time']}, on {found['rows_with_time']:,} rows" if found["first_time"] else "none"),
        *([("reviews", f"on {found['rows_with_review']:,} rows")] if found["rows_with_review"] else []),
        ("known", known),
        ("fingerprint", found["fingerprint"][:16]),
    ]
    rows += [("skipped", f"{count:,} rows: {reason}") for reason, count in found["skipped"].items()]
    return rows + [("unavailable", sentence) for sentence in found["unavailable"]]

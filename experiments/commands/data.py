"""`usersim data`: list, get and describe data sets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from environments.datasets import sources
from environments.datasets.splits import filtered
from experiments import config as configuration
from experiments.commands.fetching import From, FromOption, fetched
from experiments.commands.options import Json, Set
from experiments.console import emit, emit_table
from simulator.errors import ConfigError
from simulator.plugins import build
from simulator.seeds import Stream

app = typer.Typer(help="List, fetch and describe data sets.", no_args_is_help=True, rich_markup_mode=None)

_SHOWN = 25
"""Genres and ratings of the table for people, at most."""


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
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A known name, a file of interactions, items or people, a folder of such files, or an experiment file (.toml).",
        ),
    ],
    set_: Set = None,
    json: Json = False,
) -> None:
    """Count, check and summarise a data set, say how it was understood, and what is unavailable with it."""
    description = _of_experiment(Path(dataset), set_ or ()) if _is_experiment(dataset) else sources.describe(dataset, _settings(set_ or ()))
    emit(description, as_json=json, title=description["name"], rows=_rows(description))


def _is_experiment(name: str) -> bool:
    """Whether the argument is an experiment file, or the name of one that comes with usersim; known data sets go before those."""
    if name in sources.known() or os.path.exists(name):
        return name.endswith(".toml") and os.path.isfile(name)
    return name.endswith(".toml") or name in configuration.shipped()


def _of_experiment(file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The data of an experiment, without what its k-core and lowest rating leave out."""
    config = configuration.read(file, overrides)
    section, divided = config.dataset, config.dataset.split_config()
    loader = build(section.use, section.options, where="dataset", methods=("load",), also=section.own_keys)
    return sources.describe(filtered(loader.load(), divided), divided=divided, rng=Stream(config.seed).child("split"))


def _settings(overrides: Sequence[str]) -> Mapping[str, Any]:
    document: dict[str, Any] = {}
    for override in overrides:
        configuration.apply_override(document, override)
    others = [key for key in document if key != "dataset"]
    if others or not isinstance(document.get("dataset", {}), dict):
        raise ConfigError(
            f"--set {(others or ['dataset'])[0]}: data is described with settings of dataset only, for example dataset.separator=';'."
        )
    return dict(document.get("dataset", {}))


def _rows(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """The description for people."""
    known = ", ".join(f"{what} {share:.0%}" for what, share in found["known_share"].items())
    rows = _counts(found) if found["holds"] == "interactions" else _listed(found)
    rows.append(("known", known))
    if found.get("genres"):
        rows.append(("genres", _first(f"{genre} {count:,}" for genre, count in found["genres"].items())))
    rows += list(found["understood"].items())
    rows += [("fingerprint", found["fingerprint"][:16])] if "fingerprint" in found else []
    rows += [("skipped", f"{count:,} rows: {reason}") for reason, count in found["skipped"].items()]
    rows += [("note", note) for note in found["notes"]]
    return rows + [("unavailable", sentence) for sentence in found["unavailable"]]


def _counts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    per_user, per_item = found["interactions_per_user"], found["interactions_per_item"]
    return [
        ("people", f"{found['users']:,}"),
        (found["domain"], f"{found['items']:,}, {found['items_with_interactions']:,} with interactions"),
        ("interactions", f"{found['interactions']:,}, density {found['density']:.3%}"),
        ("per person", f"mean {per_user['mean']:g}, median {per_user['median']:g}"),
        ("per item", f"mean {per_item['mean']:g}, median {per_item['median']:g}"),
        ("ratings", _first(f"{rating}: {count:,}" for rating, count in found["ratings"].items()) or "none"),
        ("times", f"{found['first_time']} to {found['last_time']}, on {found['rows_with_time']:,} rows" if found["first_time"] else "none"),
        *([("reviews", f"on {found['rows_with_review']:,} rows")] if found["rows_with_review"] else []),
    ]


def _listed(found: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(found["holds"], f"{found[found['holds']]:,}"), ("for example", ", ".join(found["for_example"]))]


def _first(entries: Any) -> str:
    """The first entries, and how many more there are."""
    shown = list(entries)
    more = f" ... and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more

"""The data card of an export, ``README.md``: what the data is, how it was made, how far to believe it, what each column means.

For the Hugging Face hub it begins with a YAML header that names the files of each table and split
(https://huggingface.co/docs/hub/datasets-manual-configuration), so that ``datasets.load_dataset`` finds them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.html_page import without_places
from experiments.data_dictionary import dictionary
from experiments.fidelity.headline import table
from simulator.errors import RunError
from simulator.files import read_json

_ABOUT = {
    "recbole": "RecBole atomic files. The columns below are fields of the file .inter (user_id, item_id ...); white space within a genre "
    "became a hyphen.",
    "movielens": "The layout of MovieLens 100K: u.data holds user, item, rating and timestamp (the columns below); u.real and u.simulated, "
    "if there, are its two parts. Of several interactions of a person with an item the last is kept.",
    "huggingface": "Parquet files in the layout of the Hugging Face hub, one folder per table, one file per split. To load them:",
    "csv": "One file per table; lists are texts whose entries are separated by '|'.",
    "parquet": "One file per table.",
}

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def parquet_file(table: str, split: str) -> str:
    """Where a split of a table lies in the hub's layout, relative to the data set's folder."""
    return f"{table}/{split}-00000-of-00001.parquet"


def splits_of(log: pl.DataFrame) -> list[str]:
    """The splits of the interactions that have any: "simulated", "real"."""
    return [split for split in ("simulated", "real") if (log["source"] == split).any()]


def data_card(
    run: FinishedRun, log: pl.DataFrame, tables: Mapping[str, pl.DataFrame], format: str, name: str, notes: Sequence[str] = ()
) -> str:
    """The card as Markdown.

    Args:
        run: what was exported. log: the interactions that were written. tables: every table that is explained, the log among them.
        format: of the export. name: of its folder. notes: what a reader of the files must mind.

    Raises:
        RunError: the run has a fidelity report that cannot be read.
    """
    count = dict(log.group_by("source").len().iter_rows())
    if format == "huggingface":
        tables = {table: frame for table, frame in tables.items() if not frame.is_empty()}
    suffix = {"csv": ".csv", "parquet": ".parquet"}.get(format, "")
    lines = [
        *(_header(run, log, tables) if format == "huggingface" else []),
        f"# {run.name}: simulated interactions",
        "",
        f"Written by usersim {run.manifest.get('usersim', '')} (`usersim export --format {format}`) from a run on {run.data_name}, "
        f"seed {run.seed}. {count.get('simulated', 0):,} interactions were made by a simulation; {count.get('real', 0):,} are training "
        "interactions of real people.",
        "",
        _ABOUT[format],
        "",
    ]
    if format == "huggingface":
        first, *others = tables
        split = (splits_of(log) if first == "interactions" else ["simulated"])[0]
        named = ", ".join(f'"{other}"' for other in others)
        lines += [
            "```python",
            "from datasets import load_dataset",
            "",
            f'{first} = load_dataset("{name}")["{split}"]    # the path of this folder; other tables: {named}',
            *(f'{other} = load_dataset("{name}", "{other}")["simulated"]' for other in others[:1]),
            "```",
            "",
        ]
    lines += [line for note in notes for line in (note, "")]
    lines += ["## How it was made", "", "| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in _origin(run)), ""]
    lines += ["## Fidelity", "", *_fidelity(run), ""]
    lines += [
        "## What to mind",
        "",
        "- No simulated interaction is an observation. What simulated people choose follows from the training data, the settings below and "
        "the recommender that filled their pages; conclusions about real people need real data.",
        "- How often a shown item is chosen, and how long a session lasts, are settings unless the data has impressions.",
        *(f"- {sentence}" for sentence in run.told.sentences),
        "- Training a recommender on these interactions hands on what the people's evidence and the exposing recommender know "
        "(distillation); `usersim augment` measures what that is worth, beside controls.",
        f"- The rights in {run.data_name}, from which people, items and any real interactions come, are those of its owners.",
        "",
    ]
    return "\n".join([*lines, *dictionary(tables, suffix)])


def _header(run: FinishedRun, log: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """The YAML header. A JSON string is a YAML string, so names are written as JSON."""
    size = next((name for most, name in _SIZES if log.height < most), "n>10M")
    lines = ["---", f"pretty_name: {json.dumps(f'{run.name}: simulated interactions', ensure_ascii=False)}", "license: other", "tags:"]
    lines += [f"- {tag}" for tag in ("recommendation", "user-simulation", "synthetic", "usersim")]
    lines += ["size_categories:", f"- {size}", "configs:"]
    for number, name in enumerate(tables):
        splits = splits_of(log) if name == "interactions" else ["simulated"]
        lines += [f"- config_name: {name}", *(["  default: true"] if number == 0 else []), "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {parquet_file(name, split)}"]
    return [*lines, "---", ""]


def _origin(run: FinishedRun) -> list[tuple[str, str]]:
    """What made the data, as rows of a table."""
    manifest, config, summary = run.manifest, run.config, run.summary
    model = manifest.get("model") or {}
    split, recommender = manifest.get("split") or {}, config.get("recommender", {})
    share = f", {split['test_share']:.0%} held out and not used" if "test_share" in split and split.get("method") != "leave-one-out" else ""
    rows: list[tuple[str, Any]] = [
        ("data", run.data_name),
        *((f"read: {what}", how) for what, how in manifest.get("understood", {}).items()),
        *(("to mind in the data", note) for note in manifest.get("notes", ())),
        ("split", f"{split['method']}{share}" if "method" in split else None),
        ("people", f"{summary.get('people', 0):,}, {manifest.get('synthetic_people', 0):,} of them drawn"),
        ("rounds", summary.get("rounds")),
        ("people's decisions", config.get("decision", {}).get("use")),
        ("language model", model.get("name") or "none"),
        ("recommender that filled the pages", recommender.get("use")),
        ("exploration", recommender.get("exploration")),
        ("pages", f"{summary.get('pages', 0):,}"),
        ("unusable replies", f"{summary.get('fallback_share', 0):.2%} of the pages"),
        ("seed", run.seed),
        ("git revision", manifest.get("git_revision")),
        ("finished", manifest.get("finished")),
    ]
    return [
        (what, without_places(f"`{value}`" if isinstance(value, str) and ":" in value and " " not in value else str(value)))
        for what, value in rows
        if value is not None
    ]


def _fidelity(run: FinishedRun) -> list[str]:
    """The figures of the run's fidelity report, or that there is none."""
    file = run.path / "fidelity" / "fidelity.json"
    if not file.is_file():
        return ["Not measured: nobody has compared these people with held-out real ones (`usersim fidelity RUN`, then export again)."]
    document = _read(file)
    rows = table(document)
    if not rows:
        return ["The fidelity report of this run holds no figure."]
    columns = list(rows[0])
    return [
        f"Simulated people against {document.get('people', '')} held-out real people of {document.get('data', run.data_name)} "
        "(`usersim fidelity`), with 95 % intervals over people, controls and noise floors:",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row[column] for column in columns)} |" for row in rows),
    ]


def _read(file: Path) -> dict[str, Any]:
    way_out = "measure again with `usersim fidelity`, or remove it"
    document: dict[str, Any] = read_json(file, way_out)
    if "headline" not in document:
        raise RunError(f"{file} has no key 'headline'; {way_out}.")
    return document

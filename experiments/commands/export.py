"""`usersim export`: writes what people did in a run in the format of other software."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import Json, Run, opens_runs
from experiments.console import emit, stages

Format = Annotated[str, typer.Option("--format", help="recbole, movielens, huggingface, csv or parquet.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Folder to write, which must not exist (default: RUN/export/NAME-FORMAT). It names RecBole's files."),
]
IncludeReal = Annotated[
    bool, typer.Option("--include-real", help="Put the training interactions of the same people first, marked as real.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export", help="Write the interactions of a run for RecBole, Hugging Face datasets, as MovieLens files, CSV or Parquet.")(
        export
    )


@opens_runs
def export(run: Run, format: Format, output: Output = None, include_real: IncludeReal = False, json: Json = False) -> None:
    """Exports a run."""
    from experiments.export import export as write  # noqa: PLC0415 - polars takes a while to import, and only here
    from experiments.run_work import working_in  # noqa: PLC0415

    with working_in(run, "usersim export") if output is None else nullcontext(), stages() as tell:
        tell("exporting", 0, 0)
        exported = write(run, format, output, include_real=include_real)
    document = {
        "run": str(run),
        "format": format,
        "folder": str(exported.folder),
        "files": list(exported.files),
        "simulated_interactions": exported.simulated,
        "real_interactions": exported.real,
        "left_out": exported.left_out,
        "notes": list(exported.notes),
    }
    rows: list[tuple[str, object]] = [
        ("folder", exported.folder),
        ("files", ", ".join(exported.files)),
        ("simulated interactions", f"{exported.simulated:,}"),
    ]
    rows += [("real interactions", f"{exported.real:,}")] if include_real else []
    rows += [("left out", f"{exported.left_out:,} (the format holds one per person and item)")] if exported.left_out else []
    rows += [("mind" if number == 0 else "", sentence) for number, sentence in enumerate(exported.notes)]
    emit(document, as_json=json, title=f"Export of {run}", rows=rows)

"""`usersim study`: a question, arms that answer it, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.options import Json, Seed, Workers, opens_runs, takes_settings
from experiments.commands.run import reporting
from experiments.console import emit, emit_table, note

Target = Annotated[
    Path,
    typer.Argument(
        metavar="NAME|FILE|FOLDER|list", help="A study that comes with usersim, a study file, or the folder of a study that was begun."
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting of every arm; may be repeated.")
]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the study [default: results/study-<name>/<date and time>].")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("study", help="Answer a question by simulated arms: runs, analysis, figure, report. `usersim study list` lists them.")(
        study
    )


@opens_runs
@takes_settings
def study(target: Target, set_: Set = None, output: Output = None, workers: Workers = None, seed: Seed = None, json: Json = False) -> None:
    """Carries out a study, or lists them."""
    from experiments.studies import study as studies  # noqa: PLC0415 - slow imports, and only here
    from experiments.studies import study_config  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    if str(target) == "list" and not target.exists():
        found = [study_config.read(file) for file in study_config.shipped()]
        rows = [{"study": one.name, "question": one.question, "arms": ", ".join(one.arms)} for one in found]
        emit_table(rows, as_json=json, title="Studies that come with usersim")
        return
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    folder, config, arms = studies.begin(target, overrides, output)
    note(f"the study is kept in {folder}; if it is interrupted, `usersim study {folder}` continues it")
    with reporting() as report:
        document = studies.carry_out(folder, config, arms, workers or cores(), report)
    if json:
        emit(document, as_json=True)
        return
    _show(document, folder)


def _show(document: dict[str, Any], folder: Path) -> None:
    rows: list[tuple[str, Any]] = [
        ("question", document["question"]),
        ("people", f"{document['people']:,} of {document['data']}, decided by {'; '.join(document['decided_by'])}"),
        ("arms", ", ".join(name + (" (control)" if name == document["control"] else "") for name in document["arms"])),
        *[("" if number else "found", sentence) for number, sentence in enumerate(document["sentences"])],
        ("time", f"{document['seconds']:.0f} s"),
        ("figure", folder / document["figure"]["file"]),
        ("report", folder / "report.html"),
        ("numbers", folder / "study.json"),
    ]
    emit({}, as_json=False, title=f"Study {document['name']}", rows=rows)

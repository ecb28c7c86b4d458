"""`usersim compare`: several recommenders before the same people."""

from __future__ import annotations

import json as json_format
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.commands.options import Json, Seed, Workers, opens_runs, takes_settings
from experiments.console import emit, emit_table, note, stages

if TYPE_CHECKING:
    from experiments.analysis.finished_run import FinishedRun

Targets = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONFIG... | RUN... | COMPARISON",
        help="Experiment files (or one, with --recommenders); or folders of finished runs; or the folder of an interrupted comparison.",
    ),
]
Recommenders = Annotated[
    str | None,
    typer.Option(
        "--recommenders", metavar="A,B,...", help="Recommenders for one experiment: names such as popularity,ease, or import paths."
    ),
]
Baseline = Annotated[str | None, typer.Option("--baseline", help="The arm that the others are held against [default: the first].")]
Margin = Annotated[
    float | None,
    typer.Option("--margin", min=0.001, max=0.5, help="Largest loss that counts as 'no less', share of the value [default: 0.05]."),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, max=100, help="Runs of every arm, seeds counted up from the file's [default: 1].")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting of every arm; repeatable.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the comparison [default: results/<experiment>/<date and time>].")]

DOCUMENT = "comparison.json"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "compare", help="Show the same people several recommenders and say what differs, how surely, and how many people it takes."
    )(compare)


@opens_runs
@takes_settings
def compare(
    targets: Targets,
    recommenders: Recommenders = None,
    baseline: Baseline = None,
    margin: Margin = None,
    seeds: Seeds = None,
    set_: Set = None,
    output: Output = None,
    workers: Workers = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Compares recommenders."""
    from experiments import comparison_arms as arms_of  # noqa: PLC0415 - slow imports, and only here
    from experiments.trust import own  # noqa: PLC0415
    from simulator.errors import ConfigError  # noqa: PLC0415

    simulated = {"--recommenders": recommenders, "--set": set_, "--seed": seed, "--seeds": seeds, "--workers": workers}
    if len(targets) == 1 and (targets[0] / arms_of.PLAN).is_file():
        fixed = {**simulated, "--baseline": baseline, "--margin": margin, "--output": output} | {"--workers": None}
        given = next((name for name, value in fixed.items() if value is not None), None)
        if given is not None:
            raise ConfigError(f"{targets[0]} is a comparison, which goes on as it was begun; leave out {given}, or begin another one.")
        arms, options = arms_of.read_plan(targets[0])
        compared = arms
        folder, runs = targets[0], _simulated(targets[0], arms, options, workers)
    elif any(target.is_dir() for target in targets):
        file = next((target for target in targets if not target.is_dir()), None)
        if file is not None:
            raise ConfigError(
                f"{file} is no folder, and the others are runs: compare runs with runs, or experiment files with experiment files."
            )
        given = next((name for name, value in simulated.items() if value is not None), None)
        if given is not None:
            raise ConfigError(f"finished runs are compared as they are; {given} goes with experiment files.")
        found, compared = arms_of.from_runs(targets), {}
        options = arms_of.Options(arms_of.baseline_of(list(found), baseline), margin or 0.05, 1)
        folder, runs = output or _new_folder("comparison"), {name: [run] for name, run in found.items()}
        if (folder / "config.toml").is_file():
            raise ConfigError(f"--output {folder} is a run, whose report would be lost; choose another folder.")
    else:
        overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
        if recommenders is not None and len(targets) > 1:
            raise ConfigError("--recommenders goes with one experiment file; give either several files, or one file with --recommenders.")
        arms = (
            arms_of.from_files(targets, overrides)
            if recommenders is None
            else arms_of.from_recommenders(targets[0], recommenders, overrides)
        )
        options = arms_of.Options(arms_of.baseline_of(list(arms), baseline), margin or 0.05, seeds or 1)
        folder = output or _new_folder(next(iter(arms.values())).name)
        runs = _simulated(folder, arms, options, workers)
        compared = arms
    with own(*compared.values()):
        _compare(folder, runs, options.baseline, options.margin, as_json=json)


def _simulated(folder: Path, arms: Mapping[str, Any], options: Any, workers: int | None) -> dict[str, list[FinishedRun]]:
    """The runs of all arms and seeds, made or found."""
    from experiments.analysis.finished_run import FinishedRun  # noqa: PLC0415
    from experiments.arms import run_arms  # noqa: PLC0415
    from experiments.commands.run import reporting  # noqa: PLC0415
    from experiments.comparable import check_experiments  # noqa: PLC0415
    from experiments.comparison_arms import PLAN, with_seeds, write_plan  # noqa: PLC0415
    from simulator.errors import RunError  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    for warning in check_experiments(arms):
        note(f"warning: {warning}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PLAN).is_file():
        raise RunError(f"{folder} already holds something that is no comparison; choose another --output.")
    write_plan(folder, arms, options)
    note(f"comparison: {folder}; if it is interrupted, it goes on with `usersim compare {shlex.quote(str(folder))}`")
    runs = with_seeds(arms, options.seeds)
    # Seed by seed, so that after the first one there is something of every arm.
    order = [(arm, place) for place in range(options.seeds) for arm in arms]
    flat = {name: config for arm, place in order for name, config in [list(runs[arm].items())[place]]}
    with reporting() as report:
        folders = run_arms(folder, flat, workers or cores(), report)
    return {arm: [FinishedRun(folders[name]) for name in own] for arm, own in runs.items()}


def _compare(folder: Path, runs: Mapping[str, Sequence[FinishedRun]], baseline: str, margin: float, *, as_json: bool) -> None:
    from experiments import comparison  # noqa: PLC0415
    from simulator.files import write_atomically  # noqa: PLC0415

    with stages() as tell:
        document = comparison.compare(runs, baseline, margin, tell)
        for name, own in runs.items():
            document["arms"][name]["runs"] = [_path(run.path, folder) for run in own]
        tell("drawing figures", 0, 0)
        from experiments.analysis.comparison_figures import make_figures  # noqa: PLC0415
        from experiments.analysis.comparison_report import write_report  # noqa: PLC0415

        folder.mkdir(parents=True, exist_ok=True)
        figures = make_figures(document, folder / "figures")
        # Without the folder itself, so that the same comparison has the same bytes wherever it lies.
        command = "usersim compare " + (
            "THIS-FOLDER" if (folder / "arms").is_dir() else " ".join(shlex.quote(own[0].path.name) for own in runs.values())
        )
        report = write_report(document, figures, folder, command)
        write_atomically(folder / DOCUMENT, (json_format.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    files = {"folder": str(folder), "file": str(folder / DOCUMENT), "report": str(report)}
    files |= {f"figure_{name.replace('-', '_')}": str(made.path) for name, made in figures.items()}
    if as_json:
        emit({**document, "files": files}, as_json=True)
        return
    _show(document, files)


def _show(document: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Tables and verdicts for people."""
    from experiments.analysis.comparison_tables import notes, rows_of  # noqa: PLC0415

    for verdict in document["verdicts"]:
        emit_table(rows_of(document, verdict["arm"], short=True), as_json=False, title=f"{verdict['arm']} against {document['baseline']}")
    emit({}, as_json=False, title="Verdicts", rows=[(verdict["arm"], verdict["sentence"]) for verdict in document["verdicts"]])
    for line in notes(document):
        note(line)
    for name, path in files.items():
        note(f"{name.replace('_', ' ')}: {path}")


def _path(path: Path, folder: Path) -> str:
    """A run's folder, relative to the comparison's where it lies in it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _new_folder(name: str) -> Path:
    from experiments.run import new_path  # noqa: PLC0415

    return new_path(name)

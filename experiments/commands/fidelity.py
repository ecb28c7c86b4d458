"""`usersim fidelity`: simulated people against held-out real people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.commands.fidelity_log import Columns, Data, Days, LogFile, SkipUnknown, Users, judge_log, tell_missing
from experiments.commands.options import LARGEST_SEED, Json, opens_runs, takes_settings
from experiments.console import emit, emit_table, note, stages

if TYPE_CHECKING:
    from experiments.fidelity.context import Report

Target = Annotated[
    Path | None,
    typer.Argument(metavar="RUN|CONFIG", help="Folder of a complete run; or an experiment file, whose people are then simulated first."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting of the file; may be repeated.")
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Folder of the run of an experiment file [default: results/<experiment>/<time>].")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes that simulate [default: cores].")]
People = Annotated[int | None, typer.Option("--people", min=1, help="Held-out people at most [default: 300; 1000 with --benchmark].")]
Parts = Annotated[
    str | None,
    typer.Option(
        "--parts",
        help="Some of choose,ratings,satisfaction,distributions,given,realism,probes,notes,ranking,traits,one_moment [default: all].",
    ),
]
Bootstrap = Annotated[int, typer.Option("--bootstrap", min=10, help="Resamples of people behind every interval.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the report, instead of the experiment's.")]
Benchmark = Annotated[bool, typer.Option("--benchmark", help="Also write results/benchmarks/fidelity.json.")]

BENCHMARK = Path("results/benchmarks/fidelity.json")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("fidelity", help="Measure simulated people against held-out real people, beside controls and a noise floor.")(fidelity)


@opens_runs
@takes_settings
def fidelity(
    target: Target = None,
    set_: Set = None,
    output: Output = None,
    workers: Workers = None,
    people: People = None,
    parts: Parts = None,
    bootstrap: Bootstrap = 1_000,
    seed: Seed = None,
    benchmark: Benchmark = False,
    log: LogFile = None,
    data: Data = None,
    column: Columns = None,
    users: Users = "id",
    days: Days = None,
    skip_unknown: SkipUnknown = False,
    json: Json = False,
) -> None:
    """Measures whether to believe a simulation."""
    _check_options(target, log, {"--data": data, "--column": column, "--days": days, "--skip-unknown": skip_unknown}, parts, benchmark)
    if log is not None:
        size: dict[str, Any] = {"people": people or 300, "bootstrap": bootstrap, "seed": seed}
        with reporting() as tell:
            judge_log(log, data, column, users, days, set_=set_, skip=skip_unknown, output=output, json=json, tell=tell, **size)
        return
    assert target is not None
    from experiments.fidelity import report as reports  # noqa: PLC0415 - slow imports, and only here
    from experiments.fidelity import satisfaction  # noqa: PLC0415
    from experiments.fidelity.headline import table  # noqa: PLC0415
    from experiments.run_work import working_in  # noqa: PLC0415
    from experiments.trait_sentences import of_report  # noqa: PLC0415

    wanted = reports.parts_named(parts)
    options = reports.Options(people or (1_000 if benchmark else 300), wanted, bootstrap, seed)
    config, run, folder = _prepared(target, set_, output, workers, simulate=any(part in reports.OF_A_LOG for part in wanted))
    with working_in(run, "usersim fidelity") if run is not None else nullcontext():
        with reporting() as report:
            document = reports.measure(config, folder, run, options, report)
        if benchmark:
            reports.add_to_benchmark(document, BENCHMARK)
        from experiments.analysis.fidelity_figures import make_figures  # noqa: PLC0415

        figures = make_figures(document, folder / "figures")
        if run is not None:
            from experiments.analysis.report import write_report  # noqa: PLC0415

            write_report(run)
    if json:
        emit({"file": str(folder / "fidelity.json"), **document}, as_json=True)
        return
    emit_table(table(document), as_json=False, title=_title(document))
    given = document["parts"].get("given", {}).get("verdict")
    if given is not None:
        note(given["sentence"])
    glad = satisfaction.sentences(document["parts"].get("satisfaction", {}))
    for sentence in [*document["warnings"], *of_report(document["parts"].get("traits", {}), document["model"]), *glad]:
        note(sentence)
    tell_missing(document, "not measured")
    note(f"all figures: {folder / 'fidelity.json'}; drawings: {', '.join(path.name for path in figures.values())} in {folder / 'figures'}")


def _check_options(target: Path | None, log: Path | None, of_a_log: Mapping[str, Any], parts: str | None, benchmark: bool) -> None:
    """Either a run or an experiment is judged, or a log.

    Raises:
        ConfigError: neither or both are given, or an option that goes with the other.
    """
    from simulator.errors import ConfigError  # noqa: PLC0415

    if (target is None) == (log is None):
        raise ConfigError("give a run or an experiment file, or --log with a log of somebody else and --data; one of the two.")
    wrong = next((name for name, value in of_a_log.items() if value), None)
    if log is None and wrong is not None:
        raise ConfigError(f"{wrong} goes with --log, which judges a log of somebody else.")
    if log is not None and (parts is not None or benchmark):
        raise ConfigError("--parts and --benchmark go with a run; of a log everything is judged that it can tell.")


def _prepared(
    target: Path, set_: list[str] | None, output: Path | None, workers: int | None, *, simulate: bool
) -> tuple[Any, Path | None, Path]:
    """The experiment, its complete run (or None), and the folder of the report."""
    from experiments import config as configuration  # noqa: PLC0415
    from experiments.stored_settings import config_of  # noqa: PLC0415
    from experiments.trust import own  # noqa: PLC0415
    from simulator.errors import ConfigError  # noqa: PLC0415
    from simulator.run_directory import RunDirectory  # noqa: PLC0415

    if target.is_dir():
        given = next((name for name, value in (("--set", set_), ("--output", output), ("--workers", workers)) if value), None)
        if given is not None:
            raise ConfigError(f"{target} is a run, which is judged as it is; {given} goes with an experiment file.")
        directory = RunDirectory.open(target, complete=True)
        return config_of(directory), target, target / "fidelity"
    config = configuration.read(target, set_ or [])
    if not simulate:
        return config, None, (output or Path("results") / config.name) / "fidelity"
    from experiments.commands.run import reporting as run_reporting  # noqa: PLC0415
    from experiments.run import start  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    with run_reporting() as report:
        finished = start(config, output, workers or cores(), report)
    note(f"simulated: {finished.path}; an interrupted report goes on with `usersim fidelity {finished.path}`")
    with own(config):
        return config_of(finished), finished.path, finished.path / "fidelity"


@contextmanager
def reporting() -> Iterator[Report]:
    """Progress of a report."""
    with stages() as tell:
        yield lambda what, done, total: tell(what, done, total, more=f": {done} of {total}" if total else "")


def _title(document: Mapping[str, Any]) -> str:
    split = document["split"]
    return (
        f"{document['data']}, {split['method']} split: decision model '{document['model']}', {document['people']} held-out people, "
        "95 % intervals over people"
    )

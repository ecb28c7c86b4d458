"""`usersim run` and `usersim resume`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.commands.options import Config, Json, Seed, Set, Workers, opens_runs, takes_settings
from experiments.console import emit, stages

if TYPE_CHECKING:
    from simulator.simulation import CohortResult

Run = Annotated[Path, typer.Argument(help="Folder of a run, such as results/movielens/20260101-120000.")]
SetAgain = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Changes decision.max_fallback_share, what a server may cost or how it is reached; may be repeated.",
    ),
]
Accept = Annotated[
    bool,
    typer.Option("--accept-changes", help="Go on with other code, packages or another processor than before; manifest.json records it."),
]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the run [default: results/<experiment>/<date and time>].")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run", help="Run an experiment: simulate its people and write log, figures and report.")(run)
    app.command("resume", help="Continue an interrupted run; the log becomes the same, to the byte.")(resume)


@opens_runs
@takes_settings
def run(config: Config, set_: Set = None, output: Output = None, workers: Workers = None, seed: Seed = None, json: Json = False) -> None:
    """Runs an experiment."""
    from experiments import config as configuration  # noqa: PLC0415
    from experiments.run import start  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    experiment = configuration.read(config, overrides)
    with reporting() as report:
        finished = start(experiment, output, workers or cores(), report)
    _show(finished.path, finished.read_json("summary"), as_json=json)


@opens_runs
def resume(run: Run, set_: SetAgain = None, accept_changes: Accept = False, workers: Workers = None, json: Json = False) -> None:
    """Continues a run."""
    from experiments.run import resume as continue_run  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    with reporting() as report:
        finished = continue_run(run, workers or cores(), report, set_ or (), accept_changes=accept_changes)
    _show(finished.path, finished.read_json("summary"), as_json=json)


@contextmanager
def reporting() -> Iterator[Callable[[str, int, int, CohortResult | None], None]]:
    """Progress for `experiments.run`, with the pages so far."""
    pages = 0
    with stages() as tell:

        def report(what: str, done: int, total: int, result: CohortResult | None) -> None:
            nonlocal pages
            pages += result.pages if result else 0
            more = f": {done} of {total} cohorts, {pages} pages" if result else ""
            tell(what, done, total, detail=f"cohorts, {pages} pages" if total else "", more=more)

        yield report


def _show(path: Path, summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit({"run": str(path), **summary}, as_json=True)
        return
    from experiments.anchor import sentence  # noqa: PLC0415 - slow imports
    from experiments.model_effect import first_words, text_words  # noqa: PLC0415

    tokens = summary["tokens"]
    share = tokens["computed_tokens"] / tokens["prompt_tokens"] if tokens["prompt_tokens"] else 0.0
    kinds = sum((Counter(counts) for counts in summary.get("repairs", ())), Counter[str]())
    repairs = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
    failures = ", ".join(f"{count:,} {status}" for status, count in summary.get("session_failures", {}).items())
    told = first_words(summary)
    rows: list[tuple[str, Any]] = [
        *([("language model", told)] if told else []),
        ("people", f"{summary['people']:,}"),
        ("rounds", summary["rounds"]),
        ("sessions", f"{summary['sessions']:,}"),
        ("pages", f"{summary['pages']:,}"),
        ("items shown", f"{summary['impressions']:,}"),
        (
            "interactions",
            f"{summary['interactions']:,}  ({summary['interactions'] / max(1, summary['impressions']):.1%} of the items shown)",
        ),
        *([("how often people choose", sentence(summary["choose_rate"]))] if "choose_rate" in summary else []),
        ("ratings", f"{summary['ratings']:,}"),
        ("unusable replies", f"{summary['fallback_share']:.2%} of the pages"),
        *([("unusable answers about sessions", failures)] if failures else []),
        *([("repaired in the recommender's lists", repairs)] if repairs else []),
        ("time", f"{summary['seconds']:.0f} s, of which {summary['simulation_seconds']:.0f} s simulation"),
        ("speed", f"{summary['pages_per_second']:.1f} pages/s with {summary['workers']} worker(s)"),
    ]
    if tokens["prompt_tokens"]:
        rows.append(("tokens", f"{tokens['prompt_tokens']:,} in prompts ({share:.0%} computed), {tokens['generated_tokens']:,} generated"))
    if words := text_words(summary):
        rows.append(("texts", words))
    if summary.get("text_failures"):
        from experiments.analysis.report_sections import failed_texts  # noqa: PLC0415 - slow imports

        rows.append(("texts of the model that failed", failed_texts(summary)))
    rows += [("log", f"{path}/impressions.parquet"), ("report", f"{path}/report.html"), ("run", str(path))]
    emit({}, as_json=False, title="What happened", rows=rows)

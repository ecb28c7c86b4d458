"""`usersim plot`: draws the figures of a run again, and the report with them."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.commands.options import Json, Run, opens_runs
from experiments.console import emit, stages

Figure = Annotated[str | None, typer.Option("--figure", help="Only this figure; the report is left as it is.")]
User = Annotated[str | None, typer.Option("--user", help="Id of the person whose timeline is drawn; default: an ordinary one.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("plot", help="Draw the figures and the report of a run again.")(plot)


@opens_runs
def plot(run: Run, figure: Figure = None, user: User = None, json: Json = False) -> None:
    """Draws figures; without --figure, the report too."""
    from experiments.analysis.figure_style import Made  # noqa: PLC0415 - slow imports, and only here
    from experiments.analysis.figures import make_figures  # noqa: PLC0415
    from experiments.analysis.report import write_report  # noqa: PLC0415
    from experiments.run_work import working_in  # noqa: PLC0415
    from simulator.errors import ConfigError  # noqa: PLC0415

    if user is not None and figure not in (None, "timeline"):
        raise ConfigError(f"--user chooses the person of the figure 'timeline' and does nothing for '{figure}'; leave one of the two out.")
    with working_in(run, "usersim plot"), stages() as tell:
        tell("drawing figures", 0, 0)
        made = make_figures(run, figure, user)
        report = write_report(run, made) if figure is None else None
    paths = {name: str(found.path) for name, found in made.items() if isinstance(found, Made)}
    skipped = {name: found.reason for name, found in made.items() if not isinstance(found, Made)}
    rows = [*paths.items(), *((name, f"not drawn: {reason}") for name, reason in skipped.items())]
    document = {"run": str(run), "figures": paths, "skipped": skipped, "report": str(report) if report else None}
    emit(document, as_json=json, title=f"Figures of {run}", rows=[*rows, ("report", report)] if report else rows)

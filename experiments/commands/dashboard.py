"""`usersim dashboard`: a live run in the browser, by Mesa's own visualisation."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import Seed, Set, opens_runs, takes_settings
from experiments.console import emit, note, stages

Target = Annotated[
    Path,
    typer.Argument(metavar="CONFIG|RUN", help="Experiment file or name; or the folder of a complete run, whose people go on from there."),
]
People = Annotated[int, typer.Option("--people", min=1, max=256, help="People who browse live.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port on loopback; 0 takes a free one.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document (address, process, people) when the page can be opened.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("dashboard", help="Watch people browse, live: pages, memories, measures; pause, step, change settings, ask questions.")(
        dashboard
    )


@opens_runs
@takes_settings
def dashboard(
    target: Target,
    set_: Set = None,
    people: People = 12,
    port: Port = 8765,
    open_: Open = False,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Serves the dashboard until interrupted."""
    from experiments.dashboard import server  # noqa: PLC0415 - slow imports, and only here

    server.check_installed()
    from experiments.dashboard import current  # noqa: PLC0415
    from experiments.dashboard.world import open_world  # noqa: PLC0415

    with contextlib.ExitStack() as ending:
        place = server.listen(port)
        ending.callback(place.close)
        token = secrets.token_urlsafe(32)
        address = server.address(place, token)
        with stages() as tell:
            world = open_world(
                target,
                [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])],
                people,
                lambda what, done, total, _: tell(what, done, total),
            )
        ending.callback(world.close)

        def ready() -> None:
            if json:
                emit({"address": address, "process": os.getpid(), "people": len(world.people)}, as_json=True)
            note(f"The dashboard is at {address}; Ctrl-C ends it.")
            if open_:
                typer.launch(address)

        # ended from outside, it ends as by Ctrl-C, which is how it is meant to end
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        current.show(world)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve(place, ready, token)

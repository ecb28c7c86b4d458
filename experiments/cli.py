"""The command line `usersim`. Each command is a module of `experiments.commands`; this file mounts them and ends well.

Exit status: 0 success, 1 a run that failed, 2 wrong input or something that the system refused, 130 interrupted.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

OURS = ("simulator", "agents", "environments", "experiments")


def foreign_packages() -> list[str]:
    """Sentences about top-level packages of ours that Python would import from somewhere else."""
    home = Path(__file__).resolve().parent.parent
    found = []
    for name in OURS:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parent.parent != home:
            where = origin.parent if origin else "nowhere"
            found.append(
                f"the package '{name}' is found at {where} and not beside usersim at {home}: another distribution (or a folder here) "
                f"has the same name; install usersim in an environment of its own: python3 -m venv .venv && .venv/bin/pip install usersim."
            )
    return found


def main() -> None:
    """Entry point of the command `usersim`."""
    foreign = foreign_packages()
    if foreign:
        sys.stderr.write(f"usersim: {foreign[0]}\n")
        sys.exit(2)
    from experiments.streams import ended, guard  # noqa: PLC0415 - after the check that our packages are ours

    out, err = guard()
    sys.exit(ended(out, err, _with_memory(sys.argv[1:])))


def _with_memory(arguments: list[str]) -> int:
    """`call`, where there is memory for it; libraries that find none when they are loaded say it in words of their own."""
    from experiments.memory import too_few_addresses  # noqa: PLC0415

    told = too_few_addresses()
    if not told:
        try:
            return call(arguments)
        except ImportError as error:
            if "failed to map" not in str(error) and "annot allocate memory" not in str(error):
                raise
            told = f"{error}: there is too little memory to load what usersim needs."
    sys.stderr.write(f"usersim: {told}\n")
    return 2


def call(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status."""
    import typer  # noqa: PLC0415 - after the check that our packages are ours

    from experiments.console import fail, set_volume  # noqa: PLC0415

    set_volume("normal")
    try:
        result: Any = application()(arguments, prog_name="usersim", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        fail("usersim: interrupted; what was finished is kept, `usersim resume RUN` continues a run.")
        return 130
    except Exception as error:
        told = _explained(error)
        if told is not None:
            fail(f"usersim: {told[0]}")
            return told[1]
        # A wrong option or argument; typer keeps its own copy of click, whose exceptions it does not export.
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        return int(error.exit_code)
    return int(result or 0)


def _explained(error: Exception) -> tuple[str, int] | None:
    """The sentence and the exit status of an error that needs no traceback; None for a defect."""
    from simulator.errors import UsersimError, of_the_system, out_of_memory  # noqa: PLC0415
    from simulator.files import system_error  # noqa: PLC0415

    if isinstance(error, UsersimError):
        return str(error), error.exit_status
    if isinstance(error, MemoryError):
        return out_of_memory(), 2
    refused = error if isinstance(error, OSError) else system_error(error)
    return None if refused is None else (of_the_system(refused), 2)


def application() -> Any:
    """The typer application with all commands."""
    import typer  # noqa: PLC0415

    from experiments.commands import (  # noqa: PLC0415
        ask,
        augment,
        benchmark,
        compare,
        config,
        dashboard,
        data,
        doctor,
        evaluate,
        evaluate_recommenders,
        export,
        fidelity,
        interview,
        models,
        plot,
        run,
        study,
        tune,
        verify,
    )
    from experiments.commands.volume import add_everywhere  # noqa: PLC0415

    app = typer.Typer(
        name="usersim",
        help="Simulates the users of a recommender: LLM-driven people browse pages that a recommender fills.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    commands = (
        run,
        compare,
        study,
        dashboard,
        interview,
        ask,
        plot,
        export,
        verify,
        tune,
        fidelity,
        augment,
        evaluate,
        evaluate_recommenders,
        doctor,
    )
    for command in commands:
        command.register(app)
    app.add_typer(data.app, name="data")
    app.add_typer(models.app, name="models")
    app.add_typer(config.app, name="config")
    app.add_typer(benchmark.app, name="benchmark")
    add_everywhere(app)
    return app


if __name__ == "__main__":
    main()

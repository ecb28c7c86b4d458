"""``-v`` and ``-q``: how much a command tells, for every command, before its name and after it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from experiments.console import set_volume
from simulator.errors import ConfigError

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell everything that is logged, with times.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Tell nothing on stderr but why a command failed.")]


def add_everywhere(app: typer.Typer) -> None:
    """Gives the options to an application, all its commands and those of its groups."""
    app.callback()(before_the_command)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _add(group.typer_instance)
    _add(app)


def before_the_command(verbose: Verbose = False, quiet: Quiet = False) -> None:
    """Takes the options that stand before a command."""
    _choose(verbose, quiet)


def _add(app: typer.Typer) -> None:
    for command in app.registered_commands:
        if command.callback is not None and not hasattr(command.callback, "__wrapped__"):
            command.callback = _with_options(command.callback)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with two more parameters, which are its own to whoever reads its signature."""

    @functools.wraps(command)
    def told(*arguments: Any, verbose: bool = False, quiet: bool = False, **options: Any) -> Any:
        _choose(verbose, quiet)
        return command(*arguments, **options)

    hints = get_type_hints(command, include_extras=True)
    own = [each.replace(annotation=hints[each.name]) for each in inspect.signature(command).parameters.values()]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("verbose", Verbose), ("quiet", Quiet))
    ]
    told.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    told.__annotations__ = {each.name: each.annotation for each in (*own, *more)}
    return told


def _choose(verbose: bool, quiet: bool) -> None:
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet say the opposite of each other; leave one of them out.")
    if verbose or quiet:
        set_volume("verbose" if verbose else "quiet")

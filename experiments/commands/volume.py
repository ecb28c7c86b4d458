"""``-v`` and ``-q``: how much a command tells, for every command, before its name and after it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from experiments.commands.options import with_flags
from experiments.console import set_volume
from simulator.errors import ConfigError
from simulator.version import __version__


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"usersim {__version__}\n")
        raise typer.Exit


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell everything that is logged, with times.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Tell nothing on stderr but why a command failed.")]
Version = Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and end.")]


def add_everywhere(app: typer.Typer) -> None:
    """Gives the options to an application, all its commands and those of its groups."""
    app.callback()(before_the_command)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _add(group.typer_instance)
    _add(app)


def before_the_command(verbose: Verbose = False, quiet: Quiet = False, version: Version = False) -> None:
    """Takes the options that stand before a command."""
    _choose(verbose, quiet)


def _add(app: typer.Typer) -> None:
    for command in app.registered_commands:
        if command.callback is not None and "verbose" not in inspect.signature(command.callback).parameters:
            command.callback = with_flags(command.callback, _told, verbose=Verbose, quiet=Quiet)


@contextmanager
def _told(verbose: bool, quiet: bool) -> Iterator[None]:
    _choose(verbose, quiet)
    yield


def _choose(verbose: bool, quiet: bool) -> None:
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet say the opposite of each other; leave one of them out.")
    if verbose or quiet:
        set_volume("verbose" if verbose else "quiet")

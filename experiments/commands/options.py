"""Arguments and options that several commands have, with the same words everywhere."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

LARGEST_SEED = 2**63 - 1


def finite_number(value: float | None) -> float | None:
    """Refuses nan and infinity, which no option means and no bound catches.

    Raises:
        typer.BadParameter: the value is one.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


Config = Annotated[Path, typer.Argument(help="Experiment file (.toml), or the name of one that comes with usersim.")]
Run = Annotated[Path, typer.Argument(help="Folder of a complete run.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting; may be repeated.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of all randomness, instead of the file's.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; changes nothing but the speed [default: cores].")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Open runs that name code, programs or hosts, which opening them uses (see USERSIM_TRUST, README).")
]


def with_flags(command: Callable[..., Any], around: Callable[..., AbstractContextManager[Any]], **flags: Any) -> Callable[..., Any]:
    """A command with more options.

    Args:
        command: the function. around: makes, of the values of the flags by name, the block that the command runs in.
        flags: name -> annotation of an option that is given or not.
    """

    @functools.wraps(command)
    def more(*arguments: Any, **options: Any) -> Any:
        with around(**{name: options.pop(name, False) for name in flags}):
            return command(*arguments, **options)

    own = inspect.signature(command, eval_str=True)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind) for name, kind in flags.items()]
    more.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    more.__annotations__ = {name: one.annotation for name, one in own.parameters.items()} | flags
    return more


def opens_runs(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the option ``--trust``, within which every run is trusted if it is given (`experiments.trust`)."""
    return with_flags(command, _trusting, trust=Trust)


@contextmanager
def _trusting(trust: bool) -> Iterator[None]:
    from experiments.trust import granted  # noqa: PLC0415 - slow imports, and only here

    with granted(trust):
        yield


NoModel = Annotated[
    bool, typer.Option("--no-language-model", help="People decide by behavioural evidence alone; the same as --set language_model=false.")
]


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command of an experiment with the option ``--no-language-model``, which is one more setting ``language_model=false``."""

    @functools.wraps(command)
    def more(*arguments: Any, no_language_model: bool = False, **options: Any) -> None:
        if no_language_model:
            options["set_"] = [*(options.get("set_") or []), "language_model=false"]
        command(*arguments, **options)

    own = inspect.signature(command, eval_str=True)
    flag = inspect.Parameter("no_language_model", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=NoModel)
    more.__signature__ = own.replace(parameters=[*own.parameters.values(), flag])  # type: ignore[attr-defined]
    more.__annotations__ = {name: one.annotation for name, one in own.parameters.items()} | {"no_language_model": NoModel}
    return more

"""Whose runs are opened: somebody's run folder can name code, programs and hosts, which opening it would run, start and ask.

An experiment file is like a script: whoever starts `usersim run my.toml` has chosen what it names. A run's folder comes from anywhere, and
looks like data. So what its configuration names is refused before anything of it is imported, unless it is part of usersim, or the user's
own experiment of the same command names it too (`own`), or the user says that the run is trusted: ``--trust``, or the environment variable
USERSIM_TRUST, which is 1 or holds folders whose runs are trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from simulator.credentials import masked
from simulator.errors import ConfigError
from simulator.plugins import portable
from simulator.web import is_loopback

VARIABLE = "USERSIM_TRUST"

OURS = ("simulator", "agents", "environments", "experiments")
"""Packages whose code is part of usersim."""

PICKLED = ("environments.recommenders.lenskit_library", "environments.recommenders.rectools_library")
"""Modules of recommenders whose stored state is a pickle, which can hold code."""

_CODE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*|.*\.py:.*", re.DOTALL)
_PARTS_OF_RUNS = ("manifest.json", "summary.json", "decisions", "recommenders", "rounds", "arms")


class UntrustedError(ConfigError):
    """A run names something that opening it would use, and nobody said that it is trusted."""


Danger = tuple[str, str]
"""What a configuration names that opening it would use, as text, and what that is in a few words."""

_granted: ContextVar[bool] = ContextVar("granted", default=False)
_known: ContextVar[frozenset[str]] = ContextVar("known", default=frozenset())


def dangers(document: Any, path: tuple[str, ...] = ()) -> Iterator[Danger]:
    """What settings name that is no part of usersim: code, programs, other machines; and stored states that can hold code.

    Args:
        document: unchecked settings; nothing of them is imported. path: where they stand.
    """
    key = path[-1] if path else ""
    if isinstance(document, Mapping):
        for name, entry in document.items():
            yield from dangers(entry, (*path, str(name)))
    elif key in ("command", "commands"):
        yield repr(document), f"starts the program {masked(repr(document))}"
    elif isinstance(document, list | tuple):
        for entry in document:
            yield from dangers(entry, path)
    elif isinstance(document, str) and (key == "use" or _CODE.fullmatch(document)):
        module = document.partition(":")[0]
        if module.partition(".")[0] not in OURS or ".py" in document or "/" in document:
            yield portable(document), f"runs the code {document!r}"
        elif module in PICKLED:
            yield document, f"reads a stored state that can hold code (of {document!r})"
    elif isinstance(document, str) and document.partition("://")[0].lower() in ("http", "https") and not _is_here(document):
        yield document, f"asks {masked(document)!r}"


def _is_here(address: str) -> bool:
    try:
        return is_loopback(httpx.URL(address).host)
    except (httpx.InvalidURL, ValueError):
        return False


def check_trusted(document: Mapping[str, Any], folder: Path) -> None:
    """Passes if everything that a stored configuration names may be used.

    Args:
        document: its unchecked settings. folder: what it lies in, for the message and for USERSIM_TRUST.

    Raises:
        UntrustedError: it names something that may not, and nothing was imported.
    """
    if _granted.get() or _is_named(folder):
        return
    found = next(((path, words) for path, (name, words) in _with_paths(document) if name not in _known.get()), None)
    if found is not None:
        path, words = found
        raise UntrustedError(
            f"{folder} is not trusted: opening it {words} ({path}). If you know who made it and what that does, add --trust (in "
            f"Python: trust=True), or set {VARIABLE} to 1 or to folders whose runs you trust."
        )


def _with_paths(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Danger]]:
    """Dangers with the setting that they are in."""
    if isinstance(document, Mapping):
        for name, entry in document.items():
            yield from _with_paths(entry, (*path, str(name)))
    else:
        yield from ((".".join(path), danger) for danger in dangers(document, path))


def _is_named(folder: Path) -> bool:
    """Whether the environment says that runs in this folder are trusted."""
    said = os.environ.get(VARIABLE, "").strip()
    if said.lower() in ("1", "true", "yes"):
        return True
    here = folder.expanduser().resolve()
    return any(here.is_relative_to(Path(name).expanduser().resolve()) for name in said.split(os.pathsep) if name not in ("", "0"))


def is_of_a_run(file: Path) -> bool:
    """Whether a file is the configuration of a run, rather than an experiment file of somebody's own."""
    return file.name == "config.toml" and any((file.parent / part).exists() for part in _PARTS_OF_RUNS)


@contextmanager
def granted(yes: bool = True) -> Iterator[None]:
    """Within the block, every run is trusted, if `yes`."""
    token = _granted.set(yes or _granted.get())
    try:
        yield
    finally:
        _granted.reset(token)


@contextmanager
def own(*configurations: BaseModel | Mapping[str, Any]) -> Iterator[None]:
    """Within the block, what these experiments of the user name may be used in runs too: they are what the runs are made of."""
    documents = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in configurations]
    token = _known.set(_known.get() | {name for document in documents for name, _ in dangers(document)})
    try:
        yield
    finally:
        _known.reset(token)

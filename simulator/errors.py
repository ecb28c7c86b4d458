"""Everything that can go wrong on purpose.

::

    UsersimError                  one clear sentence for the user; `exit_status` for the shell
    ├── ConfigError               an experiment file, a `--set`, or an argument is wrong
    ├── DataError                 a data file is missing, damaged, or holds a value that is not allowed
    ├── DownloadError             a file could not be fetched or is not the expected one
    ├── PluginError               an import path does not lead to a usable class
    ├── ModelError                a language model cannot be loaded or cannot do what was asked
    │   ├── ScriptExhausted       a scripted language model was asked more than its script holds
    │   └── ServerError           a language model's server failed for good; the run can be resumed later
    ├── RecommenderError          a recommender broke its contract
    └── RunError                  a run directory is missing, incomplete or inconsistent
        ├── FallbackError         too many replies of the language model could not be used
        ├── BudgetError           the money for a language model is spent
        └── WorkerError           a worker process died

A message says what was found, where, what is allowed and what to do. `with_suggestion` makes the
"did you mean" part the same everywhere.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Mapping

_LONG = re.compile(r"\S{1000,}")


class UsersimError(Exception):
    """Base of all errors that are explained to the user in one sentence.

    Attributes:
        exit_status: what the command line returns to the shell; 2 for wrong input, 1 for a run that failed.
    """

    exit_status = 2

    def __str__(self) -> str:
        """The sentence on one line, whatever it quotes.

        Line breaks and signs that steer a terminal are spelled out; of what is longer than any path or key only the ends are told.
        """
        text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in super().__str__())
        return _LONG.sub(lambda found: f"{found[0][:200]}...{found[0][-100:]}", text)


class ConfigError(UsersimError):
    """An experiment file, an override or a command argument is wrong."""


class DataError(UsersimError):
    """A data file is missing, damaged, or holds a value that is not allowed."""


class DownloadError(UsersimError):
    """A file could not be fetched, or what arrived is not the expected file."""


class PluginError(UsersimError):
    """An import path of the form ``package.module:Class`` does not lead to a usable class."""


class ModelError(UsersimError):
    """A language model cannot be loaded, or cannot do what was asked of it."""


class ScriptExhausted(ModelError):
    """A `ScriptedLanguageModel` was asked for more than its script holds."""


class ServerError(ModelError):
    """The server of a language model cannot be reached, or went on failing after all retries."""

    exit_status = 1


class RecommenderError(UsersimError):
    """A recommender returned something that its contract does not allow."""


class RunError(UsersimError):
    """A run directory is missing, incomplete, or does not fit what was asked."""


class FallbackError(RunError):
    """More replies of the language model were unusable than the experiment allows."""

    exit_status = 1


class BudgetError(RunError):
    """The money that an experiment allows for its language model is spent; a run resumes with a larger budget."""

    exit_status = 1


class WorkerError(RunError):
    """A process that simulated people died; what was finished is kept, and the run can be continued."""

    exit_status = 1


def with_suggestion(what: str, got: str, allowed: Iterable[str]) -> str:
    """Says that `got` is not an allowed `what`, with the nearest allowed name if one is near.

    Example:
        >>> with_suggestion("recommender", "lightgcm", ["bpr", "lightgcn"])
        "unknown recommender 'lightgcm'; did you mean 'lightgcn'? Allowed: bpr, lightgcn."
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(got, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown {what} '{got}'{hint} Allowed: {', '.join(names)}."


_WAYS_OUT: Mapping[int, str] = {
    errno.ENOSPC: "free some space there and repeat the command; what was finished is kept",
    errno.EDQUOT: "free some of your space there and repeat the command; what was finished is kept",
    errno.EROFS: "choose another folder",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.ENOTDIR: "a part of this path is a file and not a folder; choose another path",
    errno.EEXIST: "choose another path, or remove what is there",
    errno.EISDIR: "give the path of a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.EMFILE: "allow more with `ulimit -n`, or use fewer --workers",
    errno.ENFILE: "close other programs",
    errno.EFBIG: "allow larger files with `ulimit -f`",
    errno.EIO: "check the disk",
    errno.ENOMEM: "close other programs, or use fewer --workers",
    errno.EAGAIN: "allow more processes with `ulimit -u`, or use fewer --workers",
}


def of_the_system(error: OSError) -> str:
    """What the operating system refused, as one sentence: where, why, and the way out.

    Example:
        >>> of_the_system(OSError(28, "No space left on device", "/data/run/manifest.json"))
        '/data/run/manifest.json: No space left on device; free some space there and repeat the command; what was finished is kept.'
    """
    text = " ".join((error.strerror or str(error) or type(error).__name__).split()).rstrip(".")
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    way_out = _WAYS_OUT.get(error.errno or 0)
    return f"{where}{text}{f'; {way_out}' if way_out else ''}."


def out_of_memory() -> str:
    """That memory did not suffice, as one sentence."""
    return (
        "there is too little memory for this; what was finished is kept. Close other programs, use fewer --workers, a smaller model or "
        "fewer people and items, or allow more with `ulimit -v`, then continue a run with `usersim resume RUN`."
    )

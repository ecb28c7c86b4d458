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
from collections.abc import Iterable


class UsersimError(Exception):
    """Base of all errors that are explained to the user in one sentence.

    Attributes:
        exit_status: what the command line returns to the shell; 2 for wrong input, 1 for a run that failed.
    """

    exit_status = 2


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

"""Short names of the components that come with usersim: ``ease``, ``EASE``, ``movielens-100k`` in place of an import path.

Every key `use` of an experiment file and every option that takes a recommender knows them. Nothing is imported to find them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

import agents
from environments import datasets, recommenders
from simulator import llm
from simulator.errors import ConfigError, with_suggestion

PLACES: Final[Mapping[str, tuple[ModuleType, tuple[str, ...]]]] = {
    "dataset": (datasets, ("load",)),
    "memory": (agents, ("remember", "recall")),
    "decision": (agents, ("decide", "close_sessions")),
    "language_model": (llm, ("score", "generate", "count_tokens")),
    "recommender": (recommenders, ("fit", "recommend")),
}
"""Section -> the package of its components, and methods that each defines or inherits."""

WORDS: Final[Mapping[str, str]] = {
    "dataset": "data set",
    "memory": "memory",
    "decision": "decision model",
    "language_model": "language model",
    "recommender": "recommender",
}


def import_path(name: str, section: str = "recommender") -> str:
    """The import path that a short name stands for; an import path stands for itself.

    Args:
        name: of a class, or of the module of a class of that name, whatever its capitals, hyphens and underscores; or
            ``package.module:Class``.
        section: of `PLACES`: which kind of component is meant.

    Raises:
        ConfigError: there is no such component.
    """
    if ":" in name:
        return name
    known = shipped(section)
    found = next((path for short, path in known.items() if _plain(name) in (_plain(short), _plain(path.partition(":")[2]))), None)
    if found is None:
        raise ConfigError(f"{with_suggestion(WORDS[section], name, known)} Or give an import path such as my_{section}.py:Mine.")
    return found


@cache
def shipped(section: str = "recommender") -> dict[str, str]:
    """Short name -> import path of every component of a section that comes with usersim.

    The short name is that of the module where the class has the same name, else that of the class in small letters with hyphens, without
    the word "decisions".

    Args:
        section: of `PLACES`.
    """
    package, methods = PLACES[section]
    found = {}
    for module, name in sorted(_components(package, frozenset(methods))):
        short = module if _plain(name) == _plain(module) else _hyphenated(name).removesuffix("-decisions")
        found[short] = f"{package.__name__}.{module}:{name}"
    return found


def _components(package: ModuleType, methods: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Module and class name of every public class with `methods`, its own or of a base class in the same package."""
    classes: dict[str, tuple[str, ast.ClassDef]] = {}
    for file in sorted(Path(next(iter(package.__path__))).glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = (file.stem, node)

    def defined(name: str) -> dict[str, ast.FunctionDef]:
        if name not in classes:
            return {}
        node = classes[name][1]
        found: dict[str, ast.FunctionDef] = {}
        for base in reversed(node.bases):
            found |= defined(_base(base))
        return found | {entry.name: entry for entry in node.body if isinstance(entry, ast.FunctionDef)}

    for name, (module, _) in classes.items():
        found = defined(name)
        complete = methods <= set(found) and not any(_is_abstract(one) for one in found.values())
        if not name.startswith("_") and complete and _takes_options("__init__", found):
            yield module, name


def _takes_options(name: str, methods: Mapping[str, ast.FunctionDef]) -> bool:
    """Whether a class is made from the options of a section alone: its first argument is its configuration, or it has none."""
    first = [one.arg for one in methods[name].args.args[1:2]] if name in methods else []
    return first in ([], ["config"])


def _hyphenated(name: str) -> str:
    """``MovieLens100K`` as ``movielens-100k``, ``CalibratedDecisions`` as ``calibrated-decisions``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z])(?=[0-9])", "-", name).lower()
    return words.replace("movie-lens", "movielens").replace("rec-bole", "recbole")


def _base(node: ast.expr) -> str:
    """Name of a base class, without its module and type arguments."""
    if isinstance(node, ast.Subscript):
        return _base(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_abstract(node: ast.FunctionDef) -> bool:
    """Whether a method is left to subclasses: abstract, or nothing but ``raise NotImplementedError``."""
    last = node.body[-1]
    raised = last.exc if isinstance(last, ast.Raise) else None
    named = raised.func if isinstance(raised, ast.Call) else raised
    return any(_base(one) == "abstractmethod" for one in node.decorator_list) or (
        isinstance(named, ast.Name) and named.id == "NotImplementedError"
    )


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()

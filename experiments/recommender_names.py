"""Recommenders that come with usersim, by the name of their module or class: ``ease``, ``EASE``, ``item_knn``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from environments import recommenders
from simulator.errors import ConfigError, with_suggestion


def import_path(name: str) -> str:
    """The import path that a name stands for; an import path stands for itself.

    Args:
        name: of a module or class of `environments.recommenders`, whatever its capitals and underscores, or ``package.module:Class``.

    Raises:
        ConfigError: there is no such recommender.
    """
    if ":" in name:
        return name
    known = shipped()
    found = next((path for module, path in known.items() if _plain(module) == _plain(name)), None)
    if found is None:
        raise ConfigError(f"{with_suggestion('recommender', name, known)} Or give an import path such as my_recommender.py:Mine.")
    return found


@cache
def shipped() -> dict[str, str]:
    """Module -> import path of the class that has its name, of every recommender that comes with usersim; nothing is imported."""
    found = {}
    for file in sorted(Path(str(recommenders.__file__)).parent.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and _plain(node.name) == _plain(file.stem) and _recommends(node):
                found[file.stem] = f"environments.recommenders.{file.stem}:{node.name}"
    return found


def _recommends(node: ast.ClassDef) -> bool:
    """Whether a class looks like a recommender: options beside it, or the methods of one."""
    methods = {entry.name for entry in node.body if isinstance(entry, ast.FunctionDef)}
    options = any(
        isinstance(target, ast.Name) and target.id == "Config"
        for entry in node.body
        if isinstance(entry, ast.Assign)
        for target in entry.targets
    )
    return options or {"fit", "recommend"} <= methods


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()

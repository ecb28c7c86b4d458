"""Loading a component from an import path such as ``environments.recommenders.bpr:BPR``.

There is no registry: the import path in the configuration *is* the name of a component. A path may also start with a
Python file, ``my_folder/my_recommender.py:MyRecommender``, so that a class outside any package works.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from simulator.credentials import check_settings, shown
from simulator.errors import ConfigError, PluginError, with_suggestion


class ComponentConfig(BaseModel):
    """Base of the configuration that stands beside a component: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def build(use: str, options: Mapping[str, Any], *, where: str, methods: tuple[str, ...], **context: Any) -> Any:
    """Makes a component from its section of an experiment file.

    Args:
        use: the import path of its class.
        options: the rest of the section.
        where: name of the section, for messages.
        methods: what the class must define.
        context: passed on to the class by keyword.

    Raises:
        PluginError: `use` does not lead to a usable class.
        ConfigError: an option is unknown, missing or has a value that is not allowed.
    """
    component = load(use, methods=methods)
    return component(*_checked(component, use, options, where), **context)


def resolve(use: str, options: Mapping[str, Any], *, where: str, methods: tuple[str, ...]) -> dict[str, Any]:
    """The section with every default filled in, without making the component.

    Raises:
        PluginError, ConfigError: as `build`.
    """
    checked = _checked(load(use, methods=methods), use, options, where)
    return checked[0].model_dump(mode="json", exclude_none=True) if checked else {}


def _checked(component: type[Any], use: str, options: Mapping[str, Any], where: str) -> tuple[BaseModel, ...]:
    check_settings(options, where)
    config = getattr(component, "Config", None)
    if config is None:
        if options:
            raise ConfigError(f"[{where}] {use} takes no options, but '{next(iter(options))}' is given.")
        return ()
    try:
        return (config.model_validate(dict(options)),)
    except ValidationError as error:
        raise ConfigError(explain(error, where, config)) from error


def explain(error: ValidationError, where: str, config: type[BaseModel]) -> str:
    """The first problem of a pydantic error as one sentence that names section, key, value and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    if first["type"] == "extra_forbidden":
        return f"[{where}] {with_suggestion('key', key, config.model_fields)}"
    if first["type"] == "missing":
        return f"[{where}] {key} is missing."
    message = first["msg"].removeprefix("Value error, ")
    return f"[{where}] {key or 'section'} = {shown(key, first['input'])}: {message[0].lower()}{message[1:]}."


def load(path: str, *, methods: tuple[str, ...] = ()) -> type[Any]:
    """The class that an import path names.

    Args:
        path: ``package.module:Class`` or ``path/to/file.py:Class``.
        methods: names that the class must define, so that a wrong class is refused here and not in the middle of a run.

    Raises:
        PluginError: the path is malformed, the module does not import, the class is not there or lacks a method.
    """
    found: type[Any] = _named(path, "class", inspect.isclass)
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if missing:
        raise PluginError(f"'{path}' cannot be used here: it has no method {', '.join(missing)} (see simulator/protocols.py).")
    return found


def load_function(path: str) -> Callable[..., Any]:
    """The function that an import path names, such as ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        PluginError: the path is malformed, the module does not import, or the function is not there.
    """
    found: Callable[..., Any] = _named(path, "function", inspect.isfunction)
    return found


def _named(path: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """What an import path names, if it `fits`; `kind` says in a word what is wanted."""
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name.isidentifier():
        wanted = kind.capitalize() if kind == "class" else kind
        raise PluginError(f"'{path}' is not an import path; write 'package.module:{wanted}' or 'path/to/file.py:{wanted}'.")
    module = _module_from_file(module_name) if module_name.endswith(".py") else _module(module_name, path)
    found = getattr(module, name, None)
    if not fits(found):
        allowed = [other for other, value in vars(module).items() if fits(value) and _is_public(other, value, module)]
        raise PluginError(f"in '{path}': {with_suggestion(f'{kind} of {module_name}', name, allowed)}")
    return found


def _is_public(name: str, value: Any, module: ModuleType) -> bool:
    return not name.startswith("_") and value.__module__ == module.__name__


def _module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise PluginError(
                f"'{path}': there is no module '{error.name}'; check the spelling, or install the package it is in."
            ) from error
        raise PluginError(f"'{path}' needs the package '{error.name}', which is not installed; try: pip install {error.name}.") from error
    except Exception as error:
        raise PluginError(f"'{path}' fails when it is imported: {type(error).__name__}: {error}.") from error


def _module_from_file(name: str) -> ModuleType:
    file = Path(name).expanduser().resolve()
    if not file.is_file():
        raise PluginError(f"there is no file '{name}' (looked for it at {file}).")
    module_name = f"usersim_plugin_{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"'{name}' cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise PluginError(f"'{name}' fails when it is imported: {type(error).__name__}: {error}.") from error
    return module

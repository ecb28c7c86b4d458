"""Loading a component from an import path such as ``environments.recommenders.bpr:BPR``.

There is no registry: the import path in the configuration *is* the name of a component. A path may also start with a
Python file, ``my_folder/my_recommender.py:MyRecommender``, so that a class outside any package works.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from simulator.credentials import check_settings, shown
from simulator.errors import ConfigError, PluginError, with_suggestion

NAME_OR_PATH = ("adapter", "path")
"""Options that some components take a name for."""


class ComponentConfig(BaseModel):
    """Base of the configuration that stands beside a component: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list of settings in which nothing stands twice.

    Raises:
        ValueError: names what does.
    """
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice; name each once")
    return values


def build(use: str, options: Mapping[str, Any], *, where: str, methods: tuple[str, ...], also: Iterable[str] = (), **context: Any) -> Any:
    """Makes a component from its section of an experiment file.

    Args:
        use: the import path of its class.
        options: the rest of the section.
        where: name of the section, for messages.
        methods: what the class must define.
        also: keys that the section itself allows beside the component's, for messages.
        context: passed on to the class by keyword.

    Raises:
        PluginError: `use` does not lead to a usable class.
        ConfigError: an option is unknown, missing or has a value that is not allowed.
    """
    component = load(use, methods=methods)
    return component(*_checked(component, use, options, where, also), **context)


def resolve(use: str, options: Mapping[str, Any], *, where: str, methods: tuple[str, ...], also: Iterable[str] = ()) -> dict[str, Any]:
    """The section with every default filled in and paths that mean the same from any folder, without making the component.

    Raises:
        PluginError, ConfigError: as `build`.
    """
    checked = _checked(load(use, methods=methods), use, options, where, also)
    return {**checked[0].model_dump(mode="json", exclude_none=True), **_absolute_paths(checked[0])} if checked else {}


def _absolute_paths(config: BaseModel) -> dict[str, str]:
    """The options of a component that are relative paths, made absolute.

    Where a component has an option `path`, its other files lie in there and stay as they are. What may be a name instead of a path
    (`NAME_OR_PATH`) is taken for a path if there is one.
    """
    found: dict[str, str] = {}
    folder = getattr(config, "path", None)
    for option, value in config:
        beside = option == "path" or not isinstance(folder, Path)
        if option in NAME_OR_PATH and isinstance(value, str | Path) and not isinstance(folder, Path):
            if value and Path(value).expanduser().exists():
                found[option] = str(Path(value).expanduser().resolve())
        elif isinstance(value, Path) and beside:
            found[option] = str(value.expanduser().resolve())
    return found


def _checked(component: type[Any], use: str, options: Mapping[str, Any], where: str, also: Iterable[str]) -> tuple[BaseModel, ...]:
    check_settings(options, where)
    config = getattr(component, "Config", None)
    if config is None:
        if options:
            beside = f" Allowed: {', '.join(sorted(also))}." if also else ""
            raise ConfigError(f"[{where}] {use} takes no options, but '{next(iter(options))}' is given.{beside}")
        return ()
    try:
        return (config.model_validate(dict(options)),)
    except ValidationError as error:
        raise ConfigError(explain(error, where, config, also)) from error


def explain(error: ValidationError, where: str, config: type[Any], also: Iterable[str] = (), *, skip: int = 0) -> str:
    """The most telling problem of a pydantic error as one sentence that names section, key, value and what is allowed.

    Args:
        error: what pydantic raised. where: name of the section.
        config: that was checked. also: further keys that stand beside its own.
        skip: how many steps of the error's places lead to `config`.
    """
    first = error.errors()[0]
    if isinstance(first["input"], dict):  # one of several kinds: what is wrong within the nearest one tells more
        first = max(error.errors(), key=lambda one: (one["type"] in (*_UNKNOWN, "missing"), len(one["loc"])))
    keys, owners = _place(first["loc"][skip:], config)
    within = ".".join((where, *keys[:-1]))
    if first["type"] in _UNKNOWN:
        allowed = {name for owner in owners for name in fields_of(owner)}
        return f"[{within}] {with_suggestion('key', keys[-1], allowed | (set(also) if len(keys) == 1 else set()))}"
    if first["type"] == "missing":
        return f"[{within}] {keys[-1]} is missing."
    message, key = first["msg"].removeprefix("Value error, "), ".".join(keys)
    value = shown(key, first["input"])
    value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    return f"[{where}] {key or 'section'} = {value}: {message[0].lower()}{message[1:]}."


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""Types of pydantic's problems with a key that is not known, of a model and of a dataclass."""

_SHOWN = 200
"""Letters of a wrong value in a message, at most."""

_BRANCH = re.compile(r"^(?:[a-z-]+\[.*|str|int|float|bool|none|constrained-[a-z]+|lax-or-strict|json-or-python)$", re.DOTALL)
"""Steps of pydantic's places that are no keys but kinds of value: "literal['a','b']", "tuple[float, float]", "str"."""


def _place(steps: Iterable[str | int], config: type[Any]) -> tuple[list[str], list[type[Any]]]:
    """The keys on the way to a problem, and the models that could own the last of them."""
    keys: list[str] = []
    owners, within = [config], [config]
    for step in steps:
        model = next((one for one in within if step in fields_of(one)), None)
        if model is not None:
            owners, within = [model], _models(fields_of(model)[str(step)])
        elif any(step == one.__name__ for one in within):
            within = [one for one in within if step == one.__name__]
            continue
        elif isinstance(step, str) and _BRANCH.match(step):
            continue
        else:
            owners = within
        keys.append(str(step))
    return keys, owners


def fields_of(model: type[Any]) -> Mapping[str, Any]:
    """The keys of a configuration, a pydantic model or a dataclass, with the types of their values."""
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    kinds = get_type_hints(model)
    return {field.name: kinds[field.name] for field in fields(model)}


def _models(annotation: Any) -> list[type[Any]]:
    """The models in the type of a field."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def portable(use: str) -> str:
    """An import path that works from any folder: a file becomes absolute."""
    module, colon, name = use.partition(":")
    return f"{Path(module).expanduser().resolve()}{colon}{name}" if module.endswith(".py") else use


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

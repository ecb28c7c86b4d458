"""Every setting of an experiment file, generated from the classes that check it: as a JSON schema, and as a page to read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from experiments import component_names
from experiments.config import ExperimentConfig
from experiments.sections import Section
from simulator.errors import PluginError
from simulator.plugins import fields_of, load

SCHEMA_OF: Final[str] = "http://json-schema.org/draft-07/schema#"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key, the kind of its values with their bounds, its default as JSON, what it means."""

    key: str
    kind: str
    default: str
    meaning: str


def schema() -> dict[str, Any]:
    """JSON schema of an experiment file (draft 7), with the options of every component that comes with usersim under its `use`."""
    found = ExperimentConfig.model_json_schema(ref_template="#/definitions/{model}")
    definitions = found.pop("$defs")
    for section in component_names.PLACES:
        model = _model_of(section)
        rules = []
        for short, path in component_names.shipped(section).items():
            options = _schema_of(path)
            if options is None:
                continue
            definitions |= options.pop("$defs", {})
            named = {"properties": {"use": {"enum": [short, path]}}}
            chosen = named if model.model_fields["use"].default == path else {**named, "required": ["use"]}
            rules.append({"if": chosen, "then": {"properties": options.get("properties", {})}})
        definitions[model.__name__]["allOf"] = rules
    return {"$schema": SCHEMA_OF, **found, "definitions": definitions}


def _schema_of(path: str) -> dict[str, Any] | None:
    """The schema of a component's options, or None if it has none, or needs a package that is not installed."""
    config = _config_of(path)
    return None if config is None else TypeAdapter(config).json_schema(ref_template="#/definitions/{model}")


def _config_of(path: str) -> type[Any] | None:
    try:
        found: type[Any] | None = getattr(load(path), "Config", None)
    except PluginError:
        return None
    return found


def _model_of(section: str) -> type[Section]:
    for annotation in (ExperimentConfig.model_fields[section].annotation,):
        for one in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(one, type) and issubclass(one, Section):
                return one
    raise LookupError(section)


def reference() -> str:
    """Every setting as Markdown: the sections of an experiment file, then the options of each component that comes with usersim."""
    lines = ["# Settings of an experiment file", ""]
    lines += _table("Keys at the top", ExperimentConfig, skip=frozenset(_sections()))
    for section, model in _sections().items():
        lines += _table(f"[{section}]", model)
        if section in component_names.PLACES:
            for short, path in component_names.shipped(section).items():
                config = _config_of(path)
                if config is not None:
                    lines += _table(f'[{section}] use = "{short}"', config, note=f"`{path}`")
    return "\n".join(lines).rstrip() + "\n"


def _sections() -> dict[str, type[Any]]:
    """Name -> model of every section, and of what stands below one as a section of its own."""
    found: dict[str, type[Any]] = {}
    for name, annotation in fields_of(ExperimentConfig).items():
        for model in _models(annotation):
            found[name if "dict" not in str(annotation) else f"{name}.<name>"] = model
    return found


def _models(annotation: Any) -> Iterator[type[Any]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _table(title: str, model: type[Any], *, note: str = "", skip: frozenset[str] = frozenset()) -> list[str]:
    rows = [row for row in settings(model) if row.key.partition(".")[0] not in skip]
    told = [f"## {title}", "", *([note, ""] if note else [])]
    if not rows:
        return [*told, "No options.", ""]
    told += ["| key | values | default | meaning |", "|---|---|---|---|"]
    told += [f"| `{row.key}` | {_cell(row.kind)} | {_cell(row.default)} | {_cell(row.meaning)} |" for row in rows]
    return [*told, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def settings(model: type[Any]) -> list[Setting]:
    """The settings of a class of configurations, those of nested ones with the keys on the way to them.

    Args:
        model: a pydantic model, or a dataclass that pydantic checks.
    """
    document = TypeAdapter(model).json_schema(mode="validation")
    return list(_settings(model, document, document.get("$defs", {}), ""))


def _settings(model: type[Any], document: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[Setting]:
    meanings = _meanings(model)
    inner = fields_of(model)
    for key, own in document.get("properties", {}).items():
        nested = next(iter(_nested(inner.get(key))), None)
        shown = _resolved(own, definitions)
        if nested is not None and "properties" in shown:
            yield from _settings(nested, shown, definitions, f"{prefix}{key}.")
            continue
        yield Setting(prefix + key, _kind(own, definitions), _default(own), meanings.get(key, ""))


def _nested(annotation: Any) -> Iterator[type[Any]]:
    """A configuration that is the value of a key, itself and not one of several kinds."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or hasattr(annotation, "__pydantic_config__")):
        yield annotation


def _resolved(own: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(own.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = definitions[name] if name else own
    return found


def _kind(own: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What values are allowed, in words."""
    own = _resolved(own, definitions)
    for several in ("anyOf", "oneOf"):
        if several in own:
            return " or ".join(dict.fromkeys(_kind(one, definitions) for one in own[several]))
    if "enum" in own:
        return ", ".join(f"`{value}`" for value in own["enum"])
    if "const" in own:
        return f"`{own['const']}`"
    name = str(own.get("type", "any value"))
    if name == "array":
        parts = own.get("prefixItems")
        items = ", ".join(_kind(one, definitions) for one in parts) if parts else _kind(own.get("items", {}), definitions)
        return f"list of {items}"
    words = {"integer": "whole number", "null": "none", "string": "text", "boolean": "true or false", "object": "section"}
    bounds = [f"{sign} {own[key]:g}" for key, sign in _BOUNDS.items() if key in own]
    pattern = f" like `{own['pattern']}`" if "pattern" in own else ""
    return " ".join([words.get(name, name), ", ".join(bounds)]).strip() + pattern


_BOUNDS: Final[Mapping[str, str]] = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _default(own: Mapping[str, Any]) -> str:
    if "default" not in own:
        return "" if own.get("type") == "object" else "(needed)"
    value = own["default"]
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meanings(model: type[Any]) -> dict[str, str]:
    """Key -> what its docstring says, of the class and those that it extends; several keys may share an entry or a line."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        text = inspect.getdoc(one) or ""
        _, marked, attributes = text.partition("Attributes:\n")
        if not marked or one.__module__.split(".")[0] not in ("simulator", "agents", "environments", "experiments"):
            continue
        keys = "|".join(map(re.escape, fields_of(model)))
        body = " ".join(attributes.split())
        marks = list(re.finditer(rf"(?:^|(?<=[.;?] ))((?:{keys})(?:, (?:{keys}))*): ", body))
        for mark, after in zip(marks, [*(one.start() for one in marks[1:]), len(body)], strict=True):
            for key in mark.group(1).split(", "):
                found[key] = body[mark.end() : after].strip()
    return found

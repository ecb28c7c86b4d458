"""The experiment file: one TOML document, sections mirror the parts of a simulation.

A section that names a component has `use` (an import path), a few keys of its own listed here, and otherwise the
component's own options. `read` checks all of it before anything is computed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from environments.datasets.files import COMPRESSED, TABLES
from environments.interventions import InterventionConfig, TargetConfig
from experiments import component_names
from experiments.sections import (
    AugmentationSection,
    DatasetSection,
    DecisionSection,
    LanguageModelSection,
    MemorySection,
    Name,
    PopulationSection,
    RecommenderSection,
    TuningSection,
)
from experiments.trust import check_trusted, is_of_a_run
from experiments.without_model import spread, without_options_of_others
from simulator.credentials import check_settings, shown, shown_override
from simulator.errors import ConfigError, PluginError, with_suggestion
from simulator.plugins import explain

_SHIPPED = Path(__file__).parent / "configs"
FOLDERS: Final = ("language", "shelf", "tuning")
"""Of experiment files that come with usersim, by name as "tuning/ml-1m"."""


class ExperimentConfig(BaseModel):
    """One experiment.

    Attributes:
        name: of the experiment; runs go to ``results/<name>/``.
        seed: of all randomness.
        rounds: periods between two fits of the recommender; round_days: their simulated length.
        cohort_size: people simulated together, at most.
        anchor: whose pages `decision.choose_rate` is met on, as a recommender with its pages; None is the experiment's own
            (`experiments.anchoring`).
        interventions: adverts, prices and explanations beside some items for some people, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    seed: int = Field(7, ge=0, lt=2**63)
    rounds: int = Field(1, ge=1, le=10_000)
    round_days: float = Field(7.0, ge=1, le=3_650)
    cohort_size: int = Field(24, ge=1, le=4_096)
    dataset: DatasetSection = DatasetSection()
    population: PopulationSection = PopulationSection()
    memory: MemorySection = MemorySection()
    decision: DecisionSection = DecisionSection()
    language_model: LanguageModelSection | None = LanguageModelSection()
    recommender: RecommenderSection = RecommenderSection()
    anchor: RecommenderSection | None = None
    interventions: dict[Name, InterventionConfig] = Field(default_factory=dict)
    tuning: TuningSection = TuningSection()
    augmentation: AugmentationSection = AugmentationSection()


def read(file: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Reads and checks an experiment file.

    Args:
        file: a TOML file, or the name of one that comes with usersim ("movielens").
        overrides: settings of the form ``section.key=value``; the value is TOML, or else taken as text.

    Raises:
        ConfigError: the file is missing or not TOML, or a key or value is not allowed.
    """
    return check(document(find(file), overrides), str(find(file)))


def of_run(file: Path) -> ExperimentConfig:
    """The configuration of a run, from its ``config.toml``.

    The one way to it: a run uses neither [tuning] nor [augmentation], so what an older version wrote there is no reason not to read it.
    `dump` leaves the first out, and keys of the second that are gone are not looked at.

    Raises:
        ConfigError: the file is not TOML, a key or value is not allowed, or it names code, programs or hosts and is not trusted
            (`experiments.trust`).
    """
    contents = document(file)
    check_trusted(contents, file.parent)
    contents.pop("tuning", None)
    augmentation = contents.get("augmentation")
    if isinstance(augmentation, dict):
        contents["augmentation"] = {key: value for key, value in augmentation.items() if key in AugmentationSection.model_fields}
    config = check(contents, str(file))
    from experiments.build import resolved  # noqa: PLC0415 - it reads experiment files itself

    try:
        resolved(config)
    except (ConfigError, PluginError) as error:  # of an option of a component, which does not know where it stands
        raise type(error)(f"{file}: {error}") from error
    return config


def document(file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The unchecked contents of a TOML file with overrides applied.

    Args:
        file: an existing file.
        overrides: settings of the form ``section.key=value``; the value is TOML, or else taken as text.

    Raises:
        ConfigError: the file is not TOML, an override is malformed, or the file belongs to a run that is not trusted
            (`experiments.trust`).
    """
    if is_data(file):
        raise ConfigError(_data_is_no_experiment(file))
    try:
        contents = tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; allowed is a readable file.") from error
    if is_of_a_run(file):
        check_trusted(contents, file.parent)
    written = deepcopy(contents.get("decision", {}))
    for override in overrides:
        apply_override(contents, override)
    if any(override.partition("=")[0].strip() == "decision.use" for override in overrides):
        contents["decision"] = without_options_of_others(contents["decision"], written)
    _refuse_endless(contents, str(file))
    return contents


def check_shape(document: Mapping[str, Any], source: str) -> None:
    """Checks that what stands in an experiment file is of the right kind, as far as it stands there: sections are sections.

    This is all that is asked of the file of a finished run, which a version with other keys may have written.

    Raises:
        ConfigError: something is not.
    """
    kinds: dict[str, type] = {"name": str, "seed": int, "rounds": int, "cohort_size": int}
    for key, value in document.items():
        allowed = kinds.get(key) or (dict if key in ExperimentConfig.model_fields and key != "round_days" else None)
        if allowed is not None and not isinstance(value, allowed) and not (key == "language_model" and value is False):
            raise ConfigError(f"{source}: {key} = {value!r:.60} is no { {dict: 'section', str: 'text', int: 'whole number'}[allowed] }.")


def check(document: Mapping[str, Any], source: str) -> ExperimentConfig:
    """Checks the document of an experiment file.

    Raises:
        ConfigError: names the section, the key, what was found and what is allowed; or a setting is a secret, which is not repeated.
    """
    _refuse_endless(document, source)
    if document.get("language_model") is False:
        document = {**spread(document), "language_model": None}
    try:
        check_settings(document)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        return ExperimentConfig.model_validate(_with_import_paths(document, source))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_sentence(error)}") from error


_SHORT_NAME = re.compile(r"[A-Za-z][\w-]*")
"""What may be a short name of a component; anything else has to be an import path."""


def _with_import_paths(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The document with short names of components (`experiments.component_names`) replaced by what they stand for."""
    found = dict(document)
    for section in (*component_names.PLACES, "anchor"):
        kind = "recommender" if section == "anchor" else section
        found |= {section: _with_import_path(found[section], kind, f"{source}: [{section}]")} if section in found else {}
    trained = found["augmentation"].get("recommenders") if isinstance(found.get("augmentation"), Mapping) else None
    if isinstance(trained, Mapping):
        where = f"{source}: [augmentation.recommenders"
        known = {name: _with_import_path(one, "recommender", f"{where}.{name}]") for name, one in trained.items()}
        found["augmentation"] = {**found["augmentation"], "recommenders": known}
    return found


def _with_import_path(contents: Any, kind: str, where: str) -> Any:
    """One section with a short name in `use` replaced by the import path."""
    use = contents.get("use") if isinstance(contents, Mapping) else None
    if not isinstance(use, str) or not _SHORT_NAME.fullmatch(use):
        return contents
    try:
        return {**contents, "use": component_names.import_path(use, kind)}
    except ConfigError as error:
        raise ConfigError(f"{where} use = {use!r}: {error}") from None


_LARGEST = 2**63
"""No number of a configuration is as large, up or down."""


def _refuse_endless(document: Mapping[str, Any], source: str) -> None:
    """TOML knows nan, inf and numbers of any length; no setting is one, nor are the options that other libraries get."""
    for key, value in _numbers(document):
        if not abs(value) < _LARGEST:
            raise ConfigError(f"{source}: {key} = {str(value)[:40]}: must be a finite number below 2^63.")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers of a document with their keys."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _numbers(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _numbers(entry, key)
    elif isinstance(value, int | float):
        yield key, value


def find(file: Path) -> Path:
    """The experiment file of a path or of a name that comes with usersim.

    Raises:
        ConfigError: there is none.
    """
    if os.path.isfile(file):
        if is_data(file):
            raise ConfigError(_data_is_no_experiment(file))
        return file
    names = shipped()
    own = _SHIPPED / file.parent / f"{file.name.removesuffix('.toml')}.toml"
    if not file.is_absolute() and str(file.parent) in (".", *FOLDERS) and own.is_file():
        return own
    if os.path.isdir(file):
        raise ConfigError(
            f"{file} is a folder; give an experiment file (.toml). If it holds data, an experiment file names it: see "
            f"`usersim data describe {file}`, and [dataset] in the experiments that come with usersim."
        )
    others = ""
    if str(file.parent) in FOLDERS:
        others = f" In {file.parent}/: {', '.join(sorted(path.stem for path in (_SHIPPED / file.parent).glob('*.toml')))}."
    near = difflib.get_close_matches(file.name.removesuffix(".toml"), names, n=1)
    hint = f" did you mean {near[0]}?" if near and len(file.parts) == 1 else ""
    raise ConfigError(f"there is no experiment file {file};{hint} experiments that come with usersim: {', '.join(names)}.{others}")


def shipped() -> list[str]:
    """The names of the experiments that come with usersim."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def is_data(file: Path) -> bool:
    """Whether a file is called like data: a table, plain or packed, or a file of RecBole's."""
    suffix = file.suffix.lower()
    return suffix in (*TABLES, *COMPRESSED, ".inter")


def _data_is_no_experiment(file: Path) -> str:
    atomic = file.suffix == ".inter"
    loader = (
        ("environments.datasets.atomic:RecBoleAtomic", "path")
        if atomic
        else ("environments.datasets.tables:InteractionTables", "interactions")
    )
    lines = ('name = "mine"', "[dataset]", f'use = "{loader[0]}"', f"{loader[1]} = {json.dumps(str(file), ensure_ascii=False)}")
    return (
        f"{file} is data, and what is wanted is an experiment file (.toml) that names it. Its lines are: {'  |  '.join(lines)}  | "
        f"and more if wanted ([population], [recommender] ...). `usersim data describe {file}` tells what the data holds."
    )


def dump(config: ExperimentConfig, resolved: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The resolved configuration of a run as TOML: what was asked, with every default of every component filled in.

    [tuning] is left out, since `usersim tune` alone uses it.

    Args:
        config: the experiment.
        resolved: section -> the component's options with defaults.
    """
    document = config.model_dump(mode="json", exclude_none=True, exclude={"tuning"})
    for section, options in resolved.items():
        document[section] = {**document[section], **options}
    if config.language_model is None:
        document["language_model"] = False
    if not config.interventions:
        del document["interventions"]
    return tomli_w.dumps(_without_none(document)).encode()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    return [_without_none(entry) for entry in value] if isinstance(value, list) else value


def apply_override(document: dict[str, Any], override: str) -> None:
    """Applies one setting ``section.key=value`` to an unchecked document, in place; the value is TOML, or else taken as text.

    Raises:
        ConfigError: the setting is malformed, or what it goes into is not a section.
    """
    path, parsed = parsed_override(override)
    place = document
    for step in path[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {shown_override(override)}: '{step}' is not a section.")
    place[path[-1]] = parsed


def parsed_override(override: str) -> tuple[list[str], Any]:
    """The path and the value of one setting ``section.key=value``; the value is TOML, or else taken as text.

    Raises:
        ConfigError: the setting is malformed.
    """
    key, equals, value = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {shown_override(override)}: write section.key=value, for example population.users=50.")
    try:
        return path, tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value.strip()
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise ConfigError(f"--set {key}: the value cannot be read ({error}).") from error


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    section, *rest = (str(part) for part in first["loc"])
    if rest and section == "interventions":
        return _of_intervention(first, rest)
    if rest and section in ExperimentConfig.model_fields:
        annotation = ExperimentConfig.model_fields[section].annotation
        model = {"language_model": LanguageModelSection, "anchor": RecommenderSection}.get(section, annotation)
        assert isinstance(model, type)
        return explain(error, section, model, skip=1)
    if first["type"] == "extra_forbidden":
        return with_suggestion("key or section", section, ExperimentConfig.model_fields)
    if first["type"] == "missing":
        return f"the key '{section}' is missing."
    return f"{section} = {shown(section, first['input'])}: {_lower(first['msg'])}."


def _of_intervention(first: Any, rest: Sequence[str]) -> str:
    """The sentence about a wrong key or value of ``[interventions.<name>]``."""
    where, key = f"[interventions.{rest[0]}]", ".".join(rest[1:])
    if rest[-1] == "[key]":
        return f"{where}: a name has letters, digits and the signs _ . - only, and starts with a letter or digit."
    if first["type"] == "extra_forbidden":
        return f"{where} {with_suggestion('key', rest[-1], (TargetConfig if rest[1] == 'items' else InterventionConfig).model_fields)}"
    if first["type"] == "missing":
        return f"{where} {key} is missing."
    if key.startswith("response."):
        return f"{where} response = {first['input']!r}: must be 'read' or a number of log-odds."
    return f"{where} {key + ': ' if key else ''}{_lower(first['msg'])}."


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]

"""A study as a file: a question, arms on top of one experiment, the analysis that reads them, the figure that shows it.

::

    name = "exploration"
    question = "What does exploring cost the people it is tried on?"
    base = "movielens"                 # an experiment file, or the name of one that comes with usersim
    control = "none"                   # the arm that the others are held against

    [settings]                         # on top of the base, for all arms; sections as in an experiment file
    rounds = 3
    language_model = false

    [arms.none]
    [arms.epsilon.recommender]         # on top of both
    exploration = "epsilon"

    [analysis]
    use = "experiments.studies.arm_metrics:ArmMetrics"
    metrics = ["watch_rate", "coverage"]

    [figure]
    form = "tradeoff"                  # see `experiments.analysis.study_figures`
    x = "coverage"
    y = "watch_rate"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from environments.feed import FeedConfig
from experiments import build
from experiments import config as configuration
from experiments.anchor import with_common_anchor
from experiments.config import ExperimentConfig
from experiments.sections import Name, Section
from simulator.errors import ConfigError, with_suggestion
from simulator.plugins import distinct, explain, portable, resolve

SHIPPED = Path(__file__).resolve().parent.parent / "configs" / "studies"
METHODS = ("measure",)
"""What an analysis must define."""

WHOLE = ("items", "base")
"""Tables that are one value: the rule for an intervention's items, the base of a reranker."""


Distinct = Annotated[tuple[str, ...], AfterValidator(distinct)]


class FigureSection(BaseModel):
    """[figure]: how what was found is drawn.

    Attributes:
        form: "lines" draws metrics over x (rounds, pages), "tradeoff" one metric over another, "intervals" rows with intervals.
        metrics: panels of "lines" and "intervals"; all that were found if empty.
        x, y: metrics of "tradeoff".
        groups, arms: only these groups of rows, and only these arms; all if empty.
        against: whether differences from the control are drawn instead of values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    form: Literal["lines", "tradeoff", "intervals"] = "intervals"
    metrics: Distinct = ()
    x: str | None = None
    y: str | None = None
    groups: Distinct = ()
    arms: Distinct = ()
    against: bool = False


class StudyConfig(BaseModel):
    """A study file; see the module's text.

    Attributes:
        name: results go to ``results/study-<name>/``. question: what is asked, one sentence.
        base: experiment file, or the name of one. control: an arm.
        settings: sections and keys on top of the base. arms: name -> sections and keys on top of both.
        analysis: `use` and its options. figure: how it is drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    question: str = Field(min_length=1)
    base: str
    control: str
    settings: dict[str, Any] = Field(default_factory=dict)
    arms: dict[Name, dict[str, Any]] = Field(min_length=1)
    analysis: Section
    figure: FigureSection = FigureSection()


def shipped() -> list[Path]:
    """The studies that come with usersim."""
    return sorted(SHIPPED.glob("*.toml"))


def read(file: Path) -> StudyConfig:
    """Reads and checks a study, but not its arms (see `arms_of`).

    Args:
        file: a TOML file, or the name of a study that comes with usersim.

    Raises:
        ConfigError, PluginError: it is not there, or something in it is not allowed.
    """
    found = file if file.is_file() else SHIPPED / f"{file.name.removesuffix('.toml')}.toml"
    if not found.is_file() or (found != file and len(file.parts) > 1):
        names = ", ".join(path.stem for path in shipped())
        raise ConfigError(f"there is no study file {file}; studies that come with usersim: {names}.")
    document = configuration.document(found)
    try:
        study = StudyConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where, section = str(first["loc"][0]), {"figure": FigureSection}.get(str(first["loc"][0]), StudyConfig)
        if first["type"] == "extra_forbidden":
            key = with_suggestion("key or section" if section is StudyConfig else "key", str(first["loc"][-1]), section.model_fields)
            raise ConfigError(f"{found}: {key if section is StudyConfig else f'[{where}] {key}'}") from error
        inner = section is not StudyConfig
        raise ConfigError(f"{found}: {explain(error, where if inner else 'study', section, skip=int(inner))}") from error
    if study.control not in study.arms:
        raise ConfigError(f"{found}: {with_suggestion('arm for control', study.control, study.arms)}")
    resolve(study.analysis.use, study.analysis.options, where="analysis", methods=METHODS)
    if study.figure.form == "tradeoff" and not (study.figure.x and study.figure.y):
        raise ConfigError(f"{found}: [figure] form = 'tradeoff' needs x and y, the two metrics.")
    base = Path(study.base)
    beside = base if base.is_absolute() else found.parent / base
    base = next((place.resolve() for place in (beside, base) if place.is_file()), base)
    return study.model_copy(update={"base": str(base)})


def arms_of(study: StudyConfig, overrides: Sequence[str]) -> dict[str, ExperimentConfig]:
    """The experiment of each arm, checked; how often people choose is the same for all, met on the pages of the control.

    Args:
        study: as read.
        overrides: settings of the form ``section.key=value`` for every arm, stronger than what the study says.

    Raises:
        ConfigError, PluginError: a setting is not allowed; names the arm.
    """
    base = configuration.document(configuration.find(Path(study.base)))
    found = {}
    for name, own in study.arms.items():
        document = layered(layered(base, study.settings), own) | {"name": f"study-{study.name}"}
        for override in overrides:
            configuration.apply_override(document, override)
        try:
            found[name] = configuration.check(document, f"arm {name}")
            build.resolved(found[name])
        except ConfigError as error:
            told = str(error)
            raise ConfigError(told if told.startswith(f"arm {name}") else f"arm {name}: {told}") from error
    control = found[study.control]
    return {name: with_common_anchor(config, control.anchor or control.recommender) for name, config in found.items()}


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the keys of `above` in their places.

    Tables are merged key by key, but for those of `WHOLE`. Where a section gets another component (`use`), the options of the former
    one go, and those keys stay that belong to the section itself, such as the size of pages.
    """
    merged = deepcopy(dict(below))
    for key, value in above.items():
        before = merged.get(key)
        if key in WHOLE or not (isinstance(value, Mapping) and isinstance(before, dict)):
            merged[key] = deepcopy(value)
            continue
        if "use" in value and value["use"] != before.get("use"):
            before = {name: entry for name, entry in before.items() if name in _own_keys(key)}
        merged[key] = layered(before, value)
    return merged


def dump(study: StudyConfig) -> bytes:
    """The study as TOML."""
    document = study.model_dump(mode="json", exclude_none=True)
    document["analysis"] = {"use": portable(study.analysis.use), **study.analysis.options}
    return tomli_w.dumps(document).encode()


def _own_keys(section: str) -> set[str]:
    """Keys of an experiment's section that do not belong to its component."""
    field = ExperimentConfig.model_fields.get(section)
    annotation = field.annotation if field is not None else None
    own = set(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else set()
    return own | (set(FeedConfig.model_fields) if section == "recommender" else set())

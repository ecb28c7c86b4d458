"""The experiment file: one TOML document, sections mirror the parts of a simulation.

A section that names a component has `use` (an import path), a few keys of its own listed here, and otherwise the
component's own options. `read` checks all of it before anything is computed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agents.arrivals import History, Sessions
from agents.population import PopulationConfig
from environments.datasets.splits import SplitConfig
from environments.feed import FeedConfig
from environments.interventions import InterventionConfig, TargetConfig
from experiments.tuning.examples_config import ExamplesConfig
from experiments.tuning.settings import TrainingConfig
from simulator.credentials import check_settings, shown, shown_override
from simulator.errors import ConfigError, with_suggestion
from simulator.plugins import explain

DEFAULT_DATASET = "environments.datasets.movielens:MovieLens100K"
DEFAULT_MEMORY = "agents.memory:RetrievalMemory"
DEFAULT_DECISION = "agents.decisions:LanguageModelDecisions"
DEFAULT_LANGUAGE_MODEL = "simulator.llm.llama_cpp:LlamaCpp"
DEFAULT_RECOMMENDER = "environments.recommenders.bpr:BPR"


class Section(BaseModel):
    """A section that names a component: its own keys are fields, the component's options are extra keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


class DatasetSection(Section):
    """[dataset]: where the data comes from, and how it is split (`environments.datasets.splits.SplitConfig`)."""

    use: str = DEFAULT_DATASET
    split: Literal["temporal", "leave-one-out", "random"] = "temporal"
    test_share: float = Field(0.2, gt=0, lt=1)
    k_core: int = Field(0, ge=0)
    min_rating: float | None = None

    def split_config(self) -> SplitConfig:
        """The split's own configuration."""
        return SplitConfig(method=self.split, test_share=self.test_share, k_core=self.k_core, min_rating=self.min_rating)


class PopulationSection(PopulationConfig):
    """[population]: who takes part and how often they come.

    Attributes:
        sessions: "one" session per person and round; as many as the person's own "rhythm" gives; or "relived": everybody's first session is
            when their first one in the data was, and others follow as in the data (`agents.visits`), while the rounds last.
        history: "behind": what the training part has of somebody they have met, and it is not shown to them again. "ahead": they live
            that time again, so that all of it may be shown and chosen once more. What is known about them stays, but an item is judged
            by the rest of their history.
        taste: whether the language model writes a paragraph about each person's taste before the first round.
    """

    sessions: Sessions = "one"
    history: History = "behind"
    taste: bool = False


class MemorySection(Section):
    """[memory]: what people remember, and whether they recall once per session or anew at each page."""

    use: str = DEFAULT_MEMORY
    recall_at: Literal["session", "page"] = "session"


class DecisionSection(Section):
    """[decision]: how people decide, and the share of pages that may have an unusable reply."""

    use: str = DEFAULT_DECISION
    max_fallback_share: float = Field(0.02, ge=0, le=1)


class LanguageModelSection(Section):
    """[language_model]: the model behind the people; leave the section out for people without one.

    Attributes:
        cache: "read-write" keeps the model's answers and asks only for what is missing, "replay-only" never asks a model.
        cache_path: SQLite file of the answers; None is one in the cache folder, shared by all experiments.
    """

    use: str = DEFAULT_LANGUAGE_MODEL
    cache: Literal["off", "read-write", "replay-only"] = "off"
    cache_path: Path | None = None


class RecommenderSection(Section):
    """[recommender]: what fills the pages (`environments.feed.FeedConfig`), and how it learns from the rounds.

    Attributes:
        refit: before every round from "scratch", or "warm" from what the round before learned; or "never" after the first.
    """

    use: str = DEFAULT_RECOMMENDER
    refit: Literal["scratch", "warm", "never"] = "scratch"

    def feed_config(self) -> FeedConfig:
        """The feed's own configuration, taken from this section."""
        given = {key: value for key, value in self.options.items() if key in FeedConfig.model_fields}
        try:
            return FeedConfig.model_validate(given)
        except ValidationError as error:
            raise ConfigError(explain(error, "recommender", FeedConfig)) from error

    @property
    def options_of_recommender(self) -> dict[str, Any]:
        """The recommender's own options: everything that is not the feed's."""
        return {key: value for key, value in self.options.items() if key not in FeedConfig.model_fields}


class TuningSection(BaseModel):
    """[tuning]: how `usersim tune` makes the language model a user model of this data.

    Attributes:
        packs: passes over the people, each with another part of their interactions hidden.
        validation_people: people on whom the tuning is measured while it goes on, at most.
        examples: what the pages are made of. training: how the weights are updated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packs: int = Field(8, ge=1, le=1_000)
    validation_people: int = Field(250, ge=1, le=100_000)
    examples: ExamplesConfig = ExamplesConfig()
    training: TrainingConfig = TrainingConfig()


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""What can be the name of a folder and stand in a column of the log."""

Source = Literal["synthetic", "confidence", "fidelity", "exposure", "evidence"]


class AugmentationSection(BaseModel):
    """[augmentation]: what `usersim augment` trains, on what, and how it is tested (see `experiments.augmentation`).

    Attributes:
        seeds: the experiment's seed and the ones after it: of the split (if random), the simulation and the training.
        doses: added interactions as shares of the training interactions.
        sources: where they come from: what simulated people chose in "synthetic" order of chance, those of highest "confidence" first,
            or from people of enough "fidelity" only; and two controls without people's decisions: what the "exposure" recommender ranks
            first, and what the people's "evidence" ranks first in the whole catalog.
        alone_dose: share of synthetic interactions, highest confidence first, that a recommender is trained on alone.
        least_fidelity: area under the curve in [0, 1] at which a person's own hidden training interactions are told from others.
        k: places of the lists.
        cold_users: share of the people, those with the fewest training interactions, who count as cold.
        cold_items: items with at most so many training interactions are cold.
        head: the head of the items holds this share of the training interactions; the rest is the tail.
        recommenders: name -> what is trained; by default BPR, ItemKNN and EASE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(5, ge=1, le=100)
    doses: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field((0.25, 0.5, 1.0, 2.0), min_length=1)
    sources: tuple[Source, ...] = Field(("synthetic", "confidence", "fidelity", "exposure", "evidence"), min_length=1)
    alone_dose: float = Field(1.0, gt=0, le=10)
    least_fidelity: float = Field(0.7, ge=0, le=1)
    k: int = Field(10, ge=1, le=1_000)
    cold_users: float = Field(0.25, gt=0, lt=1)
    cold_items: int = Field(5, ge=0)
    head: float = Field(0.8, gt=0, lt=1)
    recommenders: dict[Name, Section] = Field(
        default_factory=lambda: {
            "bpr": Section(use="environments.recommenders.bpr:BPR"),
            "item-knn": Section(use="environments.recommenders.item_knn:ItemKNN"),
            "ease": Section(use="environments.recommenders.ease:EASE"),
        },
        min_length=1,
    )


class ExperimentConfig(BaseModel):
    """One experiment.

    Attributes:
        name: of the experiment; runs go to ``results/<name>/``.
        seed: of all randomness.
        rounds: periods between two fits of the recommender; round_days: their simulated length.
        cohort_size: people simulated together, at most.
        interventions: adverts, prices and explanations beside some items for some people, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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

    A run does not use [tuning]: `dump` leaves it out, and what an older version wrote there is not looked at.

    Raises:
        ConfigError: the file is not TOML, or a key or value is not allowed.
    """
    return check({key: value for key, value in document(file).items() if key != "tuning"}, str(file))


def document(file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The unchecked contents of a TOML file with overrides applied.

    Args:
        file: an existing file.
        overrides: settings of the form ``section.key=value``; the value is TOML, or else taken as text.

    Raises:
        ConfigError: the file is not TOML, or an override is malformed.
    """
    try:
        contents = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}).") from error
    for override in overrides:
        apply_override(contents, override)
    return contents


def check(document: Mapping[str, Any], source: str) -> ExperimentConfig:
    """Checks the document of an experiment file.

    Raises:
        ConfigError: names the section, the key, what was found and what is allowed; or a setting is a secret, which is not repeated.
    """
    if document.get("language_model") is False:
        document = {**document, "language_model": None}
    try:
        check_settings(document)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        return ExperimentConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_sentence(error)}") from error


def find(file: Path) -> Path:
    """The experiment file of a path or of a name that comes with usersim.

    Raises:
        ConfigError: there is none.
    """
    if file.is_file():
        return file
    shipped = Path(__file__).parent / "configs"
    named = shipped / f"{file.name.removesuffix('.toml')}.toml"
    if len(file.parts) == 1 and named.is_file():
        return named
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; give an experiment file (.toml).")
    names = sorted(path.stem for path in shipped.glob("*.toml"))
    raise ConfigError(f"there is no experiment file {file}; experiments that come with usersim: {', '.join(names)}.")


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


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    section, *rest = (str(part) for part in first["loc"])
    if rest and section == "interventions":
        return _of_intervention(first, rest)
    if rest and section in ExperimentConfig.model_fields:
        annotation = ExperimentConfig.model_fields[section].annotation
        model = LanguageModelSection if section == "language_model" else annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        if first["type"] == "extra_forbidden":
            return f"[{section}] {with_suggestion('key', rest[-1], model.model_fields)}"
        return f"[{section}] {'.'.join(rest)} = {shown('.'.join(rest), first['input'])}: {_lower(first['msg'])}."
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

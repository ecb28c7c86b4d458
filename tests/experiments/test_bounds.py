"""Everything that a user can type is checked when it is read: every number has bounds, nothing is nan or endless, every name is known."""

import importlib
import pkgutil
import types
import typing
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import agents
import environments
import experiments
import simulator
from experiments import build
from experiments import config as configuration
from experiments.cli import call
from experiments.sections import Section
from experiments.tuning.settings import TrainingConfig
from simulator.errors import ConfigError
from simulator.plugins import ComponentConfig

PACKAGES = (simulator, agents, environments, experiments)
NO_SETTINGS = ("experiments.dashboard", "experiments.benchmarks", "experiments.examples")

UNBOUNDED = {
    "LlamaCppConfig.gpu_layers": "a number of layers, of which a model has as many as it has; 'auto' is not a number",
    "LlamaCppConfig.max_divergence": "a divergence has no largest value",
    "PopulationConfig.users": "a validator of its own names both kinds of value; the data bounds it",
    "TargetConfig.ids": "ids of items, which may be whole numbers of any size",
}
"""Numbers without both bounds, and why."""


def modules() -> Iterator[types.ModuleType]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(NO_SETTINGS):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        yield importlib.import_module(found.name)
                except ImportError as error:  # a library that not everybody has
                    if (error.name or "").partition(".")[0] in {one.__name__ for one in PACKAGES}:
                        raise


def configurations() -> list[type[Any]]:
    """Every class of settings in the project."""
    found: dict[str, type[Any]] = {"TrainingConfig of tuning": TrainingConfig}
    for module in modules():
        for value in vars(module).values():
            for one in (value, *(vars(value).values() if isinstance(value, type) else ())):
                if (
                    isinstance(one, type)
                    and issubclass(one, BaseModel)
                    and one.__module__.partition(".")[0] in {p.__name__ for p in PACKAGES}
                ):
                    found[f"{one.__module__}.{one.__qualname__}"] = one
    return [found[name] for name in sorted(found) if found[name] is not ComponentConfig]


CONFIGURATIONS = configurations()
FIELDS = [
    (config, name, annotation)
    for config in CONFIGURATIONS
    for name, annotation in typing.get_type_hints(config, include_extras=True).items()
    if name in config.__annotations__ and typing.get_origin(annotation) is not typing.ClassVar
]


def numbers(annotation: Any, constraints: tuple[Any, ...]) -> Iterator[tuple[type, tuple[Any, ...]]]:
    """The numbers that a type allows, with their constraints; those of a field count for it and for its kinds of value."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from numbers(parts[0], (*constraints, *parts[1:]))
    elif annotation in (int, float):
        yield annotation, constraints
    elif origin is not typing.Literal:
        inner = constraints if origin in (typing.Union, types.UnionType) else ()
        for part in parts:
            yield from numbers(part, inner)


def is_bounded(constraints: tuple[Any, ...]) -> bool:
    single = [one for constraint in constraints for one in (constraint, *getattr(constraint, "metadata", ()))]
    return any(hasattr(one, "ge") or hasattr(one, "gt") for one in single) and any(
        hasattr(one, "le") or hasattr(one, "lt") for one in single
    )


def declared(config: type[Any], name: str) -> tuple[Any, ...]:
    """Constraints that stand in the field's default, ``= Field(5, ge=1)``."""
    return tuple(config.model_fields[name].metadata) if issubclass(config, BaseModel) else ()


def test_there_are_as_many_classes_of_settings_as_ever():
    names = {config.__name__ for config in CONFIGURATIONS}
    assert len(CONFIGURATIONS) >= 60
    assert {"TrainingConfig", "FeedConfig", "ExperimentConfig", "EASEConfig", "OpenAIConfig", "StudyConfig", "SplitConfig"} <= names


def test_every_number_has_bounds_or_a_reason():
    without = sorted(
        {
            f"{config.__name__}.{name}"
            for config, name, annotation in FIELDS
            for _, constraints in numbers(annotation, declared(config, name))
            if not is_bounded(constraints)
        }
    )
    assert without == sorted(UNBOUNDED)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: f"{config.__module__}.{config.__qualname__}")
def test_nan_and_infinity_are_refused_everywhere(config):
    settings = config.model_config if issubclass(config, BaseModel) else config.__pydantic_config__
    assert settings.get("allow_inf_nan") is False
    assert settings["extra"] == ("allow" if issubclass(config, Section) else "forbid")


def literal(annotation: Any) -> bool:
    """Whether a field takes nothing but names from a list."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return literal(parts[0])
    if origin in (typing.Union, types.UnionType):
        return all(part is type(None) or literal(part) for part in parts)
    return origin is typing.Literal


CHOICES = [(config, name) for config, name, annotation in FIELDS if literal(annotation)]


@pytest.mark.parametrize(("config", "name"), CHOICES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_name_that_is_on_no_list_is_refused(config, name):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(config).validate_python({name: "no such thing"})
    assert any(name in error["loc"] for error in caught.value.errors())


TYPED = {
    "tuning.training.dtype=foo": "[tuning] training.dtype = 'foo': input should be 'bfloat16' or 'float32'",
    "tuning.training.device=bar": "[tuning] training.device = 'bar'",
    "tuning.training.rank=-3": "[tuning] training.rank = -3: input should be greater than or equal to 1",
    "tuning.training.rank=1000000": "[tuning] training.rank = 1000000",
    "tuning.training.alpha=nan": "tuning.training.alpha = nan: must be a finite number",
    "tuning.training.alpha=0": "[tuning] training.alpha = 0",
    "tuning.training.learning_rate=-1": "[tuning] training.learning_rate = -1",
    "tuning.training.projector_rate=inf": "tuning.training.projector_rate = inf: must be a finite number",
    "tuning.training.warmup=1.5": "[tuning] training.warmup = 1.5",
    "tuning.training.passes=0": "[tuning] training.passes = 0",
    "tuning.training.evaluations=0": "[tuning] training.evaluations = 0",
    "tuning.training.batch_tokens=0": "[tuning] training.batch_tokens = 0",
    "tuning.training.minutes=0": "[tuning] training.minutes = 0",
    "tuning.training.weights={chose = 1.0}": "unknown action 'chose'; did you mean 'choose'?",
    "tuning.training.weights={choose = 0.0}": "needs a weight above 0",
    "tuning.training.weights={choose = -1.0}": "[tuning] training.weights.choose = -1.0",
    "tuning.training.ranks=3": "[tuning.training] unknown key 'ranks'; did you mean 'rank'? Allowed: alpha, batch_tokens",
    "tuning.examples.page_sizes=[6,4]": "must be [smallest, largest], not [6, 4]",
    "tuning.examples.page_sizes=[0,4]": "[tuning] examples.page_sizes.0 = 0",
    "tuning.examples.page_size=3": "[tuning.examples] unknown key 'page_size'; did you mean 'page_sizes'?",
    "augmentation.doses=[1.0,1.0]": "[augmentation] doses = ",
    "augmentation.sources=['exposure','exposure']": "'exposure' stands twice; name each once",
    "recommender.page_sizes=5": "did you mean 'page_size'? Allowed: candidates, epsilon, exploration, ",
    "recommender.temperature=inf": "recommender.temperature = inf: must be a finite number",
    "recommender.max_pages=100000000": "[recommender] max_pages = 100000000",
    "dataset.on_bad_row=skip": "[dataset] unknown key 'on_bad_row'; did you mean 'on_bad_rows'? Allowed: k_core, min_rating, on_bad_rows",
    "dataset.splits=random": "did you mean 'split'?",
    "memory.recalls_at=page": "did you mean 'recall_at'?",
    "decision.max_fallback_shares=0": "did you mean 'max_fallback_share'?",
    "seed=1000000000000000000000000000000": "seed = 1000000000000000000000000000000: must be a finite number below 2^63",
    "rounds=-inf": "rounds = -inf: must be a finite number",
}


@pytest.mark.parametrize("setting", TYPED)
def test_what_is_typed_is_checked_before_anything_is_computed(setting):
    with pytest.raises(ConfigError) as caught:
        build.resolved(configuration.read(configuration.find(configuration.Path("movielens")), [setting]))
    assert TYPED[setting] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_keys_of_a_section_are_listed_those_of_the_section_itself_too():
    with pytest.raises(ConfigError) as caught:
        build.resolved(configuration.read(configuration.Path("movielens"), ["recommender.page_sizes=5"]))
    listed = str(caught.value).rpartition("Allowed: ")[2].rstrip(".").split(", ")
    assert {"l2", "max_items", "page_size", "max_pages", "exploration", "temperature", "refit", "use"} <= set(listed)


def test_a_component_without_options_names_the_keys_of_its_section(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("class Plain:\n" + "".join(f"    def {name}(self, *a): ...\n" for name in ("fit", "recommend", "save", "load")))
    with pytest.raises(ConfigError, match=r"takes no options, but 'l2' is given\. Allowed: candidates, .*page_size"):
        build.resolved(configuration.read(configuration.Path("movielens"), [f"recommender={{use = '{file}:Plain', l2 = 3}}"]))


OPTIONS = {
    "evaluate x --policy y --clip nan": "--clip",
    "evaluate x --policy y --clip inf": "--clip",
    "evaluate x --policy y --minimum-effective-size nan": "--minimum-effective-size",
    "evaluate x --policy y --maximum-unsupported nan": "--maximum-unsupported",
    "models prepare x --max-divergence nan": "--max-divergence",
    "tune movielens --minutes nan": "--minutes",
    "tune movielens --device bar": "[tuning] training.device = 'bar'",
    "tune movielens --name ../elsewhere": "name = '../elsewhere'",
    "run movielens --seed 9223372036854775808": "--seed",
    "fidelity x --seed 99999999999999999999": "--seed",
    "augment movielens --seed -1": "--seed",
}


@pytest.mark.parametrize("line", OPTIONS)
def test_options_of_commands_have_bounds_too(line, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    assert call(line.split()) == 2
    said = capsys.readouterr().err
    assert OPTIONS[line] in said
    assert "Traceback" not in said


# --- without a language model: what else is to be set -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["ml-1m", "lastfm", "ml-latest-small", "amazon-gift-cards", "movielens", "comparison"])
def test_people_who_always_ask_a_language_model_name_those_who_need_not(name):
    settings = ["decision.language_model=false", "decision.use='agents.decisions:LanguageModelDecisions'"]
    with pytest.raises(ConfigError, match=r"decision\.use = 'agents\.calibrated:CalibratedDecisions'"):
        build.resolved(configuration.read(configuration.Path(name), settings))


def test_every_shipped_experiment_says_how_to_run_it_without_a_language_model():
    for name in configuration.shipped():
        for settings in (["decision.language_model=false"], ["language_model=false"]):
            try:
                build.resolved(configuration.read(configuration.Path(name), settings))
            except ConfigError as error:
                assert "decision.language_model = false" in str(error), (name, settings)  # noqa: PT017


def test_switching_the_model_off_is_enough():
    for name in configuration.shipped():
        off = ["language_model=false", "population.taste=true", "decision.language_model=true"]
        experiment = configuration.read(configuration.Path(name), off)
        build.resolved(experiment)
        assert not build.uses_language_model(experiment), name
    alone = [
        "language_model=false",
        "decision.use='agents.decisions:LanguageModelDecisions'",
        "decision.strength=2",
        "decision.leave_response=0.5",
    ]
    experiment = configuration.read(configuration.Path("movielens"), alone)
    build.resolved(experiment)
    assert experiment.decision.use == "agents.calibrated:CalibratedDecisions"
    prompt = {"liked": 12, "years": True, "unasked": ["rate", "leave"]}
    assert experiment.decision.options == {"leave_response": 0.5, "language_model": False, "prompt": prompt}


# --- data in place of an experiment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data.parquet", "log.tsv", "log.jsonl", "x.inter", "log.dat", "r.zip"])
def test_running_data_says_that_it_is_data_and_how_an_experiment_looks(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"user_id,item_id\n1,2\n")
    assert call(["run", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    for part in ("is data", "experiment file (.toml)", "[dataset]", 'use = "environments.datasets.', "usersim data describe"):
        assert part in said
    for command in ("study", "evaluate-recommenders", "augment", "fidelity", "tune", "dashboard", "compare"):
        assert call([command, str(tmp_path / name), *(["--recommenders", "random,popularity"] if command == "compare" else [])]) == 2
        assert "is data" in capsys.readouterr().err, command
    assert call(["run", str(tmp_path)]) == 2
    assert "usersim data describe" in capsys.readouterr().err


def test_numbers_and_brackets_without_end_are_explained(tmp_path, capsys):
    for text in (f"seed = {'9' * 5_000}\n", f"x = {'[' * 20_000}\n"):
        (tmp_path / "x.toml").write_text(text)
        assert call(["run", str(tmp_path / "x.toml")]) == 2
        assert "is not valid TOML" in capsys.readouterr().err
    assert call(["run", "movielens", "--set", f"seed={'9' * 5_000}"]) == 2
    assert "Traceback" not in capsys.readouterr().err

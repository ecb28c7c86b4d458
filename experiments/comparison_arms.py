"""The arms of a comparison: from experiment files, from names of recommenders, from the plan of an interrupted one, from finished runs."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments import build
from experiments import config as configuration
from experiments.analysis.finished_run import FinishedRun
from experiments.anchor import with_common_anchor
from experiments.component_names import import_path
from experiments.config import ExperimentConfig
from experiments.sections import RecommenderSection
from experiments.trust import check_trusted
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.files import write_atomically
from simulator.plugins import portable

PLAN = "plan.json"
"""File of a comparison's folder that says what is compared, so that it can go on."""


@dataclass(frozen=True)
class Options:
    """How arms are compared.

    Attributes:
        baseline: name of the arm that the others are held against.
        margin: the largest loss that still counts as "no less", as a share of the baseline's value, in (0, 1).
        seeds: every arm runs with so many seeds, counted up from the experiment's own.
    """

    baseline: str
    margin: float
    seeds: int


def from_recommenders(file: Path, names: str, overrides: Sequence[str]) -> dict[str, ExperimentConfig]:
    """One experiment with several recommenders.

    The feed's settings in [recommender] (the size of pages, refitting, exploration) stay; the recommender's own options are those of the
    file where it is the file's, and defaults otherwise. How often people choose is the same for all: `choose_rate` is met on the pages of
    the file's own recommender.

    Args:
        file: an experiment file, or the name of one that comes with usersim.
        names: separated by commas, see `experiments.component_names.import_path`.
        overrides: settings of the form ``section.key=value``.

    Raises:
        ConfigError, PluginError: a name or the file is wrong.
    """
    config = configuration.read(file, overrides)
    given = [name.strip() for name in names.split(",") if name.strip()]
    if len(given) < 2:
        raise ConfigError(f"--recommenders {names}: name at least two, separated by commas, for example popularity,ease.")
    section = config.recommender
    feed = {key: value for key, value in section.options.items() if key not in section.options_of_recommender}
    arms: dict[str, ExperimentConfig] = {}
    for name in given:
        use = import_path(name)
        own = section.options_of_recommender if portable(use) == portable(section.use) else {}
        made = RecommenderSection.model_validate({"use": use, "refit": section.refit, **feed, **own})
        arm = use.rpartition(":")[2]
        if arm in arms:
            raise ConfigError(f"--recommenders {names}: {arm} is named twice; to compare two settings of one recommender, give two files.")
        arms[arm] = with_common_anchor(config.model_copy(update={"recommender": made}), section)
    return _checked(arms)


def from_files(files: Sequence[Path], overrides: Sequence[str]) -> dict[str, ExperimentConfig]:
    """One arm per experiment file, named after the file, or numbered where two have one name; `choose_rate` is met on the first's pages.

    Raises:
        ConfigError, PluginError: a file is wrong.
    """
    if len(files) < 2:
        raise ConfigError(
            f"one experiment file is nothing to compare; give another one, or recommenders for this one: usersim compare {files[0]} "
            "--recommenders popularity,ease."
        )
    found = [configuration.find(file) for file in files]
    names = _unique([file.stem for file in found])
    arms = {name: configuration.read(file, overrides) for name, file in zip(names, found, strict=True)}
    first = next(iter(arms.values()))
    return _checked({name: with_common_anchor(config, first.anchor or first.recommender) for name, config in arms.items()})


def from_runs(folders: Sequence[Path]) -> dict[str, FinishedRun]:
    """One arm per finished run, named after its recommender, or its folder where two have one recommender.

    Raises:
        RunError: a folder is no complete run.
        ConfigError: there is only one.
    """
    if len(folders) < 2:
        raise ConfigError(f"one run is nothing to compare; give another one: usersim compare {folders[0]} ANOTHER-RUN.")
    runs = [FinishedRun(folder) for folder in folders]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError("a run is given twice; it cannot differ from itself.")
    names = [str(run.config["recommender"]["use"]).rpartition(":")[2] for run in runs]
    if len(set(names)) < len(names):
        names = [run.path.resolve().name for run in runs]
    return dict(zip(_unique(names), runs, strict=True))


def with_seeds(arms: Mapping[str, ExperimentConfig], seeds: int) -> dict[str, dict[str, ExperimentConfig]]:
    """Arm -> name of a run -> its experiment; the first run has the arm's name, those of further seeds ``<arm>@<seed>``."""
    return {
        arm: {
            arm if number == 0 else f"{arm}@{config.seed + number}": config.model_copy(update={"seed": config.seed + number})
            for number in range(seeds)
        }
        for arm, config in arms.items()
    }


def write_plan(folder: Path, arms: Mapping[str, ExperimentConfig], options: Options) -> None:
    """Says in a comparison's folder what is compared."""
    documents = {name: tomllib.loads(configuration.dump(config, build.resolved(config)).decode()) for name, config in arms.items()}
    plan = {**asdict(options), "arms": documents}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PLAN, (json.dumps(plan, indent=2, ensure_ascii=False) + "\n").encode())


def read_plan(folder: Path) -> tuple[dict[str, ExperimentConfig], Options]:
    """What `write_plan` wrote.

    Raises:
        RunError: the plan is damaged.
        UntrustedError: it names code, programs or hosts, and is not trusted (`experiments.trust`).
    """
    file = folder / PLAN
    try:
        plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for document in plan["arms"].values():
            check_trusted(document, folder)
        arms = {name: configuration.check(document, f"{file}, arm {name}") for name, document in plan["arms"].items()}
        return arms, Options(str(plan["baseline"]), float(plan["margin"]), int(plan["seeds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file} is no plan of a comparison ({type(error).__name__}: {error}); give the files or recommenders again."
        ) from error


def baseline_of(names: Sequence[str], wanted: str | None) -> str:
    """The arm that the others are held against: the wanted one, or the first.

    Raises:
        ConfigError: there is no such arm.
    """
    if wanted is None:
        return names[0]
    found = next((name for name in names if name.lower() == wanted.lower()), None)
    if found is None:
        raise ConfigError(with_suggestion("arm for --baseline", wanted, names))
    return found


def _checked(arms: dict[str, ExperimentConfig]) -> dict[str, ExperimentConfig]:
    for name, config in arms.items():
        try:
            build.resolved(config)
        except ConfigError as error:
            raise ConfigError(f"arm {name}: {error}") from error
    return arms


def _unique(names: Sequence[str]) -> list[str]:
    """Names that can be folders, numbered where they are equal."""
    plain = [re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).strip("-_.+") or "arm" for name in names]
    counts, seen, found = Counter(plain), Counter[str](), []
    for name in plain:
        seen[name] += 1
        found.append(name if counts[name] == 1 else f"{name}-{seen[name]}")
    return found

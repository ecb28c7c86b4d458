"""Does training on what simulated people did help? From simulation to table.

::

    for each seed: split -> simulate on the training part (an ordinary run)        -> arms/seed-7
    prepare: what was shown and chosen, fidelity of the people, evidence's lists    -> seeds/7
    train real, real + source at every dose, size control, synthetic alone; test    -> cells/7
    paired gains over the size control, intervals over people and seeds             -> augmentation.json

**What a gain is.** People whose evidence holds a linear item model, in front of pages of a recommender, hand on what both know: training
another recommender on what they choose is distillation (Hinton et al. 2015; for recommenders Tang and Wang, "Ranking distillation", KDD
2018) and self-training (Lee, "Pseudo-label", 2013). So beside the size control stand two controls of the same size without any
person's decision, "exposure" and "evidence" (`experiments.augmentation.doses`). What people add is the difference to those.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import build, same_settings
from experiments import config as configuration
from experiments.analysis.finished_run import FinishedRun
from experiments.arms import run_arms
from experiments.augmentation import cells
from experiments.augmentation.results import Results, headline
from experiments.augmentation.strata import Strata
from experiments.config import ExperimentConfig
from experiments.ingredients import difference, ingredients
from experiments.run_data import data_of
from experiments.trust import own
from simulator.errors import ConfigError, DataError, RunError
from simulator.execution import execution
from simulator.files import read_document, read_json, write_atomically, write_document
from simulator.plugins import portable, resolve
from simulator.provenance import code_sha256
from simulator.simulation import CohortResult

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and of how much (0: unknown)."""

FILE = "augmentation.json"
CONFIG = "config.toml"
MADE = "made_from.json"

CELLS_CHOSEN_BY = ("seeds", "doses", "sources", "alone_dose")
"""Keys of [augmentation] that only say which cells are wanted: with others of them the same folder is continued."""


def checked(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment, with everything that is trained afterwards checked before anything is computed.

    Raises:
        ConfigError, PluginError: a component or option is not usable.
    """
    build.resolved(config)
    for name, section in config.augmentation.recommenders.items():
        resolve(
            section.use, section.options, where=f"augmentation.recommenders.{name}", methods=build.METHODS["recommender"], also=("use",)
        )
    if len(set(config.augmentation.doses)) < len(config.augmentation.doses):
        raise ConfigError(f"[augmentation] doses = {list(config.augmentation.doses)}: a dose stands there twice; leave one out.")
    return config


def default_folder(config: ExperimentConfig) -> Path:
    """``results/<name>/augment-<digest of settings>``: the same command, or one with other seeds or doses, finds what is there."""
    text = json.dumps(_of_every_cell(config), sort_keys=True, default=str)
    return Path("results") / config.name / f"augment-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def augment(config: ExperimentConfig, folder: Path, workers: int, report: Report) -> dict[str, Any]:
    """Simulates, trains and tests what is not there yet; the same configuration gives the same files.

    Args:
        config: checked (`checked`). folder: of the augmentation; what an earlier call with the same settings left is used.
        workers: processes, >= 1; changes nothing but the speed. report: told of the progress.

    Returns:
        The document of ``augmentation.json``.

    Raises:
        RunError: the folder holds something else, or the people chose nothing.
        DataError: nothing is held out.
    """
    with own(config):
        return _augment(config, folder, workers, report)


def _augment(config: ExperimentConfig, folder: Path, workers: int, report: Report) -> dict[str, Any]:
    _own(folder, config)
    arms = {f"seed-{seed}": cells.of_seed(config, seed) for seed in cells.seeds_of(config)}

    def simulating(what: str, done: int, total: int, result: CohortResult | None) -> None:
        report(f"simulating {what}", done, total)

    folders = run_arms(folder, arms, workers, simulating)
    runs = {seed: folders[f"seed-{seed}"] for seed in cells.seeds_of(config)}
    for run in runs.values():
        if not FinishedRun(run).summary["interactions"]:
            raise RunError(
                f"in {run} nobody chose anything, so there is nothing to train on; raise decision.choose_rate or show more pages."
            )
    workforce = execution(cells.worker_factory(config, folder, runs), workers)
    try:
        preparations, _ = cells.pending(config, folder)
        _work(workforce, preparations, "reading what people did", report)
        left_out = cells.missing_sources(config, folder)
        _, todo = cells.pending(config, folder)
        _work(workforce, [cell for cell in todo if cell.source not in left_out], "training and testing", report)
    finally:
        workforce.close()
    report("comparing", 0, 0)
    document = _document(config, folder, runs, left_out)
    write_atomically(folder / FILE, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return document


def _work(workforce: Any, tasks: Sequence[Any], what: str, report: Report) -> None:
    report(what, 0, len(tasks))
    for done, _ in enumerate(workforce.map(tasks), start=1):
        report(what, done, len(tasks))


def _of_every_cell(config: ExperimentConfig) -> dict[str, Any]:
    """The settings on which the content of cells depends; which cells there are may change."""
    chosen = {f"augmentation.{key}" for key in CELLS_CHOSEN_BY}
    return {key: value for key, value in same_settings.settings(config).items() if key not in chosen}


def _own(folder: Path, config: ExperimentConfig) -> None:
    """Takes a new folder, or one that holds an augmentation with the same settings; recommenders may have come or gone."""
    file = folder / CONFIG
    if file.is_file():
        with own(config):
            before = configuration.of_run(file)
        gone = set(before.augmentation.recommenders) ^ set(config.augmentation.recommenders)
        for key, (then, now) in same_settings.difference(_of_every_cell(before), _of_every_cell(config)).items():
            if not any(key.startswith(f"augmentation.recommenders.{name}.") for name in gone):
                raise RunError(
                    f"{folder} was made with {key} = {then!r}, and now {now!r} is wanted; choose another --output, or remove {folder}."
                )
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} already holds something that is no augmentation; choose another --output.")
    made = _made_from(config)
    stored = folder / MADE
    before_made = read_document(stored, f"remove {folder}, or choose another --output")[0] if stored.is_file() else made
    # Of recommenders that have come or gone no cell is of two kinds.
    codes, now = before_made.get("recommenders", {}), made["recommenders"]
    both = set(codes) & set(now)
    then_shared, now_shared = ({name: code for name, code in own_codes.items() if name in both} for own_codes in (codes, now))
    if other := difference({**before_made, "recommenders": then_shared}, {**made, "recommenders": now_shared}):
        raise RunError(f"{folder} cannot be continued, or its cells would be of two kinds: {other}; choose another --output, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, configuration.dump(config, build.resolved(config)))
    write_document(stored, {**made, "recommenders": codes | now})


def _made_from(config: ExperimentConfig) -> dict[str, Any]:
    """What cells depend on besides the settings, which `_own` compares one by one: data, files, model, code, libraries."""
    modules = {name: portable(section.use).rpartition(":")[0] for name, section in config.augmentation.recommenders.items()}
    train = build.data(cells.of_seed(config, config.seed)).train
    found = ingredients(config, train, "experiments.augmentation.augment", "experiments.augmentation.cells")
    codes = {name: code_sha256(module) for name, module in modules.items()}
    return {**{name: value for name, value in found.items() if name != "settings"}, "recommenders": codes}


def _document(config: ExperimentConfig, folder: Path, runs: Mapping[int, Path], left_out: Sequence[str]) -> dict[str, Any]:
    first = data_of(cells.of_seed(config, config.seed), runs[config.seed])
    if first.test.is_empty():
        raise DataError(f"nothing of data set '{first.train.name}' is held out, so nothing can be tested; raise dataset.test_share.")
    strata = Strata.of(first.train, config.augmentation)
    rows = Results(config, folder, left_out).rows()
    summaries = [FinishedRun(run).summary for run in runs.values()]
    asks = build.uses_language_model(config)
    document: dict[str, Any] = _finite(
        {
            "name": config.name,
            "data": first.train.name,
            "split": config.dataset.split_config().model_dump(mode="json"),
            "people": first.train.n_users,
            "training_interactions": first.train.interactions.height,
            "seeds": list(runs),
            "decision_model": config.decision.use,
            "language_model": config.language_model.options.get("adapter", config.language_model.use)
            if asks and config.language_model
            else None,
            "exposing_recommender": config.recommender.use,
            "simulated_people": summaries[0]["people"],
            "simulated_pages": [summary["pages"] for summary in summaries],
            "simulated_interactions": [summary["interactions"] for summary in summaries],
            "k": config.augmentation.k,
            "cold_users_have_at_most": strata.few,
            "cold_users": int(strata.cold_users.sum()),
            "cold_items": int(strata.items["cold_items"].sum()),
            "tail_items": int(strata.items["tail_items"].sum()),
            "sources_left_out": list(left_out),
            "headline": headline(rows),
            "rows": rows,
        }
    )
    return document


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def add_to_benchmark(document: Mapping[str, Any], file: Path) -> None:
    """Puts the figures into a list with one object per data set, split and decision model; an older object of the same is replaced.

    Raises:
        ConfigError: the file holds something else.
    """
    known = read_json(file, "move it away", ConfigError, kind=list) if file.exists() else []
    if not all(isinstance(other, dict) for other in known):
        raise ConfigError(f"{file} does not hold a list of results; move it away.")
    which = ("data", "split", "decision_model", "language_model")
    kept = [other for other in known if any(other.get(key) != document[key] for key in which)]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, ("[\n" + ",\n".join(_text(entry) for entry in [*kept, document]) + "\n]\n").encode())


def _text(entry: Mapping[str, Any]) -> str:
    """JSON with one line per row of the table."""
    head = json.dumps({key: value for key, value in entry.items() if key != "rows"}, indent=1, ensure_ascii=False)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in entry["rows"])
    return f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}'

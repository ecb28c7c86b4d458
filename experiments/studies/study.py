"""A study from its file to its report: arms as ordinary runs, one analysis, one figure, ``study.json``, ``report.html``.

::

    results/study-<name>/<date and time>/
      study.toml                 the study as it was read, complete
      settings/<name>.toml       the experiment of each arm as it was then, with every default and full paths
      arms/<name>/               one ordinary run per arm
      study.json  figures/*.png  report.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments import build as building
from experiments import config as configuration
from experiments import run as runs
from experiments.analysis.figure_style import Made
from experiments.analysis.finished_run import FinishedRun
from experiments.arms import run_arms
from experiments.config import ExperimentConfig
from experiments.console import finite
from experiments.same_settings import difference, settings
from experiments.studies.findings import Arms, Findings
from experiments.studies.study_config import METHODS, StudyConfig, arms_of, dump, read
from experiments.trust import check_trusted, own
from simulator.errors import ConfigError, RunError
from simulator.files import read_json, write_atomically
from simulator.plugins import build

STUDY = "study.toml"
OVERRIDES = "overrides.json"
DOCUMENT = "study.json"
SETTINGS = "settings"


def begin(target: Path, overrides: Sequence[str], output: Path | None) -> tuple[Path, StudyConfig, dict[str, ExperimentConfig]]:
    """The folder of a study, new or found again, with what is to be done there.

    Args:
        target: a study file, the name of one, or the folder of one that was begun, which goes on with the experiments that it was begun
            with, from any folder and whatever became of the file that it is based on.
        overrides: settings of every arm. output: folder, or None for a new one.

    Returns:
        The folder, the study, and the experiment of each arm.

    Raises:
        ConfigError: the target is none of these, or a folder is given together with settings.
        RunError: `output` holds another study.
    """
    if (target / STUDY).is_file():
        if overrides or output:
            raise ConfigError(f"{target} is a study that was begun, and goes on as it was; leave out --set, --seed and --output.")
        _check_trusted(target)
        told = read_json(target / OVERRIDES, "give the study file and the settings again, with another --output", kind=list)
        study = read(target / STUDY)
        return target, study, _kept(target, study) or arms_of(study, [str(setting) for setting in told])
    if target.is_dir():
        raise ConfigError(f"{target} has no {STUDY}, so it is no study; give a study file, the name of one, or the folder of one.")
    study = read(target)
    arms = arms_of(study, overrides)  # what is wrong is said before there is a folder
    folder = output or runs.new_path(f"study-{study.name}")
    begun, overridden = dump(study), (json.dumps(list(overrides)) + "\n").encode()
    for name, content in ((STUDY, begun), (OVERRIDES, overridden)):
        if (folder / name).is_file() and (folder / name).read_bytes() != content:
            raise RunError(f"{folder} holds a study with other settings ({name} differs); choose another --output, or remove it.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STUDY).is_file():
        raise RunError(f"{folder} already holds something that is no study; choose another --output.")
    with own(*arms.values()):
        before = _kept(folder, study) if (folder / STUDY).is_file() else {}
    for name, config in before.items():
        for key, (then, now) in difference(settings(config), settings(arms[name])).items():
            raise RunError(
                f"{folder} was begun with {key} = {then!r} for the arm {name}, and now {now!r} is wanted; choose another --output, remove "
                f"it, or go on as it was begun with `usersim study {folder}`."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / OVERRIDES, overridden)
    (folder / SETTINGS).mkdir(exist_ok=True)
    for name, config in arms.items():
        write_atomically(_settings_file(folder, name), configuration.dump(config, building.resolved(config)))
    write_atomically(folder / STUDY, begun)
    return folder, study, arms


def _settings_file(folder: Path, arm: str) -> Path:
    return folder / SETTINGS / f"{arm}.toml"


def _kept(folder: Path, study: StudyConfig) -> dict[str, ExperimentConfig]:
    """The experiment of each arm as a study was begun with it; none where an older version kept none."""
    if not (folder / SETTINGS).is_dir():
        return {}
    return {name: configuration.read(_settings_file(folder, name)) for name in study.arms}


def carry_out(
    folder: Path, study: StudyConfig, configs: Mapping[str, ExperimentConfig], workers: int, report: runs.Report
) -> dict[str, Any]:
    """Runs the arms that are not complete, reads them, writes everything.

    Args:
        folder, study, configs: see `begin`. workers: processes that simulate. report: told of the progress.

    Returns:
        The contents of ``study.json``.

    Raises:
        UsersimError: anything the user can mend.
    """
    with own(*configs.values()):
        return _carry_out(folder, study, configs, workers, report)


def _check_trusted(folder: Path) -> None:
    """Passes if what a study that was begun, and the experiment that it begins with, name may be used."""
    document = configuration.document(folder / STUDY)
    check_trusted(document, folder)
    base = Path(str(document.get("base", "")))
    for file in (folder / base, base, *sorted((folder / SETTINGS).glob("*.toml"))):
        if file.is_file():
            check_trusted(configuration.document(file), folder)


def _carry_out(
    folder: Path, study: StudyConfig, configs: Mapping[str, ExperimentConfig], workers: int, report: runs.Report
) -> dict[str, Any]:
    started = time.perf_counter()
    analysis = build(study.analysis.use, study.analysis.options, where="analysis", methods=METHODS)
    folders = run_arms(folder, configs, workers, report)
    report("reading the arms", 0, 0, None)
    arms = Arms({name: FinishedRun(path) for name, path in folders.items()}, study.control)
    findings: Findings = analysis.measure(arms)
    document = document_of(study, arms, findings, folder)
    from experiments.analysis.study_figures import draw  # noqa: PLC0415 - matplotlib is not needed before
    from experiments.analysis.study_report import write_report  # noqa: PLC0415

    report("drawing figures", 0, 0, None)
    figure: Made = draw(study, findings, folder / "figures" / f"{study.name}.png")
    document["figure"] = {"file": f"figures/{study.name}.png", "caption": figure.caption}
    write_atomically(folder / DOCUMENT, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    write_report(document, figure, folder)
    return {**document, "study": str(folder), "seconds": round(time.perf_counter() - started, 1)}


def document_of(study: StudyConfig, arms: Arms, findings: Findings, folder: Path) -> dict[str, Any]:
    """What is kept of a study; nothing in it depends on when or where it was made."""
    first = next(iter(arms.runs.values()))
    counts = ("sessions", "pages", "impressions", "interactions", "ratings")
    people = sorted({_who(run) for run in arms.runs.values()})
    document = {
        "name": study.name,
        "question": study.question,
        "data": first.data_name,
        "people": len(arms.people),
        "rounds": int(first.summary["rounds"]),
        "seed": first.seed,
        "decided_by": people,
        "control": arms.control,
        "arms": {
            name: {"run": str(run.path.relative_to(folder)), "policy": run.manifest.get("policy"), "decided_by": _who(run)}
            | {key: run.summary.get(key) for key in counts}
            for name, run in arms.runs.items()
        },
        "analysis": study.analysis.use,
        "names": dict(findings.names),
        "sentences": list(findings.sentences),
        "rows": [asdict(row) for row in findings.rows],
    }
    plain: dict[str, Any] = finite(document)
    return plain


def _who(run: FinishedRun) -> str:
    """Who decided in a run: the decision model, with or without a language model."""
    decision = str(run.config.get("decision", {}).get("use", "unknown")).rpartition(":")[2]
    model = run.manifest.get("model")
    return f"{decision} with {model['name']}" if model else f"{decision} without a language model"

"""``manifest.json`` of a run: what it is made of and by, written once, and compared whenever the run is continued.

What must stay as it was: the settings, the data, the language model. What may only change where somebody says so: the code, what stands
in files that [decision], [memory] and [population] name, the versions of the packages below the code, the processor and the kernels of
BLAS, on which the last bits of a fit depend. Every change that was made is kept under ``changed``, with its time and both values.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from environments.datasets.splits import Split
from experiments import build
from experiments.config import ExperimentConfig
from experiments.named_files import contents
from experiments.same_settings import settings
from experiments.stored_settings import CHANGEABLE, changed_settings, differences, flat, settings_of, settings_sha256, value_told
from simulator.dataset import Dataset
from simulator.errors import RunError
from simulator.execution import cores
from simulator.plugins import portable
from simulator.protocols import LanguageModel
from simulator.provenance import arithmetic, code_sha256
from simulator.records import UserProfile
from simulator.run_directory import RunDirectory

PACKAGES = ("mesa", "torch", "transformers", "llama-cpp-python", "polars", "numpy", "scipy", "pydantic")

ACCEPTABLE = ("usersim", "git_revision", "code", "files", "packages", "machine.processor", "machine.blas", "model.backend")
"""Entries, with all below them, that may differ when a run is continued, if `usersim resume --accept-changes` says so."""


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def made_by(config: ExperimentConfig) -> dict[str, Any]:
    """The entries of a manifest about code, packages and machine, as they are here and now."""
    return {
        "usersim": metadata.version("usersim"),
        "git_revision": _git_revision(),
        "code": code_of(config),
        "files": _files_of(config),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processor": _processor(),
            "blas": arithmetic()["blas"],
            "cores": cores(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        },
    }


def write(run: RunDirectory, config: ExperimentConfig, parts: Split, model: LanguageModel | None, people: Sequence[UserProfile]) -> None:
    """Writes how a run is made, before anything of it is."""
    train = parts.train
    settings = settings_of(run)
    run.write_json(
        "manifest",
        {
            **made_by(config),
            **_made_of(train, model),
            "experiment": config.name,
            "seed": config.seed,
            "people": len(people),
            "synthetic_people": sum(person.synthetic for person in people),
            "split": config.dataset.split_config().model_dump(mode="json"),
            "held_out": {"interactions": parts.test.height, "sha256": parts.test_sha256()},
            "policy": build.policy_id(config),
            "anchor": build.policy_id(config.model_copy(update={"recommender": config.anchor or config.recommender})),
            "rating_scale": train.rating_scale,
            "understood": dict(train.understood),
            "notes": list(train.notes),
            "started": now(),
            "settings": settings,
            "settings_sha256": settings_sha256(settings),
            "identity": identity_of(settings, train),
        },
    )


def identity_of(settings: Mapping[str, Any], train: Dataset) -> str:
    """What tells a run from others: a hash of the settings that its log depends on, and of its data."""
    fixed = {key: value for key, value in settings.items() if key not in CHANGEABLE}
    return hashlib.sha256(f"{settings_sha256(fixed)} {train.fingerprint()}".encode()).hexdigest()[:16]


def change_settings(run: RunDirectory, overrides: Sequence[str], **model_settings: str) -> None:
    """Records settings of a run that were changed on purpose; its ``config.toml`` has them already.

    Args:
        run: with its manifest. overrides: what was asked for, ``section.key=value``; nothing for what was changed in the file.
        model_settings: entries of the model's settings that change with them.
    """
    stored, settings = run.read_json("manifest"), settings_of(run)
    values = {key: list(pair) for key, pair in changed_settings(run).items()}
    told = (stored.get("model") or {}).get("settings", {})
    told.update({key: value for key, value in model_settings.items() if key in told})
    change = {"time": now(), "settings": list(overrides), "values": values}
    run.write_json(
        "manifest",
        {**stored, "settings": settings, "settings_sha256": settings_sha256(settings), "changed": [*stored.get("changed", []), change]},
    )


def check(run: RunDirectory, config: ExperimentConfig, train: Dataset, model: LanguageModel | None, *, accept: bool) -> None:
    """Checks that a run which is continued is made of and by what it was started with, and counts the start.

    Args:
        run: with its manifest. config: its experiment. train, model: as they are now.
        accept: whether differences of `ACCEPTABLE` are recorded instead of refused.

    Raises:
        RunError: something differs; names it.
    """
    stored = run.read_json("manifest")
    entries: dict[str, Any] = {**_made_of(train, model), **made_by(config)}
    if "rating_scale" in stored:  # which rows that are held out can change, too
        entries["rating_scale"] = train.rating_scale
    accepted: dict[str, list[Any]] = {}
    files = stored.get("files") or {}  # of one that is gone, whoever still needs it says so; an older version kept nothing of them
    compared = entries | {"files": files | {key: digest for key, digest in entries["files"].items() if key in files}}
    for name, value in compared.items():
        for key, (then, here) in differences(files if name == "files" else stored.get(name), value, name).items():
            if name == "machine" and not _acceptable(key):  # tells how fast it is
                continue
            if not _acceptable(key):
                raise RunError(
                    f"the run {run.path} was started with another {name}: {key.removeprefix(name + '.')} was {value_told(key, then)} "
                    f"(manifest.json), now it is {value_told(key, here)}; a run is continued only with the same, so that its log stays one."
                )
            accepted[key] = [then, here]
    if accepted and not accept:
        told = "; ".join(f"{key} was {value_told(key, then)}, now it is {value_told(key, here)}" for key, (then, here) in accepted.items())
        raise RunError(
            f"the run {run.path} was started by other code, with other files or on another machine (manifest.json): {told}. To the byte, "
            f"its log would not be that of one run; `usersim resume {run.path} --accept-changes` goes on all the same and records it in "
            "manifest.json."
        )
    changed = [*stored.get("changed", []), {"time": now(), "accepted": accepted}] if accepted else stored.get("changed", [])
    settings = stored.get("settings") or settings_of(run)
    run.write_json(
        "manifest",
        {
            **stored,
            **entries,
            "settings": settings,
            "settings_sha256": settings_sha256(settings),
            "resumed": stored.get("resumed", 0) + 1,
            **({"changed": changed} if changed else {}),
        },
    )


def check_data(run: RunDirectory, parts: Split) -> None:
    """Checks that data is what a run was made with: the training part, and what was held out, which nothing of the run depends on but on
    which it is judged.

    Raises:
        RunError: it is not.
    """
    check_training_data(run, parts.train)
    then = run.read_json("manifest").get("held_out")
    if then is not None and then.get("sha256") != parts.test_sha256():  # an older version kept nothing of it
        raise RunError(
            f"the run {run.path} was started with another data: {then.get('interactions')} held-out interactions of '{parts.train.name}' "
            f"(SHA-256 {str(then.get('sha256'))[:12]}); now {parts.test.height} are held out ({parts.test_sha256()[:12]}). What is said "
            "about a run must come from its own data."
        )


def check_training_data(run: RunDirectory, train: Dataset) -> None:
    """Checks that a training part is the one that a run was made with.

    Raises:
        RunError: it is not.
    """
    then = run.read_json("manifest").get("data") or {}
    if then.get("fingerprint") != train.fingerprint():
        raise RunError(
            f"the run {run.path} was started with another data: {then.get('training_interactions')} training interactions of "
            f"'{then.get('name')}' (manifest.json: fingerprint {str(then.get('fingerprint'))[:12]}); now there are "
            f"{train.interactions.height} of '{train.name}' ({train.fingerprint()[:12]}). What is said about a "
            "run must come from its own data."
        )


def code_of(config: ExperimentConfig) -> dict[str, str]:
    """SHA-256 of the source files that a run is made by: those of a run itself, and of each section's components (see `provenance`)."""
    found = {"run": code_sha256("experiments.run")}
    for section in ("dataset", "memory", "decision", "language_model", "recommender", *(["anchor"] if config.anchor else [])):
        named = flat({section: config.model_dump(mode="json")[section]})
        modules = {portable(str(value)).rpartition(":")[0] for key, value in named if key.endswith(".use")}
        if modules:
            found[section] = code_sha256(*sorted(modules))
    return found


def _files_of(config: ExperimentConfig) -> dict[str, str]:
    """What stands in the files that people are made from, such as an earlier run whose decisions they repeat."""
    of_people = {key: value for key, value in settings(config).items() if key.partition(".")[0] in ("decision", "memory", "population")}
    return contents({key: value for key, value in of_people.items() if not key.endswith(".use")})


def _made_of(train: Dataset, model: LanguageModel | None) -> dict[str, Any]:
    identity = model.identity if model is not None else None
    return {
        "data": {
            "name": train.name,
            "fingerprint": train.fingerprint(),
            "users": train.n_users,
            "items": train.n_items,
            "training_interactions": train.interactions.height,
            "skipped": dict(train.skipped),
            "domain": asdict(train.catalog.domain),
        },
        "model": None
        if identity is None
        else {"name": identity.name, "sha256": identity.sha256, "backend": identity.backend, "settings": dict(identity.settings)},
    }


def _acceptable(key: str) -> bool:
    return any(key == entry or key.startswith(f"{entry}.") for entry in ACCEPTABLE)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout usersim runs from, with "+changes" if it is modified; None outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed.stdout.strip() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())

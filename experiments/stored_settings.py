"""The settings that a run was made with: its ``config.toml``, held against what ``manifest.json`` keeps of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from experiments import config as configuration
from experiments.config import ExperimentConfig
from simulator.credentials import shown
from simulator.errors import RunError
from simulator.run_directory import RunDirectory

CHANGEABLE = (
    "decision.max_fallback_share",
    *(
        f"language_model.{key}"
        for key in (
            "base_url",
            "budget",
            "price_per_million_prompt_tokens",
            "price_per_million_completion_tokens",
            "api_key_env",
            "concurrency",
            "timeout_s",
            "retries",
            "first_wait_s",
            "longest_wait_s",
            "requests_per_minute",
        )
    ),
)
"""Settings that `usersim resume --set` may change: how many replies may be unusable, what a server may cost and how it is reached;
nothing that can change the log."""

_NONE = object()


def config_of(run: RunDirectory) -> ExperimentConfig:
    """The configuration that a run was made with: the one way to it for whoever says something about a run, or goes on with it.

    Raises:
        ConfigError: as `experiments.config.of_run`.
        RunError: ``config.toml`` was edited since, other than in what may be changed (`CHANGEABLE`); names the setting.
    """
    config = configuration.of_run(run.config_path)
    if run.is_begun:
        check_settings(run, changeable=True)
    return config


def settings_of(run: RunDirectory) -> dict[str, Any]:
    """What stands in a run's ``config.toml``, as ``section.key`` -> value; [tuning] does not count."""
    document = {key: value for key, value in configuration.document(run.config_path).items() if key != "tuning"}
    return dict(flat(json.loads(json.dumps(document, default=str))))


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def changed_settings(run: RunDirectory) -> dict[str, tuple[Any, Any]]:
    """Settings of ``config.toml`` that are not those in the manifest -> both values; nothing where an older version kept none."""
    stored = run.read_json("manifest").get("settings")
    return {} if stored is None else differences(stored, settings_of(run), "")


def check_settings(run: RunDirectory, *, changeable: bool = False) -> None:
    """Checks that the configuration of a run is the one that it was started with (or that `change_settings` made of it).

    Args:
        run: with its manifest. changeable: whether those of `CHANGEABLE` may differ.

    Raises:
        RunError: a setting is another; names it.
    """
    for key, (then, here) in changed_settings(run).items():
        if changeable and key in CHANGEABLE:
            continue
        told = f"{key} was {value_told(key, then)} when the run was started (manifest.json), now it is {value_told(key, here)}"
        raise RunError(
            f"{run.config_path}: {told}; a run has the settings it was started with, so that its log stays one. Put "
            f"{key} = {value_told(key, then)} back, or start another run."
        )


def differences(then: Any, here: Any, before: str) -> dict[str, tuple[Any, Any]]:
    """Entries of two documents that differ, by their path (below `before`) -> both values; None where one is missing."""
    if isinstance(then, Mapping) and isinstance(here, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys((*then, *here)):
            found |= differences(then.get(key, _NONE), here.get(key, _NONE), f"{before}.{key}" if before else key)
        return found
    # as JSON too, which has lists for tuples, and in which a number that is none equals itself
    same = then == here or json.dumps(then, sort_keys=True, default=str) == json.dumps(here, sort_keys=True, default=str)
    return {} if same else {before: (None if then is _NONE else then, None if here is _NONE else here)}


def value_told(key: str, value: Any) -> str:
    """A value of a document as it can be shown; hashes are shortened and secrets masked."""
    if value is None or isinstance(value, Mapping):
        return "not there" if value is None else "there"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else shown(key, value)


def flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a document as ``section.key`` and value; an empty section is an entry."""
    for key, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            yield from flat(entry, f"{before}{key}.")
        else:
            yield before + key, entry

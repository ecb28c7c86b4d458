"""What something computed from an experiment depends on, for whoever keeps it and wants to find it again.

The settings alone are not enough: a file that they name may hold something else by now, a plug-in may have been edited, and other
code or other libraries compute other numbers from the same.
"""

from __future__ import annotations

import json
from typing import Any

from experiments.config import ExperimentConfig
from experiments.manifest import code_of
from experiments.named_files import contents
from experiments.same_settings import settings
from simulator.dataset import Dataset
from simulator.errors import ModelError
from simulator.llm import formats, models
from simulator.provenance import arithmetic, code_sha256


def ingredients(config: ExperimentConfig, train: Dataset, *modules: str) -> dict[str, Any]:
    """Everything that a result depends on besides what is asked for, as JSON: equal ingredients give the same result.

    Args:
        config: the experiment. train: its training part. modules: whose code computes the result.
    """
    found = {
        "settings": {key: value for key, value in settings(config).items() if key != "name"},
        "data": train.fingerprint(),
        "scale": [train.rating_scale, train.kept_share, train.split_seed],
        "files": _contents(config),
        "model": _model(config),
        "code": {**code_of(config), "result": code_sha256(*modules)},
        "arithmetic": arithmetic(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str, sort_keys=True))
    return plain


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first ingredient that differs, in words, or None if all are equal."""
    for name in (*now, *before):
        then, here = before.get(name), now.get(name)
        if then == here:
            continue
        if isinstance(then, dict) and isinstance(here, dict):
            key = next(key for key in (*here, *then) if then.get(key) != here.get(key))
            return f"{name}.{key} was {then.get(key)!r}, now it is {here.get(key)!r}"
        return f"{name} was {then!r}, now it is {here!r}"
    return None


def _contents(config: ExperimentConfig) -> dict[str, str]:
    """What stands in the files that settings name; those of the data are known by what was read from them."""
    known = ("name", "language_model.cache_path", "language_model.path")
    return contents({key: value for key, value in settings(config).items() if not key.startswith("dataset.") and key not in known})


def _model(config: ExperimentConfig) -> str | None:
    """SHA-256 of the language model's file, where the experiment has one on this machine."""
    section = config.language_model
    if section is None or not section.use.endswith(("llama_cpp:LlamaCpp", "transformers_model:TransformersModel")):
        return None
    try:
        return formats.fingerprint(models.resolve(section.options.get("path")))
    except ModelError:
        return None

"""Whether a language model may be trusted to read the notes beside items: what `usersim fidelity --parts notes` found of it.

A model that any text beside an item puts off finds effects of notes that are no finding, so nobody reads with a model that was not seen to
read, and effects are stated instead (`environments.interventions.InterventionConfig.response`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from environments.interventions import InterventionConfig
from simulator import caches
from simulator.errors import ConfigError
from simulator.files import read_document, write_document
from simulator.paths import cache_folder
from simulator.records import ModelIdentity

MOST_OF_CONTROL: Final[float] = 0.01
"""The interval of what a control note does to the probability of choosing lies within so much of 0, either way."""

NOT_MEASURED: Final[str] = "it was not measured whether it can read"


def verdict(effects: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why a model cannot read notes, or None if it can.

    Args:
        effects: ``control``, change of the probability of choosing by a neutral note; ``persuasive_over_irrelevant`` and
            ``irrelevant_over_discouraging``, paired differences; each with "value", "low" and "high" (None where not defined).
    """

    def told(name: str) -> str:
        value, low, high = (100 * float(effects[name][part]) for part in ("value", "low", "high"))
        return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"

    names = ("control", "persuasive_over_irrelevant", "irrelevant_over_discouraging")
    if any(effects[name][part] is None for name in names for part in ("value", "low", "high")):
        return "too few pages were read to tell"
    control = effects["control"]
    if control["low"] < -MOST_OF_CONTROL or control["high"] > MOST_OF_CONTROL:
        return f"a neutral note changes how often it chooses by {told('control')}, more than 1 point either way"
    for name in names[1:]:
        if effects[name]["low"] <= 0:
            more, less = name.split("_over_")
            return f"{more} notes do not do more for it than {less} ones: {told(name)}"
    return None


def keep(identity: ModelIdentity, decision: str, why: str | None, effects: Mapping[str, Any]) -> None:
    """Keeps what was found of a model, in the cache.

    Args:
        identity: of the model. decision: import path of the decision model that asks it. why: of `verdict`. effects: see there.
    """
    caches.keep(_file(identity, decision), lambda file: write_document(file, {"why": why, "effects": effects}, indent=1))


def refuse(interventions: Mapping[str, InterventionConfig], identity: ModelIdentity, decision: str) -> None:
    """Lets nobody read a note with a model that was not seen to read.

    Args:
        interventions: of an experiment, by name. identity, decision: as in `keep`.

    Raises:
        ConfigError: an intervention is read, and the model failed, or was not measured.
    """
    names = [name for name, one in interventions.items() if one.response == "read"]
    if not names:
        return
    known = caches.found(_file(identity, decision), lambda file: read_document(file, "measure it again", ConfigError)[0])
    why = NOT_MEASURED if known is None else known["why"]
    if why is not None:
        raise ConfigError(
            f"[interventions.{names[0]}] response = 'read', but {identity.name} may not read notes: {why}; state the response that you "
            "assume as a number of log-odds, for example response = 0.5, or measure a model with `usersim fidelity CONFIG --parts notes`."
        )


def _file(identity: ModelIdentity, decision: str) -> Path:
    digest = hashlib.sha256(json.dumps([asdict(identity), decision], sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "note-reading" / f"{digest[:32]}.json"

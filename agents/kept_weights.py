"""What the weights of calibrated people depend on, and where those are kept that were estimated before.

Weights are found again under a key that holds every ingredient of the fit (`key_of`): the same experiment gives the same people whatever
ran before on the machine. Weights that come with an adapter of a language model were estimated once, with another seed and perhaps by
earlier code, and are taken for what they are: part of the installation, the same for everybody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from agents.calibration import Calibration
from agents.decisions import first_page
from agents.prompts import PromptBuilder
from agents.rhythm import DEFAULT_RHYTHM
from simulator import caches
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.llm.adapters import SHIPPED
from simulator.paths import cache_folder
from simulator.protocols import DecisionContext
from simulator.provenance import arithmetic, code_sha256
from simulator.records import Level, MemoryRecord, Trait, UserProfile
from simulator.seeds import Stream

if TYPE_CHECKING:
    from agents.calibrated import CalibratedConfig

FILE = "calibration.json"

AFTERWARDS = frozenset(
    {
        "weights",
        "choose_rate",
        "typical_pages",
        "stay",
        "leave_response",
        "activity_share",
        "moods",
        "texts",
        "texts_trial",
        "least_texts_share",
        "exposures",
        "foreseen",
        "random_ratings",
    }
)
"""Options of `agents.calibrated.CalibratedConfig` that no weight depends on, but for the exposures, whose content counts."""

OF_MODEL = frozenset({"people", "stars", "recentre", "reference_pages", "prompt"})
"""Options that only the language model reads."""

OF_SHIPPED = ("data", "rating_scale", "words", "actions", "options", "wording", "exposures")
"""What weights that come with an adapter must agree in."""

SAMPLED_ITEMS = 5


def key_of(
    config: CalibratedConfig,
    context: DecisionContext,
    train: Dataset,
    profiles: Sequence[UserProfile],
    rng: Stream,
    prompts: PromptBuilder | None,
) -> dict[str, Any]:
    """Everything that estimated weights depend on, as JSON.

    Args:
        config: of the decisions. context: of the experiment. train, profiles, rng: what is fitted on, and with which draws.
        prompts: of the language model, or None if it is not asked.
    """
    model = context.language_model if prompts is not None else None
    exposures = config.exposures
    key = {
        "data": train.fingerprint(),
        "name": train.name,
        "kept_share": train.kept_share,
        "split_seed": train.split_seed,
        "rating_scale": context.rating_scale,
        "people": _people(profiles),
        "words": asdict(context.catalog.domain),
        "actions": [_told(asdict(action)) for action in context.actions],
        "options": config.model_dump(mode="json", exclude=set(AFTERWARDS if model is not None else AFTERWARDS | OF_MODEL)),
        "exposures": hashlib.sha256(exposures.read_bytes()).hexdigest() if exposures and exposures.is_file() else None,
        "page_size": context.page_size if model is not None else None,
        "language_model": asdict(model.identity) if model is not None else None,
        "wording": _wording(prompts) if prompts is not None else None,
        "seed": [int(rng.seed), *rng.path],
        "code": code_sha256("agents.calibrated"),
        "arithmetic": arithmetic(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(key, default=str))
    return plain


def kept_file(key: Mapping[str, Any]) -> Path:
    """Where weights with these ingredients are kept in the cache folder."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "calibration" / f"{digest[:24]}.json"


def keep(found: Calibration, key: Mapping[str, Any]) -> None:
    """Puts weights into the cache folder, where that can be written."""
    caches.keep(kept_file(key), lambda file: found.save(file, dict(key)))


def kept(key: Mapping[str, Any]) -> Calibration | None:
    """Weights with these ingredients that came with an adapter or were estimated before, or None."""
    ready = shipped(key)
    if ready is not None:
        return ready
    stored = caches.found(kept_file(key), Calibration.load)
    return None if stored is None else stored[0]


def shipped(key: Mapping[str, Any]) -> Calibration | None:
    """Weights that come with the adapter of the language model, if they were estimated for this data, these words and these prompts.

    They hold for every format and backend of the same model and adapter, since formats that are chosen differ by little
    (`simulator.llm.formats`), for pages with one item more or less, since adapters are tuned on pages of several sizes, and for every
    seed.
    """
    adapter = (key["language_model"] or {}).get("settings", {}).get("adapter")
    if adapter is None:
        return None
    for file in sorted(SHIPPED.glob(f"*/{FILE}")):
        found, other = Calibration.load(file)
        told = other.get("language_model") or {}
        same = all(other.get(name) == key[name] for name in OF_SHIPPED) and told.get("settings", {}).get("adapter") == adapter
        if same and abs(other["page_size"] - key["page_size"]) <= 1:
            return found
    return None


def named(weights: str, *, with_model: bool) -> Calibration:
    """Weights of an earlier run, or of a file.

    Args:
        weights: folder of the run, or path of a calibration.json. with_model: whether they must weigh a language model.

    Raises:
        ConfigError: there are none, or they know no language model.
    """
    path = Path(weights).expanduser()
    for file in (path, path / FILE, path / "decisions" / FILE):
        if file.is_file():
            found = Calibration.load(file)[0]
            if with_model and "language model" not in found.choice.names:
                raise ConfigError(
                    f"[decision] weights = '{weights}': these were fitted without a language model; set language_model = false."
                )
            return found
    raise ConfigError(f"[decision] weights = '{weights}': there is no {FILE}; write 'auto', 'fit', or the folder of a run.")


def _people(profiles: Sequence[UserProfile]) -> str:
    """SHA-256 of who the people are and what they did."""
    digest = hashlib.sha256()
    for one in profiles:
        about = (one.user_id, one.age, one.gender, one.occupation, one.rating_histogram, one.liked, one.disliked, one.taste)
        digest.update(repr(about).encode())
        digest.update(np.ascontiguousarray(one.history).tobytes())
        digest.update(b"" if one.ratings is None else np.ascontiguousarray(one.ratings).tobytes())
    return digest.hexdigest()


def _told(action: dict[str, Any]) -> dict[str, Any]:
    """An action without what no answer depends on."""
    return {name: value for name, value in action.items() if name not in ("column", "meaning", "grades", "within", "shares")}


def _wording(prompts: PromptBuilder) -> str:
    """SHA-256 of what three made-up people would be asked: it changes with every word that prompts have, and not with the data's people."""
    digest = hashlib.sha256()
    items = np.arange(min(SAMPLED_ITEMS, len(prompts.catalog)))
    for level in get_args(Level):
        one = _someone(prompts, level)
        seen = MemoryRecord(0, "insight", 0, 0, 0, "I like what others like.", importance=1.0)
        situation = replace(first_page(one, items, Stream(0)), memories=(seen,))
        asked = [prompts.page(situation), prompts.closing(situation)]
        if prompts.config.thought_tokens:
            asked += [made for made in (prompts.thought(situation).prompt,) if made is not None]
        for prompt in asked:
            digest.update(repr([segment.parts for segment in prompt.segments]).encode())
    return digest.hexdigest()


def _someone(prompts: PromptBuilder, level: Level) -> UserProfile:
    """A person of whom everything is known that a prompt may tell, made of the catalog's first items."""
    items, trait = np.arange(min(60, len(prompts.catalog)), dtype=np.int32), Trait(1.0, 0.5, level)
    return UserProfile(
        user=0,
        user_id="someone",
        synthetic=True,
        history=items,
        ratings=np.full(len(items), 3.0, dtype=np.float32),
        liked=tuple(items[:20].tolist()),
        disliked=tuple(items[20:30].tolist()),
        genres=dict.fromkeys(prompts.catalog.genre_names, 1.0),
        activity=trait,
        conformity=trait,
        diversity=trait,
        pickiness=trait,
        rating_histogram=(0.2,) * 5,
        rhythm=DEFAULT_RHYTHM,
        age=30,
        gender="female",
        occupation="writer",
        taste="Likes what is slow.",
    )

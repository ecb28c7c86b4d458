"""A paragraph about each person's taste, written once by the language model and kept."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.prompts import PromptBuilder
from agents.text import clean
from simulator.errors import RunError
from simulator.files import read_document, write_document
from simulator.protocols import LanguageModel
from simulator.records import Completion, GenerationRequest, UserProfile
from simulator.seeds import Stream

BATCH = 32
"""People per call of the model; what is written does not depend on who was asked before a restart."""

_log = logging.getLogger(__name__)


_TASTES, _ASKED = "tastes", "asked"


def read_tastes(file: Path) -> dict[str, str]:
    """User id -> paragraph, empty where none could be written, as `write_tastes` keeps them.

    Raises:
        RunError: the file is missing or damaged.
    """
    return _read(file)[0]


def _read(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """User id -> paragraph, and -> key of what was asked; of versions that did not keep the keys, none."""
    way_out = "remove it, and a resumed run writes the tastes again"
    document, untouched = read_document(file, way_out)
    # Runs of before have the people at the top.
    tastes = document[_TASTES] if isinstance(document.get(_TASTES), dict) else document
    asked = document.get(_ASKED, {}) if tastes is not document else {}
    if not untouched or not isinstance(asked, dict) or not all(isinstance(text, str) for text in (*tastes.values(), *asked.values())):
        raise RunError(f"{file} does not hold the tastes that were written; {way_out}.")
    return dict(tastes), dict(asked)


def write_tastes(
    people: Sequence[UserProfile], model: LanguageModel, prompts: PromptBuilder, stream: Stream, file: Path
) -> list[UserProfile]:
    """The same people with `UserProfile.taste`, read from `file` where it was written before.

    Args:
        people: whose taste is wanted.
        model: writes the missing paragraphs, in fixed batches.
        prompts: the request.
        stream: randomness; each person has their own.
        file: see `read_tastes`; rewritten after each batch. What is damaged, or was asked otherwise (by another run), is written again.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        kept, asked = _read(file) if file.exists() else ({}, {})
    except RunError as error:
        _log.warning("%s", f"{error} Now they are.")
        kept, asked = {}, {}
    wanted = [prompts.taste(person, stream.child(person.user)) for person in people]
    keys = {person.user_id: _key(request) for person, request in zip(people, wanted, strict=True)}
    if other := [user for user in kept if asked.get(user, keys.get(user)) != keys.get(user)]:
        _log.warning(
            "%s holds tastes that were not asked for by this run, that of person '%s' for one: they are written again.", file, other[0]
        )
        kept, asked = {}, {}
    for start in range(0, len(people), BATCH):
        batch = people[start : start + BATCH]
        if all(person.user_id in kept for person in batch):
            continue
        completions = model.generate(wanted[start : start + BATCH])
        kept |= {person.user_id: _usable(completion) for person, completion in zip(batch, completions, strict=True)}
        failed = Counter(completion.status for completion in completions if not _usable(completion))
        if failed:
            _log.warning("%d of %d tastes could not be written: %s.", failed.total(), len(batch), dict(failed))
        asked |= {person.user_id: keys[person.user_id] for person in batch}
        write_document(file, {_TASTES: kept, _ASKED: asked}, indent=1)
    return [replace(person, taste=kept[person.user_id] or None) for person in people]


def _key(request: GenerationRequest) -> str:
    """What tells a request for a taste from others."""
    prompt = "" if request.prompt is None else request.prompt.text
    return hashlib.sha256(f"{request.messages} {prompt} {request.stream.integer()}".encode()).hexdigest()[:16]


def _usable(completion: Completion) -> str:
    return clean(completion.text, 400) if completion.status in ("ok", "length") else ""

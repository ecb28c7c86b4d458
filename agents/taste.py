"""A paragraph about each person's taste, written once by the language model and kept."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents import text_facts
from agents.facts import Facts
from agents.prompts import PromptBuilder
from agents.text import clean
from agents.texts import checked_text
from simulator.errors import RunError
from simulator.files import read_document, write_document
from simulator.protocols import LanguageModel
from simulator.records import Completion, GenerationRequest, UserProfile
from simulator.seeds import Stream

BATCH = 32
"""People per call of the model; what is written does not depend on who was asked before a restart."""

_log = logging.getLogger(__name__)


_TASTES, _ASKED, _STATUSES = "tastes", "asked", "statuses"


def read_tastes(file: Path) -> dict[str, str]:
    """User id -> paragraph, empty where none could be written, as `write_tastes` keeps them.

    Raises:
        RunError: the file is missing or damaged.
    """
    return _read(file)[0]


def read_told_tastes(file: Path) -> dict[str, tuple[str, str]]:
    """User id -> paragraph and how it came about (`Closing.reason_status`), of everybody who has one.

    Raises:
        RunError: the file is missing or damaged.
    """
    tastes, _, statuses = _read(file)
    return {user: (text, statuses.get(user, "")) for user, text in tastes.items() if text}


def _read(file: Path) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """User id -> paragraph, -> key of what was asked, and -> how it came about; of versions that did not keep the last two, none."""
    way_out = "remove it, and a resumed run writes the tastes again"
    document, untouched = read_document(file, way_out)
    # Runs of before have the people at the top.
    tastes = document[_TASTES] if isinstance(document.get(_TASTES), dict) else document
    asked, statuses = (document.get(key, {}) if tastes is not document else {} for key in (_ASKED, _STATUSES))
    kept = (tastes, asked, statuses)
    if not untouched or not all(isinstance(one, dict) and all(isinstance(text, str) for text in one.values()) for one in kept):
        raise RunError(f"{file} does not hold the tastes that were written; {way_out}.")
    return dict(tastes), dict(asked), dict(statuses)


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
        kept, asked, statuses = _read(file) if file.exists() else ({}, {}, {})
    except RunError as error:
        _log.warning("%s", f"{error} Now they are.")
        kept, asked, statuses = {}, {}, {}
    wanted = [prompts.taste(person, stream.child(person.user)) for person in people]
    keys = {person.user_id: _key(request) for person, request in zip(people, wanted, strict=True)}
    if other := [user for user in kept if asked.get(user, keys.get(user)) != keys.get(user)]:
        _log.warning(
            "%s holds tastes that were not asked for by this run, that of person '%s' for one: they are written again.", file, other[0]
        )
        kept, asked, statuses = {}, {}, {}
    for start in range(0, len(people), BATCH):
        batch = people[start : start + BATCH]
        if all(person.user_id in kept for person in batch):
            continue
        completions = model.generate(wanted[start : start + BATCH])
        for person, completion in zip(batch, completions, strict=True):
            facts = Facts(prompts.catalog, person, None, (), whole_life=True)
            kept[person.user_id], statuses[person.user_id] = _checked(completion, facts)
        failed = Counter(statuses[person.user_id] for person in batch if statuses[person.user_id] != "ok")
        if failed:
            _log.warning(
                "%d of %d tastes are made from facts, since what was written is not true or not whole: %s.",
                failed.total(),
                len(batch),
                dict(failed),
            )
        asked |= {person.user_id: keys[person.user_id] for person in batch}
        write_document(file, {_TASTES: kept, _ASKED: asked, _STATUSES: statuses}, indent=1)
    return [replace(person, taste=kept[person.user_id] or None, taste_status=statuses.get(person.user_id, "")) for person in people]


def _key(request: GenerationRequest) -> str:
    """What tells a request for a taste from others."""
    prompt = "" if request.prompt is None else request.prompt.text
    return hashlib.sha256(f"{request.messages} {prompt} {request.stream.integer()}".encode()).hexdigest()[:16]


def _checked(completion: Completion, facts: Facts) -> tuple[str, str]:
    """The true sentences of what was written, else sentences from facts; and how that came about (`Closing.reason_status`)."""
    if completion.status not in ("ok", "length"):
        return text_facts.taste(facts), completion.status
    kept, refused = checked_text(completion.text, facts, cut=completion.status == "length")
    if kept:
        return clean(" ".join(kept), 400), "ok"
    return text_facts.taste(facts), refused[0][1] if refused else "empty"

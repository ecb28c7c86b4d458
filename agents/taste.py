"""A paragraph about each person's taste, written once by the language model and kept."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.prompts import PromptBuilder
from agents.text import clean
from simulator.protocols import LanguageModel
from simulator.records import Completion, UserProfile
from simulator.seeds import Stream

BATCH = 32
"""People per call of the model; what is written does not depend on who was asked before a restart."""

_log = logging.getLogger(__name__)


def write_tastes(
    people: Sequence[UserProfile], model: LanguageModel, prompts: PromptBuilder, stream: Stream, file: Path
) -> list[UserProfile]:
    """The same people with `UserProfile.taste`, read from `file` where it was written before.

    Args:
        people: whose taste is wanted.
        model: writes the missing paragraphs, in fixed batches.
        prompts: the request.
        stream: randomness; each person has their own.
        file: JSON, user id -> paragraph; rewritten after each batch.
    """
    kept: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for start in range(0, len(people), BATCH):
        batch = people[start : start + BATCH]
        if all(person.user_id in kept for person in batch):
            continue
        completions = model.generate([prompts.taste(person, stream.child(person.user)) for person in batch])
        kept |= {person.user_id: _usable(completion) for person, completion in zip(batch, completions, strict=True)}
        failed = Counter(completion.status for completion in completions if not _usable(completion))
        if failed:
            _log.warning("%d of %d tastes could not be written: %s.", failed.total(), len(batch), dict(failed))
        temporary = file.with_name(f".{file.name}.part")
        temporary.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
        temporary.rename(file)
    return [replace(person, taste=kept[person.user_id] or None) for person in people]


def _usable(completion: Completion) -> str:
    return clean(completion.text, 400) if completion.status in ("ok", "length") else ""

"""A paragraph about each person's taste, written once by the language model and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.prompts import PromptBuilder
from agents.text import clean
from simulator.protocols import LanguageModel
from simulator.records import UserProfile
from simulator.seeds import Stream

BATCH = 32
"""People per call of the model; what is written does not depend on who was asked before a restart."""


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
        kept |= {person.user_id: clean(completion.text, 400) for person, completion in zip(batch, completions, strict=True)}
        temporary = file.with_name(f".{file.name}.part")
        temporary.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
        temporary.rename(file)
    return [replace(person, taste=kept[person.user_id] or None) for person in people]

"""Writing several texts at once.

Each text has a sequence of its own. The sequences in use are always the first ones behind sequence 0, where prompts are
computed: when texts end, the last sequences take their places. New texts start together, once half of the sequences are
free, and what leads to them (their last chunk) is computed for all of them at once, since a call costs as much as ten tokens.
Which tokens are computed together, and with them the last bits of the logits, is a function of the list of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from simulator.llm.batching import batches
from simulator.llm.llama_native import MOST_OUTPUTS, Grammar, Weights, schema_grammar
from simulator.llm.text_writing import Text
from simulator.records import Completion, GenerationRequest


class Slots(Protocol):
    """Where texts grow: `simulator.llm.llama_native.Sequences`, or `simulator.llm.packed_network.Steps`. The first is not used.

    Attributes:
        streams: how many there are. batch: most tokens computed in one call.
    """

    streams: int
    batch: int

    def extend(
        self, tokens: Sequence[np.ndarray], starts: Sequence[int], outputs: Sequence[np.ndarray], first: int = 0
    ) -> list[np.ndarray]:
        """Appends tokens to neighbouring slots; the logits at the wanted offsets of each."""

    def step(self, tokens: list[int], positions: list[int]) -> np.ndarray:
        """Appends one token to each of the first slots in use; next-token logits, one row each."""

    def copy(self, source: int, target: int) -> None:
        """Replaces a slot by a copy of another one."""


@dataclass(frozen=True, slots=True)
class Job:
    """A text about to be written.

    Attributes:
        request: what is wanted. lead: tokens that are still to be computed before the first new one, at most a batch.
        length: tokens before those. enter: puts those into the sequence of that number, and nothing else.
    """

    request: GenerationRequest
    lead: np.ndarray
    length: int
    enter: Callable[[int], None]


@dataclass(slots=True)
class _Place:
    """A text in a sequence: the number of its request, and how many tokens it continues."""

    number: int
    text: Text
    length: int

    @property
    def position(self) -> int:
        """Where the last token goes."""
        return self.length + len(self.text.tokens) - 1


def write(weights: Weights, sequences: Slots, jobs: Iterable[Job], count: int) -> list[Completion]:
    """Completions of all jobs, in order.

    Args:
        weights: the model. sequences: where it computes; all but sequence 0 are used.
        jobs: `count` of them; each is taken when there is room for it.
    """
    completions: list[Completion] = [Completion("", 0)] * count
    waiting = enumerate(jobs)
    places: list[_Place] = []
    room = min(sequences.streams - 1, sequences.batch, MOST_OUTPUTS)
    left = count

    def end(complete: list[int]) -> None:
        for k in reversed(complete):
            completions[places[k].number] = places[k].text.finish()
            last = places.pop()
            if k < len(places):
                places[k] = last
                sequences.copy(len(places) + 1, k + 1)

    while left or places:
        if left and len(places) <= room // 2:
            new = list(islice(waiting, room - len(places)))
            left -= len(new)
            end(_begin(weights, sequences, new, places))
        elif places:
            rows = sequences.step([place.text.tokens[-1] for place in places], [place.position for place in places])
            end([k for k, place in enumerate(places) if place.text.take(rows[k])])
    return completions


def _begin(weights: Weights, sequences: Slots, new: Sequence[tuple[int, Job]], places: list[_Place]) -> list[int]:
    """Puts new texts into the sequences behind those in use and draws their first tokens; which places are complete already."""
    complete: list[int] = []
    lengths = [len(job.lead) for _, job in new]
    for group in batches(lengths, [1] * len(new), tokens=sequences.batch, members=len(new), rows=MOST_OUTPUTS):
        first = len(places)
        for number, job in (new[k] for k in group):
            schema = job.request.schema
            text = Text(job.request, weights.piece, weights.ends, None if schema is None else Grammar(weights, schema_grammar(schema)))
            places.append(_Place(number, text, job.length + len(job.lead)))
            job.enter(len(places))
        jobs = [new[k][1] for k in group]
        last = [np.array([len(job.lead) - 1]) for job in jobs]
        rows = sequences.extend([job.lead for job in jobs], [job.length for job in jobs], last, first + 1)
        complete += [first + k for k, own in enumerate(rows) if places[first + k].text.take(own[0])]
    return complete

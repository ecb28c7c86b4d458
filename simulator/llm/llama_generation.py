"""Writing several texts at once with llama.cpp.

Each text has a sequence of its own. The sequences in use are always the first ones behind sequence 0, where prompts are
computed: when a text ends, the last sequence takes its place, and the next request starts behind it. Which tokens are computed
together, and with them the last bits of the logits, is therefore a function of the list of requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from simulator.llm.llama_native import Grammar, Sequences, Weights, schema_grammar
from simulator.llm.sampling import draw
from simulator.records import Completion, GenerationRequest


@dataclass(frozen=True, slots=True)
class Job:
    """A text about to be written.

    Attributes:
        request: what is wanted. length: tokens of what it continues.
        state: what was computed for them. logits: of the first new token; read at once, it may be overwritten later.
    """

    request: GenerationRequest
    length: int
    state: np.ndarray
    logits: np.ndarray


class _Text:
    """A text while it is written."""

    def __init__(self, number: int, job: Job, weights: Weights) -> None:
        self.number = number
        self.tokens: list[int] = []
        self._request = job.request
        self._length = job.length
        self._weights = weights
        self._rng = job.request.stream.generator()
        self._grammar = None if job.request.schema is None else Grammar(weights, schema_grammar(job.request.schema))
        self._bytes = bytearray()
        self._text = ""
        self._status = "ok"

    @property
    def position(self) -> int:
        """Where the last token goes."""
        return self._length + len(self.tokens) - 1

    def take(self, logits: np.ndarray) -> bool:
        """Draws the next token; True if the text is complete."""
        request = self._request
        if len(self.tokens) == request.max_tokens:
            self._status = "length"
            return True
        token = draw(logits, request.temperature, self._rng, self._grammar.allowed if self._grammar else None)
        if self._weights.ends(token):
            return True
        if self._grammar:
            self._grammar.accept(token)
        self.tokens.append(token)
        self._bytes += self._weights.piece(token)
        self._text = self._bytes.decode("utf-8", "ignore")
        found = [place for stop in request.stop if (place := self._text.find(stop)) >= 0]
        if found:
            self._text = self._text[: min(found)]
        return bool(found)

    def finish(self) -> Completion:
        """The completion; frees what the text held."""
        if self._grammar:
            self._grammar.close()
        return Completion(self._text, len(self.tokens), self._status)


def write(weights: Weights, sequences: Sequences, jobs: Iterable[Job], count: int) -> list[Completion]:
    """Completions of all jobs, in order.

    Args:
        weights: the model. sequences: where it computes; all but sequence 0 are used.
        jobs: `count` of them; each is taken when there is room for it, and may be prepared in sequence 0.
    """
    completions: list[Completion] = [Completion("", 0)] * count
    waiting = enumerate(jobs)
    texts: list[_Text] = []
    while True:
        while len(texts) < sequences.streams - 1 and (started := next(waiting, None)):
            number, job = started
            text = _Text(number, job, weights)
            if text.take(job.logits):
                completions[number] = text.finish()
            else:
                texts.append(text)
                sequences.restore(job.state, len(texts))
        if not texts:
            return completions
        rows = sequences.step([text.tokens[-1] for text in texts], [text.position for text in texts])
        complete = [place for place, text in enumerate(texts) if text.take(rows[place])]
        for place in reversed(complete):
            completions[texts[place].number] = texts[place].finish()
            last = texts.pop()
            if place < len(texts):
                texts[place] = last
                sequences.copy(len(texts) + 1, place + 1)

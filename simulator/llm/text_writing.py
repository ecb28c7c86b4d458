"""One generated text while it grows: drawing tokens, stop strings, limits. The same for every backend that gives logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from simulator.llm.sampling import draw
from simulator.records import Completion, GenerationRequest


class Grammar(Protocol):
    """Which tokens may come next."""

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        """Mask over `tokens` (int32) of those that may come next."""

    def accept(self, token: int) -> None:
        """Moves on by an allowed token that does not end the text."""

    def close(self) -> None:
        """Frees the grammar."""


class Text:
    """A text while it is written.

    Args:
        request: what is wanted; its stream is drawn from.
        piece: the bytes of a token. ends: whether a token ends a text.
        grammar: what constrains the text, or None; closed by `finish`.

    Attributes:
        tokens: drawn so far.
    """

    def __init__(
        self, request: GenerationRequest, piece: Callable[[int], bytes], ends: Callable[[int], bool], grammar: Grammar | None = None
    ) -> None:
        self.tokens: list[int] = []
        self._request, self._piece, self._ends, self._grammar = request, piece, ends, grammar
        self._rng = request.stream.generator()
        self._bytes = bytearray()
        self._text = ""
        self._status = "ok"

    def take(self, logits: np.ndarray) -> bool:
        """Draws the next token from its logits, float32, shape (vocabulary,); True if the text is complete."""
        request = self._request
        if len(self.tokens) == request.max_tokens:
            self._status = "length"
            return True
        token = draw(logits, request.temperature, self._rng, self._grammar.allowed if self._grammar else None)
        if self._ends(token):
            return True
        if self._grammar:
            self._grammar.accept(token)
        self.tokens.append(token)
        self._bytes += self._piece(token)
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

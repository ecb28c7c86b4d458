"""From prompts and conversations to tokens: one chunk per segment, and the places where probabilities are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simulator.errors import ModelError
from simulator.llm import labels
from simulator.llm.chat import ChatTemplate
from simulator.llm.labels import Spelling
from simulator.llm.prefixes import Key, chain
from simulator.llm.vectors import VectorTokens
from simulator.records import GenerationRequest, ItemVector, Probe, Prompt


class Vocabulary(Protocol):
    """What a model's side must tell about its tokens (`simulator.llm.llama_native.Weights` is one)."""

    @property
    def trained_context(self) -> int:
        """Most tokens the model was trained for, or 0 if that is not known."""

    @property
    def adds_space(self) -> bool:
        """Whether a space is put before every text that is tokenised alone."""

    @property
    def start_token(self) -> int | None:
        """The token that opens every text, or None."""

    @property
    def start_and_end(self) -> tuple[str, str]:
        """Text of the control tokens that begin and end a text."""

    def metadata(self, key: str) -> str | None:
        """A value of the model's header by its GGUF name; asked for ``tokenizer.chat_template``."""

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Tokens of a text; control tokens are recognised in it only with `control`."""


_WORD = "x"
"""What stands for a vector where the text before a label matters."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe is read: behind token `offset` of chunk `chunk`."""

    chunk: int
    offset: int
    spelling: Spelling


@dataclass(frozen=True, slots=True)
class Compiled:
    """A prompt in tokens.

    Attributes:
        chunks: token ids (int32), one array per segment; none is empty.
        starts: position of the first token of each chunk, and the length of the whole.
        keys: digest of each prefix of chunks. places: of the probes, in reading order.
    """

    chunks: tuple[np.ndarray, ...]
    starts: tuple[int, ...]
    keys: tuple[Key, ...]
    places: tuple[Place, ...]

    @property
    def length(self) -> int:
        """Tokens of the whole prompt."""
        return self.starts[-1]


def _compiled(chunks: Sequence[Sequence[int]], places: Sequence[Place] = ()) -> Compiled:
    arrays = tuple(np.array(chunk, np.int32) for chunk in chunks)
    starts = (0, *np.cumsum([len(chunk) for chunk in arrays]).tolist())
    return Compiled(arrays, starts, chain(arrays), tuple(places))


class Compiler:
    """Turns prompts into tokens of one model.

    Args:
        weights: the model's tokens. context: most tokens that a prompt may have together with what is written after it.
        vectors: what the model has learned to read in place of words; a soft prompt opens every text.
    """

    def __init__(self, weights: Vocabulary, context: int, vectors: VectorTokens | None = None) -> None:
        self._weights = weights
        self._context = context
        self._vectors = vectors or VectorTokens()
        self._template = ChatTemplate(weights.metadata("tokenizer.chat_template"), *weights.start_and_end)
        self._spellings: dict[tuple[tuple[str, ...], str], Spelling] = {}

    def prompt(self, prompt: Prompt) -> Compiled:
        """A prompt in tokens.

        Raises:
            ModelError: it does not fit the context, or a label cannot be expressed in tokens.
        """
        chunks: list[list[int]] = []
        places: list[Place] = []
        before = ""
        for segment in prompt.segments:
            tokens = self._opening() if not chunks else []
            for part, following in zip(segment.parts, (*segment.parts[1:], None), strict=True):
                if isinstance(part, str):
                    text = labels.stripped(part) if isinstance(following, Probe) else part
                    tokens += self._plain(text)
                    before = text or before
                    continue
                if isinstance(part, ItemVector):
                    tokens.append(self._vectors.of(part.item_id))
                    before = _WORD
                    continue
                spelling = self._spelling(part, before)
                tokens += spelling.prefix
                if not tokens and not chunks:
                    raise ModelError(f"probe '{part.name}' has no text before it; put its question first.")
                places.append(
                    Place(len(chunks), len(tokens) - 1, spelling) if tokens else Place(len(chunks) - 1, len(chunks[-1]) - 1, spelling)
                )
            if tokens:
                chunks.append(tokens)
        return self._fitting(_compiled(chunks, places), 0)

    def request(self, request: GenerationRequest) -> Compiled:
        """What a generated text continues, in tokens.

        Raises:
            ModelError: it does not fit the context, is empty, has probes, or the chat template does not allow the conversation.
        """
        if request.prompt is not None:
            if request.prompt.probes:
                raise ModelError(f"a prompt that a text continues must have no probes, but it has '{request.prompt.probes[0].name}'.")
            compiled = self.prompt(request.prompt)
        elif request.messages:
            compiled = self._conversation(request)
        else:
            compiled = _compiled([])
        if not compiled.chunks:
            raise ModelError("a text cannot be generated from nothing; give messages or a prompt.")
        return self._fitting(compiled, request.max_tokens)

    def _conversation(self, request: GenerationRequest) -> Compiled:
        # The system message is often the same for many conversations, so it is a chunk of its own.
        system: list[int] = []
        rest: list[int] = []
        for piece in self._template.render(request.messages):
            opens = piece.turn == 0 and request.messages[0].role == "system"
            tokens = self._weights.tokenize(piece.text, control=True) if piece.control else self._plain(piece.text)
            (system if opens else rest).extend(tokens)
        first = system or rest
        opening = self._opening()
        written = opening[: 1 if self._weights.start_token is not None else 0]
        first[: len(written) if first[: len(written)] == written else 0] = opening
        return _compiled([chunk for chunk in (system, rest) if chunk])

    def _opening(self) -> list[int]:
        start = self._weights.start_token
        return [*([] if start is None else [start]), *self._vectors.opening]

    def _fitting(self, compiled: Compiled, more: int) -> Compiled:
        needed = compiled.length + more
        if needed > self._context:
            what = f"a prompt of {compiled.length} tokens" + (f" and the {more} to be written need" if more else " needs")
            trained = self._weights.trained_context
            limit = f", the most this model was trained for ({trained})" if self._context == trained else ""
            raise ModelError(
                f"{what} {needed} tokens of context, but there are {self._context}{limit}; "
                "raise context in [language_model], or tell people less (fewer items on a page, fewer memories)."
            )
        return compiled

    def _spelling(self, probe: Probe, before: str) -> Spelling:
        key = (probe.labels, before[-1:])
        if key not in self._spellings:
            self._spellings[key] = labels.spell(probe, before[-1:], self._continue)
        return self._spellings[key]

    def _plain(self, text: str) -> list[int]:
        # SentencePiece vocabularies put a space before whatever is tokenised; behind a line end they do not.
        return self._continue("\n", text) if self._weights.adds_space and text else self._weights.tokenize(text)

    def _continue(self, before: str, text: str) -> list[int]:
        start = self._weights.tokenize(before)
        both = self._weights.tokenize(before + text)
        return both[len(start) :] if both[: len(start)] == start else self._weights.tokenize(text)

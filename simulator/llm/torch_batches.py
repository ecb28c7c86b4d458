"""What is computed together on a `Network`: which prefixes are kept, and how prompts and texts are cut into batches.

A kept prefix is computed alone, segment by segment, so that it is the same bits whenever and in whatever company it is needed. What comes
behind it is computed in batches of rows that share it, padded at their ends. How deep the kept prefix goes depends on the device:

====  ==================================================================================================================
CPU   everything before the page (rules, person, memories): few tokens are left, and one page fills the processor
CUDA  the first segment (the rules): a GPU wants many rows at once, and computes a person anew in less time than it takes
      to launch one row alone
====  ==================================================================================================================

Batches are cut by the given list only, whatever its order: the last bits of a number may depend on the list, on nothing before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from simulator.errors import ModelError
from simulator.llm import json_pattern, labels
from simulator.llm.llama_prompts import Compiled, Compiler
from simulator.llm.text_writing import Text
from simulator.llm.torch_network import Network, Past, joined
from simulator.records import Completion, GenerationRequest, Prompt, Scores, Usage

_Place = tuple[int, tuple[int, ...]]
_Question = tuple["_Row", _Place]

MOST_PLACES = 512
"""Most places read in one batch; each needs a row of logits as wide as the vocabulary."""


@dataclass(slots=True)
class _Row:
    """Tokens behind a kept prefix, and what is read in them: (offset, tokens wanted there) -> their log-probabilities."""

    tokens: np.ndarray
    prompt: Compiled
    depth: int
    read: dict[_Place, np.ndarray] = field(default_factory=dict)

    def ask(self, offset: int, tokens: Sequence[int]) -> _Question:
        """Has something read in this row."""
        place = (offset, tuple(tokens))
        self.read[place] = np.empty(0)
        return self, place


class Batches:
    """Scores and writes with a network.

    Args:
        network: what computes.
        context: most tokens of a prompt with what is written behind it; the model may have been trained for less.
        most_tokens: of a batch, padding included; a longer row is computed alone.
        sequences: texts written at once.
        kept_bytes: memory for kept prefixes.
        depth: most segments of a kept prefix; None chooses by the device.
    """

    def __init__(
        self, network: Network, *, context: int, most_tokens: int, sequences: int, kept_bytes: int, depth: int | None = None
    ) -> None:
        self._network = network
        self._most_tokens, self._sequences, self._kept_bytes = most_tokens, sequences, kept_bytes
        self.context = min(context, network.vocabulary.trained_context or context)
        self.depth = depth if depth is not None else (1 if network.device == "cuda" else 1_000)
        self.compiler = Compiler(network.vocabulary, self.context, network.vectors)
        self._kept: OrderedDict[bytes, Past] = OrderedDict()
        self._held = 0
        self._counts = {"prompt_tokens": 0, "computed_tokens": 0, "generated_tokens": 0, "calls": 0}
        self.sizes: list[tuple[int, int]] = []

    @property
    def usage(self) -> Usage:
        """Work done; tokens of padding count as computed."""
        return Usage(**self._counts)

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """See `simulator.protocols.LanguageModel`.

        Raises:
            ModelError: a prompt does not fit the context, a label cannot be expressed in tokens, or memory is short.
        """
        compiled = [self.compiler.prompt(prompt) for prompt in prompts]
        rows: dict[tuple[bytes, bytes], _Row] = {}
        asked = [self._questions(prompt, rows) for prompt in compiled]
        self._count(compiled)
        self._read(list(rows.values()))
        scores = []
        for prompt, questions in zip(compiled, asked, strict=True):
            results = [
                labels.combine(place.spelling, row.read[key], partial(_answer, behind))
                for place, ((row, key), behind) in zip(prompt.places, questions, strict=True)
            ]
            scores.append(Scores(tuple(logprobs for logprobs, _ in results), tuple(mass for _, mass in results)))
        return scores

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """See `simulator.protocols.LanguageModel`; a function of the whole list.

        Raises:
            ModelError: a conversation does not fit the context or the chat template, a schema cannot be expressed, or memory is short.
        """
        compiled = [self.compiler.request(request) for request in requests]
        vocabulary = self._network.vocabulary
        texts = []
        for request in requests:
            grammar = None
            if request.schema is not None:
                grammar = json_pattern.PatternGrammar(json_pattern.pattern(request.schema), vocabulary.piece, vocabulary.ends)
            texts.append(Text(request, vocabulary.piece, vocabulary.ends, grammar))
        self._count(compiled)
        for start in range(0, len(requests), self._sequences):
            self._write(compiled[start : start + self._sequences], texts[start : start + self._sequences])
        completions = [text.finish() for text in texts]
        self._counts["generated_tokens"] += sum(completion.tokens for completion in completions)
        return completions

    # --- scoring ---

    def _questions(self, prompt: Compiled, rows: dict[tuple[bytes, bytes], _Row]) -> list[tuple[_Question, dict[labels.Tokens, _Question]]]:
        """What must be read for each probe: the place of the probe, and those behind each inner node of its labels."""
        if not prompt.places:
            return []
        depth = min(prompt.places[0].chunk, len(prompt.chunks) - 1, self.depth)
        tokens = np.concatenate(prompt.chunks[depth:])
        offsets = [prompt.starts[place.chunk] + place.offset - prompt.starts[depth] for place in prompt.places]
        # Nothing behind the last probe can change what is read.
        whole = self._row(rows, prompt, depth, tokens[: offsets[-1] + 1])
        found = []
        for place, offset in zip(prompt.places, offsets, strict=True):
            behind = {}
            for start in place.spelling.inner:
                longer = np.concatenate([tokens[: offset + 1], np.array(start, np.int32)])
                row = self._row(rows, prompt, depth, longer)
                behind[start] = row.ask(len(longer) - 1, labels.following(place.spelling, start))
            found.append((whole.ask(offset, labels.wanted(place.spelling)), behind))
        return found

    @staticmethod
    def _row(rows: dict[tuple[bytes, bytes], _Row], prompt: Compiled, depth: int, tokens: np.ndarray) -> _Row:
        name = (prompt.keys[depth - 1] if depth else b"", tokens.tobytes())
        if name not in rows:
            rows[name] = _Row(tokens, prompt, depth)
        return rows[name]

    def _read(self, rows: Sequence[_Row]) -> None:
        # Neighbours share prefixes and have similar lengths. Rows are all different, so their order is that of their contents.
        ordered = sorted(rows, key=lambda row: (row.prompt.keys[: row.depth], len(row.tokens), row.tokens.tobytes()))
        batch: list[_Row] = []
        for row in ordered:
            if batch and not self._fits(batch, row):
                self._compute(batch)
                batch = []
            batch.append(row)
        if batch:
            self._compute(batch)

    def _fits(self, batch: Sequence[_Row], row: _Row) -> bool:
        same = batch[0].prompt.keys[: batch[0].depth] == row.prompt.keys[: row.depth]
        places = sum(len(other.read) for other in batch) + len(row.read)
        return same and (len(batch) + 1) * len(row.tokens) <= self._most_tokens and places <= MOST_PLACES

    def _compute(self, batch: Sequence[_Row]) -> None:
        past = self._past(batch[0].prompt, batch[0].depth)
        asked = [(number, key) for number, row in enumerate(batch) for key in row.read]
        places = [(number, offset) for number, (offset, _) in asked]
        answers = self._network.read(past, [row.tokens for row in batch], places, [tokens for _, (_, tokens) in asked])
        for (number, key), answer in zip(asked, answers, strict=True):
            batch[number].read[key] = answer
        self._computed(len(batch), max(len(row.tokens) for row in batch))

    def _computed(self, rows: int, width: int) -> None:
        self._counts["computed_tokens"] += rows * width
        self.sizes.append((rows, width))
        del self.sizes[:-10_000]

    def _count(self, compiled: Sequence[Compiled]) -> None:
        self._counts["calls"] += len(compiled)
        self._counts["prompt_tokens"] += sum(prompt.length for prompt in compiled)

    # --- prefixes ---

    def _past(self, prompt: Compiled, depth: int) -> Past | None:
        """The past of the first segments of a prompt; what is not kept is computed, each segment alone behind those before it."""
        parts: list[Past] = []
        for number in range(depth):
            part = self._kept.get(prompt.keys[number])
            if part is None:
                part = self._network.extend(joined(parts), prompt.chunks[number])
                self._computed(1, len(prompt.chunks[number]))
                self._kept[prompt.keys[number]] = part
                self._held += len(prompt.chunks[number]) * self._network.bytes_per_token
            parts.append(part)
        # The first segments are wanted by the most, so they are the last to go.
        for key in reversed(prompt.keys[:depth]):
            self._kept.move_to_end(key)
        while self._held > self._kept_bytes and self._kept:
            _, dropped = self._kept.popitem(last=False)
            self._held -= dropped[0][0].shape[2] * self._network.bytes_per_token
        return joined(parts)

    # --- texts ---

    def _write(self, compiled: Sequence[Compiled], texts: Sequence[Text]) -> None:
        pasts: dict[int, Past] = {}
        behind: dict[tuple[bytes, ...], list[int]] = {}
        for number, prompt in enumerate(compiled):
            behind.setdefault(prompt.keys[: min(len(prompt.chunks) - 1, self.depth)], []).append(number)
        for keys, numbers in behind.items():
            rows = [np.concatenate(compiled[number].chunks[len(keys) :]) for number in numbers]
            for some in self._cut([len(row) for row in rows]):
                chosen = [rows[k] for k in some]
                begun, logits = self._network.begin(self._past(compiled[numbers[0]], len(keys)), chosen)
                self._computed(len(some), max(map(len, chosen)))
                for k, whole, row in zip(some, begun, logits, strict=True):
                    if not _takes(texts[numbers[k]], row):
                        pasts[numbers[k]] = whole
        writing = sorted(pasts)
        if not writing:
            return
        steps = self._network.texts([pasts.pop(number) for number in writing])
        while writing:
            logits = steps.step([texts[number].tokens[-1] for number in writing])
            self._counts["computed_tokens"] += len(writing)
            left = [k for k, number in enumerate(writing) if not _takes(texts[number], logits[k])]
            if left and len(left) < len(writing):
                steps.keep(left)
            writing = [writing[k] for k in left]

    def _cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Rows in order, cut where a batch would become too large."""
        batches: list[list[int]] = []
        for k, length in enumerate(lengths):
            last = batches[-1] if batches else []
            if last and (len(last) + 1) * max(length, *(lengths[j] for j in last)) <= self._most_tokens:
                last.append(k)
            else:
                batches.append([k])
        return batches


def _answer(behind: Mapping[labels.Tokens, _Question], start: labels.Tokens, _: Sequence[int]) -> np.ndarray:
    row, place = behind[start]
    return row.read[place]


def _takes(text: Text, logits: np.ndarray) -> bool:
    try:
        return text.take(logits)
    except ValueError as error:
        raise ModelError(f"a text that must satisfy a JSON schema cannot go on: {error}; allow more in the schema.") from error

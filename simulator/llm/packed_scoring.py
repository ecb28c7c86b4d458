"""Reading probes and writing texts with a `PackedNetwork`: which spans are computed in which call, and what is kept.

A prompt is a chain of spans: one for each segment, cut where it is longer than `LONGEST`. A span is the same computation wherever it
stands, and the linear maps treat every row by itself, so a score is a function of its prompt alone: the same bits whether a prefix was
kept or computed again, whatever is computed beside it, on however many threads. Where a processor's kernels do not keep that (`alone`),
each span has a call of its own.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.llm import labels
from simulator.llm.llama_generation import Job
from simulator.llm.llama_prompts import Compiled, Place
from simulator.llm.packed_network import PackedNetwork, Span, Steps
from simulator.records import GenerationRequest, Usage

LONGEST = 256
"""Most tokens of a span; attention needs memory for each pair of a token and a token before it."""

ROOM = 64 * 2**20
"""Most bytes of keys and values in one call; a larger prompt is alone."""

PORTION = 48 * 2**20
"""Most bytes of new prefixes that are held before it is decided which of them are kept."""

Answers = list[tuple[np.ndarray, float]]
"""Of each probe of a prompt: log-probabilities of its labels, and NaN: the mass of all labels is not computed here."""


@dataclass(slots=True)
class _Question:
    """A probe: the span and offset where it is read, and the spans that continue the first tokens of labels of several tokens."""

    place: Place
    span: Span
    offset: int
    behind: dict[labels.Tokens, Span] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """What one prompt needs: new spans in order, and its questions."""

    new: list[Span]
    questions: list[_Question]

    @property
    def tokens(self) -> int:
        return sum(len(span.tokens) for span in self.new)

    @property
    def cells(self) -> int:
        """Tokens whose keys and values its spans read or write, those before them included."""
        return sum(span.end for span in self.new)


class PackedReader:
    """Scores prompts and prepares texts.

    Args:
        network: what computes. kept_bytes: memory for kept prefixes.
        batch: tokens that a call has about. threads: that compute side by side, each the prompts of some users.
        alone: whether each span must be computed in a call of its own.
        slots: most texts written at once.
    """

    def __init__(
        self,
        network: PackedNetwork,
        kept_bytes: int,
        *,
        batch: int,
        threads: int = 1,
        alone: bool = False,
        slots: int = 8,
    ) -> None:
        self._networks = [network, *(network.twin() for _ in range(threads - 1))]
        self._kept_bytes, self._batch, self._alone = kept_bytes, batch, alone
        self._kept: OrderedDict[bytes, Span] = OrderedDict()
        self._prompted = self._computed = self._calls = 0
        self._counting = threading.Lock()
        # Threads of our own: how many threads torch uses is set per thread, and others of this process may want more.
        self._pool = ThreadPoolExecutor(threads, "packed", initializer=network.use_one_thread)
        self._slots = slots

    @property
    def usage(self) -> Usage:
        """Work done so far, without the generated tokens."""
        return Usage(self._prompted, self._computed, 0, self._calls)

    def forget(self) -> None:
        """Drops all kept prefixes."""
        self._kept.clear()

    def close(self) -> None:
        """Frees the weights."""
        self._pool.shutdown()
        self._networks.clear()
        self.forget()

    # --- scores ---

    def score(self, prompts: Sequence[Compiled]) -> list[Answers]:
        """The answers at all probes of prompts that have at least one each."""
        return [answers for portion in self._portions(prompts) for answers in self._score(portion)]

    def _portions(self, prompts: Sequence[Compiled]) -> Iterator[list[Compiled]]:
        """Prompts in order, so many at once that their new prefixes are no more than `PORTION` bytes."""
        size = self._networks[0].bytes_kept_per_token
        portion: list[Compiled] = []
        new: dict[bytes, int] = {}
        for prompt in prompts:
            own = {
                key: len(tokens)
                for number in range(_keepable(prompt))
                for key, tokens in _pieces(prompt, number, prompt.chunks[number])
                if key not in self._kept
            }
            if portion and sum((new | own).values()) * size > PORTION:
                yield portion
                portion, new = [], {}
            portion.append(prompt)
            new |= own
        if portion:
            yield portion

    def _score(self, prompts: Sequence[Compiled]) -> list[Answers]:
        made: dict[bytes, Span] = {}
        wanted: Counter[bytes] = Counter()
        works = [self._work(prompt, made, wanted) for prompt in prompts]
        shared = {id(span) for key, span in made.items() if wanted[key] > 1}
        first = [span for span in made.values() if id(span) in shared]
        for work in works:
            work.new = [span for span in work.new if id(span) not in shared]
        for span in made.values():
            span.stays = span.stays or id(span) in shared
        if first:
            self._pool.submit(self._compute, self._networks[0], [_Work([span], []) for span in first]).result()
        answers: list[Answers] = [[] for _ in prompts]
        parts = np.array_split(np.arange(len(works)), len(self._networks))
        runs = [
            (part, self._pool.submit(self._compute, network, [works[i] for i in part]))
            for network, part in zip(self._networks, parts, strict=True)
            if len(part)
        ]
        for part, run in runs:
            for i, own in zip(part, run.result(), strict=True):
                answers[i] = own
        for prompt in prompts:
            self._keep(prompt, made)
        return answers

    def _work(self, prompt: Compiled, made: dict[bytes, Span], wanted: Counter[bytes]) -> _Work:
        """The spans of a prompt up to its last probe; those that are new are added to `made`."""
        self._calls += 1
        self._prompted += prompt.length
        last, keepable = prompt.places[-1], _keepable(prompt)
        chain: list[tuple[Span, int]] = []
        new: list[Span] = []
        questions: list[_Question] = []
        for number, chunk in enumerate(prompt.chunks[: last.chunk + 1]):
            # Nothing behind the last probe can change what is read.
            read = chunk[: last.offset + 1] if number == last.chunk else chunk
            before = len(chain)
            for key, tokens in _pieces(prompt, number, read):
                start = chain[-1][0].end if chain else 0
                span = self._kept.get(key) or made.get(key)
                if span is None:
                    span = made[key] = Span(tokens, start, tuple(chain), stays=number < keepable)
                    new.append(span)
                wanted[key] += 1
                chain.append((span, len(tokens)))
            for place in (place for place in prompt.places if place.chunk == number):
                at = before + place.offset // LONGEST
                span, offset = chain[at][0], place.offset % LONGEST
                question = _Question(place, span, offset)
                for first in place.spelling.inner:
                    past = (*chain[:at], (span, offset + 1))
                    question.behind[first] = Span(np.array(first, np.int32), span.start + offset + 1, past, stays=False)
                questions.append(question)
        new += [span for question in questions for span in question.behind.values()]
        return _Work(new, questions)

    def _compute(self, network: PackedNetwork, works: Sequence[_Work]) -> list[Answers]:
        """Computes prompts in calls of about a batch each, and reads their probes."""
        answers: list[Answers] = []
        call: list[_Work] = []
        for work in works:
            tokens, cells = (sum(sizes) for sizes in zip((0, 0), *((own.tokens, own.cells) for own in (*call, work)), strict=True))
            if call and (tokens > self._batch or cells * network.bytes_per_token > ROOM):
                answers += self._call(network, call)
                call = []
            call.append(work)
        return answers + (self._call(network, call) if call else [])

    def _call(self, network: PackedNetwork, works: Sequence[_Work]) -> list[Answers]:
        # A span that a prompt needs may have been made for a prompt before it in the same call.
        spans = [span for work in works for span in work.new]
        questions = [question for work in works for question in work.questions]
        again = [span for question in questions for span in question.behind.values()]
        places = [(question.span, question.offset) for question in questions]
        ends = [(span, len(span.tokens) - 1) for span in again]
        hidden = self._hidden(network, spans, [*places, *ends])
        firsts = network.logits_of(hidden[: len(places)], [labels.wanted(question.place.spelling) for question in questions])
        rows = network.logits(hidden[len(places) :]) if again else np.empty((0, 0), np.float32)
        row_of = {id(span): row for span, row in zip(again, rows, strict=True)}
        found = iter(zip(questions, firsts, strict=True))
        return [[_answer(*next(found), row_of) for _ in work.questions] for work in works]

    def _hidden(self, network: PackedNetwork, spans: Sequence[Span], places: Sequence[tuple[Span, int]]) -> Any:
        """Hidden states at places; what a place needs and was computed already (a kept span that ends with a probe) is computed again."""
        known = {id(span) for span in spans}
        repeated = {id(span): Span(span.tokens, span.start, span.past, stays=False) for span, _ in places if id(span) not in known}
        spans = [*spans, *repeated.values()]
        with self._counting:
            self._computed += sum(len(span.tokens) for span in spans)
        places = [(repeated.get(id(span), span), offset) for span, offset in places]
        if not self._alone:
            number = {id(span): k for k, span in enumerate(spans)}
            return network.compute(spans, [(number[id(span)], offset) for span, offset in places])
        rows: dict[int, Any] = {}
        passing = [span for span in spans if not span.stays]
        for span in spans:
            span.stays = True
            own = [(k, offset) for k, (other, offset) in enumerate(places) if other is span]
            rows |= dict(zip((k for k, _ in own), network.compute([span], [(0, offset) for _, offset in own]), strict=True))
        for span in passing:
            span.stays, span.state = False, None
        return network.stacked([rows[k] for k in range(len(places))])

    # --- what is kept ---

    def _keep(self, prompt: Compiled, made: Mapping[bytes, Span]) -> None:
        """Keeps what stands before the first probe; the least recently used goes when there is no more room."""
        keys = [key for number in range(_keepable(prompt)) for key, _ in _pieces(prompt, number, prompt.chunks[number])]
        for key in keys:
            if key in made and key not in self._kept:
                self._kept[key] = made[key]
        # The first spans are wanted by the most, so they are the last to go.
        for key in reversed(keys):
            if key in self._kept:
                self._kept.move_to_end(key)
        size = self._networks[0].bytes_kept_per_token
        held = sum(len(span.tokens) for span in self._kept.values()) * size
        while held > self._kept_bytes and self._kept:
            held -= len(self._kept.popitem(last=False)[1].tokens) * size

    # --- texts ---

    def sequences(self, texts: int, tokens: int) -> Steps:
        """Slots in which texts are written, for `simulator.llm.llama_generation.write`; their memory is freed when they are dropped.

        Args:
            texts: how many are wanted. tokens: of the longest of them with its prompt.
        """
        return Steps(self._networks[0], min(self._slots, texts) + 1, tokens, self._batch, self._run_texts)

    def _run_texts(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        return self._pool.submit(work).result()

    def job(self, request: GenerationRequest, prompt: Compiled, steps: Steps) -> Job:
        """A text to be written; its last tokens are left to be computed with those of other texts."""
        self._calls += 1
        self._prompted += prompt.length
        last = len(prompt.chunks) - 1
        lead = prompt.chunks[last][-LONGEST:]
        self._computed += len(lead)
        return Job(
            request, lead, prompt.length - len(lead), lambda slot: self._enter(prompt, len(prompt.chunks[last]) - len(lead), slot, steps)
        )

    def _enter(self, prompt: Compiled, head: int, slot: int, steps: Steps) -> None:
        """Puts all chunks of a prompt but the last, and the head of that, into a slot."""
        last = len(prompt.chunks) - 1
        chain: list[tuple[Span, int]] = []
        made: dict[bytes, Span] = {}
        parts = [(number, prompt.chunks[number]) for number in range(last)]
        if head:
            parts.append((last, prompt.chunks[last][:head]))
        for number, chunk in parts:
            for key, tokens in _pieces(prompt, number, chunk):
                span = self._kept.get(key)
                if span is None:
                    span = made[key] = Span(tokens, chain[-1][0].end if chain else 0, tuple(chain))
                chain.append((span, len(tokens)))
        if made:
            self._pool.submit(self._hidden, self._networks[0], list(made.values()), []).result()
            self._keep(Compiled(prompt.chunks[:last], prompt.starts[: last + 1], prompt.keys[:last], ()), made)
        steps.enter(slot, chain)


def _keepable(prompt: Compiled) -> int:
    """Chunks that are worth keeping: those before the first probe, and its own if that ends with it, which is the same whatever follows."""
    if not prompt.places:
        return len(prompt.chunks)
    first = prompt.places[0]
    return first.chunk + (first.offset == len(prompt.chunks[first.chunk]) - 1)


def _pieces(prompt: Compiled, number: int, tokens: np.ndarray) -> list[tuple[bytes, np.ndarray]]:
    """The spans of a chunk, or of its beginning: a name that is equal for equal texts behind equal texts, and the tokens."""
    before = prompt.keys[number - 1] if number else b""
    pieces = []
    for first in range(0, len(tokens), LONGEST):
        piece = tokens[first : first + LONGEST]
        before = hashlib.blake2b(before + piece.tobytes(), digest_size=16).digest()
        pieces.append((before, piece))
    return pieces


def _answer(question: _Question, logits: np.ndarray, rows: Mapping[int, np.ndarray]) -> tuple[np.ndarray, float]:
    logits = logits.astype(np.float64)
    highest = logits.max()
    at_probe = logits - highest - np.log(np.exp(logits - highest).sum())

    def ask(start: labels.Tokens, tokens: Sequence[int]) -> np.ndarray:
        return labels.log_softmax_at(rows[id(question.behind[start])], tokens)

    return labels.combine(question.place.spelling, at_probe, ask)[0], float("nan")

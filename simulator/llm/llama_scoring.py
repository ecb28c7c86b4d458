"""Reading probes with llama.cpp: what is computed in which call, and what is kept.

On a CPU, with weights in a float format, no token's numbers depend on what else a call computes (`Sequences.extend` sees to
that). So everything that is new of several prompts is one call, which reads the weights once. Elsewhere each segment of each
prompt is computed in calls of its own, in cells that start at 0. Either way a score is a pure function of its prompt: the
same bits whether a prefix was kept or computed again, whatever was computed before or beside it, in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.llm import labels
from simulator.llm.batching import batches
from simulator.llm.llama_generation import Job
from simulator.llm.llama_native import MOST_OUTPUTS, Sequences
from simulator.llm.llama_prompts import Compiled
from simulator.llm.prefixes import Known, Prefixes
from simulator.records import GenerationRequest, Usage

Answers = list[tuple[np.ndarray, float]]
"""Of each probe of a prompt: log-probabilities of its labels, and their mass."""


@dataclass(frozen=True)
class _Task:
    """A prompt to be read: the first `keepable` chunks are worth keeping, and of all but the last `known` need not be computed."""

    prompt: Compiled
    known: Known
    keepable: int
    along: labels.Tokens

    @property
    def start(self) -> int:
        """Position of the first token that must be computed."""
        return self.prompt.starts[self.known.chunks]

    @cached_property
    def tokens(self) -> np.ndarray:
        """What must be computed."""
        return np.concatenate([*self.prompt.chunks[self.known.chunks :], np.array(self.along, np.int32)])

    @cached_property
    def probes(self) -> list[int]:
        """Position of the token behind which each probe is read."""
        return [self.prompt.starts[place.chunk] + place.offset for place in self.prompt.places]

    @cached_property
    def wanted(self) -> list[int]:
        """Positions whose logits are read, increasing; the one behind `along` is the last."""
        return sorted({*self.probes, *([self.prompt.length + len(self.along) - 1] if self.along else [])})

    @property
    def asks(self) -> bool:
        """Whether the model must be asked again behind a probe."""
        spellings = [place.spelling for place in self.prompt.places]
        return any(spelling.inner for spelling in spellings[:-1]) or any(start != self.along for start in spellings[-1].inner)


class Reader:
    """Scores prompts, and prepares texts, in the sequences of one model.

    Args:
        sequences: where it computes. kept_bytes: memory for kept prefixes.
        merges: whether several segments and prompts may share a call without changing a bit.
        slides: whether the model has layers that look back over a window only (`Weights.slides`).
    """

    def __init__(self, sequences: Sequences, kept_bytes: int, *, merges: bool, slides: bool = False) -> None:
        self._sequences = sequences
        self._kept_bytes, self._slides = kept_bytes, slides
        self.forget()
        self._merges = merges
        self._prompted = self._computed = self._calls = 0

    @property
    def usage(self) -> Usage:
        """Work done so far, without the generated tokens."""
        return Usage(self._prompted, self._computed, 0, self._calls)

    def forget(self) -> None:
        """Drops all kept prefixes."""
        self._prefixes = Prefixes(self._kept_bytes, whole=self._slides)

    def score(self, prompts: Sequence[Compiled]) -> list[Answers]:
        """The answers at all probes of prompts that have at least one each."""
        answers: list[Answers] = [[] for _ in prompts]
        waiting = list(range(len(prompts)))
        for prompt in prompts:
            self._count(prompt)
        while waiting:
            done: set[int] = set()
            # Who begins with something that is not kept yet waits until the first of them has computed it.
            tasks: dict[int, _Task] = {}
            started: set[bytes] = set()
            for i in waiting:
                task = self._task(prompts[i])
                missing = prompts[i].keys[task.known.chunks : task.keepable]
                if self._prefixes.whole or not missing or missing[0] not in started:
                    started.update(missing)
                    tasks[i] = task
            for group in self._groups(tasks):
                # A task holds what was kept, which is replaced as soon as more of it is kept.
                for i, read in zip(group, self._read([tasks.pop(i) for i in group]), strict=True):
                    answers[i] = read
                done.update(group)
            waiting = [i for i in waiting if i not in done]
        return answers

    def job(self, request: GenerationRequest, prompt: Compiled) -> Job:
        """A text to be written; its last tokens are left to be computed with those of other texts."""
        self._count(prompt)
        last, batch = len(prompt.chunks) - 1, self._sequences.batch
        head, lead = prompt.chunks[last][:-batch], prompt.chunks[last][-batch:]
        self._computed += len(lead)
        return Job(request, lead, prompt.starts[last] + len(head), lambda stream: self._begin(prompt, head, stream))

    def _begin(self, prompt: Compiled, head: np.ndarray, stream: int) -> None:
        """Puts all chunks of a prompt but the last, and the head of that, into a sequence."""
        last = len(prompt.chunks) - 1
        known = self._prefixes.find(prompt.keys[:last])
        self._enter(prompt, known, stream)
        chunks = prompt.chunks[known.chunks : last]
        start = prompt.starts[known.chunks]
        for chunk in [np.concatenate(chunks)] if self._merges and chunks else chunks:
            self._append(chunk, start, [], stream)
            start += len(chunk)
        if known.chunks < last:
            self._prefixes.keep(prompt.keys[:last], self._sequences.save(stream), known)
        self._append(head, start, [], stream)

    # --- what is computed together ---

    def _count(self, prompt: Compiled) -> None:
        self._calls += 1
        self._prompted += prompt.length

    def _task(self, prompt: Compiled) -> _Task:
        first, last = prompt.places[0], prompt.places[-1]
        # A chunk that ends with its first probe is the same for whatever comes behind it.
        keepable = first.chunk + (first.offset == len(prompt.chunks[first.chunk]) - 1)
        # Where "1" must be asked again for "10" at the very end, the "1" is computed along: alone it would cost ten times as much.
        along = last.spelling.inner[0] if last.spelling.inner else ()
        at_end = prompt.starts[last.chunk] + last.offset == prompt.length - 1
        fits = prompt.length + len(along) <= self._sequences.cells
        known = self._prefixes.find(prompt.keys[: min(keepable, len(prompt.chunks) - 1)])
        return _Task(prompt, known, keepable, along if at_end and fits else ())

    def _groups(self, tasks: Mapping[int, _Task]) -> Iterator[list[int]]:
        numbers = list(tasks)
        if not self._merges:
            yield from ([i] for i in numbers)
            return
        lengths = [len(tasks[i].tokens) for i in numbers]
        wanted = [len(tasks[i].wanted) for i in numbers]
        starts = [tasks[i].start for i in numbers]
        sequences = self._sequences
        for group in batches(lengths, wanted, tokens=sequences.batch, members=sequences.streams, rows=MOST_OUTPUTS, starts=starts):
            members = [numbers[k] for k in group]
            # What is padded needs cells too.
            room = max(starts[k] for k in group) + max(lengths[k] for k in group) <= sequences.cells
            yield from [members] if room else [[i] for i in members]

    # --- computing ---

    def _read(self, tasks: Sequence[_Task]) -> list[Answers]:
        """Computes some prompts, each in a sequence of its own, and reads their probes."""
        for stream, task in enumerate(tasks):
            self._enter(task.prompt, task.known, stream)
        # What a sequence that is not in use holds would make everybody attend over as many cells.
        for stream in range(len(tasks), self._sequences.streams):
            self._sequences.cut(stream, 0)
        rows = self._compute(tasks)
        # Asking again overwrites the rows, so what may not be read at once is copied.
        rows = [own.copy() if task.asks else own for task, own in zip(tasks, rows, strict=True)]
        answers = {stream: self._answers(task, rows[stream], stream) for stream, task in enumerate(tasks) if not task.asks}
        answers |= {stream: self._answers(task, rows[stream], stream) for stream, task in enumerate(tasks) if task.asks}
        for stream, task in enumerate(tasks):
            if task.known.chunks < task.keepable:
                self._sequences.cut(stream, task.prompt.starts[task.keepable])
                self._prefixes.keep(task.prompt.keys[: task.keepable], self._sequences.save(stream), task.known)
        return [answers[stream] for stream in range(len(tasks))]

    def _enter(self, prompt: Compiled, known: Known, stream: int) -> None:
        """Puts what is known of a prompt into a sequence, and nothing else."""
        if known.state is not None:
            self._sequences.restore(known.state, stream)
        self._sequences.cut(stream, prompt.starts[known.chunks])

    def _compute(self, tasks: Sequence[_Task]) -> list[np.ndarray]:
        """Computes what is new of each prompt; logits at its `wanted` positions, overwritten by the next call."""
        if len(tasks) > 1:
            self._computed += sum(len(task.tokens) for task in tasks)
            offsets = [np.array(task.wanted) - task.start for task in tasks]
            return self._sequences.extend([task.tokens for task in tasks], [task.start for task in tasks], offsets)
        (task,) = tasks
        if self._merges:
            return [self._append(task.tokens, task.start, [position - task.start for position in task.wanted])]
        chunks, read, start = list(task.prompt.chunks[task.known.chunks :]), [], task.start
        chunks[-1] = task.tokens[task.prompt.starts[-2] - start :]
        for chunk in chunks:
            read.append(self._append(chunk, start, [place - start for place in task.wanted if start <= place < start + len(chunk)]).copy())
            start += len(chunk)
        return [np.concatenate(read)]

    def _append(self, tokens: np.ndarray, start: int, offsets: Sequence[int], stream: int = 0) -> np.ndarray:
        """Appends tokens to a sequence in pieces whose borders depend on nothing but the arguments; logits at the offsets."""
        self._computed += len(tokens)
        rows, first = [np.empty((0, self._sequences.vocabulary), np.float32)], 0
        while first < len(tokens):
            wanted = [offset for offset in offsets if offset >= first][: MOST_OUTPUTS + 1]
            last = min(first + self._sequences.batch, len(tokens), *wanted[MOST_OUTPUTS:])
            piece = np.array([offset - first for offset in wanted if offset < last], np.int64)
            rows.append(self._sequences.extend([tokens[first:last]], [start + first], [piece], stream)[0])
            if first == 0 and last == len(tokens):
                return rows[1]
            rows[-1] = rows[-1].copy()
            first = last
        return np.concatenate(rows)

    # --- reading ---

    def _answers(self, task: _Task, rows: np.ndarray, stream: int) -> Answers:
        answers: Answers = []
        # Asking again behind a probe removes what follows it, so the last probe goes first.
        for number, (place, position) in reversed(list(enumerate(zip(task.prompt.places, task.probes, strict=True)))):
            known = {task.along: rows[-1]} if task.along and number == len(task.probes) - 1 else {}
            row = rows[task.wanted.index(position)]
            answers.append(labels.read(place.spelling, row, self._asking(position + 1, known, stream)))
        return answers[::-1]

    def _asking(self, end: int, known: Mapping[labels.Tokens, np.ndarray], stream: int) -> Callable[[labels.Tokens], np.ndarray]:
        """What tells the logits behind the first `end` tokens of a sequence and some more."""

        def ask(tokens: labels.Tokens) -> np.ndarray:
            if tokens in known:
                return known[tokens]
            self._sequences.cut(stream, end)
            row: np.ndarray = self._append(np.array(tokens, np.int32), end, [len(tokens) - 1], stream)[0]
            return row

        return ask

"""Language models in GGUF files, run in this process by llama.cpp.

A score is a pure function of its prompt: the numbers are the same bits whether a prefix was kept or computed again,
whatever was computed before, in whatever order, and with however many worker processes. On a CPU, with weights in a
float format, that is so because no token's numbers depend on what else a call computes (`Sequences.extend` sees to it),
so everything new of a prompt is one call. Elsewhere each segment is computed in calls of its own, in cells that start at 0.
Nothing is generated for a score; the model's distribution is read at the probes. Texts are written several at a time, and
are a function of the list of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from simulator.errors import ModelError
from simulator.execution import cores
from simulator.llm import formats, labels
from simulator.llm.llama_generation import Job, write
from simulator.llm.llama_native import MOST_OUTPUTS, VERSION, Sequences, Weights, can_use_gpu
from simulator.llm.llama_prompts import Compiled, Compiler
from simulator.llm.models import resolve
from simulator.llm.prefixes import Prefixes
from simulator.plugins import ComponentConfig
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage


class LlamaCppConfig(ComponentConfig):
    """Options of `LlamaCpp`.

    Attributes:
        path: a GGUF file or the name of a known model; None is the default model.
        format: how the weights are stored. "auto" measures once per machine and keeps the fastest that stays close to the
            file (see `simulator.llm.formats`); "as-is" takes the file; anything else rewrites it.
        max_divergence: largest mean Kullback-Leibler divergence (nats) from the file's own distributions that "auto" accepts.
        context: most tokens of a prompt together with its continuation.
        batch: most tokens computed in one call; it decides the last bits of a number.
        sequences: texts written at once; each needs memory for a whole context.
        threads: None takes every core this process may use. It changes no bit of a score.
        kept_megabytes: memory for kept prefixes of prompts.
        gpu_layers: layers computed on a GPU; "auto" takes all if this build of llama.cpp can use one, else none.
    """

    path: str | None = None
    format: Literal["auto", "as-is", "bf16", "f16", "q8_0", "q4_0"] = "auto"
    max_divergence: float = Field(0.01, gt=0)
    context: int = Field(512, ge=64, le=1_000_000)
    batch: int = Field(512, ge=32, le=8192)
    sequences: int = Field(16, ge=1, le=255)
    threads: int | None = Field(None, ge=1, le=1024)
    kept_megabytes: int = Field(160, ge=0, le=1_000_000)
    gpu_layers: Literal["auto"] | int = "auto"


class LlamaCpp:
    """A language model in this process (see `simulator.protocols.LanguageModel`).

    Args:
        config: which file, and how it is run.

    Raises:
        ModelError: the file is missing, damaged, or of a kind whose prefixes cannot be kept.
    """

    Config = LlamaCppConfig

    def __init__(self, config: LlamaCppConfig | None = None) -> None:
        config = config or LlamaCppConfig()
        path = resolve(config.path)
        threads = config.threads or cores()
        gpu_layers = (-1 if can_use_gpu() else 0) if config.gpu_layers == "auto" else config.gpu_layers
        prepared = formats.prepare(path, config.format, threads=threads, gpu_layers=gpu_layers, max_divergence=config.max_divergence)
        self._weights = Weights(prepared.path, gpu_layers)
        self._refuse_forgetful(str(path))
        context = min(config.context, self._weights.trained_context or config.context)
        self._compiler = Compiler(self._weights, context)
        self._sequence = Sequences(
            self._weights,
            streams=config.sequences + 1,
            cells=context,
            batch=min(config.batch, context),
            threads=threads,
            flash=gpu_layers != 0,
            kept=formats.kept_with(prepared.format),
        )
        self._merges = gpu_layers == 0 and prepared.format in formats.FLOATS
        self._prefixes = Prefixes(self._sequence, config.kept_megabytes * 2**20)
        self._counts = {"prompt_tokens": 0, "computed_tokens": 0, "generated_tokens": 0, "calls": 0}
        self._open = True
        self._identity = ModelIdentity(
            name=self._weights.metadata("general.name") or path.stem,
            sha256=prepared.sha256,
            backend=f"llama-cpp-python {VERSION}",
            settings={
                "format": prepared.format,
                "batch": self._sequence.batch,
                "sequences": config.sequences,
                "flash_attention": gpu_layers != 0,
                "kept_values": formats.kept_with(prepared.format),
                "merged_chunks": self._merges,
                "device": "gpu" if gpu_layers else "cpu",
                "gpu_layers": gpu_layers,
            },
        )

    @property
    def identity(self) -> ModelIdentity:
        """See `simulator.protocols.LanguageModel`."""
        return self._identity

    @property
    def usage(self) -> Usage:
        """Work done since loading."""
        return Usage(**self._counts)

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens."""
        self._check_open()
        return len(self._weights.tokenize(text))

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt; each a pure function of its prompt.

        Raises:
            ModelError: a prompt does not fit the context, or a label cannot be expressed in tokens.
        """
        self._check_open()
        compiled = [self._compiler.prompt(prompt) for prompt in prompts]
        scores = [Scores((), ())] * len(prompts)
        # Neighbours in this order share the longest prefixes. The order cannot change a number.
        for i in sorted(range(len(prompts)), key=lambda i: compiled[i].keys):
            if compiled[i].places:
                read = self._score(compiled[i])
                scores[i] = Scores(tuple(logprobs for logprobs, _ in read), tuple(mass for _, mass in read))
        return scores

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request; a function of the whole list.

        Raises:
            ModelError: a conversation does not fit the context or the chat template, or a schema cannot be expressed.
        """
        self._check_open()
        compiled = [self._compiler.request(request) for request in requests]
        jobs = (self._job(request, start) for request, start in zip(requests, compiled, strict=True))
        completions = write(self._weights, self._sequence, jobs, len(requests))
        self._counts["generated_tokens"] += sum(completion.tokens for completion in completions)
        return completions

    def close(self) -> None:
        """Frees the model; further calls are errors."""
        if self._open:
            self._open = False
            self._sequence.close()
            self._weights.close()

    def _check_open(self) -> None:
        if not self._open:
            raise ModelError("this language model was closed; make a new one.")

    def _refuse_forgetful(self, path: str) -> None:
        if self._weights.loses_prefixes:
            kind = self._weights.metadata("general.architecture")
            self._weights.close()
            raise ModelError(f"'{path}' is a recurrent model ({kind}), of which no prefix of a prompt can be kept; choose a transformer.")

    # --- computing ---

    def _score(self, prompt: Compiled) -> list[tuple[np.ndarray, float]]:
        keepable = min(prompt.places[0].chunk, len(prompt.chunks) - 1)
        present = self._enter(prompt, keepable)
        positions = [prompt.starts[place.chunk] + place.offset for place in prompt.places]
        # Where "1" must be asked again for "10" at the very end, the "1" is computed along: a call of its own would cost ten times as much.
        last = prompt.places[-1].spelling
        along = last.inner[0] if last.inner and positions[-1] == prompt.length - 1 else ()
        wanted = sorted({*positions, *([prompt.length + len(along) - 1] if along else [])})
        rows = self._compute(prompt, present, len(prompt.chunks), wanted, along)
        results: dict[int, tuple[np.ndarray, float]] = {}
        unclear: dict[int, np.ndarray] = {}
        known = {along: rows[-1].copy()} if along else {}
        for i, (place, position) in enumerate(zip(prompt.places, positions, strict=True)):
            row = rows[wanted.index(position)]
            if place.spelling.inner:
                unclear[i] = row.copy()
            else:
                results[i] = labels.read(place.spelling, row, self._nothing_to_ask)
        # Asking again behind a probe removes what follows it, so the last probe goes first.
        for i in sorted(unclear, reverse=True):
            ask = self._ask(positions[i] + 1, known if i == len(prompt.places) - 1 else {})
            results[i] = labels.read(prompt.places[i].spelling, unclear[i], ask)
        self._keep(prompt, present, keepable)
        return [results[i] for i in range(len(prompt.places))]

    def _job(self, request: GenerationRequest, prompt: Compiled) -> Job:
        last = len(prompt.chunks) - 1
        present = self._enter(prompt, last)
        self._compute(prompt, present, last, [])
        self._keep(prompt, present, last)
        self._counts["computed_tokens"] += len(prompt.chunks[last])
        return Job(request, prompt.chunks[last], prompt.starts[last], self._sequence.save() if last else None)

    def _enter(self, prompt: Compiled, keepable: int) -> int:
        """Copies the longest kept prefix of at most the first `keepable` chunks into the sequence; how many chunks it has."""
        self._counts["calls"] += 1
        self._counts["prompt_tokens"] += prompt.length
        return self._prefixes.enter(prompt.keys[:keepable], prompt.starts[1 : keepable + 1])

    def _keep(self, prompt: Compiled, present: int, keepable: int) -> None:
        """Cuts the sequence back to the first `keepable` chunks and keeps them, if they were not kept before."""
        self._sequence.cut(0, prompt.starts[keepable])
        for number in range(present, keepable):
            self._prefixes.append(prompt.keys[number], prompt.starts[number + 1])
        if present < keepable:
            self._prefixes.keep()

    def _compute(self, prompt: Compiled, first: int, end: int, wanted: Sequence[int], along: labels.Tokens = ()) -> np.ndarray:
        """Appends the chunks from number `first` to before `end`, and the tokens `along`; logits at the positions `wanted`."""
        chunks = (
            [*prompt.chunks[first : end - 1], np.concatenate([prompt.chunks[end - 1], np.array(along, np.int32)])] if first < end else []
        )
        if self._merges and chunks:
            chunks = [np.concatenate(chunks)]
        start, rows = prompt.starts[first], [np.empty((0, self._weights.size), np.float32)]
        for number, chunk in enumerate(chunks):
            offsets = [position - start for position in wanted if start <= position < start + len(chunk)]
            read = self._append(chunk, start, offsets)
            rows.append(read if number == len(chunks) - 1 else read.copy())
            start += len(chunk)
        filled = [read for read in rows if len(read)]
        return filled[0] if len(filled) == 1 else np.concatenate(rows)

    def _append(self, tokens: np.ndarray, start: int, offsets: Sequence[int]) -> np.ndarray:
        """Appends tokens in pieces whose borders depend on nothing but the arguments; logits at the offsets."""
        self._counts["computed_tokens"] += len(tokens)
        batch, rows, first = self._sequence.batch, [], 0
        while first < len(tokens):
            wanted = [offset for offset in offsets if offset >= first][:MOST_OUTPUTS]
            last = min(first + batch, len(tokens), wanted[-1] if len(wanted) == MOST_OUTPUTS else len(tokens))
            piece = np.array([offset - first for offset in wanted if offset < last], np.int64)
            rows.append(self._sequence.extend(tokens[first:last], start + first, piece))
            if first or last < len(tokens):
                rows[-1] = rows[-1].copy()
            first = last
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _ask(self, end: int, known: Mapping[labels.Tokens, np.ndarray]) -> Callable[[labels.Tokens], np.ndarray]:
        """Logits behind the first `end` positions and some more tokens."""

        def ask(tokens: labels.Tokens) -> np.ndarray:
            if tokens in known:
                return known[tokens]
            self._sequence.cut(0, end)
            row: np.ndarray = self._append(np.array(tokens, np.int32), end, [len(tokens) - 1])[0]
            return row

        return ask

    @staticmethod
    def _nothing_to_ask(tokens: labels.Tokens) -> np.ndarray:
        raise AssertionError(f"these labels need no question after {tokens}")

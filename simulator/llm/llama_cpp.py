"""Language models in GGUF files, run in this process by llama.cpp.

A score is a pure function of its prompt: each segment is computed in calls of its own, alone, in cells that start at 0. So
the numbers are the same bits whether a prefix was kept or computed again, whatever was computed before, in whatever
order, and with however many worker processes. Nothing is generated for a score; the model's distribution is read at
the probes. Texts are written several at a time, and are a function of the list of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from simulator.errors import ModelError
from simulator.execution import cores
from simulator.llm import formats, labels
from simulator.llm.llama_generation import Job, write
from simulator.llm.llama_native import MOST_OUTPUTS, VERSION, Sequences, Weights, can_use_gpu
from simulator.llm.llama_prompts import Compiled, Compiler, Place
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
            self._weights, streams=config.sequences + 1, cells=context, batch=min(config.batch, context), threads=threads
        )
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
                "flash_attention": True,
                "kept_values": "f16",
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
        results: dict[int, tuple[np.ndarray, float]] = {}
        unclear: dict[int, np.ndarray] = {}
        keepable = min(prompt.places[0].chunk, len(prompt.chunks) - 1)
        self._enter(prompt, keepable)
        for number in range(keepable, len(prompt.chunks)):
            here = [(i, place) for i, place in enumerate(prompt.places) if place.chunk == number]
            offsets = sorted({place.offset for _, place in here})
            rows = self._compute(prompt, number, offsets)
            for i, place in here:
                row = rows[offsets.index(place.offset)]
                if place.spelling.inner:
                    unclear[i] = row.copy()
                else:
                    results[i] = labels.read(place.spelling, row, self._nothing_to_ask)
        # Asking again behind a probe removes what follows it, so the last probe goes first.
        for i in sorted(unclear, reverse=True):
            results[i] = labels.read(prompt.places[i].spelling, unclear[i], self._ask(prompt, prompt.places[i]))
        return [results[i] for i in range(len(prompt.places))]

    def _job(self, request: GenerationRequest, prompt: Compiled) -> Job:
        last = len(prompt.chunks) - 1
        self._enter(prompt, last)
        row = self._compute(prompt, last, [len(prompt.chunks[last]) - 1])[0]
        return Job(request, prompt.length, self._sequence.save(), row)

    def _enter(self, prompt: Compiled, keepable: int) -> None:
        """Puts the first chunks of a prompt into the sequence, copied or computed."""
        self._counts["calls"] += 1
        self._counts["prompt_tokens"] += prompt.length
        present = self._prefixes.enter(prompt.keys[:keepable], prompt.starts[1 : keepable + 1])
        for number in range(present, keepable):
            self._compute(prompt, number, [])
        if present < keepable:
            self._prefixes.keep()

    def _compute(self, prompt: Compiled, number: int, offsets: Sequence[int]) -> np.ndarray:
        """Appends one chunk of a prompt; logits at the offsets, shape (len(offsets), vocabulary)."""
        rows = self._append(prompt.chunks[number], prompt.starts[number], offsets)
        self._prefixes.append(prompt.keys[number], prompt.starts[number + 1])
        return rows

    def _append(self, tokens: np.ndarray, start: int, offsets: Sequence[int]) -> np.ndarray:
        """Appends tokens in pieces whose borders depend on nothing but the arguments."""
        self._counts["computed_tokens"] += len(tokens)
        batch, rows, first = self._sequence.batch, [], 0
        while first < len(tokens):
            wanted = [offset for offset in offsets if offset >= first][: MOST_OUTPUTS + 1]
            last = min(first + batch, len(tokens), wanted[MOST_OUTPUTS] if len(wanted) > MOST_OUTPUTS else len(tokens))
            piece = np.array([offset - first for offset in wanted if offset < last], np.int64)
            rows.append(self._sequence.extend(tokens[first:last], start + first, piece))
            if first or last < len(tokens):
                rows[-1] = rows[-1].copy()
            first = last
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _ask(self, prompt: Compiled, place: Place) -> Callable[[labels.Tokens], np.ndarray]:
        end = prompt.starts[place.chunk] + place.offset + 1

        def ask(tokens: labels.Tokens) -> np.ndarray:
            self._sequence.cut(0, end)
            self._prefixes.forget_live(place.chunk)
            row: np.ndarray = self._append(np.array(tokens, np.int32), end, [len(tokens) - 1])[0]
            return row

        return ask

    @staticmethod
    def _nothing_to_ask(tokens: labels.Tokens) -> np.ndarray:
        raise AssertionError(f"these labels need no question after {tokens}")

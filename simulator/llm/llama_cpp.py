"""Language models in GGUF files, run in this process by llama.cpp.

Nothing is generated for a score; the model's distribution is read at the probes, and is a pure function of the prompt
(`simulator.llm.llama_scoring`). Texts are written several at a time, and are a function of the list of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from simulator.errors import ModelError
from simulator.execution import cores
from simulator.llm import adapters, formats
from simulator.llm.llama_generation import write
from simulator.llm.llama_native import VERSION, Sequences, Weights, can_use_gpu
from simulator.llm.llama_prompts import Compiler
from simulator.llm.llama_scoring import Reader
from simulator.llm.models import resolve
from simulator.plugins import ComponentConfig
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage


class LlamaCppConfig(ComponentConfig):
    """Options of `LlamaCpp`.

    Attributes:
        path: a GGUF file or the name of a known model; None is the default model.
        adapter: what `usersim tune` made, by name or folder (see `simulator.llm.adapters`); merged into the file once.
        format: how the weights are stored. "auto" measures once per machine and keeps the fastest that stays close to the
            file (see `simulator.llm.formats`); "as-is" takes the file; anything else rewrites it.
        max_divergence: largest mean Kullback-Leibler divergence (nats) from the file's own distributions that "auto" accepts.
        context: most tokens of a prompt together with its continuation.
        batch: most tokens computed in one call; it decides the last bits of a number.
        sequences: texts written at once; each needs memory for a whole context.
        threads: None takes every core this process may use. It changes no bit of a score.
        kept_megabytes: memory for kept prefixes of prompts; with less than a cohort's worth, everybody's is computed anew at every page.
        gpu_layers: layers computed on a GPU; "auto" takes all if this build of llama.cpp can use one, else none.
    """

    path: str | None = None
    adapter: str | None = None
    format: Literal["auto", "as-is", "bf16", "f16", "q8_0", "q4_0"] = "auto"
    max_divergence: float = Field(0.01, gt=0)
    context: int = Field(512, ge=64, le=1_000_000)
    batch: int = Field(256, ge=32, le=8192)
    sequences: int = Field(8, ge=1, le=255)
    threads: int | None = Field(None, ge=1, le=1024)
    kept_megabytes: int = Field(96, ge=0, le=1_000_000)
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
        adapter = adapters.find(config.adapter) if config.adapter is not None else None
        if adapter is not None:
            path = adapters.merged(path, adapter)
        threads = config.threads or cores()
        if config.gpu_layers not in ("auto", 0) and not can_use_gpu():
            raise ModelError(
                f"gpu_layers = {config.gpu_layers} in [language_model], but this build of llama-cpp-python cannot use a GPU; "
                'build it with one, or use gpu_layers = "auto".'
            )
        gpu_layers = (-1 if can_use_gpu() else 0) if config.gpu_layers == "auto" else config.gpu_layers
        prepared = formats.prepare(path, config.format, threads=threads, gpu_layers=gpu_layers, max_divergence=config.max_divergence)
        self._weights = Weights(prepared.path, gpu_layers)
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
        merges = gpu_layers == 0 and prepared.format in formats.FLOATS
        self._reader = Reader(self._sequence, config.kept_megabytes * 2**20, merges=merges, slides=self._weights.slides)
        self._generated = 0
        self._open = True
        self._identity = ModelIdentity(
            name=self._weights.metadata("general.name") or path.stem,
            sha256=prepared.sha256,
            backend=f"llama-cpp-python {VERSION}",
            settings={
                "adapter": adapters.identity(adapter) if adapter is not None else None,
                "format": prepared.format,
                "batch": self._sequence.batch,
                "sequences": config.sequences,
                "flash_attention": gpu_layers != 0,
                "kept_values": formats.kept_with(prepared.format),
                "merged_calls": merges,
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
        return replace(self._reader.usage, generated_tokens=self._generated)

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens."""
        self._check_open()
        return len(self._weights.tokenize(text))

    def tokens(self, prompt: Prompt) -> list[int]:
        """A whole prompt in tokens.

        Raises:
            ModelError: as `score`.
        """
        self._check_open()
        return [int(token) for chunk in self._compiler.prompt(prompt).chunks for token in chunk]

    def forget(self) -> None:
        """Drops all kept prefixes; changes nothing but the time of what follows."""
        self._reader.forget()

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt; each a pure function of its prompt.

        Raises:
            ModelError: a prompt does not fit the context, or a label cannot be expressed in tokens.
        """
        self._check_open()
        compiled = [self._compiler.prompt(prompt) for prompt in prompts]
        scores = [Scores((), ())] * len(prompts)
        asked = [i for i in range(len(prompts)) if compiled[i].places]
        for i, read in zip(asked, self._reader.score([compiled[i] for i in asked]), strict=True):
            scores[i] = Scores(tuple(logprobs for logprobs, _ in read), tuple(mass for _, mass in read))
        return scores

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request; a function of the whole list.

        Raises:
            ModelError: a conversation does not fit the context or the chat template, or a schema cannot be expressed.
        """
        self._check_open()
        compiled = [self._compiler.request(request) for request in requests]
        jobs = (self._reader.job(request, start) for request, start in zip(requests, compiled, strict=True))
        completions = write(self._weights, self._sequence, jobs, len(requests))
        self._generated += sum(completion.tokens for completion in completions)
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

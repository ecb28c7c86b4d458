"""Language models in GGUF files, run in this process on a CPU or a GPU.

Nothing is generated for a score; the model's distribution is read at the probes, and is a pure function of the prompt. Texts are written
several at a time, and are a function of the list of requests. What computes is one of two engines, whichever is faster here
(`simulator.llm.engines`): llama.cpp (`simulator.llm.llama_engine`) or torch (`simulator.llm.torch_engine`). Tokens, labels, seeds and
promises are the same with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from simulator.errors import ModelError
from simulator.execution import cores
from simulator.llm import adapters, engines
from simulator.llm.formats import Prepared
from simulator.llm.llama_engine import LlamaEngine
from simulator.llm.llama_native import Weights, can_use_gpu
from simulator.llm.llama_prompts import Compiler
from simulator.llm.models import resolve
from simulator.plugins import ComponentConfig
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage

if TYPE_CHECKING:
    from simulator.llm.torch_engine import TorchEngine

SEQUENCES = {engines.LLAMA: 8, engines.TORCH: 8}
"""Texts written at once where the configuration leaves it open."""


class LlamaCppConfig(ComponentConfig):
    """Options of `LlamaCpp`.

    Attributes:
        path: a GGUF file or the name of a known model; None is the default model.
        adapter: what `usersim tune` made, by name or folder (see `simulator.llm.adapters`); merged into the file once.
        engine: "llama.cpp", "torch" (on a CPU, for Llama-like models), or "auto" for whichever computes the model faster here.
        format: how the weights are stored. "auto" measures once per machine and takes the fastest that stays close to the
            file (see `simulator.llm.engines`). llama.cpp: "as-is" takes the file; "bf16", "f16", "q8_0" and "q4_0" rewrite it.
            torch: "float32", "bfloat16" and "int8".
        text_format: that texts are written in; None is that of scores, or another if "auto" found one that writes much faster.
        max_divergence: largest mean Kullback-Leibler divergence (nats) from the file's own distributions that "auto" accepts.
        context: most tokens of a prompt together with its continuation.
        batch: most tokens computed in one call by llama.cpp, where it decides the last bits of a number; about as many by torch, where it
            does not.
        sequences: texts written at once; each needs memory for a whole context. None is 8 with llama.cpp and 16 with torch.
        threads: None takes every core this process may use. It changes no bit of a score.
        kept_megabytes: memory for kept prefixes of prompts; with less than a cohort's worth, everybody's is computed anew at every page.
        gpu_layers: layers computed on a GPU; "auto" takes all if this build of llama.cpp can use one, else none.
    """

    path: str | None = None
    adapter: str | None = None
    engine: Literal["auto", "llama.cpp", "torch"] = "auto"
    format: Literal["auto", "as-is", "bf16", "f16", "q8_0", "q4_0", "float32", "bfloat16", "int8"] = "auto"
    text_format: Literal["as-is", "bf16", "f16", "q8_0", "q4_0", "float32", "bfloat16", "int8"] | None = None
    max_divergence: float = Field(0.01, gt=0)
    context: int = Field(512, ge=64, le=1_000_000)
    batch: int = Field(256, ge=32, le=8192)
    sequences: int | None = Field(None, ge=1, le=255)
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
        if config.gpu_layers not in ("auto", 0) and not can_use_gpu():
            raise ModelError(
                f"gpu_layers = {config.gpu_layers} in [language_model], but this build of llama-cpp-python cannot use a GPU; "
                'build it with one, or use gpu_layers = "auto".'
            )
        gpu_layers = (-1 if can_use_gpu() else 0) if config.gpu_layers == "auto" else config.gpu_layers
        for_scores, for_texts = engines.prepare(
            path,
            config.format,
            threads=config.threads or cores(),
            gpu_layers=gpu_layers,
            max_divergence=config.max_divergence,
            engine=config.engine,
            texts=config.text_format,
        )
        self._scorer = _engine(for_scores, config, gpu_layers)
        self._writer = self._scorer if for_texts == for_scores else _engine(for_texts, config, gpu_layers)
        loaded = next((engine for engine in (self._scorer, self._writer) if isinstance(engine, LlamaEngine)), None)
        self._weights = loaded.vocabulary if loaded is not None else Weights(path, vocabulary_only=True)
        self._compiler = Compiler(self._weights, min(config.context, self._weights.trained_context or config.context))
        self._generated = 0
        self._open = True
        self._identity = ModelIdentity(
            name=self._weights.metadata("general.name") or path.stem,
            sha256=for_scores.sha256,
            backend=self._scorer.version,
            settings={
                "adapter": adapters.identity(adapter) if adapter is not None else None,
                "engine": for_scores.engine,
                "format": for_scores.format,
                **self._scorer.settings,
                **({} if self._writer is self._scorer else {"text_engine": for_texts.engine, "text_format": for_texts.format}),
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
        used = self._scorer.usage
        if self._writer is not self._scorer:
            more = self._writer.usage
            used = Usage(used.prompt_tokens + more.prompt_tokens, used.computed_tokens + more.computed_tokens, 0, used.calls + more.calls)
        return replace(used, generated_tokens=self._generated)

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
        self._scorer.forget()
        self._writer.forget()

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt; each a pure function of its prompt.

        Raises:
            ModelError: a prompt does not fit the context, or a label cannot be expressed in tokens.
        """
        self._check_open()
        compiled = [self._compiler.prompt(prompt) for prompt in prompts]
        scores = [Scores((), ())] * len(prompts)
        asked = [i for i in range(len(prompts)) if compiled[i].places]
        for i, read in zip(asked, self._scorer.score([compiled[i] for i in asked]), strict=True):
            scores[i] = Scores(tuple(logprobs for logprobs, _ in read), tuple(mass for _, mass in read))
        return scores

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request; a function of the whole list.

        Raises:
            ModelError: a conversation does not fit the context or the chat template, or a schema cannot be expressed.
        """
        self._check_open()
        compiled = [self._compiler.request(request) for request in requests]
        completions = self._writer.write(requests, compiled, self._weights)
        self._generated += sum(completion.tokens for completion in completions)
        return completions

    def close(self) -> None:
        """Frees the model; further calls are errors."""
        if self._open:
            self._open = False
            self._scorer.close()
            if self._writer is not self._scorer:
                self._writer.close()
            self._weights.close()

    def _check_open(self) -> None:
        if not self._open:
            raise ModelError("this language model was closed; make a new one.")


def _engine(prepared: Prepared, config: LlamaCppConfig, gpu_layers: int) -> LlamaEngine | TorchEngine:
    """The engine of a prepared file."""
    sequences, threads = config.sequences or SEQUENCES[prepared.engine], config.threads or cores()
    if prepared.engine == engines.TORCH:
        # Only here: a process whose model is computed by llama.cpp never loads torch for it.
        from simulator.llm.torch_engine import TorchEngine  # noqa: PLC0415

        return TorchEngine(prepared.path, batch=config.batch, sequences=sequences, threads=threads, kept_megabytes=config.kept_megabytes)
    return LlamaEngine(
        prepared.path,
        prepared.format,
        context=config.context,
        batch=config.batch,
        sequences=sequences,
        threads=threads,
        kept_megabytes=config.kept_megabytes,
        gpu_layers=gpu_layers,
        repacks=prepared.repacks,
    )

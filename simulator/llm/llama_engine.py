"""One of the two engines: llama.cpp computes scores and texts, from a file in one of its formats, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.llm import formats
from simulator.llm.llama_generation import write
from simulator.llm.llama_native import VERSION, Sequences, Weights
from simulator.llm.llama_prompts import Compiled
from simulator.llm.llama_scoring import Answers, Reader
from simulator.records import Completion, GenerationRequest, Usage


class LlamaEngine:
    """A model file loaded by llama.cpp.

    Args:
        path: in the format. format_: its name, of `formats.CANDIDATES`. context: most tokens of a prompt. batch: most tokens of a call.
        sequences: texts written at once. threads: used for it. kept_megabytes: for kept prefixes. gpu_layers: on the GPU; -1 is all.
        repacks: as in `Weights`.

    Raises:
        ModelError: the file is damaged, or memory is short.
    """

    name = "llama.cpp"
    version = f"llama-cpp-python {VERSION}"

    def __init__(
        self,
        path: Path,
        format_: str,
        *,
        context: int,
        batch: int,
        sequences: int,
        threads: int,
        kept_megabytes: int,
        gpu_layers: int,
        repacks: bool = True,
    ) -> None:
        self._weights = Weights(path, gpu_layers, repacks=repacks)
        context = min(context, self._weights.trained_context or context)
        kept = formats.kept_with(format_)
        self._sequences = Sequences(
            self._weights,
            streams=sequences + 1,
            cells=context,
            batch=min(batch, context),
            threads=threads,
            flash=gpu_layers != 0,
            kept=kept,
        )
        merges = gpu_layers == 0 and format_ in formats.FLOATS
        self._reader = Reader(self._sequences, kept_megabytes * 2**20, merges=merges, slides=self._weights.slides)
        self.settings: dict[str, Any] = {
            "batch": self._sequences.batch,
            "sequences": sequences,
            "flash_attention": gpu_layers != 0,
            "kept_values": kept,
            "merged_calls": merges,
            **({} if repacks else {"repacked": False}),
        }

    @property
    def vocabulary(self) -> Weights:
        """The model's tokens."""
        return self._weights

    @property
    def usage(self) -> Usage:
        """Work done so far, without the generated tokens."""
        return self._reader.usage

    def forget(self) -> None:
        """Drops all kept prefixes."""
        self._reader.forget()

    def score(self, prompts: Sequence[Compiled]) -> list[Answers]:
        """The answers at all probes of prompts that have at least one each."""
        return self._reader.score(prompts)

    def write(self, requests: Sequence[GenerationRequest], prompts: Sequence[Compiled], weights: Weights) -> list[Completion]:
        """A completion for every request.

        Args:
            requests: what is wanted. prompts: what each continues. weights: whose tokens.
        """
        jobs = (self._reader.job(request, start) for request, start in zip(requests, prompts, strict=True))
        return write(weights, self._sequences, jobs, len(requests))

    def close(self) -> None:
        """Frees the model."""
        self._sequences.close()
        self._weights.close()

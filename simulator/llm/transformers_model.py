"""Language models in Hugging Face layout (or GGUF), run in this process by transformers and torch, on a CPU or with CUDA.

For models that llama.cpp does not know, for LoRA adapters, and for a GPU: many pages are scored in one batch there. On a CPU
`simulator.llm.llama_cpp` is several times as fast. How prompts are cut into batches stands in `simulator.llm.torch_batches`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from simulator.errors import ModelError
from simulator.llm import adapters
from simulator.llm.models import resolve
from simulator.plugins import ComponentConfig
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage

if TYPE_CHECKING:
    from simulator.llm.torch_batches import Batches
    from simulator.llm.torch_network import Network

MOST_TOKENS = {"cpu": 512, "cuda": 32_768}
"""Tokens of a batch where the configuration leaves it open."""

SEQUENCES = {"cpu": 16, "cuda": 128}
"""Texts written at once where the configuration leaves it open."""


class TransformersConfig(ComponentConfig):
    """Options of `TransformersModel`.

    Attributes:
        path: a folder in Hugging Face layout, a GGUF file, or the name of a known model; None is the default model.
        adapter: what `usersim tune` made, by name or folder, or the folder of any LoRA adapter of the library peft. Updates are merged
            into the weights when they are loaded; learned vectors (`simulator.llm.vectors`) are read beside the model's own.
        device: "auto" takes CUDA where torch can use it.
        dtype: "auto" takes bfloat16 where the device computes with it, else float16 on CUDA and float32 on a CPU.
        context: most tokens of a prompt together with its continuation.
        max_batch_tokens: most tokens computed at once, padding included; None is 512 on a CPU and 32,768 on CUDA. Bounds memory.
        sequences: texts written at once; None is 16 on a CPU and 128 on CUDA.
        threads: on a CPU. They can change the last bits of a number, so their number does not depend on the machine.
        kept_megabytes: memory for kept prefixes of prompts; on CUDA of the GPU.
    """

    path: str | None = None
    adapter: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context: int = Field(2048, ge=64, le=1_000_000)
    max_batch_tokens: int | None = Field(None, ge=32, le=10_000_000)
    sequences: int | None = Field(None, ge=1, le=4096)
    threads: int = Field(1, ge=1, le=1024)
    kept_megabytes: int = Field(512, ge=0, le=1_000_000)


class TransformersModel:
    """A language model in this process (see `simulator.protocols.LanguageModel`).

    Equal lists of prompts give equal bits, whatever was asked before; so a cohort comes out again to the byte.

    Args:
        config: which model, and how it is run.

    Raises:
        ModelError: there is no such model, it is damaged or no causal language model, or the device or a package is missing.
    """

    Config = TransformersConfig

    def __init__(self, config: TransformersConfig | None = None) -> None:
        config = config or TransformersConfig()
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise ModelError(f"simulator.llm.transformers_model:TransformersModel needs the package {package}: pip install {package}")
        # Only here: a process whose model is another one never loads torch for it.
        from simulator.llm import torch_loading, torch_network  # noqa: PLC0415
        from simulator.llm.torch_batches import Batches  # noqa: PLC0415

        path = Path(config.path).expanduser() if config.path is not None else None
        if path is None or not path.is_dir():
            path = resolve(config.path)
        adapter = None if config.adapter is None else config.adapter.expanduser()
        if adapter is not None and not adapter.is_dir():
            adapter = adapters.find(str(config.adapter))
        network = torch_network.Network(path, device=config.device, dtype=config.dtype, adapter=adapter, threads=config.threads)
        most_tokens = config.max_batch_tokens or MOST_TOKENS[network.device]
        sequences = config.sequences or SEQUENCES[network.device]
        self._network: Network | None = network
        self._batches: Batches = Batches(
            network,
            context=config.context,
            most_tokens=most_tokens,
            sequences=sequences,
            kept_bytes=config.kept_megabytes * 2**20,
        )
        self._identity = ModelIdentity(
            name=network.name if adapter is None else f"{network.name}+{adapter.name}",
            sha256=torch_loading.fingerprint(path, adapter),
            backend=torch_network.VERSION,
            settings={
                "dtype": network.dtype,
                "device": network.device,
                "device_name": network.device_name,
                "max_batch_tokens": most_tokens,
                "sequences": sequences,
                **({"threads": config.threads} if network.device == "cpu" else {}),
            },
        )

    @property
    def identity(self) -> ModelIdentity:
        """See `simulator.protocols.LanguageModel`."""
        return self._identity

    @property
    def usage(self) -> Usage:
        """Work done since loading; padding counts as computed."""
        return self._batches.usage

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens."""
        return len(self._opened().vocabulary.tokenize(text))

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt; a function of the set of prompts.

        Raises:
            ModelError: a prompt does not fit the context, a label cannot be expressed in tokens, or memory is short.
        """
        self._opened()
        return self._batches.score(prompts)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request; a function of the whole list.

        Raises:
            ModelError: a conversation does not fit the context or the chat template, a schema cannot be expressed, or memory is short.
        """
        self._opened()
        return self._batches.generate(requests)

    def close(self) -> None:
        """Frees the model; further calls are errors."""
        if self._network is not None:
            self._network.close()
            self._network = None

    def _opened(self) -> Network:
        if self._network is None:
            raise ModelError("this language model was closed; make a new one.")
        return self._network

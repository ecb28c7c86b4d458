"""The other engine: torch computes packed rows on a CPU, from weights that were prepared once (`simulator.llm.packed_weights`)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simulator.errors import ModelError
from simulator.llm import packed_weights
from simulator.llm.llama_generation import write
from simulator.llm.llama_native import Weights
from simulator.llm.llama_prompts import Compiled
from simulator.llm.packed_network import VERSION, PackedNetwork
from simulator.llm.packed_scoring import Answers, PackedReader
from simulator.llm.packed_weights import Architecture, Kind
from simulator.records import Completion, GenerationRequest, Usage

# A kernel is kept for every number of rows that was met, with memory of its own; a thousand of them, as by default, would be a gigabyte.
# oneDNN reads this at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "24")


@dataclass(frozen=True, slots=True)
class Packed:
    """What is told beside prepared weights.

    Attributes:
        architecture: of the model. kind: of its linear maps. half_attention: whether attention multiplies in bfloat16.
        alone: whether this processor's kernels let rows of a call change each other's last bits.
    """

    architecture: Architecture
    kind: Kind
    half_attention: bool
    alone: bool


def store(path: Path, packed: Packed, tensors: dict[str, Any]) -> None:
    """Writes prepared weights into a file, which is new and whole only when this returns; the caller gives it its final name."""
    from safetensors.torch import save_file  # noqa: PLC0415 - needed here only

    told = {
        "architecture": asdict(packed.architecture),
        "kind": packed.kind,
        "half_attention": packed.half_attention,
        "alone": packed.alone,
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"packed": json.dumps(told)})


def open_file(path: Path) -> tuple[Packed, dict[str, Any]]:
    """Prepared weights; tensors stay in the file until they are read.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - needed here only

    tensors: dict[str, Any] = {}
    try:
        # Opened twice: what the linear maps are made from goes when they are made, and the vocabulary's vectors stay in the file, for all
        # workers.
        for stay in (True, False):
            with safe_open(path, "pt") as file:
                told = json.loads(file.metadata()["packed"])
                names = [name for name in file.keys() if (name in ("embeddings", "head")) == stay]  # noqa: SIM118 - it is no mapping
                # Small ones are copied, or one of them would hold all that the linear maps are made from.
                copied = {name for name in names if not stay and name.partition(".")[2] not in packed_weights.LINEAR}
                tensors |= {name: file.get_tensor(name).clone() if name in copied else file.get_tensor(name) for name in names}
        packed = Packed(Architecture(**told["architecture"]), told["kind"], bool(told["half_attention"]), bool(told["alone"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the prepared weights '{path}' are damaged ({error}); remove the file, it is made again.") from error
    return packed, tensors


class TorchEngine:
    """A model computed by torch.

    Args:
        path: prepared weights. batch: tokens that a call has about. sequences: most texts written at once. threads: that compute side
            by side. kept_megabytes: for kept prefixes.

    Raises:
        ModelError: the file is damaged.
    """

    name = "torch"
    version = VERSION

    def __init__(self, path: Path, *, batch: int, sequences: int, threads: int, kept_megabytes: int) -> None:
        packed, tensors = open_file(path)
        network = PackedNetwork(packed.architecture, tensors, packed.kind, half_attention=packed.half_attention)
        del tensors
        self._reader = PackedReader(network, kept_megabytes * 2**20, batch=batch, threads=threads, alone=packed.alone, slots=sequences)
        self.settings: dict[str, Any] = {
            "batch": batch if packed.alone else None,
            "sequences": sequences,
            "attention": "bfloat16" if packed.half_attention else "float32",
            "merged_calls": not packed.alone,
        }

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
        longest = max((start.length + request.max_tokens for request, start in zip(requests, prompts, strict=True)), default=0)
        slots = self._reader.sequences(len(requests), longest)
        jobs = (self._reader.job(request, start, slots) for request, start in zip(requests, prompts, strict=True))
        return write(weights, slots, jobs, len(requests))

    def close(self) -> None:
        """Frees the weights."""
        self._reader.close()

"""Scores of pages by the engine that was chosen, beside llama.cpp in the best of its formats, and beside what this machine's processor
multiplies.

Everything is measured in turns in one run, on one thread. A token costs two operations for each weight of the layers' linear maps; only
tokens that are computed count. The machine's rate is that of products of the model's own shapes in torch, the best over some numbers of
rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import torch
from torch.nn import functional

from experiments.benchmarks.recording import Recorded
from experiments.benchmarks.speed import page_prompts
from simulator.llm import gguf_index, packed_weights
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.llm.models import resolve
from simulator.llm.packed_network import _ByteLinear, _Linear
from simulator.llm.packed_weights import Architecture

ROWS: Final[tuple[int, ...]] = (128, 512, 2048)
"""Rows of the products."""

TYPES: Final[dict[str, str]] = {"bf16": "bfloat16", "f16": "float32", "q8_0": "int8", "q4_0": "int8", "as-is": "int8"}
"""The type that each format of llama.cpp is multiplied in; torch's have their own names."""


class Products:
    """Products of the shapes of a model's linear maps.

    Args:
        shape: of the model.
    """

    def __init__(self, shape: Architecture) -> None:
        heads, inner = shape.heads * shape.head_size, shape.inner
        self._maps = [
            (shape.width, (shape.heads + 2 * shape.kv_heads) * shape.head_size),
            (heads, shape.width),
            (shape.width, 2 * inner),
            (inner, shape.width),
        ]
        self._calls = {kind: [self._kernels(kind, rows) for rows in ROWS] for kind in packed_weights.KINDS}

    def rates(self) -> dict[str, float]:
        """GFLOP/s of every type now, on this thread; a multiplication and an addition are two operations."""
        return {kind: max(self._rate(rows, ways) for rows, ways in zip(ROWS, calls, strict=True)) for kind, calls in self._calls.items()}

    def _rate(self, rows: int, ways: list[list[Callable[[], object]]]) -> float:
        operations = 2 * rows * sum(inputs * outputs for inputs, outputs in self._maps)
        return operations / min(sum(_best(call) for call in way) for way in ways) / 1e9

    def _kernels(self, kind: str, rows: int) -> list[list[Callable[[], object]]]:
        """Ways to compute all maps in one type; those that this build of torch does not have are left out."""
        ways: list[list[Callable[[], object]]] = []
        for way in ("packed", "plain"):
            try:
                calls = [self._kernel(kind, way, rows, inputs, outputs) for inputs, outputs in self._maps]
                for call in calls:
                    call()
            except (RuntimeError, AttributeError):
                continue
            ways.append(calls)
        return ways

    @staticmethod
    def _kernel(kind: str, way: str, rows: int, inputs: int, outputs: int) -> Callable[[], object]:
        if kind == "int8":
            weights = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
            if way == "packed":
                linear, x = _ByteLinear(weights, torch.ones(outputs), rows), torch.randint(0, 256, (rows, inputs), dtype=torch.uint8)
                return lambda: linear(x)
            signed, transposed = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8), weights.t()
            return lambda: torch._int_mm(signed, transposed)
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        matrix, x = torch.randn(outputs, inputs).to(dtype), torch.randn(rows, inputs).to(dtype)
        if way == "packed":
            packed = _Linear(matrix, rows)
            return lambda: packed(x)
        return lambda: functional.linear(x, matrix)


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def speedup_over_llama(recorded: Recorded, repetitions: int) -> dict[str, Any]:
    """Pages per second and the share of the machine that the chosen engine reaches, and how much faster that is than llama.cpp.

    Args:
        recorded: whose pages. repetitions: how often all of them are scored by models that know no prefix yet.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(recorded, repetitions)
    finally:
        torch.set_num_threads(before)


def _measured(recorded: Recorded, repetitions: int) -> dict[str, Any]:
    batches = page_prompts(recorded)
    index = gguf_index.read(resolve())
    shape = None if packed_weights.unknown(index) else packed_weights.architecture(index)
    products = None if shape is None else Products(shape)
    models = {"chosen": LlamaCpp(LlamaCppConfig(threads=1)), "llama": LlamaCpp(LlamaCppConfig(threads=1, engine="llama.cpp"))}
    for model in models.values():
        model.score(batches[0][:2])
    speedups, tokens, rates = [], [], []
    for _ in range(repetitions):
        seconds = dict.fromkeys(models, 0.0)
        work = {name: model.usage.computed_tokens for name, model in models.items()}
        for model in models.values():
            model.forget()
        around = []
        for number, batch in enumerate(batches):
            if products is not None and number % 8 == 0:
                around.append(products.rates())
            for name, model in models.items():
                started = time.perf_counter()
                model.score(batch)
                seconds[name] += time.perf_counter() - started
        speedups.append(seconds["llama"] / seconds["chosen"])
        tokens.append((models["chosen"].usage.computed_tokens - work["chosen"]) / seconds["chosen"])
        rates += around
    settings = {name: dict(model.identity.settings) for name, model in models.items()}
    for model in models.values():
        model.close()
    pages = sum(map(len, batches))
    result: dict[str, Any] = {
        "engine": settings["chosen"]["engine"],
        "engine_format": settings["chosen"]["format"],
        "llama_format": settings["llama"]["format"],
        "speedup_over_llama": round(median(speedups), 2),
        "speedups_over_llama": [round(speedup, 2) for speedup in speedups],
        "engine_tokens_per_second": round(median(tokens), 1),
        "pages_compared_in_speed": pages,
    }
    if shape is not None and rates:
        machine = {kind: median(sorted(rate[kind] for rate in rates)) for kind in rates[0]}
        own = str(settings["chosen"]["format"])
        used = machine[TYPES.get(own, own)]
        reached = median(tokens) * 2 * shape.linear_weights / 1e9
        result |= {
            "machine_gflops": {kind: round(rate, 1) for kind, rate in machine.items()},
            "reached_gflops": round(reached, 1),
            "share_of_machine": round(reached / max(machine["float32"], machine["bfloat16"]), 3),
            "share_of_type": round(reached / used, 3),
        }
    return result

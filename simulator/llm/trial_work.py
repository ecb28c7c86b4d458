"""What a child process does when a model is tried: formats are converted, loaded and measured one after another, each told on stdout.

A child, because a library that was built wrongly kills the process that computes with it; see `simulator.llm.trials` for its parent.
One line of JSON for each step: ``{"format": ..., "step": "begin"}``, then ``"done"`` with what was measured, or ``"failed"`` with a
sentence.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from simulator.errors import ModelError
from simulator.llm import trials

MEASURED: Final[int] = 2
"""Pages whose distributions are compared."""

WATCHED: Final[int] = 4
"""Pages on which the largest magnitudes of activations are found."""

SECOND, TURNS = 0.6, 4
"""From this share of the fastest on a type is measured again, in so many turns: other work on the machine may have met one of them."""

TEXTS, STEPS, LEAD = 8, 6, 100
"""Texts that grow at once, tokens of each, and tokens before them, where the speed of writing is measured."""


def main() -> None:
    """Reads a job from stdin and carries it out (see `simulator.llm.trials.Job`)."""
    job = json.loads(sys.stdin.read())
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(name: str, step: str, **more: Any) -> None:
        answers.write(json.dumps({"format": name, "step": step, **more}) + "\n")
        answers.flush()

    work = (_Torch if job["engine"] == "torch" else _Llama)(job)
    for name in job["formats"]:
        tell(name, "begin")
        try:
            tell(name, "done", **work.attempt(name))
        except ModelError as error:
            tell(name, "failed", reason=str(error))
    for name, speed in work.finish().items():
        tell(name, "again", speed=speed)
    answers.close()


class _Work(Protocol):
    """What is done with the formats of one engine."""

    def attempt(self, name: str) -> dict[str, Any]:
        """Computes in one format; what was measured."""

    def finish(self) -> dict[str, float]:
        """Leaves what the parent needs; speeds of formats that were measured once more."""


# --- llama.cpp ---


class _Llama:
    """The formats of llama.cpp; converted files stay where a later run finds them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def attempt(self, name: str) -> dict[str, Any]:
        """Speeds, and logits of the fixed pages."""
        from simulator.llm import formats  # noqa: PLC0415
        from simulator.llm.llama_native import Sequences, Weights  # noqa: PLC0415

        job, path = self._job, Path(self._job["path"])
        file = path if name == formats.AS_IS else formats.converted(path, job["digest"], name, job["threads"])
        weights = Weights(file, job["gpu_layers"], repacks=job["repacks"])
        flash, kept = job["gpu_layers"] != 0, formats.kept_with(name)
        sequences = Sequences(weights, streams=TEXTS + 1, cells=512, batch=512, threads=1, flash=flash, kept=kept)
        read: list[list[float]] = []
        speed = 0.0
        for number in range(MEASURED if job["measure"] else 1):
            page = formats.fixed_page(weights, number)
            sequences.cut(0, 0)
            started = time.perf_counter()
            logits = sequences.extend([page.tokens], [0], [np.array(page.offsets)])[0]
            # The best of several: everything that disturbs a measurement makes it slower.
            speed = max(speed, len(page.tokens) / (time.perf_counter() - started))
            read += [[float(row[token]) for token in wanted] for row, wanted in zip(logits, page.wanted, strict=True)]
        writing = self._writing(sequences, page.tokens) if job["measure"] else 0.0
        sequences.close()
        weights.close()
        return {"speed": speed, "writing": writing, "logits": read}

    @staticmethod
    def _writing(sequences: Any, tokens: np.ndarray) -> float:
        lead = min(LEAD, len(tokens) - STEPS)
        for stream in range(1, TEXTS + 1):
            sequences.copy(0, stream)
            sequences.cut(stream, lead)
        started = time.perf_counter()
        for step in range(STEPS):
            sequences.step([int(tokens[step])] * TEXTS, [lead + step] * TEXTS)
        return TEXTS * STEPS / (time.perf_counter() - started)

    def finish(self) -> dict[str, float]:
        """Nothing is left to do."""
        return {}


# --- torch ---


class _Torch:
    """Torch's types of numbers. Of those that are close enough the fastest is left as a file of prepared weights."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch  # noqa: PLC0415

        from simulator.llm import formats, gguf_index, packed_weights  # noqa: PLC0415
        from simulator.llm.llama_native import Weights  # noqa: PLC0415

        torch.set_num_threads(1)
        self._job, path = job, Path(job["path"])
        index = gguf_index.read(path)
        self._shape = packed_weights.architecture(index)
        self._weights = packed_weights.OnDisk(packed_weights.ordered(path, index), Path(job["folder"]) / "ordered.bin")
        vocabulary = Weights(path, vocabulary_only=True)
        self._pages = [formats.fixed_page(vocabulary, number) for number in range(MEASURED + WATCHED)]
        self._half = _half_attention(self._shape)
        self._largest: dict[str, np.ndarray] = {}
        self._truth: list[list[float]] = []
        self._close: list[tuple[float, str, Any]] = []

    def attempt(self, name: str) -> dict[str, Any]:
        """Speeds, and logits of the fixed pages."""
        from simulator.llm import packed_weights  # noqa: PLC0415
        from simulator.llm.packed_network import PackedNetwork, Span  # noqa: PLC0415

        kind: packed_weights.Kind = next(known for known in packed_weights.KINDS if known == name)
        if kind == "int8" and not self._largest:
            self.attempt("float32")
        try:
            # Nothing but the network holds the tensors, and that holds them in an order of its own.
            network = PackedNetwork(self._shape, self._tensors(kind), kind, half_attention=self._half)
            read: list[list[float]] = []
            speed = 0.0
            for page in self._pages[:MEASURED]:
                started = time.perf_counter()
                hidden = network.compute([Span(page.tokens, 0)], [(0, offset) for offset in page.offsets])
                logits = network.logits_of(hidden, page.wanted)
                speed = max(speed, len(page.tokens) / (time.perf_counter() - started))
                read += [row.tolist() for row in logits]
            writing = self._writing(network, self._pages[0].tokens)
        except RuntimeError as error:
            raise ModelError(f"this build of torch cannot compute {kind}: {str(error).splitlines()[0]}") from error
        if kind == "float32":
            self._truth = read
            self._watch(network)
        close = not self._truth or trials.divergence(read, self._truth) <= self._job["max_divergence"]
        if close:
            # What is far from the fastest is dropped at once, for its memory.
            fastest = max([speed, *(own[0] for own in self._close)])
            self._close = [own for own in [*self._close, (speed, name, network)] if own[0] > SECOND * fastest]
        return {"speed": speed, "writing": writing, "logits": read}

    def _tensors(self, kind: Any) -> dict[str, Any]:
        from simulator.llm import packed_weights  # noqa: PLC0415

        made = packed_weights.rounded(self._weights, self._shape, self._largest) if kind == "int8" else packed_weights.floats(self._weights)
        return packed_weights.tensors(made, kind)

    def _watch(self, network: Any) -> None:
        """Finds the largest inputs of every linear map on pages that are not compared."""
        from simulator.llm.packed_network import Span  # noqa: PLC0415

        network.watched = self._largest
        for page in self._pages[MEASURED:]:
            network.compute([Span(page.tokens, 0)], [])
        network.watched = None
        for name in self._largest:
            layer, _, part = name.partition(".")
            if part in ("qkv", "up"):
                # In float32 the norm's weights are in the map; in int8 they are in its inputs.
                self._largest[name] = self._largest[name] * np.abs(self._weights[f"{layer}.{'norm' if part == 'qkv' else 'inner_norm'}"])

    @staticmethod
    def _writing(network: Any, tokens: np.ndarray) -> float:
        """Tokens per second of several texts that grow at once."""
        from simulator.llm.packed_network import Span  # noqa: PLC0415

        first = Span(tokens[:LEAD], 0)
        network.compute([first], [])
        cells = network.cells(TEXTS, LEAD + STEPS + 1)
        cells[:, :, :, :, :LEAD] = first.state[:, :, None]
        network.logits(network.step(cells, [int(tokens[0])] * TEXTS, [LEAD] * TEXTS))
        started = time.perf_counter()
        for step in range(1, STEPS + 1):
            network.logits(network.step(cells, [int(tokens[step])] * TEXTS, [LEAD + step] * TEXTS))
        return TEXTS * STEPS / (time.perf_counter() - started)

    def finish(self) -> dict[str, float]:
        """Leaves the prepared weights of the fastest that is close enough; where several are nearly as fast, they are measured in turns."""
        from simulator.llm import torch_engine  # noqa: PLC0415
        from simulator.llm.packed_network import Span  # noqa: PLC0415

        speeds = {name: speed for speed, name, _ in self._close}
        for turn in range(TURNS if len(speeds) > 1 else 0):
            page = self._pages[turn % MEASURED]
            for _, name, network in self._close:
                started = time.perf_counter()
                network.compute([Span(page.tokens, 0)], [])
                speeds[name] = max(speeds[name], len(page.tokens) / (time.perf_counter() - started))
        if not speeds:
            return {}
        _, name, network = max(self._close, key=lambda own: speeds[own[1]])
        depends = _depends(network, [page.tokens for page in self._pages])
        packed = torch_engine.Packed(self._shape, name, self._half, depends)  # type: ignore[arg-type]
        torch_engine.store(Path(self._job["folder"]) / f"{name}.safetensors", packed, self._tensors(name))
        return speeds


def _half_attention(shape: Any) -> bool:
    """Whether this processor multiplies attention's matrices much faster in bfloat16, of a new size each time as prompts have it.

    Much, because kernels for bfloat16 are made for each size, and those that were made once hold memory.
    """
    import torch  # noqa: PLC0415

    group, kinds = shape.heads // shape.kv_heads, (torch.float32, torch.bfloat16)
    ratios = []
    for number in range(16):
        queries, seconds = torch.ones(shape.kv_heads, group * (50 + 3 * number), shape.head_size), []
        for kind in kinds:
            keys = torch.ones(shape.kv_heads, 200 + 5 * number, shape.head_size, dtype=kind)
            started = time.perf_counter()
            scores = torch.bmm(queries.to(kind), keys.transpose(1, 2)).float()
            torch.bmm(torch.softmax(scores, -1).to(kind), keys)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
    # The first ones also start the library; of the others the median, which other work on the machine cannot move.
    return float(np.median(ratios[2:])) < 0.6


def _depends(network: Any, pages: Sequence[np.ndarray]) -> bool:
    """Whether the numbers of a page change with what else a call computes, with how many pages, or with whether its beginning was kept."""
    from simulator.llm.packed_network import Span  # noqa: PLC0415

    def parts(tokens: np.ndarray) -> list[Any]:
        start = Span(tokens[:48], 0)
        return [start, Span(tokens[48:], 48, ((start, 48),))]

    def read(groups: Sequence[list[Any]]) -> list[bytes]:
        spans = [one for group in groups for one in group]
        places = [(number, len(one.tokens) - 1) for number, one in enumerate(spans)]
        return [row.numpy().tobytes() for row in network.compute(spans, places)]

    some = [tokens[: 60 + 17 * number] for number, tokens in enumerate(pages[:3])]
    alone = [row for tokens in some for row in read([parts(tokens)])]
    together = read([parts(tokens) for tokens in some])
    backwards = read([parts(tokens) for tokens in reversed(some)])
    backwards = [row for k in range(len(some)) for row in backwards[2 * (len(some) - 1 - k) :][:2]]
    kept = []
    for tokens in some:
        start, end = parts(tokens)
        kept += [*read([[start]]), *read([[end]])]
    return not alone == together == backwards == kept


if __name__ == "__main__":
    main()

"""Weights of a Llama-like model, prepared for `simulator.llm.packed_network`: read from a GGUF file, put in order, smoothed, rounded.

What is put in order once: query, key and value maps are one matrix, so are the two halves of the gated map; rows of queries and keys are
such that neighbours turn together; the scale of attention is in the queries. In int8, channels are smoothed first (Xiao et al. 2023,
"SmoothQuant", equation 4), so that neither activations nor weights have channels that are much larger than others::

    s_j = max |x_j| ^ alpha / max |w_j| ^ (1 - alpha)       x' = x / s,  w' = w * s

The factors cost nothing: those of the query, key, value and gated maps go into the norm before them, those of `down` into the rows of the
upper half of the gated map, those of `out` into the rows of the values. They are rounded to quarters of an octave, so that last bits of
the measured activations cannot change a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from simulator.errors import ModelError
from simulator.llm import gguf_index

Kind = Literal["float32", "bfloat16", "int8"]
"""Type of the numbers in the linear maps. Everything else is computed in float32."""

KINDS: Final[tuple[Kind, ...]] = ("float32", "bfloat16", "int8")

FAMILIES: Final[tuple[str, ...]] = ("llama", "gemma3")
"""Architectures, as GGUF names them, that can be computed here."""

LINEAR: Final[tuple[str, ...]] = ("qkv", "out", "up", "down")
"""Linear maps of a layer."""

ALPHA: Final[float] = 0.65
"""Share of the smoothing that goes to the activations."""

Maxima = Mapping[str, np.ndarray]
"""Largest magnitude of each input channel of each linear map, float32, by ``<layer>.<map>``."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and constants of a model.

    Attributes:
        layers, width, heads, kv_heads, head_size, inner, vocabulary: sizes. context: most tokens it was trained for.
        epsilon: of the norms. rope_base: of the rotation; rope_base_window: in layers with a window; rope_divisor: by which its angles
            are divided.
        window: tokens that a layer with a window sees, 0 without. every: each so-manieth layer sees everything; 0 where all do.
        activation: of the gated map. embedding_scale: factor of the input vectors. norms_heads: whether queries and keys are normed.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    context: int
    epsilon: float
    rope_base: float
    rope_base_window: float = 0.0
    rope_divisor: float = 1.0
    window: int = 0
    every: int = 0
    activation: Literal["silu", "gelu"] = "silu"
    embedding_scale: float = 1.0
    norms_heads: bool = False

    def slides(self, layer: int) -> bool:
        """Whether a layer looks back over the window only."""
        return self.every > 0 and (layer + 1) % self.every != 0

    @property
    def linear_weights(self) -> int:
        """Weights of the linear maps of all layers; a token costs twice as many operations."""
        attention = (self.heads * 2 + self.kv_heads * 2) * self.head_size * self.width
        return self.layers * (attention + 3 * self.width * self.inner)


def unknown(index: gguf_index.Index) -> str | None:
    """Why a model cannot be computed here, or None if it can."""
    family = str(index.values.get("general.architecture"))
    if family not in FAMILIES:
        return f"its architecture '{family}' is not among {', '.join(FAMILIES)}"
    scaling = index.values.get(f"{family}.rope.scaling.type")
    if scaling not in (None, "none", "linear"):
        return f"its positions are scaled by '{scaling}'"
    odd = [name for name in index.tensors if name.endswith((".bias", "_exps.weight", "_sinks.weight", "rope_freqs.weight"))]
    if odd:
        return f"it has '{odd[0]}'"
    shape = architecture(index)
    sizes = (shape.width, shape.inner, shape.heads * shape.head_size, shape.kv_heads * shape.head_size)
    if any(size % 32 for size in sizes) or shape.heads % shape.kv_heads or shape.head_size != rotated(index):
        return "its sizes are unusual"
    return None


def rotated(index: gguf_index.Index) -> int:
    """How many numbers of a head turn with the position."""
    family = index.values["general.architecture"]
    return int(index.values.get(f"{family}.rope.dimension_count") or _head_size(index))


def _head_size(index: gguf_index.Index) -> int:
    family, values = index.values["general.architecture"], index.values
    return int(
        values.get(f"{family}.attention.key_length") or values[f"{family}.embedding_length"] // values[f"{family}.attention.head_count"]
    )


def architecture(index: gguf_index.Index) -> Architecture:
    """The sizes of a model of one of `FAMILIES`.

    Raises:
        ModelError: the header lacks one of them.
    """
    family, values = index.values["general.architecture"], index.values
    try:
        heads = int(values[f"{family}.attention.head_count"])
        gemma = family == "gemma3"
        return Architecture(
            layers=int(values[f"{family}.block_count"]),
            width=(width := int(values[f"{family}.embedding_length"])),
            heads=heads,
            kv_heads=int(values.get(f"{family}.attention.head_count_kv") or heads),
            head_size=_head_size(index),
            inner=int(values[f"{family}.feed_forward_length"]),
            vocabulary=index.tensors["token_embd.weight"].shape[0],
            context=int(values.get(f"{family}.context_length") or 0),
            epsilon=float(values[f"{family}.attention.layer_norm_rms_epsilon"]),
            rope_base=float(values.get(f"{family}.rope.freq_base") or 10_000.0),
            rope_base_window=10_000.0 if gemma else 0.0,
            rope_divisor=float(values.get(f"{family}.rope.scaling.factor") or 1.0),
            window=int(values.get(f"{family}.attention.sliding_window") or 0),
            # Gemma 3 (Kamath et al. 2025): five layers with a window, then one without.
            every=6 if gemma and values.get(f"{family}.attention.sliding_window") else 0,
            activation="gelu" if gemma else "silu",
            embedding_scale=math.sqrt(width) if gemma else 1.0,
            norms_heads=gemma,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the header of the model has no usable {error}; convert it again.") from error


class OnDisk(Mapping[str, np.ndarray]):
    """Arrays in a file, each read when it is asked for: a model in float32 is larger than all else that a trial of it holds.

    Args:
        arrays: names and arrays, taken one by one. file: is written.
    """

    def __init__(self, arrays: Iterable[tuple[str, np.ndarray]], file: Path) -> None:
        self._file = file
        self._places: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        with file.open("wb") as target:
            for name, values in arrays:
                self._places[name] = (target.tell(), values.dtype, values.shape)
                np.ascontiguousarray(values).tofile(target)

    def __getitem__(self, name: str) -> np.ndarray:
        offset, dtype, shape = self._places[name]
        return np.fromfile(self._file, dtype, int(np.prod(shape)), offset=offset).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def ordered(path: Path, index: gguf_index.Index) -> Iterator[tuple[str, np.ndarray]]:
    """All weights, float32, in the order and with the names that the network wants.

    Yields:
        ``embeddings`` (vocabulary, width) in float16, ``head`` if the output layer is another one, ``norm`` (width,), and for each layer
        ``<layer>.qkv``, ``.out``, ``.up`` (gate above up), ``.down`` (outputs, inputs), ``.norm``, ``.inner_norm``, and where the family
        has them ``.heads`` (heads + kv_heads, size), ``.out_norm``, ``.down_norm``.
    """
    shape = architecture(index)
    halves = index.values["general.architecture"] != "llama"

    def get(name: str) -> np.ndarray:
        if name not in index.tensors:
            raise ModelError(f"'{path}' has no tensor '{name}'; it is damaged, or of another kind than its header says.")
        return gguf_index.tensor(path, index.tensors[name])

    def turned(rows: np.ndarray, heads: int) -> np.ndarray:
        """Rows (or a vector over one head) in the order in which neighbours turn together."""
        if not halves:
            return rows
        grouped = rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2)
        return np.ascontiguousarray(grouped.reshape(rows.shape))

    yield "embeddings", get("token_embd.weight").astype(np.float16)
    yield "norm", get("output_norm.weight")
    if "output.weight" in index.tensors:
        yield "head", get("output.weight").astype(np.float16)
    scale = shape.head_size**-0.5
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        query = turned(get(f"{block}attn_q.weight"), shape.heads)
        key = turned(get(f"{block}attn_k.weight"), shape.kv_heads)
        yield f"{layer}.qkv", np.concatenate([query if shape.norms_heads else query * scale, key, get(f"{block}attn_v.weight")])
        yield f"{layer}.out", get(f"{block}attn_output.weight")
        yield f"{layer}.up", np.concatenate([get(f"{block}ffn_gate.weight"), get(f"{block}ffn_up.weight")])
        yield f"{layer}.down", get(f"{block}ffn_down.weight")
        yield f"{layer}.norm", get(f"{block}attn_norm.weight")
        yield f"{layer}.inner_norm", get(f"{block}ffn_norm.weight")
        if shape.norms_heads:
            own = [turned(get(f"{block}attn_q_norm.weight") * scale, 1)] * shape.heads
            yield f"{layer}.heads", np.stack([*own, *[turned(get(f"{block}attn_k_norm.weight"), 1)] * shape.kv_heads])
            yield f"{layer}.out_norm", get(f"{block}post_attention_norm.weight")
            yield f"{layer}.down_norm", get(f"{block}post_ffw_norm.weight")


def floats(weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The weights for float products: each norm's weights go into the map behind it, so that rows need only their own scale."""
    for name, values in weights.items():
        layer, _, part = name.partition(".")
        if part in ("norm", "inner_norm"):
            continue
        if part in ("qkv", "up"):
            norm = weights[f"{layer}.norm" if part == "qkv" else f"{layer}.inner_norm"]
            yield name, values * norm
        else:
            yield name, values


def rounded(weights: Mapping[str, np.ndarray], shape: Architecture, maxima: Maxima) -> Iterator[tuple[str, np.ndarray]]:
    """The weights for integer products: smoothed, then rounded to bytes with a scale per output channel.

    Args:
        weights: of `ordered`. shape: of the model. maxima: of the inputs of every linear map, the norm's weights among them.

    Returns:
        As `ordered`, linear maps as int8 and with ``<name>_scales``, float32.
    """
    group, size = shape.heads // shape.kv_heads, shape.head_size
    turned = (shape.heads + shape.kv_heads) * size
    for name in ("embeddings", "head", "norm"):
        if name in weights:
            yield name, weights[name]
    for layer in range(shape.layers):

        def own(part: str, layer: int = layer) -> np.ndarray:
            return weights[f"{layer}.{part}"]

        def largest(part: str, layer: int = layer) -> np.ndarray:
            return np.asarray(maxima[f"{layer}.{part}"])

        for_qkv = smoothing(largest("qkv"), own("qkv"))
        for_up = smoothing(largest("up"), own("up"))
        for_down = smoothing(largest("down"), own("down"))
        # The query heads that share a value head share its factors.
        by_value = own("out").reshape(-1, shape.kv_heads, group, size)
        for_values = smoothing(
            largest("out").reshape(shape.kv_heads, group, size).max(axis=1).reshape(-1),
            np.abs(by_value).max(axis=2).reshape(len(by_value), -1),
        )
        qkv, up = own("qkv") * for_qkv, own("up") * for_up
        qkv[turned:] /= for_values[:, None]
        up[shape.inner :] /= for_down[:, None]
        out = own("out") * np.repeat(for_values.reshape(shape.kv_heads, 1, size), group, axis=1).reshape(-1)
        yield f"{layer}.norm", own("norm") / for_qkv
        yield f"{layer}.inner_norm", own("inner_norm") / for_up
        for part, values in (("qkv", qkv), ("out", out), ("up", up), ("down", own("down") * for_down)):
            scales = np.maximum(np.abs(values).max(axis=1), 1e-20) / 127
            yield f"{layer}.{part}", np.rint(values / scales[:, None]).astype(np.int8)
            yield f"{layer}.{part}_scales", scales.astype(np.float32)
        for part in ("heads", "out_norm", "down_norm"):
            if f"{layer}.{part}" in weights:
                yield f"{layer}.{part}", own(part)


def smoothing(activations: np.ndarray, weights: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """The factor of each input channel, a power of 2 to a multiple of 1/4.

    Args:
        activations: largest magnitudes, shape (inputs,). weights: shape (outputs, inputs). alpha: share that goes to the activations.
    """
    tiny = 1e-6
    wanted = np.maximum(activations, tiny) ** alpha / np.maximum(np.abs(weights).max(axis=0), tiny) ** (1 - alpha)
    return np.asarray(np.exp2(np.rint(4 * np.log2(wanted)) / 4), np.float32)


def tensors(weights: Iterator[tuple[str, np.ndarray]], kind: Kind) -> dict[str, Any]:
    """Weights as torch tensors, linear maps in the kind's type."""
    import torch  # noqa: PLC0415 - only where torch computes

    made = {}
    for name, values in weights:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        linear = name.partition(".")[2] in LINEAR
        made[name] = tensor.bfloat16() if linear and kind == "bfloat16" else tensor
    return made

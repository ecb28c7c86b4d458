"""A Llama-like transformer in torch that computes packed rows: tokens of several prompts, one after another, without padding.

Written for scoring, where a call has some hundred tokens of several users, each behind a kept prefix, and a few places are read.
Compared with a general implementation:

- Linear maps see all tokens of a call at once. Attention is computed span by span (a span is a part of one prompt, such as the user or
the page),
  against keys and values of what stands before it.
- Weights are prepared once (`simulator.llm.packed_weights`), no number is converted at every call, and passes around the products are in
place. - The norm's weights, the scale of attention and the rotation's order of rows are part of the weights.

In int8 each row of an activation is divided by its largest magnitude and rounded to -127..127, the products are summed as integers
(exactly, so a row's numbers cannot depend on its neighbours), and the result is scaled per row and output channel. Scaling a row does not
change its int8 numbers, so the division by the root mean square is left to the scale::

    y = s_x[row] * s_w[channel] * (round(x / s_x) . round(w / s_w)),   s_x = max |x| / 127
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from simulator.llm.packed_weights import Architecture, Kind

VERSION: Final[str] = f"torch {torch.__version__}"

_ZERO = 128
"""Zero point of activations in unsigned bytes, the form in which processors multiply bytes."""

_HEAD_ROWS = 8
"""Rows of the output layer computed at once; always as many, so that a row's numbers do not depend on how many are wanted."""


_BLOCK = 16
"""Rows of a call are a multiple of so many."""

_PART = 4096
"""Rows of the output layer that are rounded at once."""


def _own_memory(numbers: int, dtype: Any) -> Any:
    """Zeros in memory of their own from the system, which has it back as soon as they are dropped; a heap would keep the gaps."""
    return (
        torch.frombuffer(mmap(-1, max(1, numbers * dtype.itemsize)), dtype=dtype, count=numbers) if numbers else torch.empty(0, dtype=dtype)
    )


@dataclass(slots=True, eq=False)
class Span:
    """Tokens that are computed together, behind other spans of the same prompt.

    Attributes:
        tokens: int32, shape (n,). start: position of the first one.
        past: the spans before it, in order, and how many tokens of each; together `start` tokens.
        stays: whether others may need its state after the call that computes it.
        state: keys and values of its tokens, shape (layers, 2, heads, n, size), once it was computed and if it stays.
    """

    tokens: np.ndarray
    start: int
    past: tuple[tuple[Span, int], ...] = ()
    stays: bool = True
    state: Any = None

    @property
    def end(self) -> int:
        """Position behind the last token."""
        return self.start + len(self.tokens)


@dataclass(slots=True)
class _Placed:
    """A span of a call: its rows, its keys and values with those before them, and where spans of the same call stand among these."""

    span: Span
    rows: slice
    cells: Any
    inside: list[tuple[int, int, _Placed]] = field(default_factory=list)


class _Linear:
    """A linear map of float numbers, its weights in the order that the processor's kernel wants."""

    def __init__(self, weight: Any, rows: int) -> None:
        self.dtype = weight.dtype
        try:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            self._run(weight.new_zeros(1, weight.shape[1]))
        except (RuntimeError, AttributeError):  # a build of torch without oneDNN
            self._packed, self._run = weight, self._plain  # type: ignore[method-assign]

    def _run(self, x: Any) -> Any:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")

    def _plain(self, x: Any) -> Any:
        return functional.linear(x, self._packed)

    def __call__(self, x: Any) -> Any:
        return self._run(x)


class _ByteLinear:
    """A linear map of bytes: unsigned activations with zero point 128, signed weights with a scale per output channel, float32 results."""

    def __init__(self, weight: Any, scales: Any, rows: int) -> None:
        self._packed = torch.ops.onednn.qlinear_prepack(weight, [rows, weight.shape[1]])
        self._scales, self._zeros = scales, torch.zeros(len(scales), dtype=torch.int64)

    def __call__(self, x: Any) -> Any:
        return torch.ops.onednn.qlinear_pointwise(
            x, 1.0, _ZERO, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )


class PackedNetwork:
    """The layers of one model on one thread.

    Args:
        architecture: sizes and constants. tensors: the prepared weights by name (`simulator.llm.packed_weights`).
        kind: type of the linear maps. half_attention: whether attention multiplies in bfloat16 (its sums and its softmax stay float32).
        rows: tokens of a typical call; kernels are prepared for it, others are right too.
    """

    def __init__(
        self, architecture: Architecture, tensors: Mapping[str, Any], kind: Kind, *, half_attention: bool = False, rows: int = 192
    ) -> None:
        self.architecture, self.kind, self.half_attention = architecture, kind, half_attention
        self._kept = torch.bfloat16 if half_attention else torch.float32
        self._stored = torch.bfloat16 if half_attention else torch.float16
        self.watched: dict[str, np.ndarray] | None = None
        self._embeddings, self._head = tensors["embeddings"], tensors.get("head", tensors["embeddings"])
        self._last = tensors["norm"]
        self._layers = [self._layer(tensors, number, rows) for number in range(architecture.layers)]
        self._outputs: list[Any] = []
        self._later: Any = torch.empty(0, 0)
        self._buffers: dict[tuple[str, int], Any] = {}
        self._cells: Any = torch.empty(0, dtype=self._kept)

    def cells(self, texts: int, tokens: int) -> Any:
        """Room for keys and values of some texts, shape (layers, 2, texts, kv_heads, tokens, size)."""
        shape = self.architecture
        numbers = texts * tokens * self._numbers_per_token
        return _own_memory(numbers, self._kept).view(shape.layers, 2, texts, shape.kv_heads, tokens, shape.head_size)

    @property
    def bytes_per_token(self) -> int:
        """Memory of the keys and values of one token while it is computed with; what stays takes two bytes a number."""
        return int(self._numbers_per_token * self._kept.itemsize)

    @property
    def bytes_kept_per_token(self) -> int:
        """Memory of the keys and values of one token that stays."""
        return int(self._numbers_per_token * self._stored.itemsize)

    @property
    def _numbers_per_token(self) -> int:
        shape = self.architecture
        return 2 * shape.layers * shape.kv_heads * shape.head_size

    def twin(self) -> PackedNetwork:
        """The same weights with buffers of its own, for another thread."""
        other = copy.copy(self)
        other._buffers, other._cells = {}, torch.empty(0, dtype=self._kept)
        return other

    @staticmethod
    def use_one_thread() -> None:
        """Has torch compute on one thread whatever is called from this one."""
        torch.set_num_threads(1)

    def _layer(self, tensors: Mapping[str, Any], number: int, rows: int) -> dict[str, Any]:
        own = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{number}.")}
        for name in ("qkv", "out", "up", "down"):
            weight = own.pop(name)
            own[name] = _ByteLinear(weight, own.pop(f"{name}_scales"), rows) if weight.dtype == torch.int8 else _Linear(weight, rows)
        return own

    # --- one call ---

    def compute(self, spans: Sequence[Span], wanted: Sequence[tuple[int, int]]) -> Any:
        """Computes spans; each gets its state. Spans of the past that have none yet must stand before those that need them.

        Args:
            spans: at least one. wanted: (span, offset in it) of the places that are read.

        Returns:
            Hidden states at the places behind the last norm, float32, shape (len(wanted), width).
        """
        with torch.inference_mode():
            placed = self._place(spans)
            # Full blocks: of every number of rows that it meets oneDNN keeps a kernel with memory of its own.
            rows = -(-placed[-1].rows.stop // _BLOCK) * _BLOCK
            idle = [np.zeros(rows - placed[-1].rows.stop, np.int64)]
            tokens = torch.from_numpy(np.concatenate([*(span.tokens.astype(np.int64) for span in spans), *idle]))
            positions = torch.from_numpy(np.concatenate([*(np.arange(span.start, span.end) for span in spans), *idle]))
            hidden = self._embed(tokens)
            turns = self._turn(positions)
            attended = self._buffer("attended", rows, self.architecture.heads * self.architecture.head_size).zero_()
            for number, layer in enumerate(self._layers):
                mixed = self._project(number, layer, hidden, turns[self.architecture.slides(number)])
                for one in placed:
                    self._store(number, one, mixed)
                for one in placed:
                    self._attend(number, one, mixed, attended)
                self._finish(number, layer, hidden, attended)
            for one in placed:
                # A copy of its own: the cells hold what stands before it as well, and are used again.
                one.span.state = self._copy(one.cells[:, :, :, one.span.start :]) if one.span.stays else None
            index = torch.tensor([placed[span].rows.start + offset for span, offset in wanted], dtype=torch.int64)
            return self._normed(hidden[index], self._last)

    def _place(self, spans: Sequence[Span]) -> list[_Placed]:
        shape, placed, row = self.architecture, [], 0
        known: dict[int, _Placed] = {}
        token = self._numbers_per_token
        room = self._room(sum(span.end for span in spans) * token)
        for span in spans:
            cells, room = room[: span.end * token], room[span.end * token :]
            cells = cells.view(shape.layers, 2, shape.kv_heads, span.end, shape.head_size)
            one = _Placed(span, slice(row, row := row + len(span.tokens)), cells)
            at = 0
            for before, length in span.past:
                if id(before) in known:
                    one.inside.append((at, length, known[id(before)]))
                else:
                    cells[:, :, :, at : at + length] = before.state[:, :, :, :length]
                at += length
            known[id(span)] = one
            placed.append(one)
        return placed

    def _room(self, numbers: int) -> Any:
        """Memory for the keys and values of one call, used again by the next."""
        if len(self._cells) < numbers:
            self._cells = _own_memory(numbers, self._kept)
        return self._cells

    def _copy(self, state: Any) -> Any:
        """A copy in memory that goes back to the system when it is dropped."""
        return _own_memory(state.numel(), self._stored).view(state.shape).copy_(state)

    def _embed(self, tokens: Any) -> Any:
        hidden = self._embeddings[tokens].float()
        return hidden.mul_(self.architecture.embedding_scale) if self.architecture.embedding_scale != 1 else hidden

    def _turn(self, positions: Any) -> tuple[Any, Any]:
        """Rotations of the positions as complex numbers, shape (tokens, 1, size / 2): of whole layers, and of those with a window."""
        shape = self.architecture
        bases = (shape.rope_base, shape.rope_base_window or shape.rope_base)
        turns: list[Any] = []
        for window, base in enumerate(bases):
            if window and bases[0] == base:
                turns.append(turns[0])
                continue
            steps = base ** (-torch.arange(0, shape.head_size, 2, dtype=torch.float64) / shape.head_size)
            steps = steps / (1.0 if window else shape.rope_divisor)
            angles = positions.double()[:, None] * steps
            turns.append(torch.polar(torch.ones_like(angles), angles).to(torch.complex64)[:, None, :])
        return turns[0], turns[1]

    def _project(self, number: int, layer: Mapping[str, Any], hidden: Any, turns: Any) -> Any:
        """Queries, keys and values of all tokens, turned by their positions, float32, shape (rows, heads + 2 kv_heads, size)."""
        shape = self.architecture
        turned = (shape.heads + shape.kv_heads) * shape.head_size
        mixed, scales = self._map(f"{number}.qkv", layer["qkv"], hidden, layer.get("norm"), normed=True)
        mixed = mixed.float()
        if scales is not None:
            mixed[:, turned:].mul_(scales)
            turns = turns if shape.norms_heads else turns * scales[:, :, None]
        pairs = mixed[:, :turned].view(len(mixed), -1, shape.head_size)
        if shape.norms_heads:
            # The scale of the row drops out of a norm over the numbers of one head.
            size = torch.linalg.vector_norm(pairs, dim=-1, keepdim=True).square_().div_(shape.head_size).add_(shape.epsilon).rsqrt_()
            pairs.mul_(size).mul_(layer["heads"])
        torch.view_as_complex(pairs.view(len(mixed), -1, shape.head_size // 2, 2)).mul_(turns)
        return mixed.view(len(mixed), -1, shape.head_size)

    def _store(self, number: int, one: _Placed, mixed: Any) -> None:
        shape, start = self.architecture, one.span.start
        for at, length, before in one.inside:
            own = before.span.start
            one.cells[number, :, :, at : at + length] = before.cells[number, :, :, own : own + length]
        rows = mixed[one.rows, shape.heads :].view(-1, 2, shape.kv_heads, shape.head_size)
        # Rounded as what stays is, so that a prefix is the same whether it was kept or is computed along.
        one.cells[number, :, :, start:] = rows.permute(1, 2, 0, 3).to(self._stored)

    def _attend(self, number: int, one: _Placed, mixed: Any, attended: Any) -> None:
        shape, count = self.architecture, len(one.span.tokens)
        group = shape.heads // shape.kv_heads
        queries = mixed[one.rows, : shape.heads].view(count, shape.kv_heads, group, shape.head_size).permute(1, 2, 0, 3)
        queries = queries.reshape(shape.kv_heads, group * count, shape.head_size)
        keys, values = one.cells[number]
        if self.half_attention:
            scores = torch.bmm(queries.to(self._kept), keys.transpose(1, 2)).float()
        else:
            scores = torch.bmm(queries, keys.transpose(1, 2))
        if count > 1:
            scores.view(shape.kv_heads, group, count, -1)[..., one.span.start :].add_(self._triangle(count))
        if shape.slides(number) and one.span.end > shape.window:
            scores.add_(self._window(group, one.span))
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(self._kept)
        found = torch.bmm(weights, values)
        target = attended[one.rows].view(count, shape.kv_heads, group, shape.head_size)
        target.copy_(found.view(shape.kv_heads, group, count, shape.head_size).permute(2, 0, 1, 3))

    def _finish(self, number: int, layer: Mapping[str, Any], hidden: Any, attended: Any) -> None:
        """Adds what attention found and what the two-layer map makes of it, in place."""
        inner = self.architecture.inner
        self._add(hidden, *self._map(f"{number}.out", layer["out"], attended), layer.get("out_norm"))
        both, scales = self._map(f"{number}.up", layer["up"], hidden, layer.get("inner_norm"), normed=True)
        gate, up = both[:, :inner], both[:, inner:]
        # The row's scale of `up` is left to that of the product.
        self._activate(gate if scales is None else gate.mul_(scales)).mul_(up)
        found, last = self._map(f"{number}.down", layer["down"], gate)
        if scales is not None:
            last = scales if last is None else last.mul_(scales)
        self._add(hidden, found, last, layer.get("down_norm"))

    def _map(self, name: str, linear: Any, rows: Any, weights: Any = None, *, normed: bool = False) -> tuple[Any, Any]:
        """A linear map of rows, and what each row of the result must still be multiplied with, shape (rows, 1), or None.

        Args:
            name: of the map. linear: it. rows: its inputs, float32. weights: that they are multiplied with first, or None.
            normed: whether they are divided by their root mean square.
        """
        if isinstance(linear, _ByteLinear):
            bytes_, scales = self._bytes(rows, weights)
            return linear(bytes_), scales.mul_(self._root(rows)) if normed else scales
        if normed:
            rows = torch.mul(rows, self._root(rows), out=self._buffer("scaled", *rows.shape))
        if weights is not None:
            rows = rows * weights
        if self.watched is not None:
            largest = rows.float().abs().amax(0).numpy()
            self.watched[name] = np.maximum(self.watched.get(name, largest), largest)
        return linear(rows.to(linear.dtype).contiguous()), None

    def _activate(self, gate: Any) -> Any:
        if self.architecture.activation == "silu":
            return torch.ops.aten.silu_(gate)
        return gate.copy_(functional.gelu(gate, approximate="tanh"))

    def _add(self, hidden: Any, found: Any, scales: Any, norm: Any) -> None:
        if norm is not None:
            found = found.float() if scales is None else found.mul_(scales)
            hidden.add_(self._normed(found, norm))
        elif scales is None:
            hidden.add_(found)
        else:
            hidden.addcmul_(found, scales)

    # --- passes ---

    def _root(self, rows: Any) -> Any:
        """One over the root mean square of each row, shape (rows, 1)."""
        return torch.linalg.vector_norm(rows, dim=1, keepdim=True).square_().div_(rows.shape[1]).add_(self.architecture.epsilon).rsqrt_()

    def _normed(self, rows: Any, weights: Any) -> Any:
        return (rows * self._root(rows)).mul_(weights)

    def _bytes(self, rows: Any, weights: Any = None) -> tuple[Any, Any]:
        """Rows (times the weights, if any) in bytes, and what one unit of each row stands for, shape (rows, 1)."""
        scratch = self._buffer("scratch", *rows.shape)
        source = rows if weights is None else torch.mul(rows, weights, out=scratch)
        magnitude = torch.abs(source, out=self._buffer("magnitudes", *rows.shape))
        scales = magnitude.amax(1, keepdim=True).clamp_(min=1e-20).div_(127.0)
        whole = torch.mul(source, scales.reciprocal(), out=scratch).round_().to(torch.int8)
        return whole.view(torch.uint8).bitwise_xor_(_ZERO), scales

    def _buffer(self, name: str, rows: int, columns: int) -> Any:
        """Memory that is used again at every call, shape (rows, columns), float32."""
        key = (name, columns)
        if key not in self._buffers or len(self._buffers[key]) < rows:
            self._buffers[key] = torch.empty(max(rows, 64), columns)
        return self._buffers[key][:rows]

    def _triangle(self, count: int) -> Any:
        """What is added to scores so that no token sees a later one of its span, shape (count, count)."""
        if len(self._later) < count:
            self._later = torch.full((max(count, 256),) * 2, float("-inf")).triu_(1)
        return self._later[:count, :count]

    def _window(self, group: int, span: Span) -> Any:
        ages = torch.arange(span.start, span.end)[:, None] - torch.arange(span.end)[None, :]
        return torch.zeros(ages.shape).masked_fill_(ages >= self.architecture.window, float("-inf")).repeat(group, 1)

    def step(self, cells: Any, tokens: Sequence[int], positions: Sequence[int]) -> Any:
        """One more token of several texts.

        Args:
            cells: keys and values of the texts, shape (layers, 2, texts or more, kv_heads, most tokens, size); those of the new tokens
                are written.
            tokens: the new ones, of the first texts. positions: where they stand.

        Returns:
            Hidden states behind the last norm, float32, shape (texts, width).
        """
        shape, count, longest = self.architecture, len(tokens), max(positions) + 1
        group = shape.heads // shape.kv_heads
        with torch.inference_mode():
            own, places = torch.arange(count), torch.tensor(positions)
            hidden, turns = self._embed(torch.tensor(tokens)), self._turn(places)
            attended = self._buffer("attended", count, shape.heads * shape.head_size)
            ages = (places[:, None] - torch.arange(longest)[None, :])[:, None, None, :].expand(-1, -1, group, -1)
            seen = [ages >= 0, (ages >= 0) & (ages < shape.window)]
            hides = [torch.zeros(each.shape, dtype=self._kept).masked_fill_(~each, float("-inf")) for each in seen]
            for number, layer in enumerate(self._layers):
                mixed = self._project(number, layer, hidden, turns[shape.slides(number)])
                both = mixed[:, shape.heads :].view(count, 2, shape.kv_heads, shape.head_size).to(self._stored).to(self._kept)
                for part in (0, 1):
                    cells[number, part].transpose(1, 2)[own, places] = both[:, part]
                queries = mixed[:, : shape.heads].view(count, shape.kv_heads, group, shape.head_size).to(self._kept)
                # The fused kernel reads what was kept where it is; products of matrices would copy it first.
                keys, values = cells[number, :, :count, :, :longest]
                found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=hides[shape.slides(number)], scale=1.0)
                attended.view(count, shape.kv_heads, group, shape.head_size).copy_(found)
                self._finish(number, layer, hidden, attended)
            return self._normed(hidden, self._last)

    # --- reading ---

    def logits_of(self, hidden: Any, tokens: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Logits of some tokens at each place, float32; the model's distribution over them but for its normaliser.

        Args:
            hidden: from `compute`. tokens: those wanted at each place.
        """
        if not tokens:
            return []
        with torch.inference_mode():
            counts = [len(some) for some in tokens]
            columns = torch.tensor([token for some in tokens for token in some], dtype=torch.int64)
            rows = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
            logits = (self._head[columns].float() * hidden[rows]).sum(dim=1)
            found: np.ndarray = logits.numpy()
        return np.split(found, np.cumsum(counts)[:-1])

    def logits(self, hidden: Any) -> np.ndarray:
        """Logits of the whole vocabulary, float32, shape (places, vocabulary)."""
        with torch.inference_mode():
            rows = torch.zeros(-(-len(hidden) // _HEAD_ROWS) * _HEAD_ROWS, hidden.shape[1])
            rows[: len(hidden)] = hidden
            found: np.ndarray = torch.cat([self._output(part) for part in rows.split(_HEAD_ROWS)])[: len(hidden)].numpy()
        return found

    def _output(self, rows: Any) -> Any:
        if not self._outputs:
            self._outputs.append(self._output_layer())
        if self.kind != "int8":
            return self._outputs[0](rows)
        bytes_, scales = self._bytes(rows)
        return self._outputs[0](bytes_).mul_(scales)

    def _output_layer(self) -> Any:
        """The output layer for whole rows of logits; made when the first is wanted, since scores need only some columns."""
        if self.kind != "int8":
            return _Linear(self._head.float(), _HEAD_ROWS)
        # In parts: the whole layer in float32 is larger than all others in bytes.
        parts, scales = [], []
        for part in self._head.split(_PART):
            weights = part.float()
            scales.append(weights.abs().amax(1).clamp_(min=1e-20).div_(127.0))
            parts.append(weights.div_(scales[-1][:, None]).round_().to(torch.int8))
        return _ByteLinear(torch.cat(parts), torch.cat(scales), _HEAD_ROWS)

    @staticmethod
    def stacked(rows: Sequence[Any]) -> Any:
        """Hidden states of single places as one array, as `compute` returns it."""
        return torch.stack(list(rows)) if rows else torch.empty(0, 0)


class Steps:
    """Slots in which texts grow token by token (what `simulator.llm.llama_generation.write` wants of sequences).

    Args:
        network: what computes. streams: slots, and one more that is not used. cells: most tokens that a slot will hold; memory is taken
            as far as it is written.
        batch: most tokens of prompts that are computed in one call. run: calls a function on the thread that computes.
    """

    def __init__(
        self, network: PackedNetwork, streams: int, cells: int, batch: int, run: Callable[[Callable[[], np.ndarray]], np.ndarray]
    ) -> None:
        self.streams, self.batch, self.vocabulary = streams, batch, network.architecture.vocabulary
        self._network, self._run = network, run
        self._cells = network.cells(streams - 1, cells)
        self._chains: dict[int, list[tuple[Span, int]]] = {}

    def enter(self, slot: int, chain: list[tuple[Span, int]]) -> None:
        """Puts spans that were computed into a slot (from 1), in place of what it held."""
        self._chains[slot] = chain

    def extend(
        self, tokens: Sequence[np.ndarray], starts: Sequence[int], outputs: Sequence[np.ndarray], first: int = 0
    ) -> list[np.ndarray]:
        """Appends tokens to neighbouring slots, in one call; logits of what follows the last of each, shape (1, vocabulary).

        Args:
            tokens: int32, for each slot. starts: tokens in it so far. outputs: the offset of the last one of each. first: number of the
                first slot.
        """
        spans = [Span(own, start, tuple(self._chains[first + k])) for k, (own, start) in enumerate(zip(tokens, starts, strict=True))]
        places = [(k, int(offsets[-1])) for k, offsets in enumerate(outputs)]

        def compute() -> np.ndarray:
            logits = self._network.logits(self._network.compute(spans, places))
            for k, span in enumerate(spans):
                self._fill(first + k - 1, [*self._chains.pop(first + k), (span, len(span.tokens))])
            return logits

        return [row[None, :] for row in self._run(compute)]

    def step(self, tokens: list[int], positions: list[int]) -> np.ndarray:
        """Appends one token to each of the first slots; next-token logits, float32, shape (len(tokens), vocabulary)."""
        return self._run(lambda: self._network.logits(self._network.step(self._cells, tokens, positions)))

    def copy(self, source: int, target: int) -> None:
        """Replaces a slot by a copy of another one."""
        self._cells[:, :, target - 1] = self._cells[:, :, source - 1]

    def _fill(self, slot: int, chain: Sequence[tuple[Span, int]]) -> None:
        at = 0
        for span, length in chain:
            self._cells[:, :, slot, :, at : at + length] = span.state[:, :, :, :length]
            at += length

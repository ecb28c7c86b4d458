"""A causal language model of the library transformers as two operations: rows of tokens behind a kept past, and single steps.

Everything that decides what is computed together stands in `simulator.llm.torch_batches`; this file only translates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers

from simulator.errors import ModelError
from simulator.llm.tokenizers_vocabulary import TokenizersVocabulary
from simulator.llm.torch_loading import Device, Dtype, choose_device, choose_dtype, explained, load, merge, silence
from simulator.llm.vectors import FIRST, Vectors, VectorTokens, present
from simulator.llm.vectors import read as read_vectors

VERSION: Final[str] = f"transformers {transformers.__version__}, torch {torch.__version__}"
"""Versions of the libraries that compute."""

Past = list[tuple[Any, Any]]
"""Keys and values of every layer, each a tensor of shape (rows, heads, tokens, size)."""

_SLICE = 16_384

_KEPT = 2**26
"""Most weights of an output layer that is kept in float32 beside the model's own on a CPU: 256 MB."""

_log = logging.getLogger(__name__)


class _Head(torch.nn.Module):  # type: ignore[misc]
    """The output layer, computed only at wanted places and in float32.

    In bfloat16 a logit of 20 is rounded to a multiple of 1/8, which would move probabilities by several percent.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.places: tuple[Any, Any] = (None, None)
        self._whole: Any = None

    def forward(self, hidden: Any) -> Any:
        """Logits of the wanted places, shape (n, vocabulary), from hidden states of shape (rows, tokens, size)."""
        hidden = hidden[self.places]
        if type(self.inner) is not torch.nn.Linear:
            return self.inner(hidden).float()
        weight, bias, hidden = self.inner.weight, self.inner.bias, hidden.float()
        if weight.dtype == torch.float32:
            logits = hidden @ weight.T
        elif weight.device.type == "cpu" and weight.numel() <= _KEPT:
            # Converting the layer takes longer than using it, so it is converted once.
            self._whole = weight.float().T if self._whole is None else self._whole
            logits = hidden @ self._whole
        else:
            # In slices: a copy of the whole layer in float32 may be larger than the rest of the model.
            logits = torch.cat([hidden @ part.float().T for part in weight.split(_SLICE)], dim=-1)
        return logits if bias is None else logits + bias.float()


class _Embeddings(torch.nn.Module):  # type: ignore[misc]
    """The input layer of a model that has learned vectors: those of the vocabulary, and from `FIRST` on the learned ones."""

    def __init__(self, inner: Any, table: Any) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("table", table.to(inner.weight.dtype), persistent=False)

    def forward(self, tokens: Any) -> Any:
        """Vectors, shape (rows, tokens, size), of token numbers, shape (rows, tokens)."""
        learned = tokens >= FIRST
        plain = self.inner(tokens.masked_fill(learned, 0))
        return torch.where(learned[..., None], self.table[(tokens - FIRST).clamp(min=0)], plain)


class Network:
    """A loaded model.

    Args:
        path: a folder in Hugging Face layout, or a GGUF file that transformers can read.
        device: "auto" takes CUDA where torch can use it.
        dtype: "auto" takes bfloat16 where the device computes with it, else float16 on CUDA and float32 on a CPU.
        adapter: folder of an adapter, or None: low-rank updates in the layout of the library peft, merged into the weights, or learned
            vectors (`simulator.llm.vectors`), or both.
        threads: used on a CPU; set for the whole process.

    Attributes:
        vocabulary: its tokens. vectors: those that it has learned. name: of the model. device: "cpu" or "cuda". dtype: such as "bfloat16".
        device_name: as the driver calls the GPU, or "cpu".

    Raises:
        ModelError: there is no such model, it is damaged or of another kind, or the device is not there.
    """

    vectors: VectorTokens = VectorTokens()

    def __init__(
        self, path: Path, *, device: Device = "auto", dtype: Dtype = "auto", adapter: Path | None = None, threads: int = 1
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.device_name = torch.cuda.get_device_name(0) if self.device == "cuda" else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(threads)
        with silence():
            model, tokenizer = load(path, torch.float32 if adapter else getattr(torch, self.dtype))
            learned = read_vectors(adapter) if adapter is not None and present(adapter) else None
            if adapter is not None and (learned is None or (adapter / "adapter_config.json").is_file()):
                model = merge(model, adapter)
            model = model.to(getattr(torch, self.dtype))
        if learned is not None:
            self._learn(model, learned, str(adapter))
        self._place(model, str(path), tokenizer)
        _log.info("%s computes on %s (%s) in %s.", self.name, self.device, self.device_name, self.dtype)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, name: str = "model", device: Device = "cpu") -> Network:
        """A network of a transformers model that is in memory already; its type of numbers stays."""
        network = cls.__new__(cls)
        network.device = choose_device(device)
        network.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        network.device_name = torch.cuda.get_device_name(0) if network.device == "cuda" else "cpu"
        network._place(model, name, tokenizer)
        return network

    def _learn(self, model: Any, learned: Vectors, adapter: str) -> None:
        inner = model.get_input_embeddings()
        if inner.weight.shape[1] != learned.table.shape[1]:
            raise ModelError(
                f"the vectors of the adapter '{adapter}' have {learned.table.shape[1]} numbers, this model reads {inner.weight.shape[1]}; "
                "they belong to another model."
            )
        model.set_input_embeddings(_Embeddings(inner, torch.from_numpy(learned.table)))
        self.vectors = learned.tokens

    def _place(self, model: Any, path: str, tokenizer: Any) -> None:
        config = model.config.get_text_config()
        ends = {
            number
            for source in (config, getattr(model, "generation_config", None))
            for number in _as_list(getattr(source, "eos_token_id", None))
        }
        head = model.get_output_embeddings()
        if head is None or getattr(model, "_is_stateful", False) or getattr(config, "is_encoder_decoder", False):
            kind = (
                "recurrent, so no prefix of a prompt can be kept"
                if getattr(model, "_is_stateful", False)
                else "not a causal language model"
            )
            raise ModelError(f"'{path}' ({type(model).__name__}) is {kind}; choose a transformer that continues texts.")
        self.name = Path(path).stem if path.endswith(".gguf") else Path(path).name
        self.vocabulary = TokenizersVocabulary(tokenizer, int(getattr(config, "max_position_embeddings", 0) or 0), ends, path)
        self._head = _Head(head)
        model.set_output_embeddings(self._head)
        with explained(0):
            self._model = model.eval().to(self.device)

    @property
    def bytes_per_token(self) -> int:
        """Memory of the past of one token."""
        config = self._model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * size * (4 if self.dtype == "float32" else 2))

    def extend(self, past: Past | None, tokens: np.ndarray) -> Past:
        """The past of tokens (int32, shape (n,)) behind a past of one row; that of the new tokens alone."""
        with self._exactly(len(tokens)):
            cache = self._cache(past, 1)
            self._run(self._tensor(tokens[None, :]), cache, ([], []))
            start = past[0][0].shape[2] if past else 0
            return [(keys[:, :, start:].clone(), values[:, :, start:].clone()) for keys, values in _tensors(cache)]

    def read(
        self, past: Past | None, rows: Sequence[np.ndarray], places: Sequence[tuple[int, int]], tokens: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Natural logs of the probabilities of tokens at places of rows that all continue one past.

        Args:
            past: of one row, or None. rows: token ids (int32), padded at their ends here; causal attention never sees that.
            places: (row, offset) after which is read. tokens: those wanted at each place.

        Returns:
            One float32 array per place, shape (number of tokens,).
        """
        width = max(map(len, rows))
        with self._exactly(len(rows) * width):
            logits = self._run(self._tensor(_padded(rows, width)), self._cache(past, len(rows)) if past else None, _indices(places))
            logs = torch.log_softmax(logits, dim=-1)
            counts = [len(some) for some in tokens]
            line = torch.from_numpy(np.repeat(np.arange(len(places)), counts)).to(self.device)
            column = torch.from_numpy(np.array([token for some in tokens for token in some], np.int64)).to(self.device)
            flat = logs[line, column].cpu().numpy()
        return np.split(flat, np.cumsum(counts)[:-1])

    def begin(self, past: Past | None, rows: Sequence[np.ndarray]) -> tuple[list[Past], np.ndarray]:
        """Rows that texts continue, all behind one past: the whole past of each, and the logits of what comes next, float32."""
        width = max(map(len, rows))
        with self._exactly(len(rows) * width):
            cache = self._cache(past, len(rows))
            ends = [(row, len(tokens) - 1) for row, tokens in enumerate(rows)]
            logits = self._run(self._tensor(_padded(rows, width)), cache, _indices(ends)).cpu().numpy()
            start = past[0][0].shape[2] if past else 0
            layers = _tensors(cache)
            pasts = [
                [
                    (keys[row : row + 1, :, : start + len(tokens)], values[row : row + 1, :, : start + len(tokens)])
                    for keys, values in layers
                ]
                for row, tokens in enumerate(rows)
            ]
        return pasts, logits

    def texts(self, pasts: Sequence[Past]) -> Steps:
        """Several texts, each behind its own past, to be continued token by token."""
        return Steps(self, pasts)

    def close(self) -> None:
        """Frees the weights."""
        self._model = None
        if self.device == "cuda":
            torch.cuda.empty_cache()

    # --- computing ---

    def _tensor(self, values: np.ndarray) -> Any:
        return torch.from_numpy(np.asarray(values, np.int64)).to(self.device)

    def _cache(self, past: Past | None, rows: int) -> Any:
        cache = transformers.DynamicCache()
        for layer, (keys, values) in enumerate(past or ()):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache

    def _run(self, tokens: Any, cache: Any, places: tuple[Any, Any], **options: Any) -> Any:
        """One pass; logits at the places."""
        self._head.places = places
        kept = {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
        return self._model(input_ids=tokens, **kept, **options).logits.float()

    @contextmanager
    def _exactly(self, tokens: int) -> Iterator[None]:
        """Equal work gives equal bits, gradients are not kept, and what fails for want of memory says so."""
        before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            with torch.inference_mode(), explained(tokens):
                yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.utils.deterministic.fill_uninitialized_memory = before[1]


class Steps:
    """Texts in rows of one batch, padded at their beginnings.

    Args:
        network: what computes. pasts: of the texts, each of one row and a length of its own.
    """

    def __init__(self, network: Network, pasts: Sequence[Past]) -> None:
        self._network = network
        lengths = [past[0][0].shape[2] for past in pasts]
        width = max(lengths)
        with network._exactly(len(pasts) * width):
            pad = torch.nn.functional.pad
            joined: Past = [
                (
                    torch.cat([pad(past[layer][0], (0, 0, width - n, 0)) for past, n in zip(pasts, lengths, strict=True)]),
                    torch.cat([pad(past[layer][1], (0, 0, width - n, 0)) for past, n in zip(pasts, lengths, strict=True)]),
                )
                for layer in range(len(pasts[0]))
            ]
            self._cache = network._cache(joined, len(pasts))
            seen = np.arange(width)[None, :] >= width - np.array(lengths)[:, None]
            self._seen, self._lengths = network._tensor(seen), network._tensor(np.array(lengths)[:, None])

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Appends one token to each text; logits of what comes next, float32, shape (texts, vocabulary)."""
        network = self._network
        with network._exactly(len(tokens)):
            self._seen = torch.cat([self._seen, torch.ones_like(self._lengths)], dim=1)
            places = _indices([(row, 0) for row in range(len(tokens))])
            column = network._tensor(np.array(tokens)[:, None])
            logits = network._run(column, self._cache, places, attention_mask=self._seen, position_ids=self._lengths)
            self._lengths = self._lengths + 1
            return np.asarray(logits.cpu().numpy())

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with some of the texts only."""
        with self._network._exactly(len(rows)):
            chosen = self._network._tensor(np.array(rows))
            kept = [(keys[chosen], values[chosen]) for keys, values in _tensors(self._cache)]
            self._cache = self._network._cache(kept, len(rows))
            self._seen, self._lengths = self._seen[chosen], self._lengths[chosen]


def joined(parts: Sequence[Past]) -> Past | None:
    """One past of several that follow each other; None of none."""
    if not parts:
        return None
    layers = range(len(parts[0]))
    return [
        (torch.cat([part[layer][0] for part in parts], dim=2), torch.cat([part[layer][1] for part in parts], dim=2)) for layer in layers
    ]


def _tensors(cache: Any) -> Past:
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return list(zip(cache.key_cache, cache.value_cache, strict=True))  # transformers before 4.54


def _padded(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    block = np.zeros((len(rows), width), np.int64)
    for row, tokens in enumerate(rows):
        block[row, : len(tokens)] = tokens
    return block


def _indices(places: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [row for row, _ in places], [offset for _, offset in places]


def _as_list(value: Any) -> list[int]:
    return [] if value is None else [int(entry) for entry in value] if isinstance(value, (list, tuple)) else [int(value)]

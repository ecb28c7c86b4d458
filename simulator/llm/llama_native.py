"""llama.cpp's low-level functions as two objects: the weights, and sequences of tokens computed with them.

The high-level class of llama-cpp-python holds one sequence and fills batches token by token in Python. Here batches are
numpy arrays that llama.cpp reads in place, and logits are read in place too. Everything that decides what is computed
stands in `simulator.llm.llama_cpp`; this file only translates.
"""

from __future__ import annotations

import ctypes
import json
from collections import deque
from collections.abc import Mapping, Sequence
from mmap import mmap
from pathlib import Path
from typing import Any, Final, Literal

import llama_cpp as native
import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf

from simulator.errors import ModelError

VERSION: Final[str] = native.__version__
"""Version of llama-cpp-python, which pins the version of llama.cpp."""

MOST_OUTPUTS: Final[int] = 64
"""Most logits rows read after one call."""

KeptFormat = Literal["f16", "bf16"]
"""Number format of kept keys and values."""

_TYPES: Final[dict[KeptFormat, int]] = {"f16": 1, "bf16": 30}
# ggml.h, `enum ggml_type`; llama-cpp-python names only some of them.

_ERROR_LEVEL = 4
_complaints: deque[str] = deque(maxlen=20)


@native.llama_log_callback  # type: ignore[untyped-decorator]
def _listen(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    """Keeps llama.cpp silent but remembers why it refused something. Must stay referenced, or its next line crashes the process."""
    if level == _ERROR_LEVEL:
        _complaints.append(text.decode("utf-8", "replace").strip())


def _start() -> None:
    native.llama_log_set(_listen, ctypes.c_void_p(0))
    native.llama_backend_init()
    _complaints.clear()


def _why() -> str:
    return f" (llama.cpp says: {_complaints[0]})" if _complaints else ""


def library_files() -> list[Path]:
    """The shared libraries that this package computes with, by name."""
    folder = Path(native.__file__).parent / "lib"
    return sorted(
        {path.resolve() for path in folder.glob("*") if path.is_file() and (".so" in path.name or path.suffix in (".dylib", ".dll"))}
    )


def features() -> str:
    """What the processor offers to this build of llama.cpp, in its own words."""
    _start()
    return str(native.llama_print_system_info().decode("utf-8", "replace")).strip()


def can_use_gpu() -> bool:
    """Whether this build of llama.cpp can move layers to a GPU."""
    return bool(native.llama_supports_gpu_offload())


def quantize(source: Path, target: Path, kind: str, threads: int) -> None:
    """Writes `source` in another format.

    Args:
        source: a GGUF file. target: written anew. threads: used for it.
        kind: "bf16", "f16", "q8_0" or "q4_0".

    Raises:
        ModelError: llama.cpp could not convert it.
    """
    _start()
    options = native.llama_model_quantize_default_params()
    options.ftype = getattr(native, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    options.allow_requantize = True
    options.nthread = threads
    if native.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options)) != 0:
        raise ModelError(f"'{source}' cannot be rewritten as {kind}{_why()}; set format = \"as-is\" in [language_model].")


class Weights:
    """A loaded model file and its vocabulary.

    Args:
        path: a GGUF file. gpu_layers: how many layers go to the GPU; -1 means all.
        vocabulary_only: leaves the weights where they are, for whoever needs the tokens alone.
        repacks: whether llama.cpp may keep weights in an order of its own, which AMX and other kernels want.

    Raises:
        ModelError: the file is damaged, or of a kind that this library does not know.
    """

    def __init__(self, path: Path, gpu_layers: int = 0, *, vocabulary_only: bool = False, repacks: bool = True) -> None:
        _start()
        options = native.llama_model_default_params()
        options.n_gpu_layers = gpu_layers
        options.vocab_only = vocabulary_only
        options.use_extra_bufts = repacks
        self.model: Any = native.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            raise ModelError(
                f"'{path}' cannot be loaded: it is cut off or damaged, or llama-cpp-python {VERSION} does not know its kind{_why()}."
            )
        if native.llama_model_is_recurrent(self.model) or native.llama_model_is_hybrid(self.model):
            # Their state cannot be cut back to an earlier token.
            kind = self.metadata("general.architecture")
            self.close()
            raise ModelError(f"'{path}' is a recurrent model ({kind}), of which no prefix of a prompt can be kept; choose a transformer.")
        self.vocab = native.llama_model_get_vocab(self.model)
        self.size: int = native.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = native.llama_model_n_ctx_train(self.model) or self._header_context()
        self.adds_space = native.llama_vocab_type(self.vocab) == native.LLAMA_VOCAB_TYPE_SPM
        self.start_token: int | None = int(native.llama_vocab_bos(self.vocab)) if native.llama_vocab_get_add_bos(self.vocab) else None
        self._pieces: dict[int, bytes] = {}

    def _header_context(self) -> int:
        found = self.metadata(f"{self.metadata('general.architecture')}.context_length")
        return int(found) if found is not None and found.isdigit() else 0

    @property
    def start_and_end(self) -> tuple[str, str]:
        """Text of the control tokens that begin and end a text, as chat templates write them."""
        tokens = (native.llama_vocab_bos(self.vocab), native.llama_vocab_eos(self.vocab))
        texts = [native.llama_vocab_get_text(self.vocab, token).decode("utf-8", "replace") if token >= 0 else "" for token in tokens]
        return texts[0], texts[1]

    @property
    def slides(self) -> bool:
        """True if some layers look back over a window only: a saved sequence then holds the end of the text alone for them."""
        return int(native.llama_model_n_swa(self.model)) > 0

    def metadata(self, key: str) -> str | None:
        """A value of the file's header as text, or None."""
        buffer = ctypes.create_string_buffer(256)
        length = native.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        if length >= len(buffer):
            buffer = ctypes.create_string_buffer(length + 1)
            native.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        return None if length < 0 else buffer.value.decode("utf-8", "replace")

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: any text; lone surrogates become question marks.
            control: whether ``<|im_end|>`` and the like become control tokens. Only for a model's own chat template.
        """
        data = text.encode("utf-8", "replace")
        if not data:
            return []
        room = len(data) + 2
        tokens = (ctypes.c_int32 * room)()
        n = native.llama_tokenize(self.vocab, data, len(data), tokens, room, False, control)
        if n < 0:
            tokens = (ctypes.c_int32 * -n)()
            n = native.llama_tokenize(self.vocab, data, len(data), tokens, -n, False, control)
        return list(tokens[:n])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for control tokens."""
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(256)
            n = native.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            self._pieces[token] = buffer.raw[: max(n, 0)]
        return self._pieces[token]

    def ends(self, token: int) -> bool:
        """Whether a token ends a text or a turn."""
        return bool(native.llama_vocab_is_eog(self.vocab, token))

    def close(self) -> None:
        """Frees the weights."""
        if self.model:
            native.llama_model_free(self.model)
            self.model = None


class Sequences:
    """Sequences of tokens and what the model has computed for them, each in cells of its own.

    Args:
        weights: the model. streams: sequences held at once. cells: tokens each can hold.
        batch: most tokens computed at once. threads: used for it.
        flash: whether attention is computed in one piece; quicker on a GPU and for long texts, slower for short chunks on a CPU.
        kept: number format of what is kept per token.

    Raises:
        ModelError: there is not enough memory.
    """

    def __init__(
        self, weights: Weights, *, streams: int, cells: int, batch: int, threads: int, flash: bool = False, kept: KeptFormat = "f16"
    ) -> None:
        self.streams, self.cells, self.batch = streams, cells, batch
        self.vocabulary = weights.size
        options = native.llama_context_default_params()
        options.n_ctx, options.n_seq_max = cells * streams, streams
        options.n_batch = options.n_ubatch = batch
        # Room for logits is reserved beforehand, and a row has the size of the vocabulary.
        options.n_outputs_max = min(batch, MOST_OUTPUTS)
        # Flash attention divides a single token over the threads and sums the parts, so that their number would be seen in the
        # last bits (from 512 cells on). Single tokens therefore have one thread, whatever `threads` says.
        options.n_threads, options.n_threads_batch = 1, threads
        options.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        options.type_k = options.type_v = _TYPES[kept]
        # A cache of their own for each sequence: with a shared one every token attends over everybody's cells.
        options.kv_unified = False
        # Layers that look back over a window only would otherwise forget what a sequence that is cut back needs.
        options.swa_full = True
        options.no_perf = True
        _complaints.clear()
        self._context: Any = native.llama_init_from_model(weights.model, options)
        if not self._context:
            raise ModelError(f"no room for {streams} sequences of {cells} tokens{_why()}; lower context or sequences in [language_model].")
        self._memory = native.llama_get_memory(self._context)
        self._tokens = np.zeros(batch, np.int32)
        self._positions = np.zeros(batch, np.int32)
        self._counts = np.ones(batch, np.int32)
        self._ids = np.zeros(batch, np.int32)
        self._wanted = np.zeros(batch, np.int8)
        first, width = self._ids.ctypes.data, self._ids.itemsize
        integers = ctypes.POINTER(ctypes.c_int32)
        self._id_pointers = (integers * batch)(*(ctypes.cast(first + i * width, integers) for i in range(batch)))
        self._batch = native.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(integers),
            embd=None,
            pos=self._positions.ctypes.data_as(integers),
            n_seq_id=self._counts.ctypes.data_as(integers),
            seq_id=self._id_pointers,
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def extend(
        self, tokens: Sequence[np.ndarray], starts: Sequence[int], outputs: Sequence[np.ndarray], first: int = 0
    ) -> list[np.ndarray]:
        """Appends tokens to one sequence or to several neighbouring ones, in one call.

        Sequences are padded to the longest, since llama.cpp would otherwise cut the call where the shortest ends; what was
        padded is removed again. A single token, and a single row of logits, take another path through llama.cpp's matrix
        products (vector times matrix), which ends in other last bits, so neither is ever computed alone. On a CPU with
        weights in a float format a number therefore does not depend on what else is computed in the same call.

        Args:
            tokens: int32, for each sequence; padded together at most `batch`.
            starts: length of each sequence so far.
            outputs: for each sequence the offsets in its tokens whose next-token logits are wanted, increasing; together at
                most `MOST_OUTPUTS`.
            first: number of the first sequence.

        Returns:
            For each sequence the logits, float32, shape (its outputs, vocabulary); overwritten by the next call.
        """
        count, lengths = len(tokens), [len(own) for own in tokens]
        width = 2 if count * max(lengths) == 1 and starts[0] + 2 <= self.cells else max(lengths)
        n = count * width
        table = self._tokens[:n].reshape(count, width)
        for row, own in zip(table, tokens, strict=True):
            row[: len(own)] = own
            row[len(own) :] = own[-1]
        self._positions[:n].reshape(count, width)[:] = np.array(starts, np.int32)[:, None] + np.arange(width, dtype=np.int32)
        self._ids[:n] = np.repeat(np.arange(first, first + count, dtype=np.int32), width)
        self._wanted[:n] = 0
        flat = np.concatenate([k * width + offsets for k, offsets in enumerate(outputs)])
        self._wanted[flat] = 1
        lonely = len(flat) == 1 and n > 1
        if lonely:
            self._wanted[1 if flat[0] == 0 else 0] = 1
        logits = self._decode(n, 2 if lonely else len(flat))
        if lonely and flat[0] > 0:
            logits = logits[1:]
        for k in range(count):
            if lengths[k] < width:
                self.cut(first + k, starts[k] + lengths[k])
        ends = np.cumsum([len(offsets) for offsets in outputs])
        return [logits[end - len(offsets) : end] for end, offsets in zip(ends, outputs, strict=True)]

    def step(self, tokens: list[int], positions: list[int]) -> np.ndarray:
        """Appends one token to each of the first sequences behind sequence 0; sequence i + 1 gets ``tokens[i]`` at ``positions[i]``.

        Returns:
            Next-token logits, float32, shape (len(tokens), vocabulary); overwritten by the next call.
        """
        n = len(tokens)
        self._tokens[:n] = tokens
        self._positions[:n] = positions
        self._ids[:n] = np.arange(1, n + 1, dtype=np.int32)
        self._wanted[:n] = 1
        return self._decode(n, n)

    def _decode(self, n: int, outputs: int) -> np.ndarray:
        self._batch.n_tokens = n
        _complaints.clear()
        status = native.llama_decode(self._context, self._batch)
        if status != 0:
            raise ModelError(f"llama.cpp could not compute {n} tokens (status {status}){_why()}.")
        if not outputs:
            return np.empty((0, self.vocabulary), np.float32)
        return np.ctypeslib.as_array(native.llama_get_logits(self._context), (outputs, self.vocabulary))

    def cut(self, stream: int, length: int) -> None:
        """Removes everything of a sequence from position `length` on."""
        if not native.llama_memory_seq_rm(self._memory, stream, length, -1):
            raise ModelError("this model cannot remove the end of a sequence, so no prefix of a prompt can be kept.")

    def copy(self, source: int, target: int) -> None:
        """Replaces a sequence by a copy of another one."""
        self.cut(target, 0)
        # Across streams only whole sequences can be copied; anything else aborts the process.
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def save(self, stream: int = 0) -> np.ndarray:
        """What was computed for a sequence, as bytes."""
        # Memory of its own from the system, which has it back as soon as the state is dropped; a heap would keep the gaps.
        state = np.frombuffer(mmap(-1, max(1, native.llama_state_seq_get_size(self._context, stream))), np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if native.llama_state_seq_get_data(self._context, pointer, state.size, stream) != state.size:
            raise ModelError("llama.cpp could not save the state of a sequence.")
        return state

    def restore(self, state: np.ndarray, stream: int = 0) -> None:
        """Replaces a sequence by what `save` returned."""
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if native.llama_state_seq_set_data(self._context, pointer, state.size, stream) == 0:
            raise ModelError("llama.cpp could not restore the state of a sequence.")

    def close(self) -> None:
        """Frees the memory."""
        if self._context:
            native.llama_free(self._context)
            self._context = None


def schema_grammar(schema: Mapping[str, object]) -> str:
    """The GBNF grammar of a JSON schema.

    Raises:
        ModelError: the schema has something that cannot be expressed.
    """
    try:
        grammar: str = json_schema_to_gbnf(json.dumps(schema))
    except Exception as error:  # the converter raises whatever it stumbles over
        raise ModelError(
            f"this JSON schema cannot constrain a text ({type(error).__name__}: {error}): {json.dumps(schema)[:200]}"
        ) from error
    return grammar


class Grammar:
    """Which tokens may come next so that a text satisfies a GBNF grammar.

    Args:
        weights: whose tokens. source: the grammar, with a rule ``root``.

    Raises:
        ModelError: llama.cpp does not accept the grammar.
    """

    def __init__(self, weights: Weights, source: str) -> None:
        _complaints.clear()
        self._sampler: Any = native.llama_sampler_init_grammar(weights.vocab, source.encode(), b"root")
        if not self._sampler:
            raise ModelError(f"the JSON schema of a request gives a grammar that llama.cpp does not accept{_why()}.")

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        """Mask over `tokens` (int32) of those that may come next."""
        candidates = np.zeros(len(tokens), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        candidates["id"] = tokens
        array = native.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(native.llama_token_data)), size=len(tokens), selected=-1, sorted=False
        )
        native.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return np.asarray(np.isfinite(candidates["logit"]))

    def accept(self, token: int) -> None:
        """Moves on by a token that `allowed` allows and that does not end the text."""
        native.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Frees the grammar."""
        if self._sampler:
            native.llama_sampler_free(self._sampler)
            self._sampler = None

"""The header of a GGUF file: its values, and where each tensor lies.

The library gguf reads it too, but builds an object for every word of the vocabulary, which takes seconds; here the vocabulary is passed
over. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from simulator.errors import ModelError

_SCALARS: Final[dict[int, str]] = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 64
"""Arrays with more entries (those of the vocabulary) are passed over."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies: its shape (rows first), its number type as GGUF numbers them, its first byte in the file."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class Index:
    """A header: values by key (without the vocabulary), and tensors by name."""

    values: dict[str, Any]
    tensors: dict[str, TensorPlace]


def read(path: Path) -> Index:
    """The header of a file.

    Raises:
        ModelError: it is damaged, or of a version that is not known.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Header(content).index()
    except (struct.error, IndexError, ValueError, OverflowError, OSError) as error:
        raise ModelError(f"'{path}' is a damaged GGUF file ({error}): it was probably cut off; fetch or convert it again.") from error


class _Header:
    """Reads a header from its first byte to its last."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def index(self) -> Index:
        magic, version, tensors, values = self._unpack("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"magic {magic!r}, version {version}")
        if max(tensors, values) > 1_000_000:
            raise ValueError(f"{tensors} tensors and {values} values")
        known: dict[str, Any] = {}
        for _ in range(values):
            key = self._string()
            known[key] = self._value(self._unpack("<I")[0])
        places = [self._tensor() for _ in range(tensors)]
        alignment = int(known.get("general.alignment", 32))
        data = -(-self._at // alignment) * alignment
        return Index(known, {name: TensorPlace(shape, kind, data + offset) for name, shape, kind, offset in places})

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._unpack("<I")
        if dimensions > 8:
            raise ValueError(f"tensor {name!r} with {dimensions} dimensions")
        shape = self._unpack(f"<{dimensions}Q")
        kind, offset = self._unpack("<IQ")
        return name, tuple(reversed(shape)), kind, offset

    def _unpack(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return found

    def _string(self) -> str:
        (length,) = self._unpack("<Q")
        if self._at + length > len(self._content):
            raise ValueError(f"a text of {length} bytes")
        text = self._content[self._at : self._at + length].decode("utf-8", "replace")
        self._at += length
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        return self._unpack(f"<{_SCALARS[kind]}" if kind in _SCALARS else "unknown")[0]

    def _array(self) -> list[Any] | None:
        kind, length = self._unpack("<IQ")
        if kind == _STRING:
            if length <= _LONGEST:
                return [self._string() for _ in range(length)]
            for _ in range(length):
                self._at += 8 + int.from_bytes(self._content[self._at : self._at + 8], "little")
            return None
        if kind == _ARRAY or length <= _LONGEST:
            return [self._value(kind) for _ in range(length)]
        self._at += length * struct.calcsize(_SCALARS[kind])
        return None


def tensor(path: Path, place: TensorPlace) -> np.ndarray:
    """A tensor as float32, unpacked from the type it is stored in.

    Raises:
        ModelError: its type is not known, or the file ends before it does.
    """
    import gguf  # noqa: PLC0415 - needed where weights are prepared only

    try:
        kind = gguf.GGMLQuantizationType(place.kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = int(np.prod(place.shape))
        raw = np.memmap(path, np.uint8, "r", place.offset, (count // block * size,)).view(np.ndarray)
        dtype = {"F32": np.float32, "F16": np.float16}.get(kind.name)
        rows = raw.view(dtype).reshape(place.shape) if dtype else raw.reshape(*place.shape[:-1], -1)
        return np.asarray(gguf.quants.dequantize(rows, kind) if dtype is None else rows, np.float32)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"a tensor of '{path}' cannot be read ({error}); the file was cut off, or its type is not known.") from error

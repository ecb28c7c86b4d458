"""Low-rank updates of a language model (LoRA adapters), and the merged model file that inference uses.

An adapter is a folder in the layout of the library peft (``adapter_config.json``, ``adapter_model.safetensors``), or with learned
vectors (`simulator.llm.vectors`), or both, with a card (``card.json``) that says what it was tuned on. llama.cpp could apply updates at run
time at a cost in speed; a merged file has none, so the file is merged once per machine and kept in the cache::

    W' = W + scale * B A        (Hu et al. 2022, "LoRA: low-rank adaptation of large language models", equation 3)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from simulator.errors import ModelError, with_suggestion
from simulator.files import write_atomically
from simulator.llm import formats, vectors
from simulator.paths import cache_folder

MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
"""Linear layers by their names in transformers, and in GGUF files."""

SHIPPED = Path(__file__).parent / "tuned"
"""Adapters that come with usersim, one folder each."""

CARD, CONFIG, WEIGHTS = "card.json", "adapter_config.json", "adapter_model.safetensors"
LEARNED = "learned_from.json"
"""Ids of the users that an adapter was learned from, by data set (`experiments.tuning.model_card`)."""


def tuned_folder() -> Path:
    """Where adapters made on this machine are kept, one folder each. May not exist yet."""
    return cache_folder() / "tuned"


def names() -> list[str]:
    """Adapters that can be named: those made here, and those that come with usersim."""
    files = [path for folder in (tuned_folder(), SHIPPED) for file in (CONFIG, vectors.FILE) for path in folder.glob(f"*/{file}")]
    return sorted({path.parent.name for path in files})


def find(path_or_name: str) -> Path:
    """The folder of an adapter: a path, one made on this machine, or one that comes with usersim, in this order.

    Raises:
        ModelError: there is none.
    """
    given = Path(path_or_name).expanduser()
    for folder in (given, tuned_folder() / path_or_name, SHIPPED / path_or_name):
        if (folder / CONFIG).is_file() or vectors.present(folder):
            return folder
    raise ModelError(
        f"{with_suggestion('adapter', path_or_name, names())} A folder with {CONFIG} and {WEIGHTS}, or with {vectors.FILE}, is allowed too."
    )


def card(folder: Path) -> dict[str, Any]:
    """What an adapter was tuned on; empty if it has no card.

    Raises:
        ModelError: the card is not JSON.
    """
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"'{path}' is not JSON ({error}); tune again or remove it.") from error
    return found


def learned_from(folder: Path) -> list[dict[str, Any]]:
    """Whose choices had a part in an adapter: an entry for each data set (`LEARNED`); empty where that was not kept.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / LEARNED
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = [{key: entry[key] for key in ("data", "fingerprint", "learned", "watched")} for entry in found]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' does not hold whom the adapter learned from ({error}); tune again or copy it again.") from error
    return whole


def descent(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The card of an adapter, what it holds of that of the adapter whose updates its tuning began with, and so on."""
    return [card, *(descent(card["start"]) if "start" in card else [])]


def write(folder: Path, updates: Mapping[str, np.ndarray], base: str) -> None:
    """Writes updates in peft's layout, half precision.

    Args:
        folder: an existing folder.
        updates: ``scale``, and per layer and module ``<layer>.<module>.a`` (rank, inputs) and ``.b`` (outputs, rank).
        base: name of the model they belong to.
    """
    from safetensors.numpy import save_file  # noqa: PLC0415 - needed here only

    tensors = {}
    for name, values in updates.items():
        if name == "scale":
            continue
        layer, module, part = name.split(".")
        block = "self_attn" if MODULES[module].startswith("attn") else "mlp"
        tensors[f"base_model.model.model.layers.{layer}.{block}.{module}.lora_{part.upper()}.weight"] = np.ascontiguousarray(
            values, np.float16
        )
    rank = next(values.shape[0] for name, values in updates.items() if name.endswith(".a"))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": int(rank),
        "lora_alpha": float(updates["scale"]) * int(rank),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(MODULES),
        "inference_mode": True,
    }
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, np.ndarray]:
    """The updates of an adapter, float32, keys as in `write`.

    Raises:
        ModelError: a file is missing or damaged, or the adapter changes something else than linear layers.
    """
    from safetensors.numpy import load_file  # noqa: PLC0415 - needed here only

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        updates = {"scale": np.array(float(config["lora_alpha"]) / int(config["r"]))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the adapter in '{folder}' cannot be read ({error}); tune or copy it again.") from error
    except Exception as error:  # safetensors has an exception class of its own for damaged files
        raise ModelError(f"'{folder / WEIGHTS}' is damaged ({error}); tune or copy it again.") from error
    for name, values in tensors.items():
        parts = name.split(".")
        module = next((part for part in parts if part in MODULES), None)
        if module is None or parts[-2] not in ("lora_A", "lora_B") or "layers" not in parts:
            raise ModelError(f"the adapter in '{folder}' changes '{name}'; only LoRA updates of {', '.join(MODULES)} can be merged.")
        updates[f"{parts[parts.index('layers') + 1]}.{module}.{parts[-2][-1].lower()}"] = values.astype(np.float32)
    return updates


def identity(folder: Path) -> str:
    """SHA-256 of the weights, the configuration and the vectors of an adapter."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, vectors.FILE):
        if name != vectors.FILE or vectors.present(folder):
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def merged(base: Path, adapter: Path) -> Path:
    """The model file with the updates in it; written to the cache the first time. Safe in several processes at once.

    Args:
        base: a GGUF file. adapter: a folder as `find` returns it.

    Raises:
        ModelError: they do not belong together, one of them is damaged, or the adapter has vectors, which a file cannot hold.
    """
    if vectors.present(adapter):
        raise ModelError(
            f"the adapter '{adapter.name}' has learned vectors that stand between the tokens, which llama.cpp cannot compute with; "
            "set language_model.use = simulator.llm.transformers_model:TransformersModel."
        )
    told = card(adapter).get("model", {}).get("sha256")
    digest = formats.fingerprint(base)
    if told and told != digest:
        raise ModelError(
            f"the adapter '{adapter.name}' was tuned on another model file (SHA-256 {told[:12]}..., '{base.name}' has {digest[:12]}...)."
        )
    key = hashlib.sha256(f"{digest} {identity(adapter)}".encode()).hexdigest()[:16]
    target = cache_folder() / "merged" / f"{base.stem}-{adapter.name}-{key}.gguf"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            write_atomically(target, lambda file: _merge(base, read(adapter), file))
    return target


def _merge(base: Path, updates: Mapping[str, np.ndarray], target: Path) -> None:
    import gguf  # noqa: PLC0415 - pulls in much that inference does not need

    reader = gguf.GGUFReader(base)

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return None if field is None else field.contents()

    architecture = str(value("general.architecture"))
    heads = int(value(f"{architecture}.attention.head_count") or 0)
    kv_heads = int(value(f"{architecture}.attention.head_count_kv") or heads)
    gguf_names = {f"blk.{name.split('.')[0]}.{MODULES[name.split('.')[1]]}.weight": name[:-2] for name in updates if name.endswith(".a")}
    absent = sorted(set(gguf_names) - {tensor.name for tensor in reader.tensors})
    if absent:
        raise ModelError(f"the adapter updates '{absent[0]}', which '{base.name}' does not have; it belongs to another model.")
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        name = gguf_names.get(tensor.name)
        if name is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        change = float(updates["scale"]) * (updates[f"{name}.b"] @ updates[f"{name}.a"])
        if change.shape != weights.shape:
            raise ModelError(
                f"the adapter's update of '{tensor.name}' has shape {change.shape}, not {weights.shape}; it belongs to another model."
            )
        if architecture == "llama" and name.endswith(("q_proj", "k_proj")):
            change = _rotary_order(change, heads if name.endswith("q_proj") else kv_heads)
        writer.add_tensor(tensor.name, (weights + change).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rotary_order(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection from transformers' order (halves rotate together) to that of GGUF (neighbours do)."""
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))

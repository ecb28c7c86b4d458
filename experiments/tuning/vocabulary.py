"""The tokens of a model, kept: most texts of a pack (item lines, labels) occur many times."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from simulator.llm.llama_native import Weights
from simulator.llm.llama_prompts import Compiler
from simulator.llm.vectors import VectorTokens


class KeptVocabulary:
    """The side of a model that a `Compiler` asks, with texts tokenised once.

    Args:
        path: a GGUF file.

    Raises:
        ModelError: the file is damaged, or of an unknown kind.
    """

    def __init__(self, path: Path) -> None:
        self._weights = Weights(path)
        self.trained_context = self._weights.trained_context
        self.adds_space = self._weights.adds_space
        self.start_token = self._weights.start_token
        self.start_and_end = self._weights.start_and_end
        self._kept = lru_cache(maxsize=200_000)(self._tokenized)

    def metadata(self, key: str) -> str | None:
        """A value of the model's header by its GGUF name."""
        return self._weights.metadata(key)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Tokens of a text; control tokens are recognised in it only with `control`."""
        return list(self._kept(text, control))

    def compiler(self, context: int, vectors: VectorTokens | None = None) -> Compiler:
        """Turns prompts into tokens of this model, and into numbers of vectors that it will learn."""
        return Compiler(self, context, vectors)

    def close(self) -> None:
        """Frees the model."""
        self._weights.close()

    def _tokenized(self, text: str, control: bool) -> tuple[int, ...]:
        return tuple(self._weights.tokenize(text, control=control))

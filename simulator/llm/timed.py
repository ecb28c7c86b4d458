"""A language model whose time is taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from simulator.protocols import LanguageModel
from simulator.records import Completion, GenerationRequest, Prompt, Scores


class Timed:
    """Another language model, with the seconds that its answers took; everything else is the model's own.

    Attributes:
        seconds: spent so far, under "score" and "generate".
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.seconds = {"score": 0.0, "generate": 0.0}

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """Asks the model."""
        started = time.perf_counter()
        try:
            return self._model.score(prompts)
        finally:
            self.seconds["score"] += time.perf_counter() - started

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Asks the model."""
        started = time.perf_counter()
        try:
            return self._model.generate(requests)
        finally:
            self.seconds["generate"] += time.perf_counter() - started

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

"""A language model without a model: answers from a script or from a function, and records what it was asked.

It is a real provider: tests, demonstrations and dry runs of an experiment use it through the same seam.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from pydantic import Field

from simulator.errors import ScriptExhausted
from simulator.plugins import ComponentConfig
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage

Answer = Callable[[Prompt], Scores]


class ScriptedConfig(ComponentConfig):
    """Options of `ScriptedLanguageModel` in an experiment file.

    Attributes:
        spread: standard deviation of the log-odds; 0 gives uniform distributions.
        unusable_share: share of prompts that get an unusable reply instead, to see what a run does then.
    """

    spread: float = Field(1.0, ge=0, le=1e6)
    unusable_share: float = Field(0.0, ge=0, le=1)


class ScriptedLanguageModel:
    """Answers from a script; without one, with probabilities that depend on the prompt's text alone.

    Args:
        config: options of the answers without a script.
        scores: what `score` answers, one per prompt in order, or a function of the prompt.
        texts: what `generate` answers, one per request in order.

    Attributes:
        prompts, requests: everything that was asked, in order.
    """

    Config = ScriptedConfig

    def __init__(
        self,
        config: ScriptedConfig | None = None,
        *,
        scores: Iterable[Scores] | Answer | None = None,
        texts: Iterable[str] | None = None,
    ) -> None:
        self.config = config or ScriptedConfig()
        self.prompts: list[Prompt] = []
        self.requests: list[GenerationRequest] = []
        self._answer: Answer | None = scores if callable(scores) else None
        self._scores: Iterator[Scores] | None = iter(scores) if scores is not None and not callable(scores) else None
        self._texts: Iterator[str] | None = iter(texts) if texts is not None else None
        self._usage = Usage()

    @property
    def identity(self) -> ModelIdentity:
        """See `simulator.protocols.LanguageModel.identity`."""
        return ModelIdentity("scripted", "", "usersim", self.config.model_dump())

    @property
    def usage(self) -> Usage:
        """See `simulator.protocols.LanguageModel.usage`; a token is a word here."""
        return self._usage

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """See `simulator.protocols.LanguageModel.score`.

        Raises:
            ScriptExhausted: the script holds no more answers.
        """
        self.prompts += prompts
        words = sum(self.count_tokens(prompt.text) for prompt in prompts)
        self._count(words, 0, len(prompts))
        return [self._scored(prompt) for prompt in prompts]

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """See `simulator.protocols.LanguageModel.generate`.

        Raises:
            ScriptExhausted: the script holds no more texts.
        """
        self.requests += requests
        texts = [self._text(request) for request in requests]
        self._count(0, sum(map(self.count_tokens, texts)), len(requests))
        return [Completion(text, self.count_tokens(text)) for text in texts]

    def count_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())

    def close(self) -> None:
        """Nothing to free."""

    def _scored(self, prompt: Prompt) -> Scores:
        if self._answer is not None:
            return self._answer(prompt)
        if self._scores is not None:
            try:
                return next(self._scores)
            except StopIteration:
                raise ScriptExhausted(f"the script has no answer for prompt {len(self.prompts)}: {prompt.text[-200:]!r}.") from None
        noise = _noise(prompt.text, 1 + sum(len(probe.labels) for probe in prompt.probes))
        if noise[0] < self.config.unusable_share:
            return Scores((), (), "unreadable", "as the script wants it")
        logprobs, start = [], 1
        for probe in prompt.probes:
            utility = self.config.spread * _normal(noise[start : start + len(probe.labels)])
            logprobs.append(utility - np.log(np.exp(utility).sum()))
            start += len(probe.labels)
        return Scores(tuple(logprobs), (1.0,) * len(logprobs))

    def _text(self, request: GenerationRequest) -> str:
        if self._texts is not None:
            try:
                return next(self._texts)
            except StopIteration:
                raise ScriptExhausted(f"the script has no text for request {len(self.requests)}.") from None
        asked = request.prompt.text if request.prompt is not None else repr(request.messages)
        words = ("liked", "the", "quiet", "old", "films", "and", "left", "early", "but", "happy")
        return " ".join(words[int(number * len(words))] for number in _noise(f"{asked} {request.stream.key()}", min(6, request.max_tokens)))

    def _count(self, prompt: int, generated: int, calls: int) -> None:
        usage = self._usage
        self._usage = Usage(
            usage.prompt_tokens + prompt, usage.computed_tokens + prompt, usage.generated_tokens + generated, usage.calls + calls
        )


def _noise(text: str, n: int) -> np.ndarray:
    """Numbers in [0, 1) that depend on a text alone, shape (n,)."""
    raw = hashlib.shake_128(text.encode()).digest(4 * n)
    return np.frombuffer(raw, dtype="<u4") / 2.0**32


def _normal(uniforms: np.ndarray) -> np.ndarray:
    """Roughly normal numbers from uniform ones (logistic quantiles scaled to unit variance)."""
    inside = np.clip(uniforms, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)) * (np.sqrt(3) / np.pi))

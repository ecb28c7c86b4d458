"""How far the fast way moves decisions from a plain evaluation of whole prompts in the file as shipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.decisions import LanguageModelConfig, LanguageModelDecisions
from experiments import build
from experiments.benchmarks.recording import Recorded
from simulator.errors import ModelError
from simulator.llm import engines
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.llm.llama_native import Sequences, Weights
from simulator.llm.llama_prompts import Compiler
from simulator.llm.llama_scoring import Reader
from simulator.llm.models import resolve
from simulator.protocols import DecisionContext, LanguageModel
from simulator.records import Completion, Decision, GenerationRequest, ModelIdentity, Prompt, Scores, Usage
from simulator.seeds import Stream

CONTEXT = 1024


class PlainModel:
    """The file as shipped; every prompt is one call from its first token to its last, nothing is kept.

    Args:
        threads: of the computation.
    """

    def __init__(self, threads: int) -> None:
        # Where llama.cpp was built so that it cannot compute the file as it is, in the plain order of its weights.
        prepared, _ = engines.prepare(resolve(), "as-is", threads=threads, gpu_layers=0, max_divergence=1.0)
        self._weights = Weights(prepared.path, repacks=prepared.repacks)
        self._sequences = Sequences(self._weights, streams=1, cells=CONTEXT, batch=CONTEXT, threads=threads)
        self._compiler = Compiler(self._weights, CONTEXT)
        self._reader = Reader(self._sequences, 0, merges=True)

    @property
    def identity(self) -> ModelIdentity:
        """Of the plain way."""
        return ModelIdentity("plain", "", "llama.cpp", {})

    @property
    def usage(self) -> Usage:
        """Work done so far."""
        return self._reader.usage

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """One prompt after another."""
        scores = []
        for prompt in prompts:
            (read,) = self._reader.score([self._compiler.prompt(prompt)])
            scores.append(Scores(tuple(logprobs for logprobs, _ in read), tuple(mass for _, mass in read)))
        return scores

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Is not compared.

        Raises:
            ModelError: always.
        """
        raise ModelError("the plain evaluation writes no texts.")

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens."""
        return len(self._weights.tokenize(text))

    def close(self) -> None:
        """Frees the model."""
        self._sequences.close()
        self._weights.close()


def agreement(recorded: Recorded, pages: int, reference_pages: int) -> dict[str, Any]:
    """Divergence of the label probabilities, and share of decisions that come out differently.

    Both ways measure their own reference pages, so a decision is compared as a run would make it, with the same random
    numbers (`flip_rate`), and by its likeliest label (`flip_rate_of_likeliest`).

    Args:
        recorded: whose situations. pages: how many of them are compared. reference_pages: of either way.
    """
    situations = [situation for batch in recorded.pages for situation in batch]
    situations = situations[:: max(1, len(situations) // pages)][:pages]
    prompts = [recorded.builder.page(situation) for situation in situations]
    scores, decisions = [], []
    for model in (LlamaCpp(LlamaCppConfig(threads=1)), PlainModel(1)):
        scores.append([score.logprobs for score in model.score(prompts)])
        decisions.append(_fitted(recorded, model, reference_pages).decide(situations))
        model.close()
    fast, plain = ([row for logprobs in own for row in logprobs] for own in scores)
    divergences = [divergence(q, p) for p, q in zip(fast, plain, strict=True)]
    probes = [probe.name.split()[0] for prompt in prompts for probe in prompt.probes]
    by_action = {
        name: round(float(np.mean([d for d, probe in zip(divergences, probes, strict=True) if probe == name])), 6)
        for name in sorted({*probes})
    }
    drawn = [flips(a, b) for a, b in zip(*decisions, strict=True)]
    total = sum(counted for _, _, counted in drawn)
    return {
        "mean_kl": round(float(np.mean(divergences)), 6),
        "mean_kl_by_action": by_action,
        "largest_kl": round(float(np.max(divergences)), 5),
        "flip_rate": round(sum(flipped for flipped, _, _ in drawn) / total, 5),
        "flip_rate_of_likeliest": round(sum(likeliest for _, likeliest, _ in drawn) / total, 5),
        "pages_compared": len(prompts),
        "decisions_compared": total,
    }


def divergence(q: np.ndarray, p: np.ndarray) -> float:
    """Kullback-Leibler divergence in nats of log-probabilities `p` from the reference log-probabilities `q`."""
    return max(0.0, float((np.exp(q) * (q - p)).sum()))


def flips(one: Decision, other: Decision) -> tuple[int, int, int]:
    """Of two decisions on one page: how many values differ, how many likeliest labels differ, and how many there are.

    A rating that was given on one side only counts as its choice's flip and not as another one.
    """
    values = likeliest = counted = 0
    for name, outcome in one.outcomes.items():
        twin = other.outcomes[name]
        both = ~np.isnan(outcome.values) & ~np.isnan(twin.values)
        values += int((outcome.values != twin.values)[both].sum())
        likeliest += int((outcome.probabilities.argmax(axis=1) != twin.probabilities.argmax(axis=1))[both].sum())
        counted += int(both.sum())
    return values, likeliest, counted


def _fitted(recorded: Recorded, model: LanguageModel, reference_pages: int) -> LanguageModelDecisions:
    feed = recorded.config.recommender.feed_config()
    train = recorded.train
    context = DecisionContext(
        train.catalog, build.actions(train), model, train.rating_scale, feed.page_size, feed.max_pages, recorded.config.seed
    )
    decisions = LanguageModelDecisions(
        LanguageModelConfig.model_validate({**recorded.config.decision.options, "reference_pages": reference_pages}), context=context
    )
    decisions.fit(train, recorded.profiles, Stream(recorded.config.seed).child("decisions"))
    return decisions

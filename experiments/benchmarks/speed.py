"""Speed of simulated pages beside the plain prompt speed of the same file, and beside a chat call per page.

What is compared is measured in turns, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import numpy as np

from experiments.benchmarks.chat import ChatModel
from experiments.benchmarks.recording import Recorded
from simulator.execution import cores
from simulator.llm import engines, formats
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.llm.llama_native import Sequences, Weights
from simulator.llm.models import resolve
from simulator.records import Prompt

LONG = 512
"""Tokens of the long batch that is the ceiling."""


class Ceiling:
    """Plain prompt speed: one text of `LONG` tokens, in one call, nothing read but its last token.

    Args:
        threads: of the computation.
    """

    def __init__(self, threads: int) -> None:
        prepared, _ = engines.prepare(resolve(), "auto", threads=cores(), gpu_layers=0, max_divergence=0.01, engine=engines.LLAMA)
        self._weights = Weights(prepared.path, repacks=prepared.repacks)
        kept = formats.kept_with(prepared.format)
        # Flash attention is quicker for long texts; the ceiling is whatever is best.
        self._both = [
            Sequences(self._weights, streams=1, cells=LONG, batch=LONG, threads=threads, flash=flash, kept="f16" if flash else kept)
            for flash in (True, False)
        ]
        self._tokens = (np.arange(LONG, dtype=np.int64) * 7919 % 40_000 + 1_000).astype(np.int32)

    def speed(self) -> float:
        """Tokens per second now, of the better kind of attention."""
        return max(self._once(sequences) for sequences in self._both)

    def _once(self, sequences: Sequences) -> float:
        sequences.cut(0, 0)
        started = time.perf_counter()
        sequences.extend([self._tokens], [0], [np.array([LONG - 1])])
        return LONG / (time.perf_counter() - started)

    def close(self) -> None:
        """Frees the model."""
        for sequences in self._both:
            sequences.close()
        self._weights.close()


def page_prompts(recorded: Recorded) -> list[list[Prompt]]:
    """The page prompts of every batch of a recorded run."""
    return [[recorded.builder.page(situation) for situation in batch] for batch in recorded.pages]


def share_of_ceiling(recorded: Recorded, repetitions: int) -> dict[str, Any]:
    """Tokens computed per second for pages by llama.cpp over its ceiling, both with one thread.

    Args:
        recorded: whose pages. repetitions: how often all of them are scored by a model that knows no prefix yet.
    """
    ceiling, batches = Ceiling(1), page_prompts(recorded)
    ceiling.speed()
    shares, page_speeds, ceilings = [], [], []
    for _ in range(repetitions):
        model = LlamaCpp(LlamaCppConfig(threads=1, engine="llama.cpp"))
        seconds, around = 0.0, []
        for batch in batches:
            around.append(ceiling.speed())
            started = time.perf_counter()
            model.score(batch)
            seconds += time.perf_counter() - started
        page_speeds.append(model.usage.computed_tokens / seconds)
        ceilings.append(median(around))
        shares.append(page_speeds[-1] / ceilings[-1])
        model.close()
    ceiling.close()
    return {
        "share_of_ceiling": round(median(shares), 3),
        "page_tokens_per_second": round(median(page_speeds), 1),
        "ceiling_tokens_per_second": round(median(ceilings), 1),
        "shares_of_ceiling": [round(share, 3) for share in shares],
    }


def speedup_over_chat(recorded: Recorded, repetitions: int, chats: int) -> dict[str, Any]:
    """Pages per second of two ways to ask the same pages, each with all cores.

    Ours: one process of one thread per core, each with a share of the people. The naive way: `ChatModel`.

    Args:
        recorded: whose pages. repetitions: turns. chats: pages asked the naive way in each turn.
    """
    batches = page_prompts(recorded)
    workers = cores()
    shares = [[batch[worker::workers] for batch in batches] for worker in range(workers)]
    pages = [prompt for batch in batches for prompt in batch]
    chat, ours, naive, valid = ChatModel(workers), [], [], 0
    chat.ask(pages[0])
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_score, shares))
        for turn in range(repetitions):
            started = time.perf_counter()
            list(pool.map(_score, shares))
            ours.append(len(pages) / (time.perf_counter() - started))
            asked = list(_some(pages, chats, turn))
            started = time.perf_counter()
            valid += sum(chat.ask(page) for page in asked)
            naive.append(len(asked) / (time.perf_counter() - started))
    chat.close()
    return {
        "speedup_over_chat": round(median(mine / other for mine, other in zip(ours, naive, strict=True)), 2),
        "pages_per_second": round(median(ours), 2),
        "chat_pages_per_second": round(median(naive), 3),
        "chat_valid_share": round(valid / (repetitions * chats), 3),
    }


def _some(pages: Sequence[Prompt], count: int, turn: int) -> Iterator[Prompt]:
    return (pages[(turn * count + k) * 7 % len(pages)] for k in range(count))


_models: dict[str, LlamaCpp] = {}


def _score(batches: list[list[Prompt]]) -> None:
    """Scores batches in a worker process whose prefixes are forgotten, but whose model stays loaded."""
    if "model" not in _models:
        _models["model"] = LlamaCpp(LlamaCppConfig(threads=1))
    model = _models["model"]
    model.forget()
    for batch in batches:
        model.score(batch)

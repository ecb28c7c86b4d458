"""How few tokens could be computed if every prefix that ever comes back were kept."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.llm.llama_cpp import LlamaCpp
from simulator.records import Prompt


def floor(prompts: Sequence[Prompt], model: LlamaCpp) -> tuple[int, int]:
    """Tokens that no earlier prompt begins with, and all tokens.

    Args:
        prompts: in the order in which they are computed. model: whose tokens.
    """
    tree: dict[int, dict] = {}  # type: ignore[type-arg]
    new = total = 0
    for prompt in prompts:
        node = tree
        for token in model.tokens(prompt):
            total += 1
            if token not in node:
                new += 1
                node[token] = {}
            node = node[token]
    return new, total

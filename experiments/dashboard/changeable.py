"""What may be changed from the page while the dashboard runs; everything else is set when it starts, with a file or --set.

It is a list of what may, not of what may not: numbers, truth values and the words below. None of them can name code, a program, a file or a
host, so that whoever comes to sit before the page can change an experiment, and nothing of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.errors import ConfigError, with_suggestion

RECOMMENDERS = tuple(
    f"environments.recommenders.{path}"
    for path in (
        "popularity:Popularity",
        "random:Random",
        "item_knn:ItemKNN",
        "user_knn:UserKNN",
        "ease:EASE",
        "als:ALS",
        "bpr:BPR",
        "content_based:ContentBased",
    )
)
"""Recommenders that can be chosen, beside the one that the dashboard began with: they fit within seconds, and ask nobody else."""

EXPLORATION = ("none", "epsilon", "plackett-luce")

WORDS: Mapping[str, tuple[str, ...]] = {
    "recommender.exploration": EXPLORATION,
    "recommender.repeat": ("session", "never", "allow"),
    "recommender.refit": ("scratch", "warm", "never"),
    "recommender.similarity": ("cosine", "jaccard"),
    "decision.among": ("sampled", "recommended"),
    "decision.hide": ("auto", "random", "latest"),
    "decision.stay": ("pages", "visits"),
    "memory.recall_at": ("session", "page"),
}
"""Settings whose values are words, and the words."""


def check_change(key: str, value: Any, began_with: str) -> None:
    """Passes if a setting may get this value from the page.

    Args:
        key: such as "recommender.page_size". value: as it was read.
        began_with: import path of the recommender with which the dashboard began, which may be chosen again.

    Raises:
        ConfigError: it may not, and what may.
    """
    if key == "recommender.use":
        offered = (began_with, *RECOMMENDERS)
        if value not in offered:
            raise ConfigError(f"from the page no code can be named: {with_suggestion('recommender', str(value), offered)} {_AT_THE_START}")
        return
    if key in WORDS:
        if value not in WORDS[key]:
            raise ConfigError(f"{key} cannot be that; it is one of {', '.join(WORDS[key])}.")
        return
    if not _is_plain(value):
        raise ConfigError(f"{key} cannot be changed from the page to something that is no number, true or false. {_AT_THE_START}")


_AT_THE_START = "What names code, files or hosts is given when the dashboard starts, in its file or with --set."


def _is_plain(value: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(isinstance(entry, bool | int | float) for entry in value)
    return isinstance(value, bool | int | float)

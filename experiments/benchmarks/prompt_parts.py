"""What each part of a prompt costs in tokens, what it changes, and whether it tells people apart from chance.

Pages of four items are put before real people: two that the person took later (the held-out part) and two that nobody held out for
them, as popular in the training part. Every variant of the prompt scores the same pages. What is reported of a variant is
how far it moves the probabilities from the default prompt's, and how well it tells the two kinds of item apart.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import spearmanr

from agents.prompts import PromptBuilder, PromptConfig
from experiments import build
from experiments.analysis.ranking_metrics import auc_of
from experiments.benchmarks.agreement import divergence
from experiments.benchmarks.recording import Recorded, record
from simulator.execution import cores
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.records import Impression, Page, Situation
from simulator.run_directory import write_atomically
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/prompts.json")
NEIGHBOURS: Final[int] = 20
"""An item's place is taken by one of so many that are nearest to it in popularity."""

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "no traits": {"traits": False},
    "no demographics": {"demographics": False},
    "no favourite genres": {"favourite_genres": 0},
    "0 liked titles": {"liked": 0},
    "4 liked titles": {"liked": 4},
    "8 liked titles": {"liked": 8},
    "16 liked titles": {"liked": 16},
    "no disliked titles": {"disliked": 0},
    "no memories": {"memories": 0},
    "with years": {"years": True},
    "no item genres": {"item_genres": 0},
    "1 genre an item": {"item_genres": 1},
    "with descriptions": {"description_chars": 100},
    "no stars": {"unasked": ("rate",)},
    "no stars, 8 liked, no traits": {"unasked": ("rate",), "liked": 8, "traits": False},
    "no stars, 8 liked, 2 disliked": {"unasked": ("rate",), "liked": 8, "disliked": 2},
    "no stars, no disliked": {"unasked": ("rate",), "disliked": 0},
    "nothing about the person": {"traits": False, "demographics": False, "favourite_genres": 0, "liked": 0, "disliked": 0, "memories": 0},
}
"""Changes of `PromptConfig` against its default."""


@dataclass(frozen=True, slots=True)
class Size:
    """People asked, and pages for each of them."""

    people: int
    pages: int


FULL: Final[Size] = Size(people=60, pages=3)
QUICK: Final[Size] = Size(people=6, pages=2)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Of one variant: tokens of a person's part and of a page, log-probabilities per probe, corrected log-odds (people, items)."""

    person_tokens: float
    page_tokens: float
    logprobs: list[np.ndarray]
    odds: np.ndarray


def run(size: Size, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every variant and writes the result.

    Args:
        size: how much. output: JSON file. say: told what is going on.
    """
    say("two rounds are simulated, so that people have memories")
    with tempfile.TemporaryDirectory() as place:
        recorded = record(Path(place) / "run", size.people, "rounds=2", "decision.texts=false", "decision.reference_pages=4")
    situations, real = pages(recorded, build.data(recorded.config).test, size)
    described = recorded.train.catalog.items["description"].null_count() < len(recorded.train.catalog)
    section = recorded.config.language_model
    model = LlamaCpp(LlamaCppConfig.model_validate({**(section.options if section else {}), "threads": cores(), "context": 1024}))
    skipped, rows = {}, []
    say("the default prompt")
    default = _ask(recorded, PromptConfig(), situations, real.shape, model)
    rows.append(_row("default", default, default, real))
    for name, changes in VARIANTS.items():
        if "description_chars" in changes and not described:
            skipped[name] = "the data has no descriptions"
            continue
        say(name)
        rows.append(_row(name, _ask(recorded, PromptConfig(**changes), situations, real.shape, model), default, real))
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": recorded.train.name,
        "model": {"name": model.identity.name, "sha256": model.identity.sha256, "format": model.identity.settings["format"]},
        "people": real.shape[0],
        "items_per_person": real.shape[1],
        "people_with_memories": len({situation.profile.user for situation in situations if situation.memories}),
        "parts": rows,
        "not_measured": skipped,
    }
    model.close()
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (json.dumps(result, indent=2) + "\n").encode())
    return result


def pages(recorded: Recorded, held_out: Any, size: Size) -> tuple[list[Situation], np.ndarray]:
    """Pages of items taken later and of items as popular, mixed.

    Args:
        recorded: whose people, with their memories at the end. held_out: columns user and item. size: how many.

    Returns:
        The situations, person by person, and which items are real, bool, shape (people, 4 * pages).
    """
    last = {situation.profile.user: situation for batch in recorded.pages for situation in batch if not situation.profile.synthetic}
    later = dict(held_out.group_by("user").agg("item").iter_rows())
    situations: list[Situation] = []
    real: list[np.ndarray] = []
    wanted = 2 * size.pages
    popularity = np.bincount(recorded.train.interactions["item"].to_numpy(), minlength=recorded.train.n_items)
    for user, situation in sorted(last.items()):
        taken = np.array(later.get(user, ()), np.int64)
        if len(taken) < wanted:
            continue
        rng = Stream(1).child("prompt parts", user).generator()
        positive = rng.choice(taken, wanted, replace=False)
        negative = as_popular(positive, {*situation.profile.history.tolist(), *taken.tolist()}, popularity, rng)
        items = np.concatenate([positive, negative])
        # Every page has two of each kind, in any order.
        order = np.concatenate([rng.permutation([2 * k, 2 * k + 1, wanted + 2 * k, wanted + 2 * k + 1]) for k in range(size.pages)])
        for k in range(size.pages):
            shown = items[order[4 * k : 4 * k + 4]]
            page = Page(1, "held out", tuple(Impression(place + 1, int(item), 0.0, 1.0) for place, item in enumerate(shown)))
            state = replace(situation.state, page=1, shown=0, chosen=0, mean_rating=None)
            situations.append(replace(situation, page=page, state=state))
        real.append(order < wanted)
    return situations, np.array(real)


def as_popular(items: np.ndarray, taken: set[int], popularity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each item another one that is about as popular, none of them `taken`, none twice."""
    taken = set(taken)
    chosen = []
    for item in items:
        free = np.array([other for other in range(len(popularity)) if other not in taken])
        nearest = free[np.argsort(np.abs(popularity[free] - popularity[item]), kind="stable")[:NEIGHBOURS]]
        chosen.append(int(rng.choice(nearest)))
        taken.add(chosen[-1])
    return np.array(chosen)


def within_person_auc(odds: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Mean over people of the chance that a real item scores above another one, and its standard error.

    Args:
        odds: scores, shape (people, items). real: bool, the same shape.
    """
    own = auc_of(odds, real)
    error = float(np.std(own, ddof=1) / np.sqrt(len(own))) if len(own) > 1 else float("nan")
    return float(np.mean(own)), error


def _ask(recorded: Recorded, config: PromptConfig, situations: Sequence[Situation], shape: tuple[int, ...], model: LlamaCpp) -> _Answers:
    builder = PromptBuilder(recorded.train.catalog, build.actions(recorded.train), config)
    prompts = [builder.page(situation) for situation in situations]
    scores = model.score(prompts)
    per_item = len(builder.item_actions)
    choose = np.array([[score.logprobs[place * per_item] for place in range(4)] for score in scores])
    odds = choose[:, :, 0] - choose[:, :, 1]
    # The preference for places is the same for everybody and says nothing about taste; decisions subtract it too.
    odds = odds - odds.mean(axis=0, keepdims=True)
    pages = np.array(
        [model.count_tokens("".join(part for part in prompt.segments[-1].parts if isinstance(part, str))) for prompt in prompts]
    )
    whole = np.array([len(model.tokens(prompt)) for prompt in prompts])
    logprobs = [score.logprobs[place * per_item] for score in scores for place in range(4)]
    return _Answers(float((whole - pages).mean()), float(pages.mean()), logprobs, odds.reshape(shape))


def _row(name: str, own: _Answers, default: _Answers, real: np.ndarray) -> dict[str, Any]:
    correlations = [spearmanr(one, other).statistic for one, other in zip(own.odds, default.odds, strict=True)]
    auc, error = within_person_auc(own.odds, real)
    return {
        "part": name,
        "person_tokens": round(own.person_tokens, 1),
        "page_tokens": round(own.page_tokens, 1),
        "tokens_saved_per_person": round(default.person_tokens - own.person_tokens, 1),
        "tokens_saved_per_page": round(default.page_tokens - own.page_tokens, 1),
        "mean_kl": round(float(np.mean([divergence(q, p) for q, p in zip(default.logprobs, own.logprobs, strict=True)])), 5),
        "rank_correlation": round(float(np.nanmean(correlations)), 3),
        "auc": round(auc, 3),
        "auc_standard_error": round(error, 3),
    }

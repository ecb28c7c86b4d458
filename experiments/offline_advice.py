"""Which estimates of an off-policy evaluation to believe, and why: from the pages, the distance of the policies, and the truth if known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.estimator_bench import Bench, Verdict
from experiments.offline_evaluation import Evaluation

NEAR, FAR = 0.5, 0.02
"""Effective sample size of the weights as a share of the impressions: from the one on policies are near, below the other far apart."""

EXPLAINS = 0.01
"""Share of the reward's variance from which on a reward model is worth its variance."""

COVERS = 0.8
"""Share of the intervals over seeds that must hold the truth for an estimator to be believed."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to believe.

    Attributes:
        estimators: names, the best first; empty if none is to be believed. sentences: why, and what the truth says where it is known.
    """

    estimators: tuple[str, ...]
    sentences: tuple[str, ...]


def advice(found: Evaluation, bench: Bench | None = None) -> Advice:
    """Reads an evaluation.

    Args:
        found: of the first seed. bench: with the truth, or None.
    """
    share = _share(found)
    distance = (
        f"the logged impressions are worth {found.answers['IPS'].effective_sample_size:,.0f} of {found.impressions:,} ({share:.0%}) of "
        f"{found.policy}, and {found.unsupported:.1%} of what it would show is never shown"
    )
    names, why = _wanted(found, share)
    trusted = tuple(name for name in names if name in found.answers and found.answers[name].note is None)
    if not trusted:
        sentences = [f"Believe none: {why}; {distance}. If it must be one, DM, whose narrow interval leaves out its own bias."]
    else:
        sentences = [f"Believe {_listed(trusted)}: {why}; {distance}."]
    if bench is not None:
        sentences += _against_the_truth(bench, trusted)
    return Advice(trusted, tuple(sentences))


def _share(found: Evaluation) -> float:
    """Effective sample size of the item weights as a share of the impressions."""
    return found.answers["IPS"].effective_sample_size / max(found.impressions, 1)


def _wanted(found: Evaluation, share: float) -> tuple[list[str], str]:
    """The estimators that fit the situation, and the situation in words."""
    explains = float(found.settings.get("reward_model_r2", 0.0)) >= EXPLAINS
    of_items = ["DR", "SNIPS"] if explains else ["SNIPS", "DR"]
    if found.places == 1:
        return of_items, "pages hold one item, so there are no page effects to miss"
    if share < FAR:
        return [], "the policies are far apart, so weights tell little"
    if share >= NEAR:
        return of_items, "the policy is near the logged one, so the items above are much as it would show them"
    if found.reacts:
        return ["cascade-DR", "nRIPS"], "people read whole pages and may react to what stands above an item"
    return [
        "independent DR",
        "page DM",
    ], "pages are whole and people judge each item by itself, while the policy would show other items above"


def _against_the_truth(bench: Bench, trusted: Sequence[str]) -> list[str]:
    """What the simulator's own answer says of them."""
    if len(bench.seeds) == 1:
        own = bench.evaluations[0].answers
        inside = [name for name, answer in own.items() if answer.normal.low <= bench.truths[0] <= answer.normal.high]
        held = [name for name in trusted if name in inside]
        return [
            f"The truth ({bench.truths[0]:.4f}) lies in the interval of {_listed(inside) or 'none'}; of those to believe, in "
            f"{len(held)} of {len(trusted)}. One seed tells little of coverage: --seeds 5."
        ]
    coverage = {name: verdict.coverage for name, verdict in bench.verdicts.items()}
    told = ", ".join(f"{name} {coverage[name]:.0%}" for name in trusted if name in coverage)
    wrong = [name for name, held in coverage.items() if held < COVERS]
    sentences = [
        f"Over {len(bench.seeds)} seeds the 95 % intervals of those to believe held the truth in: {told or 'none of them answered'}."
    ]
    if wrong:
        rates = ", ".join(f"{name} {coverage[name]:.0%}" for name in wrong)
        sentences.append(
            f"Not to be believed here, however large their effective sample size, since their intervals rarely hold it: {rates}."
        )
    return sentences


def stands(verdict: Verdict) -> bool:
    """Whether an estimator stands the truth: enough effective rows in most seeds, and intervals that hold it."""
    return verdict.trusted > 0.5 and verdict.coverage >= COVERS


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

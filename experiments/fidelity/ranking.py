"""Does the simulation rank recommenders as reality does?

Every recommender is fitted on the training part and fills the first pages of the held-out people. Real is the NDCG of those lists
on the people's held-out interactions. Simulated is what the decision model is expected to choose of them, from its probabilities,
without the noise of a draw, and in the same terms: a choice at place k counts ``1 / log2(k + 1)``, over the sum of these. Both are
paired: the same people, the same lists. The plain share of items chosen, the watch rate, and its agreement stand beside it.

MovieLens and its like log no exposures. Their held-out interactions favour what people could find, so "real" is the
usual offline ranking, which an online test might not confirm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from experiments import build
from experiments.analysis import ranking_metrics as metrics
from experiments.analysis.intervals import LEVEL
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.estimates import row_mean
from experiments.fidelity.pages import first_pages
from experiments.fidelity.questions import answers
from experiments.fidelity.resampling import estimate, plain, resample
from experiments.ranked_lists import histories_of, ranked_lists
from simulator.plugins import build as make
from simulator.protocols import Recommender
from simulator.records import Situation
from simulator.seeds import Stream

RECOMMENDERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "popularity": ("environments.recommenders.popularity:Popularity", {}),
    "random": ("environments.recommenders.random:Random", {}),
    "item_knn": ("environments.recommenders.item_knn:ItemKNN", {}),
    "user_knn": ("environments.recommenders.user_knn:UserKNN", {}),
    "ease": ("environments.recommenders.ease:EASE", {}),
    "als": ("environments.recommenders.als:ALS", {"dimension": 32, "iterations": 10}),
    "bpr": ("environments.recommenders.bpr:BPR", {"dimension": 32, "epochs": 30}),
    "content": ("environments.recommenders.content_based:ContentBased", {}),
    "mult_vae": ("environments.recommenders.mult_vae:MultVAE", {"epochs": 60, "anneal_epochs": 10}),
    "diverse_ease": (
        "environments.rerankers.popularity_penalty:PopularityPenalty",
        {"base": {"use": "environments.recommenders.ease:EASE"}},
    ),
}
"""Name -> import path and options; small, quick settings, since what counts is that they differ."""

PLACES = 10
"""Length of the lists: what NDCG looks at, and what the simulated people are shown, page by page."""

ASKED = 200
"""People whom a decision model with a language model is asked about at most: twenty pages each."""

HALVINGS = 200
"""Random divisions of the people for the noise floor."""


def measure(
    context: FidelityContext, names: Sequence[str] | None = None, recommenders: Mapping[str, tuple[str, Mapping[str, Any]]] = RECOMMENDERS
) -> dict[str, Any]:
    """How well every decision model's ranking of recommenders agrees with the held-out ranking.

    Args:
        context: of the report. names: of the decision models; None takes all that are available.
        recommenders: name -> import path and options.

    Returns:
        ``recommenders``: the real NDCG of each; ``noise_floor``: agreement of the real rankings of two halves of the people;
        ``models``: per decision model the expected ``gains`` and the agreement of their order (`agreement`), ``watch_rates`` and
        ``by_watch_rate``, the same of them.
    """
    stream, people = context.stream.child("ranking"), context.people.astype(np.int64)
    lists = recommended(context, recommenders, stream)
    relevant = [
        np.setdiff1d(items, history)
        for items, history in zip(histories_of(context.held_out, people), histories_of(context.train.interactions, people), strict=True)
    ]
    counts = np.array([len(items) for items in relevant])
    real = np.column_stack(
        [metrics.ndcg(metrics.hit_matrix(ranked, relevant), metrics.ones_below(counts), PLACES) for ranked in lists.values()]
    )
    judged = ~np.isnan(real).any(axis=1)
    real, people = real[judged], people[judged]
    kept = {name: ranked[judged] for name, ranked in lists.items()}
    weights = resample(len(people), context.bootstrap, stream.child("people"))
    figures_of_lists = {name: row_mean(real[:, place], people, stream.child("real", name)) for place, name in enumerate(kept)}
    order = stream.child("asked").generator().permutation(len(people))
    models = {}
    for name in context.models if names is None else names:
        gains, shares = np.full(real.shape, np.nan), np.full(real.shape, np.nan)
        rows_asked = order[: ASKED if context.models.asks(name) else None]
        chances = chosen_chances(context, name, {one: ranked[rows_asked] for one, ranked in kept.items()}, people[rows_asked], stream)
        gains[rows_asked], shares[rows_asked] = (
            weighted(chances, 1.0 / np.log2(np.arange(PLACES) + 2.0)),
            weighted(chances, np.ones(PLACES)),
        )
        models[name] = {
            "watch_rates": {one: row_mean(shares[:, place], people, stream.child(name, one)) for place, one in enumerate(kept)},
            "gains": {one: row_mean(gains[:, place], people, stream.child(name, one, "gain")) for place, one in enumerate(kept)},
            **agreement(gains, real, weights),
            "by_watch_rate": agreement(shares, real, weights),
        }
    floor = noise_floor(real, stream.child("halves"))
    return {"people": len(people), "places": PLACES, "recommenders": figures_of_lists, "noise_floor": floor, "models": models}


def recommended(
    context: FidelityContext, recommenders: Mapping[str, tuple[str, Mapping[str, Any]]], stream: Stream
) -> dict[str, np.ndarray]:
    """The first `PLACES` items of each recommender for the judged people, item codes or -1, shape (people, places)."""
    train, people = context.train, context.people.astype(np.int64)
    histories = histories_of(train.interactions, people)
    found = {}
    for done, (name, (use, options)) in enumerate(recommenders.items()):
        context.report(f"ranking: fitting {name}", done, len(recommenders))
        recommender: Recommender = make(use, dict(options), where="ranking", methods=build.METHODS["recommender"])
        recommender.fit(train.interactions, train.catalog, stream.child("fit", name))
        found[name] = ranked_lists(recommender, people, histories, PLACES, stream.child("recommend", name))
    return found


def chosen_chances(context: FidelityContext, name: str, lists: Mapping[str, np.ndarray], people: np.ndarray, stream: Stream) -> np.ndarray:
    """Probability that each person chooses each shown item; NaN where nothing stands or is answered.

    Returns:
        Shape (people, recommenders, `PLACES`).
    """
    situations: list[Situation] = []
    cells: list[int] = []
    for column, (which, ranked) in enumerate(lists.items()):
        for row, user in enumerate(people.tolist()):
            items = ranked[row][ranked[row] >= 0]
            situations += first_pages(context.profiles[user], items, context.question_size, stream.child("page", which, user))
            cells += ((row * len(lists) + column) * PLACES + np.arange(len(items))).tolist()
    actions = build.actions(context.train)
    choose, _, _ = answers(context.models[name], situations, actions, context.report, f"ranking, {name}")
    found = np.full(len(people) * len(lists) * PLACES, np.nan)
    found[np.array(cells, dtype=np.int64)] = choose
    return found.reshape(len(people), len(lists), PLACES)


def weighted(chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the places that have a chance, weighted.

    Args:
        chances: of `chosen_chances`. weights: of the places, shape (PLACES,).

    Returns:
        Shape of `chances` without the last axis; NaN where no place has one.
    """
    known = ~np.isnan(chances)
    below = known @ weights
    means = np.divide(np.where(known, chances, 0.0) @ weights, below, out=np.full(below.shape, np.nan), where=below > 0)
    return np.asarray(np.round(means, 12))  # equal chances stay equal, whatever the weights


def kendall_tau(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's tau-b between rows: concordant minus discordant pairs over the geometric mean of untied pairs.

    Args:
        first, second: scores of the same things, shape (..., n).

    Returns:
        In [-1, 1], shape (...); NaN where all scores of a row are equal.

    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).
    """
    left, right = np.triu_indices(first.shape[-1], 1)
    a, b = (np.sign(scores[..., left] - scores[..., right]) for scores in (first, second))
    below = np.sqrt(np.abs(a).sum(axis=-1) * np.abs(b).sum(axis=-1))
    return np.asarray(np.divide((a * b).sum(axis=-1), below, out=np.full(below.shape, np.nan), where=below > 0))


def agreement(simulated: np.ndarray, real: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """How far two paired tables of scores order their columns alike.

    Args:
        simulated, real: shape (people, recommenders); people with a NaN in `simulated` count in neither.
        weights: resamples of the people (`experiments.fidelity.resampling.resample`), shape (b, people).

    Returns:
        ``kendall_tau`` between the mean scores; ``pairs_agree``: share of the pairs of recommenders whose real means differ
        significantly (the paired bootstrap interval of the difference excludes 0) that the simulation orders alike, a tie counting
        half; ``significant_pairs`` of ``pairs``; ``simulated_significant``: how many of them the simulation tells apart, with ``wrong``:
        how many of those the wrong way round. Intervals resample people.
    """
    whole = ~np.isnan(simulated).any(axis=1)
    a, b, drawn = simulated[whole], real[whole], weights[:, whole]
    means = [scores.mean(axis=0) if len(scores) else np.full(scores.shape[1], np.nan) for scores in (a, b)]
    totals = np.maximum(drawn.sum(axis=1, keepdims=True), 1.0)
    resampled = [drawn @ scores / totals for scores in (a, b)]
    n = int(whole.sum())
    tau = estimate(float(kendall_tau(*means)), kendall_tau(*resampled), n)
    left, right = np.array(list(combinations(range(real.shape[1]), 2))).T
    signs, certain = zip(*(_signs(mean, draws, left, right) for mean, draws in zip(means, resampled, strict=True)), strict=True)
    sure = certain[1] & (signs[1] != 0)

    def agreeing(scores: np.ndarray) -> np.ndarray:
        found = np.sign(_rounded(scores[..., left[sure]] - scores[..., right[sure]])) * signs[1][sure]
        return np.asarray((found > 0).mean(axis=-1) + 0.5 * (found == 0).mean(axis=-1))

    none = {"value": None, "low": None, "high": None, "people": n}
    both = sure & certain[0]
    return {
        "kendall_tau": plain(tau),
        "pairs_agree": plain(estimate(float(agreeing(means[0])), agreeing(resampled[0]), n)) if sure.any() else none,
        "pairs": len(left),
        "significant_pairs": int(sure.sum()),
        "simulated_significant": int(both.sum()),
        "wrong": int((signs[0][both] == -signs[1][both]).sum()),
    }


def noise_floor(real: np.ndarray, stream: Stream) -> dict[str, Any]:
    """Kendall's tau between the real rankings of two random halves of the people: mean and central 95 % over the divisions.

    A half has fewer people than the report, so this is a little below what a perfect simulation of all could reach.
    """
    rng, half = stream.generator(), len(real) // 2
    found = []
    for _ in range(HALVINGS if half else 0):
        order = rng.permutation(len(real))
        found.append(float(kendall_tau(real[order[:half]].mean(axis=0), real[order[half:]].mean(axis=0))))
    values = np.array(found)
    known = values[~np.isnan(values)]
    if not len(known):
        return {"value": None, "low": None, "high": None, "halvings": 0}
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(known.mean()), "low": float(low), "high": float(high), "halvings": len(known)}


def _signs(mean: np.ndarray, draws: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sign of each pair's difference, and whether its interval excludes 0."""
    low, high = np.quantile(draws[:, left] - draws[:, right], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.sign(_rounded(mean[left] - mean[right])), (low > 1e-12) | (high < -1e-12)


def _rounded(differences: np.ndarray) -> np.ndarray:
    """What differs by rounding alone is equal."""
    return np.asarray(np.where(np.abs(differences) < 1e-12, 0.0, differences))

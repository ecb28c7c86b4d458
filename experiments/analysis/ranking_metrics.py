"""How well ranked lists find what people liked, and how well ratings are predicted. One function per metric.

All metrics of lists take the matrix of hits (`hit_matrix`), shape (people, places), places in order of rank, and return
**one number per person**, float64, shape (people,); `mean` averages them. A person for whom a metric is undefined, such as
recall with nothing to find, gets NaN and `mean` leaves them out; somebody with something to find and an empty list gets 0.
Ranks count from 1. Libraries disagree about normalisation: where they do, a parameter names the convention, and its
docstring says who uses which. What does not depend on hits is in `experiments.analysis.list_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import rankdata

Normaliser = Literal["relevant", "min", "k"]
"""What a sum over hits is divided by: all relevant items, ``min(k, relevant)``, or k."""


def padded(lists: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Ranked lists of different lengths as one matrix.

    Args:
        lists: item codes per person, best first.
        k: places wanted; longer lists are cut.

    Returns:
        Item codes, int64, shape (people, k); -1 where a list is shorter.
    """
    matrix = np.full((len(lists), k), -1, dtype=np.int64)
    for row, items in enumerate(lists):
        matrix[row, : min(k, len(items))] = items[:k]
    return matrix


def hit_matrix(ranked: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """Which places hold a relevant item.

    Args:
        ranked: item codes, shape (people, places), -1 for an empty place (see `padded`).
        relevant: item codes that each person liked, in any order, without repetitions.

    Returns:
        bool, shape (people, places).
    """
    wanted = np.concatenate([np.asarray(items, dtype=np.int64) for items in relevant]) if len(relevant) else np.empty(0, dtype=np.int64)
    size = 1 + max(int(ranked.max(initial=-1)), int(wanted.max(initial=-1)))
    keys = np.repeat(np.arange(len(relevant)), [len(items) for items in relevant]) * size + wanted
    places = np.arange(len(ranked))[:, None] * size + ranked
    return np.isin(places, keys) & (ranked >= 0)


def mean(values: np.ndarray) -> float:
    """Mean over the people for whom a metric is defined; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


# --- how many -------------------------------------------------------------------------------------------------------


def hit_count(hits: np.ndarray, k: int) -> np.ndarray:
    """Number of relevant items among the first k. Not normalised."""
    return np.asarray(hits[:, :k].sum(axis=1), dtype=np.float64)


def hit_rate(hits: np.ndarray, k: int) -> np.ndarray:
    """1 if there is a relevant item among the first k, else 0. Ideal 1."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def precision(hits: np.ndarray, k: int) -> np.ndarray:
    """Relevant share of the first k places, ``hits / k``; a list shorter than k still counts k places. Ideal ``min(k, relevant) / k``."""
    return np.asarray(hit_count(hits, k) / k)


def recall(hits: np.ndarray, relevant: np.ndarray, k: int, normaliser: Normaliser = "relevant") -> np.ndarray:
    """Share of the relevant items that the first k places hold.

    Args:
        hits: shape (people, places).
        relevant: number of relevant items per person, shape (people,); NaN results where it is 0.
        k: cutoff.
        normaliser: "relevant" divides by all relevant items (RecBole, RecTools, LensKit; ideal ``min(k, relevant) / relevant``);
            "min" by ``min(k, relevant)`` (RecPack's calibrated recall, RecTools' R-precision; ideal 1); "k" is precision.
    """
    return _divided(hit_count(hits, k), _normaliser(relevant, k, normaliser), relevant)


def f_score(hits: np.ndarray, relevant: np.ndarray, k: int, beta: float = 1.0) -> np.ndarray:
    """``(1 + beta^2) P R / (beta^2 P + R)`` of precision and recall at k, 0 without a hit. Ideal depends on k and `relevant`."""
    p, r = precision(hits, k), recall(hits, relevant, k)
    below = beta**2 * p + r
    return np.asarray(np.where(below > 0, (1 + beta**2) * p * r / np.where(below > 0, below, 1.0), below))


def _confusion(hits: np.ndarray, relevant: np.ndarray, k: int, n_items: int) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives, true negatives, with exactly k items taken for recommended, or all if k is more."""
    found, taken = hit_count(hits, k), min(k, n_items)
    return found, taken - found, relevant - found, np.maximum(n_items - taken - relevant + found, 0)


def accuracy(hits: np.ndarray, relevant: np.ndarray, k: int, n_items: int) -> np.ndarray:
    """Share of the catalog's items that are rightly recommended (k items count as that) or rightly not. Ideal 1, at ``k = relevant``."""
    tp, _, _, tn = _confusion(hits, relevant, k, n_items)
    return np.asarray((tp + tn) / n_items)


def matthews_correlation(hits: np.ndarray, relevant: np.ndarray, k: int, n_items: int) -> np.ndarray:
    """Correlation in [-1, 1] of "recommended" (k items) and "relevant" over the catalog; 0 where one of the two never varies."""
    tp, fp, fn, tn = _confusion(hits, relevant, k, n_items)
    below = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    varies = (below > 0) & (k < n_items)
    return np.where(varies, (tp * tn - fp * fn) / np.where(below > 0, below, 1.0), 0.0)


def inverse_propensity_hits(hits: np.ndarray, ranked: np.ndarray, popularity: np.ndarray, k: int) -> np.ndarray:
    """Hits at k weighted by one over the item's share of all interactions (Yang et al., RecSys 2018); not normalised.

    Args:
        hits: shape (people, places). ranked: the items there, same shape.
        popularity: interactions per item, shape (n_items,).
        k: cutoff.
    """
    weights = np.divide(popularity.sum(), popularity, out=np.zeros(len(popularity)), where=popularity > 0)
    return np.asarray((hits[:, :k] * weights[ranked[:, :k]]).sum(axis=1))


# --- in which order -------------------------------------------------------------------------------------------------


def reciprocal_rank(hits: np.ndarray, k: int) -> np.ndarray:
    """One over the rank of the first relevant item, 0 if it is not among the first k; its mean is MRR. Ideal 1."""
    first = hits[:, :k].argmax(axis=1) + 1
    return np.where(hits[:, :k].any(axis=1), 1.0 / first, 0.0)


def average_precision(hits: np.ndarray, relevant: np.ndarray, k: int, normaliser: Normaliser = "min") -> np.ndarray:
    """Sum of the precision at every hit among the first k, over a normaliser; its mean is MAP.

    Args:
        hits: shape (people, places).
        relevant: number of relevant items per person, shape (people,); NaN results where it is 0.
        k: cutoff.
        normaliser: "min" divides by ``min(k, relevant)`` (RecBole; ideal 1); "relevant" by all relevant items (Microsoft's `map`,
            RecTools' default, ranx; ideal ``min(k, relevant) / relevant``); "k" by k (RecTools with ``divide_by_k``).
    """
    cut = hits[:, :k]
    at_hits = cut * np.cumsum(cut, axis=1) / np.arange(1, cut.shape[1] + 1)
    return _divided(at_hits.sum(axis=1), _normaliser(relevant, k, normaliser), relevant)


def ndcg(
    gains: np.ndarray,
    ideal: np.ndarray,
    k: int,
    *,
    normaliser: Literal["min", "k", "relevant"] = "min",
    discount: Literal["log2(1+rank)", "max(log2(rank),1)"] = "log2(1+rank)",
    gain: Literal["linear", "exponential"] = "linear",
) -> np.ndarray:
    """Discounted cumulative gain of the first k places over that of an ideal list.

    ``DCG = sum over ranks r <= k of gain_r / discount(r)`` (Järvelin and Kekäläinen, TOIS 2002). Negative gains count 0.

    Args:
        gains: gain of the item at each place, shape (people, places); hits (0/1) or ratings.
        ideal: gains of all relevant items per person, in any order, shape (people, most relevant items), padded with 0;
            for hits use `ones_below`.
        k: cutoff.
        normaliser: the ideal list holds "min": the best ``min(k, relevant)`` items (RecBole, Microsoft, RecTools'
            "achievable", scikit-learn); "k": k items of gain 1 whatever exists (RecTools' default; for hits); "relevant": all of
            them, beyond k too (LensKit without a cutoff).
        discount: "log2(1+rank)" (nearly everybody) or LensKit's default, which leaves the first two ranks alone.
        gain: "linear" (ranx, LensKit), or "exponential", ``2^gain - 1`` (Burges et al., 2005); equal for hits.

    Returns:
        In [0, 1]; NaN where the ideal is 0.
    """
    lengths = max(gains.shape[1], ideal.shape[1], k)
    ranks = np.arange(1, lengths + 1)
    weights = 1.0 / (np.log2(1 + ranks) if discount == "log2(1+rank)" else np.maximum(np.log2(ranks), 1.0))
    gained, best = (np.maximum(values.astype(np.float64), 0.0) for values in (gains[:, :k], ideal))
    if gain == "exponential":
        gained, best = 2.0**gained - 1.0, 2.0**best - 1.0
    dcg = gained @ weights[: gained.shape[1]]
    if normaliser == "k":
        below = np.where(best.any(axis=1), weights[:k].sum(), 0.0)
    else:
        best = -np.sort(-best, axis=1)[:, : k if normaliser == "min" else None]
        below = best @ weights[: best.shape[1]]
    return _divided(dcg, below, below)


def ones_below(counts: np.ndarray) -> np.ndarray:
    """A row of as many ones as each count says, padded with 0, shape (people, largest count): the `ideal` of `ndcg` for hits."""
    return (np.arange(int(counts.max(initial=0))) < counts[:, None]).astype(np.float64)


def rank_biased_precision(hits: np.ndarray, patience: float, *, k: int | None = None) -> np.ndarray:
    """``(1 - p) sum over hits of p^(rank - 1)`` (Moffat and Zobel, TOIS 2008), not normalised: at most ``1 - p^k``.

    Args:
        hits: shape (people, places).
        patience: p in (0, 1), the chance of looking at one more place.
        k: cutoff; None takes all places.
    """
    cut = hits[:, :k]
    return np.asarray((1 - patience) * (cut * patience ** np.arange(cut.shape[1])).sum(axis=1))


def rank_sums(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Sum of the ranks of the relevant items among all candidates, best score first, ties sharing their mean rank.

    Args:
        scores: shape (people, candidates); -inf for an item that is no candidate of that person.
        relevant: bool, same shape.
    """
    return np.asarray((rankdata(-scores, axis=1) * relevant).sum(axis=1))


def auc(rank_sum: np.ndarray, relevant: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Probability that a relevant candidate is ranked above one that is not, ties counting half. Ideal 1, chance 1/2.

    ``(r (n + 1) - r (r + 1) / 2 - rank_sum) / (r (n - r))`` for r relevant ones of n candidates (Mann-Whitney).

    Args:
        rank_sum: see `rank_sums`.
        relevant: r per person; candidates: n per person; NaN results where all or none are relevant.

    RecBole's GAUC is the mean of this weighted by `relevant` (`weighted_mean`).
    """
    pairs = relevant * (candidates - relevant)
    above = relevant * (candidates + 1) - relevant * (relevant + 1) / 2 - rank_sum
    return _divided(above, pairs, pairs)


def auc_of(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """`auc` of every row, shape (people,).

    Args:
        scores, relevant: as in `rank_sums`; every item is a candidate.
    """
    return auc(rank_sums(scores, relevant), relevant.sum(axis=1), np.full(len(scores), scores.shape[1]))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Mean over the people for whom a metric is defined, each counting with their weight."""
    defined = ~np.isnan(values)
    return float(np.average(values[defined], weights=weights[defined])) if defined.any() else float("nan")


# --- ratings --------------------------------------------------------------------------------------------------------


def rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error over all ratings, in rating units. Ideal 0."""
    return float(np.sqrt(np.mean((np.asarray(true, dtype=np.float64) - predicted) ** 2)))


def mae(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error over all ratings, in rating units. Ideal 0."""
    return float(np.mean(np.abs(np.asarray(true, dtype=np.float64) - predicted)))


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """One minus the squared error over that of the mean rating. Ideal 1, the mean has 0, worse is negative."""
    return float(1.0 - np.mean((np.asarray(true, dtype=np.float64) - predicted) ** 2) / np.var(true))


def explained_variance(true: np.ndarray, predicted: np.ndarray) -> float:
    """One minus the variance of the error over that of the ratings; a constant offset does not count. Ideal 1."""
    return float(1.0 - np.var(np.asarray(true, dtype=np.float64) - predicted) / np.var(true))


def _normaliser(relevant: np.ndarray, k: int, normaliser: Normaliser) -> np.ndarray:
    if normaliser == "k":
        return np.full(len(relevant), float(k))
    return (np.minimum(relevant, k) if normaliser == "min" else relevant).astype(np.float64)


def _divided(above: np.ndarray, below: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=defined > 0))

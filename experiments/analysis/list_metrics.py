"""What ranked lists are like, whoever likes them: coverage, concentration, novelty, diversity, calibration.

`ranked` is always a matrix of item codes, shape (people, places), -1 for an empty place
(`experiments.analysis.ranking_metrics.padded`). Metrics of the whole system return one number, the others one number per
person, float64, shape (people,), 0 or NaN for an empty list as stated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import rankdata


def shown_counts(ranked: np.ndarray, k: int, n_items: int) -> np.ndarray:
    """How often each item is among the first k, int64, shape (n_items,)."""
    cut = ranked[:, :k]
    return np.bincount(cut[cut >= 0], minlength=n_items)


# --- of the whole system --------------------------------------------------------------------------------------------


def coverage(ranked: np.ndarray, k: int, n_items: int) -> float:
    """Share of the catalog's `n_items` items that somebody gets among the first k. Ideal 1.

    RecBole's item count holds a padding item, so its catalog has one more; Microsoft's catalog is the items in the training part.
    """
    return float(np.count_nonzero(shown_counts(ranked, k, n_items)) / n_items)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of how often items are shown: 0 is even over all items of `counts`, near 1 is one item only.

    ``sum_i (2i - n - 1) x_i / (n sum x)`` over the counts in ascending order (Deldjoo et al., UMUAI 2021). Items never shown
    count too; RecBole also counts one padding item, so that its n is one more.
    """
    x = np.sort(np.asarray(counts, dtype=np.float64))
    n, total = len(x), x.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total)) if total else float("nan")


def entropy(counts: np.ndarray, *, base: float = np.e, over: Literal["sum", "mean"] = "sum") -> float:
    """Shannon entropy ``- sum p log p`` of how often items are shown. Ideal ``log(n_items)``: all equally often.

    Args:
        counts: times shown per item.
        base: of the logarithm: e (RecBole), 2 (Microsoft's distributional coverage).
        over: "sum" is the entropy; "mean" divides it by the number of items ever shown, as RecBole does.
    """
    shown = counts[counts > 0]
    if not len(shown):
        return float("nan")
    p = shown / shown.sum()
    terms = -p * np.log(p) / np.log(base)
    return float(terms.sum() if over == "sum" else terms.mean())


# --- popularity -----------------------------------------------------------------------------------------------------


def average_popularity(ranked: np.ndarray, popularity: np.ndarray, k: int, *, normalised: bool = False) -> np.ndarray:
    """Mean number of training interactions of the first k items; NaN for an empty list.

    Args:
        ranked: item codes.
        popularity: training interactions per item, shape (n_items,).
        k: cutoff.
        normalised: divides by all training interactions (RecTools' option), in [0, 1].
    """
    values = popularity / popularity.sum() if normalised else popularity
    return _mean_of_shown(ranked, values, k)


def tail_items(popularity: np.ndarray, share: float, convention: Literal["items", "interactions"] = "items") -> np.ndarray:
    """Which items are the long tail, bool, shape (n_items,).

    Args:
        popularity: training interactions per item.
        share: in (0, 1).
        convention: "items": the `share` of the items that are least popular, at least one (RecBole, share 0.1, over the items of its
            training part); "interactions": all but the most popular items that together hold ``1 - share`` of the interactions
            (Abdollahpouri et al., RecSys 2017, share 0.2). Ties go to the lower item code first.
    """
    order = np.argsort(popularity, kind="stable")
    tail = np.zeros(len(popularity), dtype=bool)
    if convention == "items":
        tail[order[: max(int(len(order) * share), 1)]] = True
    else:
        tail[order[np.cumsum(popularity[order]) <= share * popularity.sum() + 1e-9]] = True
    return tail


def tail_share(ranked: np.ndarray, tail: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k shown items that are in the tail (`tail_items`); NaN for an empty list."""
    return _mean_of_shown(ranked, tail.astype(np.float64), k)


def self_information(counts: np.ndarray, total: float, *, unseen: float = 1.0) -> np.ndarray:
    """Surprise of each item, ``log2(total / count)`` bits, shape (n_items,).

    Args:
        counts: people (RecTools) or interactions (Microsoft) per item in the training part.
        total: all people, or all interactions.
        unseen: count that an item without any gets.
    """
    return np.asarray(np.log2(total / np.where(counts > 0, counts, unseen)))


def novelty(ranked: np.ndarray, surprise: np.ndarray, k: int) -> np.ndarray:
    """Mean surprise of the first k shown items (`self_information`), bits; NaN for an empty list.

    With counts of people this is RecTools' mean inverse user frequency; with counts of interactions, and all places of all
    people weighing the same, Microsoft's novelty (Castells et al., "Novelty and diversity metrics", 2011).
    """
    return _mean_of_shown(ranked, surprise, k)


# --- what is alike --------------------------------------------------------------------------------------------------


def cosine_similarity(features: np.ndarray) -> np.ndarray:
    """Cosine of the item vectors, shape (n_items, n_items); 0 with an item without features, 1 on the diagonal of others."""
    vectors = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return np.asarray(unit @ unit.T)


def cooccurrence_similarity(matrix: np.ndarray) -> np.ndarray:
    """``c_ij / sqrt(c_i c_j)`` with c_ij the people who have both items: the cosine of the columns of a 0/1 matrix of people and items."""
    return cosine_similarity(np.asarray(matrix).T)


def hamming_distance(features: np.ndarray) -> np.ndarray:
    """Number of features that differ, shape (n_items, n_items) (RecTools; not divided by their number)."""
    vectors = np.asarray(features)
    return np.asarray((vectors[:, None, :] != vectors[None, :, :]).sum(axis=2), dtype=np.float64)


def intra_list_diversity(ranked: np.ndarray, distance: np.ndarray, k: int) -> np.ndarray:
    """Mean distance over the pairs of the first k items (Ziegler et al., WWW 2005); 0 for fewer than two items.

    Args:
        ranked: item codes.
        distance: shape (n_items, n_items), such as ``1 - cosine_similarity(genres)``; NaN for a pair whose distance is unknown, which
            makes the person's value NaN.
        k: cutoff.

    Intra-list similarity (LensKit, Microsoft) is the same with a similarity in place of the distance.
    """
    cut = ranked[:, :k]
    first, second = np.triu_indices(cut.shape[1], 1)
    there = (cut[:, first] >= 0) & (cut[:, second] >= 0)
    values = np.where(there, distance[cut[:, first], cut[:, second]], 0.0)
    pairs = there.sum(axis=1)
    return np.asarray(values.sum(axis=1) / np.maximum(pairs, 1))


def unexpectedness(ranked: np.ndarray, owned: np.ndarray, similarity: np.ndarray, k: int) -> np.ndarray:
    """One minus the mean similarity of each shown item to the person's history, shape (people, k); NaN in empty places.

    Args:
        ranked: item codes.
        owned: 0/1, who has what in the training part, shape (people, n_items), nobody with nothing.
        similarity: shape (n_items, n_items).
        k: cutoff.
    """
    cut = ranked[:, :k]
    near = (owned @ similarity) / owned.sum(axis=1, keepdims=True)
    return np.where(cut >= 0, 1.0 - np.take_along_axis(near, np.maximum(cut, 0), axis=1), np.nan)


def serendipity(hits: np.ndarray, surprise: np.ndarray, k: int) -> np.ndarray:
    """Mean over the first k shown places of surprise times relevance; NaN for an empty list.

    Args:
        hits: relevance, shape (people, places).
        surprise: per place, shape (people, places), NaN where it is empty: `unexpectedness` (Microsoft; Zhang et al., WSDM 2012), or
            `better_than_popularity` (RecTools; Ge et al., RecSys 2010).
        k: cutoff.
    """
    shown = ~np.isnan(surprise[:, :k])
    total = np.where(shown, surprise[:, :k] * hits[:, :k], 0.0).sum(axis=1)
    return np.asarray(np.divide(total, shown.sum(axis=1), out=np.full(len(total), np.nan), where=shown.any(axis=1)))


def better_than_popularity(ranked: np.ndarray, popularity: np.ndarray, k: int) -> np.ndarray:
    """How much higher each place is than the item's place in the list by popularity, ``max(P_u - P, 0)``, shape (people, k).

    ``P_u = (n + 1 - rank) / n`` and P the same for the rank by popularity, 0 for an item without interactions. Items of equal
    popularity share a rank, and the next less popular ones have the next (dense ranks, as RecTools). NaN in empty places.
    """
    n = len(popularity)
    cut = ranked[:, :k]
    place = rankdata(-np.asarray(popularity, dtype=np.float64), method="dense")
    common = np.where(popularity > 0, (n + 1 - place) / n, 0.0)
    own = (n - np.arange(cut.shape[1])) / n
    return np.where(cut >= 0, np.maximum(own - common[np.maximum(cut, 0)], 0.0), np.nan)


def genre_distribution(weights: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """Share of each genre in weighted lists, an item's weight divided evenly over its genres, shape (people, n_genres).

    Args:
        weights: of items per person, shape (people, n_items).
        genres: 0/1, shape (n_items, n_genres).

    Returns:
        Rows sum to 1, or are 0 where no item has a genre (Steck, RecSys 2018, eq. 2 and 3).
    """
    within = np.asarray(genres, dtype=np.float64) / np.maximum(genres.sum(axis=1, keepdims=True), 1)
    sums = weights @ within
    totals = sums.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0))


def calibration(wanted: np.ndarray, shown: np.ndarray, *, alpha: float = 0.01) -> np.ndarray:
    """Divergence of the genres shown from the genres of a person's history, in nats. Ideal 0.

    ``KL(p | (1 - alpha) q + alpha p)`` (Steck, "Calibrated recommendations", RecSys 2018, eq. 5 and 6).

    Args:
        wanted: p, shape (people, n_genres). shown: q, same shape (`genre_distribution`).
        alpha: in (0, 1), keeps the divergence finite where a genre is not shown.

    Returns:
        NaN where a history or a list has no genre.
    """
    mixed = (1 - alpha) * shown + alpha * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(mixed), where=wanted > 0)
    value = (wanted * np.log(ratio)).sum(axis=1)
    return np.where(wanted.any(axis=1) & shown.any(axis=1), value, np.nan)


def _mean_of_shown(ranked: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    cut = ranked[:, :k]
    there = cut >= 0
    total = np.where(there, values[np.maximum(cut, 0)], 0.0).sum(axis=1)
    return np.asarray(np.divide(total, there.sum(axis=1), out=np.full(len(cut), np.nan), where=there.any(axis=1)))

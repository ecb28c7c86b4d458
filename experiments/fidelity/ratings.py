"""Ratings of held-out interactions: the expected rating against the real one, and sampled histograms against real ones.

Controls are the global histogram and user-and-item biases, both from the training part. Every histogram distance stands
next to its noise floor: the same distance between two real halves, each half as large as the sample it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import norm

from experiments import build
from experiments.fidelity.candidates import POSITIVE
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.resampling import estimate, person_index, plain, resample
from experiments.fidelity.scores import HELD_OUT, scored
from simulator.dataset import Dataset, require
from simulator.errors import UsersimError
from simulator.seeds import Stream

FEWEST_OF_ITEM = 20
"""Histograms of items are compared where so many held-out ratings were asked about."""

FEWEST_OF_PERSON = 4
"""Likewise of people; half of them is compared with the other half."""

SPLITS = 200
"""Divisions into halves behind a noise floor."""

BINS = 10
"""Bins of the calibration curve, equally full."""

ITEM_SHRINKAGE, PERSON_SHRINKAGE = 25.0, 10.0


@dataclass(frozen=True, eq=False)
class Told:
    """What somebody or something says about held-out ratings.

    Attributes:
        expected: expected rating, the data's units, shape (n,).
        shares: probability of each value that the data has, shape (n, v).
    """

    expected: np.ndarray
    shares: np.ndarray


def measure(context: FidelityContext) -> dict[str, Any]:
    """All decision models that can rate, and the two controls, on the same held-out ratings.

    Raises:
        DataError: the data has no ratings.
    """
    require(context.train, ratings="the ratings part of a fidelity report")
    assert context.train.rating_scale is not None
    told: dict[str, Told] = {}
    missing: dict[str, str] = {}
    rows: pl.DataFrame | None = None
    values = own_values(context.train)
    for name in context.models.names:
        reason = context.models.why_not(name)
        if reason is None:
            try:
                frame = scored(context, name, HELD_OUT).filter((pl.col("kind") == POSITIVE) & pl.col("rating").is_not_null())
                frame = frame.sort("user", "rank")
                shares = frame.select(f"rate_{k}" for k in range(len(values))).to_numpy()
                told[name], rows = Told(shares @ values, shares), frame
            except UsersimError as error:
                reason = str(error)
        if reason is not None:
            missing[name] = reason
    if rows is None:
        return {"models": {}, "controls": {}, "not_measured": missing}
    controls = {
        "global_histogram": global_histogram(context.train, rows, values),
        "biases": user_and_item_bias(context.train, rows, values),
    }
    measured = {name: judged(context, rows, values, what, controls["biases"]) for name, what in {**told, **controls}.items()}
    return {
        "ratings": rows.height,
        "people": rows["user"].n_unique(),
        "models": {name: measured[name] for name in told},
        "controls": {name: measured[name] for name in controls},
        "not_measured": missing,
    }


def judged(context: FidelityContext, rows: pl.DataFrame, values: np.ndarray, told: Told, biases: Told) -> dict[str, Any]:
    """Errors, calibration and histogram distances of one source of ratings.

    Args:
        context: of the report. rows: held-out ratings with `user`, `item`, `rating`. values: of the data, ascending. told: what is judged.
        biases: what it is compared with, rating by rating (``mae_less_biases``).
    """
    usable = np.isfinite(told.expected)
    compared = biases.expected[usable]
    rows, told = rows.filter(pl.Series(usable)), Told(told.expected[usable], told.shares[usable])
    assert context.train.rating_scale is not None
    person, n = person_index(rows["user"].to_numpy())
    weights = resample(n, context.bootstrap, context.stream.child("ratings"))
    real = rows["rating"].to_numpy()
    given = nearest(values, real)
    drawn = draw(told.shares, rows, context)
    errors = told.expected - real
    missed = np.abs(median(told.shares, values) - real)
    found = {
        "mae_median": _of_sums(lambda s: s[0] / s[1], [missed, np.ones_like(missed)], person, weights),
        "mae": _of_sums(lambda s: s[0] / s[1], [np.abs(errors), np.ones_like(errors)], person, weights),
        "mae_less_biases": _of_sums(
            lambda s: s[0] / s[1], [np.abs(errors) - np.abs(compared - real), np.ones_like(errors)], person, weights
        ),
        "rmse": _of_sums(lambda s: np.sqrt(s[0] / s[1]), [errors**2, np.ones_like(errors)], person, weights),
        "bias": _of_sums(lambda s: s[0] / s[1], [errors, np.ones_like(errors)], person, weights),
        "slope": _slope(told.expected, real, person, weights),
        "ece": _calibration_error(told.expected, real, person, weights),
        "curve": _curve(told.expected, real),
    }
    real_histograms, drawn_histograms = (_histograms(person, what, n, len(values)) for what in (given, drawn))
    resampled = total_variation(weights @ drawn_histograms, weights @ real_histograms)
    found["tv"] = plain(estimate(float(total_variation(drawn_histograms.sum(0), real_histograms.sum(0))), resampled, n))
    found["histogram"] = {"values": values.tolist(), "real": _shares(given, len(values)), "sampled": _shares(drawn, len(values))}
    found["halves"] = _halves(real_histograms, drawn_histograms, context.stream.child("ratings", "halves"))
    item, n_items = person_index(rows["item"].to_numpy())
    found["tv_per_item"] = _within(
        item, n_items, person, given, drawn, FEWEST_OF_ITEM, len(values), context.stream.child("ratings", "items")
    )
    alone = np.arange(len(person))
    found["tv_per_person"] = _within(
        person, n, alone, given, drawn, FEWEST_OF_PERSON, len(values), context.stream.child("ratings", "people")
    )
    return found


def median(shares: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The median rating of each row: of all single answers the one with the least expected absolute error.

    Args:
        shares: probability of each value, shape (n, v). values: ascending, shape (v,).
    """
    cumulative = np.cumsum(shares, axis=1)
    return np.asarray(values[(cumulative < 0.5 * cumulative[:, -1:]).sum(axis=1).clip(max=len(values) - 1)])


def own_values(train: Dataset) -> np.ndarray:
    """What can come out of a rating by decision models, in the data's units, ascending, shape (v,)."""
    rate = next(action for action in build.actions(train) if action.name == "rate")
    return np.array(rate.results, dtype=np.float64)


def nearest(values: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """Which of the values is nearest to each rating, int64, shape of `ratings`."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, ratings, side="left")


def draw(shares: np.ndarray, rows: pl.DataFrame, context: FidelityContext) -> np.ndarray:
    """One sampled rating for each row, as the number of a value; the same row draws the same uniform number for every model."""
    uniform = context.stream.child("ratings", "draw").generator().random(rows.height)
    cumulative = np.cumsum(shares, axis=1)
    return np.asarray(np.minimum((uniform[:, None] >= cumulative / cumulative[:, -1:]).sum(axis=1), shares.shape[1] - 1))


def user_and_item_bias(train: Dataset, rows: pl.DataFrame, values: np.ndarray) -> Told:
    """Overall mean plus item bias plus person bias, and a normal around it with the residual spread, cut between the values.

    Each bias is a shrunken mean of residuals (Koren 2010, "Factor in the neighbors", section 2.1, decoupled estimates).

    Args:
        train: the training part. rows: `user` and `item`. values: that the data has, ascending.
    """
    log = train.interactions
    users, items, ratings = log["user"].to_numpy(), log["item"].to_numpy(), log["rating"].to_numpy().astype(np.float64)
    mean = ratings.mean()
    of_item = _shrunken(items, ratings - mean, train.n_items, ITEM_SHRINKAGE)
    of_user = _shrunken(users, ratings - mean - of_item[items], train.n_users, PERSON_SHRINKAGE)
    spread = float(np.std(ratings - mean - of_item[items] - of_user[users]))
    expected = np.clip(mean + of_item[rows["item"].to_numpy()] + of_user[rows["user"].to_numpy()], values[0], values[-1])
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    return Told(expected, np.diff(norm.cdf((cuts[None, :] - expected[:, None]) / max(spread, 1e-6)), axis=1))


def global_histogram(train: Dataset, rows: pl.DataFrame, values: np.ndarray) -> Told:
    """Everybody rates everything as all training ratings together; arguments as in `user_and_item_bias`."""
    given = nearest(values, train.interactions["rating"].to_numpy())
    shares = np.bincount(given, minlength=len(values)) / len(given)
    return Told(np.full(rows.height, shares @ values), np.tile(shares, (rows.height, 1)))


def total_variation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Half the summed absolute difference of two histograms of counts along the last axis; NaN where one is empty."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = first / first.sum(axis=-1, keepdims=True), second / second.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


def _shrunken(codes: np.ndarray, residuals: np.ndarray, n: int, strength: float) -> np.ndarray:
    return np.asarray(np.bincount(codes, weights=residuals, minlength=n) / (np.bincount(codes, minlength=n) + strength))


def _of_sums(function: Any, columns: list[np.ndarray], person: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """A function of sums over rows, with its interval: columns are summed per person, and people are resampled."""
    n = weights.shape[1]
    sums = np.stack([np.bincount(person, weights=column, minlength=n) for column in columns])
    return plain(estimate(float(function(sums.sum(axis=1))), function(sums @ weights.T), n))


def _slope(expected: np.ndarray, real: np.ndarray, person: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Slope of the least-squares line from the expected to the real rating; 1 is calibrated, below 1 too sure."""

    def slope(s: np.ndarray) -> np.ndarray:
        count, x, y, xy, xx = s
        spread = xx - x * x / count
        return np.asarray(np.divide(xy - x * y / count, spread, out=np.full_like(spread, np.nan), where=spread > 1e-9 * count))

    return _of_sums(slope, [np.ones_like(expected), expected, real, expected * real, expected**2], person, weights)


def _bins(expected: np.ndarray) -> np.ndarray:
    """A bin for each row, equally full as far as ties allow."""
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, expected, side="left")


def _calibration_error(expected: np.ndarray, real: np.ndarray, person: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Expected calibration error: mean over rows of the distance of their bin's mean expected from its mean real rating."""
    bins = _bins(expected)
    columns = [np.where(bins == k, expected - real, 0.0) for k in range(int(bins.max()) + 1)]

    def error(s: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(s[:-1]).sum(axis=0) / s[-1])

    return _of_sums(error, [*columns, np.ones_like(expected)], person, weights)


def _curve(expected: np.ndarray, real: np.ndarray) -> list[dict[str, float]]:
    """Mean expected and mean real rating of every bin, ascending."""
    bins = _bins(expected)
    return [
        {"expected": float(expected[bins == k].mean()), "real": float(real[bins == k].mean()), "rows": int((bins == k).sum())}
        for k in np.unique(bins)
    ]


def _histograms(group: np.ndarray, given: np.ndarray, n: int, v: int) -> np.ndarray:
    return np.bincount(group * v + given, minlength=n * v).reshape(n, v).astype(np.float64)


def _shares(given: np.ndarray, v: int) -> list[float]:
    shares: list[float] = (np.bincount(given, minlength=v) / len(given)).tolist()
    return shares


def _halves(real: np.ndarray, drawn: np.ndarray, stream: Stream) -> Mapping[str, float | None]:
    """Mean distances between halves of the people: real against real (the floor) and sampled against real; and their ratio."""
    sides = _divisions(len(real), stream)
    other = 1.0 - sides
    floor = np.nanmean(total_variation(sides @ real, other @ real)) if len(real) > 1 else np.nan
    away = np.nanmean(total_variation(sides @ drawn, other @ real)) if len(real) > 1 else np.nan
    return _against(float(away), float(floor))


def _within(
    group: np.ndarray, n: int, person: np.ndarray, given: np.ndarray, drawn: np.ndarray, fewest: int, v: int, stream: Stream
) -> Mapping[str, float | int | None]:
    """The same for the rows of each item or each person with enough of them, averaged; `person` says which rows stay together."""
    sizes = np.bincount(group, minlength=n)
    kept = sizes >= fewest
    if not kept.any():
        return {"distance": None, "floor": None, "ratio": None, "full": None, "count": 0}
    sides = _divisions(int(person.max()) + 1, stream)[:, person]
    away, floor = [], []
    for side in sides.astype(bool):
        real_a, real_b = _histograms(group[side], given[side], n, v)[kept], _histograms(group[~side], given[~side], n, v)[kept]
        drawn_a = _histograms(group[side], drawn[side], n, v)[kept]
        both = (real_a.sum(1) > 0) & (real_b.sum(1) > 0)
        away.append(total_variation(drawn_a[both], real_b[both]).mean() if both.any() else np.nan)
        floor.append(total_variation(real_a[both], real_b[both]).mean() if both.any() else np.nan)
    full = total_variation(_histograms(group, drawn, n, v)[kept], _histograms(group, given, n, v)[kept]).mean()
    return {**_against(float(np.nanmean(away)), float(np.nanmean(floor))), "full": float(full), "count": int(kept.sum())}


def _divisions(n: int, stream: Stream) -> np.ndarray:
    """Random halves of n rows or people: 1 for the first half, 0 for the other, shape (SPLITS, n)."""
    generator = stream.generator()
    order = generator.random((SPLITS, n)).argsort(axis=1)
    return (order < n // 2).astype(np.float64)


def _against(away: float, floor: float) -> Mapping[str, float | None]:
    known = np.isfinite(away) and np.isfinite(floor)
    return {"distance": away if known else None, "floor": floor if known else None, "ratio": away / floor if known and floor > 0 else None}

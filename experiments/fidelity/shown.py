"""What a log of choices says of the users' taste without a decision model: are the right items chosen, of all and of those shown?

Right is what the same user did in the held-out part. What is shown is the recommender's doing: items of a good one are right more often
whoever chooses. So only choosing *among what was shown* judges users (`among_shown`, where pages are known); hits among all items
(`hits`) judge users and recommender together, and are held against items of the same popularity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from experiments.fidelity.baselines import COUNTS, Scored, scored
from experiments.fidelity.behaviour import Behaviour
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.resampling import area_under_curve, estimate, plain, resample, resampled_area

NOBODY: Final[str] = "users of the log are not matched with users of the data, whose choices are the truth"
LEVELS: Final[int] = 20
"""Levels of popularity with as many items each, within which a hit is expected by chance."""

SETTINGS: Final[tuple[tuple[str, Mapping[str, float]], ...]] = (
    (COUNTS, {}),
    ("biases", {"shrinkage": 25.0}),
    ("ItemKNN", {"neighbours": 100, "shrinkage": 10.0}),
    ("EASE", {"l2": 200.0}),
)
"""Baselines, each with one setting, untuned: who chooses worse than one of these is no better tuned against."""


def measure(context: FidelityContext) -> dict[str, Any]:
    """Hits, and where pages are known choosing among what was shown, share chosen, and places.

    Returns:
        ``hits``, ``among_shown``, ``choose_rate``, ``places``; ``not_measured``: name -> reason.
    """
    log = context.log
    assert log is not None
    behaviour, found, missing = Behaviour(context), dict[str, Any](), dict[str, str]()
    rows = _rows(behaviour, log.impressions)
    weights = resample(len(behaviour.people), context.bootstrap, context.stream.child("shown"))
    context.report("choices that were right", 0, 1)
    if log.matching == "none":
        missing |= dict.fromkeys(("hits", "among_shown"), NOBODY)
    else:
        found["hits"] = hits(behaviour, rows.filter(pl.col("chosen")), weights)
    if not log.has_pages:
        reason = "the log does not tell what was shown and not chosen"
        return found | {"not_measured": missing | dict.fromkeys(("among_shown", "choose_rate", "places"), reason)}
    if log.matching != "none":
        found["among_shown"] = among_shown(behaviour, rows, weights)
    chosen = rows["chosen"].cast(pl.Float64).to_numpy()
    sums, counts = (np.bincount(rows["person"].to_numpy(), w, minlength=weights.shape[1]) for w in (chosen, np.ones(len(chosen))))
    with np.errstate(invalid="ignore", divide="ignore"):
        found["choose_rate"] = plain(estimate(float(chosen.mean()), (weights @ sums) / (weights @ counts), len(behaviour.people)))
    by_place = rows.group_by("position").agg(pl.col("chosen").mean(), n=pl.len()).sort("position").head(50)
    found["places"] = {
        "position": by_place["position"].to_list(),
        "choose_rate": by_place["chosen"].to_list(),
        "rows": by_place["n"].to_list(),
    }
    context.report("choices that were right", 1, 1)
    return found | {"not_measured": missing}


def hits(behaviour: Behaviour, chosen: pl.DataFrame, weights: np.ndarray) -> dict[str, Any]:
    """Chosen items that the same user has held out, beside what items of the same popularity would hit by chance.

    Args:
        behaviour: of the log. chosen: `person`, `item`. weights: of the resamples of people.

    Returns:
        ``choices`` (new ones, each once), ``share`` of hits, ``expected`` share by popularity alone, ``lift``: their ratio.
    """
    train, n = behaviour.train, len(behaviour.people)
    counts = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)
    level = np.empty(train.n_items, dtype=np.int64)
    level[np.argsort(counts, kind="stable")] = np.arange(train.n_items) * LEVELS // max(1, train.n_items)
    own = dict(chosen.group_by("person").agg("item").iter_rows())
    real = dict(behaviour.held_out.rows.group_by("person").agg("item").iter_rows())
    found = np.zeros((n, 3))
    for person, user in enumerate(behaviour.people.tolist()):
        history = np.unique(behaviour.context.profiles[user].history)
        mine, truth = (np.setdiff1d(np.array(some.get(person, []), dtype=np.int64), history) for some in (own, real))
        if not len(mine) or not len(truth):
            continue
        unseen = np.bincount(level, minlength=LEVELS) - np.bincount(level[history], minlength=LEVELS)
        right = np.bincount(level[truth], minlength=LEVELS) / np.maximum(unseen, 1)
        found[person] = len(mine), np.isin(mine, truth).sum(), right[level[mine]].sum()
    total = found.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = weights @ found
        lift = estimate(float(total[1] / total[2]), drawn[:, 1] / drawn[:, 2], int((found[:, 0] > 0).sum()))
    share, expected = (float(value / total[0]) if total[0] else None for value in total[1:])
    return {"choices": int(total[0]), "share": share, "expected": expected, "lift": plain(lift)}


def among_shown(behaviour: Behaviour, rows: pl.DataFrame, weights: np.ndarray) -> dict[str, Any]:
    """Are the held-out items among what was shown the ones that are chosen? Area under the curve, beside untuned baselines.

    Args:
        behaviour: of the log. rows: `person`, `item`, `chosen`, `chosen_probability`. weights: of the resamples of people.

    Returns:
        ``auc`` of the probability of choosing (of the choice itself where the log has none), ``auc_of_choices``, ``baselines``, ``best``,
        ``lift`` over the best; ``shown`` and ``right`` count rows; ``within``: the same without what only tells who has much held out, with
        the ``auc`` of each user, their mean, ``baselines``, ``best`` and ``lift``.
    """
    n_items = behaviour.train.n_items
    trained = np.concatenate([k * n_items + behaviour.context.profiles[u].history.astype(np.int64) for k, u in enumerate(behaviour.people)])
    truth = behaviour.held_out.rows["person"].to_numpy().astype(np.int64) * n_items + behaviour.held_out.rows["item"].to_numpy()
    key = rows["person"].to_numpy().astype(np.int64) * n_items + rows["item"].to_numpy()
    rows = rows.filter(pl.Series(~np.isin(key, trained), dtype=pl.Boolean)).unique(["person", "item"], keep="first", maintain_order=True)
    rows = rows.sort("person", "item")
    person, item = rows["person"].to_numpy(), rows["item"].to_numpy()
    right = np.isin(person.astype(np.int64) * n_items + item, truth)
    taken = rows["chosen"].cast(pl.Float64).to_numpy()
    known = rows["chosen_probability"].null_count() == 0
    scores = rows["chosen_probability"].to_numpy() if known else taken
    told: dict[str, Any] = {"shown": rows.height, "right": int(right.sum()), "by_probability": known}
    if right.all() or not right.any():
        return told | {"auc": plain(estimate(float("nan"), np.zeros(0), 0))}
    baselines = _baselines(behaviour, person, item)

    def judged(values: np.ndarray, against: np.ndarray | None = None) -> dict[str, Any]:
        point, drawn = float(area_under_curve(values, right)[0]), resampled_area(values, right, person, weights)
        if against is not None:
            point, drawn = point - float(area_under_curve(against, right)[0]), drawn - resampled_area(against, right, person, weights)
        return plain(estimate(point, drawn, len(np.unique(person))))

    points = {f"{one.name}, {one.scaling}": float(area_under_curve(one.scores, right)[0]) for one in baselines}
    best = baselines[int(np.argmax(list(points.values())))]
    return told | {
        "auc": judged(scores),
        "auc_of_choices": judged(taken),
        "baselines": points,
        "best": best.told,
        "lift": judged(scores, best.scores),
        "within": _within(person, right, scores, baselines, weights),
    }


def _within(person: np.ndarray, right: np.ndarray, scores: np.ndarray, baselines: Sequence[Scored], weights: np.ndarray) -> dict[str, Any]:
    """Areas of single users and their mean, of scores and of baselines; arguments as in `among_shown`, rows in order of `person`."""
    starts = np.searchsorted(person, np.arange(weights.shape[1] + 1))

    def areas(values: np.ndarray) -> np.ndarray:
        pairs = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return np.array([area_under_curve(values[start:end], right[start:end])[0] for start, end in pairs])

    own = areas(scores)
    told = np.isfinite(own)

    def judged(values: np.ndarray) -> dict[str, Any]:
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = (weights[:, told] @ values[told]) / weights[:, told].sum(axis=1)
        return plain(estimate(float(values[told].mean()), drawn, int(told.sum())))

    if not told.any():
        return {"auc": plain(estimate(float("nan"), np.zeros(0), 0))}
    found = {f"{one.name}, {one.scaling}": areas(one.scores) for one in baselines}
    best = max(found, key=lambda name: float(found[name][told].mean()))
    points = {name: float(values[told].mean()) for name, values in found.items()}
    return {"auc": judged(own), "baselines": points, "best": best, "lift": judged(own - found[best])}


def _baselines(behaviour: Behaviour, person: np.ndarray, item: np.ndarray) -> list[Scored]:
    users = behaviour.people[person]
    order = np.argsort(users, kind="stable")
    table = pl.DataFrame({"user": users[order], "item": item[order]})
    profiles: Mapping[int, Any] = behaviour.context.profiles
    found = []
    for one in scored(behaviour.train, profiles, table, SETTINGS):
        values = np.empty(len(item))
        values[order] = one.scores
        found.append(Scored(one.name, one.options, one.scaling, values))
    return found


def _rows(behaviour: Behaviour, impressions: pl.DataFrame) -> pl.DataFrame:
    """The log of the compared people, with numbers for people and codes for items."""
    codes = {behaviour.context.user_ids[user]: number for number, user in enumerate(behaviour.people.tolist())}
    items = {name: number for number, name in enumerate(behaviour.train.catalog.item_ids.tolist())}
    rows = impressions.filter(pl.col("user").is_in(list(codes)))
    return rows.with_columns(
        person=pl.col("user").replace_strict(codes, return_dtype=pl.Int64),
        item=pl.col("item").replace_strict(items, return_dtype=pl.Int64),
    )

"""Who would choose what: held-out interactions told apart from items without interaction, at several ratios.

Precision, recall and F1 are those of the threshold on the probability of choosing that has the highest F1 on validation people,
accuracy that of the threshold with the highest accuracy there (`best_threshold`); the area under the curve needs none. `auc` pools
all candidates of all people, `auc_per_person` is the mean of the people's own curves. The lift of the language model is the
calibrated model with it minus the calibrated model without it, on the same candidates of the same resampled people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import polars as pl

from agents.calibrated import CalibratedDecisions
from experiments.analysis.intervals import Estimate
from experiments.fidelity.baselines import Part, beside
from experiments.fidelity.candidates import MIXES, in_mix
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.resampling import area_under_curve, estimate, person_index, plain, resample, resampled_area
from experiments.fidelity.scores import HELD_OUT, VALIDATION, held_out_pages, scored, unusable_pages, validation_pages
from simulator.errors import UsersimError

LIFT = ("calibrated", "calibrated_no_llm")
"""The lift of the language model is the first minus the second."""


def measure(context: FidelityContext) -> dict[str, Any]:
    """All mixes for all decision models that the experiment can have.

    Returns:
        ``models``: name -> mix -> figure -> estimate (and ``threshold``, ``accuracy_threshold``, ``pairs``, ``base_rate``);
        ``lift``: mix -> figure ->
        estimate; ``not_measured``: name -> reason; numbers of people.
    """
    held_out, validation, missing = {}, {}, {}
    for name in context.models.names:
        reason = context.models.why_not(name)
        if reason is None:
            try:
                held_out[name], validation[name] = scored(context, name, HELD_OUT), scored(context, name, VALIDATION)
            except UsersimError as error:
                reason = str(error)
        if reason is not None:
            held_out.pop(name, None)
            missing[name] = reason
    found = {name: told_apart(context, held_out[name], validation[name]) for name in held_out}
    for name, mixes in found.items():
        mixes["unusable_pages"] = unusable_pages(context, name)
    result: dict[str, Any] = {
        "people": len(context.people),
        "validation_people": next(iter(validation.values()))["user"].n_unique() if validation else 0,
        "models": found,
        "not_measured": missing,
    }
    if all(name in held_out for name in LIFT):
        result["lift"] = lift(context, held_out[LIFT[0]], held_out[LIFT[1]])
    else:
        absent = next(name for name in LIFT if name not in held_out)
        result["not_measured"]["lift"] = f"{absent}: {missing.get(absent, 'not asked')}"
    main = context.models.main
    if main in held_out:
        result["beside"] = _beside(context, main, held_out[main])
    return result


def _beside(context: FidelityContext, main: str, scored_rows: pl.DataFrame) -> dict[str, Any]:
    """The judged users beside tuned recommenders (`experiments.fidelity.baselines`): what they choose, and their taste alone."""
    asked, learned = held_out_pages(context), validation_pages(context)
    held_out, validation = (Part(part.train, {one.user: one for one in part.profiles}, part.rows) for part in (asked, learned))
    utility = scored_rows["choose"].to_numpy()
    usable = np.isfinite(utility)
    scores = {"auc_pairs": utility, "auc_random": utility}
    model = context.models[main]
    if isinstance(model, CalibratedDecisions):
        parts = asked.rows.group_by("user", maintain_order=True)
        scores["auc_matched"] = np.concatenate(
            [model.tastes(held_out.profiles[int(str(user))], rows["item"].to_numpy()) for (user,), rows in parts]
        )
    else:
        scores["auc_matched"] = utility
    # unusable replies leave their rows out for everybody
    held_out = replace(held_out, rows=held_out.rows.filter(pl.Series(usable)))
    return beside(
        held_out, validation, {name: own[usable] for name, own in scores.items()}, context.bootstrap, context.stream.child("beside")
    )


def told_apart(context: FidelityContext, held_out: pl.DataFrame, validation: pl.DataFrame) -> dict[str, Any]:
    """Every mix of one model: mix -> figures, with thresholds from the validation people."""
    found: dict[str, Any] = {}
    for name, mix in MIXES.items():
        learned = in_mix(validation, mix).filter(pl.col("choose").is_finite())
        rows = in_mix(held_out, mix)
        if not rows.height or not learned.height:
            continue
        scores, chosen = learned["choose"].to_numpy(), learned["chosen"].to_numpy()
        thresholds = {"threshold": best_threshold(scores, chosen, "f1"), "accuracy_threshold": best_threshold(scores, chosen, "accuracy")}
        found[name] = thresholds | _figures(context, name, rows, **thresholds)
    return found


def worse_than_chance(found: Mapping[str, Any]) -> list[str]:
    """A sentence for every decision model that tells choices apart worse than chance: what is held against it means little then.

    Args:
        found: what `measure` returns.
    """
    sentences = []
    for model, mixes in found.get("models", {}).items():
        for mix, negatives in (("random_1_1", "random"), ("matched_1_1", "matched")):
            area = mixes.get(mix, {}).get("auc")
            if area is not None and area["high"] is not None and area["high"] < 0.5:
                sentences.append(
                    f"{model} is worse than chance at telling held-out choices from {negatives} items: AUC {area['value']:.3f} "
                    f"[{area['low']:.3f}, {area['high']:.3f}], where 0.5 is a coin. What it learned does not hold for what was held out "
                    "(see how the data is split and in what order it is), so being better than it says nothing."
                )
    return sentences


def lift(context: FidelityContext, with_it: pl.DataFrame, without_it: pl.DataFrame) -> dict[str, Any]:
    """The difference of two models' areas under the curve on the same candidates, people resampled together.

    Args:
        context: of the report. with_it, without_it: what the two models said (`scores.scored`).

    Returns:
        mix -> ``auc`` and ``auc_per_person``, each an estimate of the difference.
    """
    found: dict[str, Any] = {}
    for name, mix in MIXES.items():
        joined = in_mix(with_it, mix).join(in_mix(without_it, mix).select("user", "item", other="choose"), on=["user", "item"], how="inner")
        joined = joined.filter(pl.col("choose").is_finite() & pl.col("other").is_finite()).sort("user", "kind", "rank")
        if not joined.height:
            continue
        person, n = person_index(joined["user"].to_numpy())
        weights = resample(n, context.bootstrap, context.stream.child("choose", name))
        chosen = joined["chosen"].to_numpy()
        pooled, own = [], []
        for column in ("choose", "other"):
            scores = joined[column].to_numpy()
            pooled.append((float(area_under_curve(scores, chosen)[0]), resampled_area(scores, chosen, person, weights)))
            own.append(_own_areas(scores, chosen, person, n))
        difference = own[0] - own[1]
        found[name] = {
            "auc": plain(estimate(pooled[0][0] - pooled[1][0], pooled[0][1] - pooled[1][1], n)),
            "auc_per_person": plain(_weighted_mean(difference, weights)),
        }
    return found


def best_threshold(scores: np.ndarray, chosen: np.ndarray, figure: Literal["f1", "accuracy"]) -> float:
    """The threshold with the highest F1 or accuracy if everything scored at least so high is called chosen.

    It lies halfway between two neighbouring scores, so that it carries over to other people. Of accuracy it may lie above all scores:
    where few are chosen, calling nothing chosen can be the most accurate.

    Args:
        scores: finite, shape (n,), n >= 1. chosen: bool, shape (n,), at least one True. figure: what is to be highest.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(chosen[order])
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    value = 2 * hits[last] / (last + 1 + chosen.sum()) if figure == "f1" else (2 * hits[last] - (last + 1)) / len(scores)
    if figure == "accuracy" and value.max() < 0:  # 0 is calling nothing chosen
        return float(np.nextafter(ranked[0], np.inf))
    best = int(last[np.argmax(value)])
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return float((ranked[best] + below) / 2)


def _figures(context: FidelityContext, mix: str, rows: pl.DataFrame, threshold: float, accuracy_threshold: float) -> dict[str, Any]:
    person, n = person_index(rows["user"].to_numpy())
    weights = resample(n, context.bootstrap, context.stream.child("choose", mix))
    usable = rows["choose"].is_finite().to_numpy()
    scores, chosen, person = rows["choose"].to_numpy()[usable], rows["chosen"].to_numpy()[usable], person[usable]
    found: dict[str, Any] = {}
    for least, names in ((accuracy_threshold, ("accuracy",)), (threshold, ("precision", "recall", "f1"))):
        said = scores >= least
        kinds = (said & chosen, said & ~chosen, ~said & chosen, ~said & ~chosen)
        sums = np.stack([np.bincount(person[which], minlength=n) for which in kinds])
        points = _rates(sums.sum(axis=1, keepdims=True).astype(np.float64))
        resampled = _rates((weights @ sums.T).T)
        found |= {name: plain(estimate(float(points[name][0]), resampled[name], n)) for name in names}
    area = float(area_under_curve(scores, chosen)[0])
    found["auc"] = plain(estimate(area, resampled_area(scores, chosen, person, weights), n))
    found["auc_per_person"] = plain(_weighted_mean(_own_areas(scores, chosen, person, n), weights))
    return found | {"rows": int(usable.sum()), "base_rate": float(chosen.mean())}


def _rates(sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """Accuracy, precision, recall and F1 from true and false positives, false and true negatives, shape (4, b)."""
    hit, false, missed, _ = sums

    def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.divide(a, b, out=np.zeros_like(b, dtype=np.float64), where=b > 0))

    return {
        "accuracy": ratio(sums[0] + sums[3], sums.sum(axis=0)),
        "precision": ratio(hit, hit + false),
        "recall": ratio(hit, hit + missed),
        "f1": ratio(2 * hit, 2 * hit + false + missed),
    }


def _own_areas(scores: np.ndarray, chosen: np.ndarray, person: np.ndarray, n: int) -> np.ndarray:
    """The area under each person's own curve, shape (n,); NaN for people with one kind of row only."""
    starts = np.searchsorted(person, np.arange(n + 1))
    return np.array([area_under_curve(scores[a:b], chosen[a:b])[0] if b > a else np.nan for a, b in pairwise(starts)])


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """Mean over people with an interval; people without a value are left out."""
    known = np.isfinite(values)
    if not known.any():
        return estimate(float("nan"), np.zeros(0), 0)
    own = weights[:, known]
    totals = own.sum(axis=1)
    resampled = np.divide(own @ values[known], totals, out=np.full(len(own), np.nan), where=totals > 0)
    return estimate(float(values[known].mean()), resampled, int(known.sum()))

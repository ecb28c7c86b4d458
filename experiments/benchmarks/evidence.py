"""What behavioural evidence alone knows of held-out people's choices and ratings, feature by feature and together.

Weights are fitted on validation people with a quarter of their training interactions hidden; the figures are those of
held-out people and their held-out interactions. `agents.calibrated` fits the same model the same way.

    python -m experiments.benchmarks.evidence ml-1m FOLDER [--split random|temporal] [--seed 7] [--json FILE]
    python -m experiments.benchmarks.evidence ml-100k FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents import kept_ratings
from agents.actions import actions_for
from agents.behaviour import FEATURES, Behaviour
from agents.calibration import EVIDENCE_L2
from agents.calibration_fit import Rows, estimate, gather
from agents.choice_model import calibration, fit_logit
from agents.exposures import hide, items_by_user, people_split
from agents.profiles import fit_profiles
from agents.rating_model import RatingModel
from agents.sampled_pages import Exposures, sampled_exposures
from environments.datasets.splits import SplitConfig, split
from experiments.fidelity.choices import best_threshold
from experiments.fidelity.resampling import area_under_curve
from simulator.dataset import Dataset
from simulator.plugins import build
from simulator.seeds import Stream

LOADERS = {"ml-1m": "environments.datasets.movielens:MovieLens1M", "ml-100k": "environments.datasets.movielens:MovieLens100K"}
MIXES = {"1:1 random": (10, 1, False), "1:9 random": (2, 9, False), "1:1 matched": (10, 1, True)}
"""Positives per person, negatives per positive, whether these are matched in popularity."""

COLLABORATIVE = ("popularity", "linear", "debiased", "factors")


def measure(name: str, folder: Path, method: str, seed: int) -> dict[str, Any]:
    """All figures of one data set."""
    started = time.perf_counter()
    dataset: Dataset = build(LOADERS[name], {"path": str(folder)}, where="dataset", methods=("load",)).load()
    stream = Stream(seed)
    parts = split(dataset, SplitConfig.model_validate({"method": method, "test_share": 0.3}), stream.child("split"))
    train, people = parts.train, people_split(parts.train)
    order = "random" if method == "random" else "temporal"
    again = hide(train, people.validation, 0.25, order, stream.child("hide"))  # type: ignore[arg-type]
    fit = _rows(again.observed, again.hidden, items_by_user(train.interactions, train.n_users), people.validation, stream.child("fit"))
    known = items_by_user(dataset.interactions, dataset.n_users)
    judged = _rows(train, parts.test, known, people.held_out, stream.child("judged"))
    assert train.rating_scale is not None
    found = estimate(fit[1], true=False, with_model=False, ids={})
    figures: dict[str, Any] = {
        "data": name,
        "split": method,
        "people": len(judged[0]),
        "fitted_on_people": len(fit[0]),
        "alone": {feature: _areas(judged[0], judged[1].features[:, k]) for k, feature in enumerate(FEATURES)},
    }
    design = found.design
    columns = [design.columns(rows.features, rows.activity) for _, rows in (fit, judged)]
    sets: Mapping[str, Sequence[str]] = {
        "popularity": FEATURES[:1],
        "popularity and linear": COLLABORATIVE[:2],
        "collaborative": COLLABORATIVE,
        "all": FEATURES,
    }
    figures["together"] = {}
    for label, features in sets.items():
        used = [k for k, column in enumerate(design.names) if column.split(" ")[0] in features]
        model = fit_logit(columns[0][:, used], fit[1].chosen, fit[1].people, [design.names[k] for k in used], l2=EVIDENCE_L2)
        indices = [model.index(part[:, used]) for part in columns]
        figures["together"][label] = _told_apart(fit[0], indices[0], judged[0], indices[1])
    boosted = _boosted(fit[1], judged[1])
    figures["together"]["all, boosted trees"] = _told_apart(fit[0], boosted[0], judged[0], boosted[1])
    index = found.evidence.index(columns[1])
    share = float(fit[1].chosen.mean())
    figures["calibration"] = {
        "before": calibration(np.full(len(index), share), judged[1].chosen),
        "after": calibration(1.0 / (1.0 + np.exp(-index)), judged[1].chosen),
    }
    figures["ratings"] = _ratings(kept_ratings.fitted(train, foreseen=0.0), judged[0], stream.child("ratings"))
    figures["seconds"] = round(time.perf_counter() - started, 1)
    return figures


def _rows(observed: Dataset, hidden: Any, known: Sequence[np.ndarray], people: np.ndarray, rng: Stream) -> tuple[list[Exposures], Rows]:
    popularity = np.bincount(observed.interactions["item"].to_numpy(), minlength=observed.n_items)
    mine = hidden.filter(hidden["user"].is_in(people.tolist()))
    profiles = {profile.user: profile for profile in fit_profiles(observed)}
    exposures = sampled_exposures(mine, profiles, known, popularity, 5, rng, set())
    return exposures, gather(exposures, Behaviour.fit(observed), actions_for(observed), None, rng)


def _mix(exposures: Sequence[Exposures], mix: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a mix (numbers among all rows), and whether they were chosen."""
    most, ratio, matched = MIXES[mix]
    taken, start = [], 0
    for one in exposures:
        positives = np.flatnonzero(one.chosen)
        negatives = np.flatnonzero(~one.chosen & (one.matched == matched))
        count = min(most, len(positives), len(negatives) // ratio)
        taken.append(start + np.concatenate([positives[:count], negatives[: count * ratio]]))
        start += len(one.items)
    chosen = np.concatenate([one.chosen for one in exposures])
    rows = np.concatenate(taken)
    return rows, chosen[rows]


def _areas(exposures: Sequence[Exposures], scores: np.ndarray) -> dict[str, float]:
    found = {}
    for mix in ("1:1 random", "1:1 matched"):
        rows, chosen = _mix(exposures, mix)
        found[mix] = float(area_under_curve(scores[rows], chosen)[0])
    return found


def _told_apart(
    fit: Sequence[Exposures], fit_scores: np.ndarray, judged: Sequence[Exposures], scores: np.ndarray
) -> dict[str, dict[str, float]]:
    found = {}
    for mix in MIXES:
        rows, chosen = _mix(fit, mix)
        learned = best_threshold(fit_scores[rows], chosen, "f1"), best_threshold(fit_scores[rows], chosen, "accuracy")
        rows, chosen = _mix(judged, mix)
        said, accurate = (scores[rows] >= threshold for threshold in learned)
        hits = float((said & chosen).sum())
        found[mix] = {
            "auc": float(area_under_curve(scores[rows], chosen)[0]),
            "accuracy": float((accurate == chosen).mean()),
            "f1": 2.0 * hits / float(said.sum() + chosen.sum()),
        }
    return found


def _boosted(fit: Rows, judged: Rows) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - slow to import, needed here only

    inputs = [np.column_stack([rows.features, rows.activity]) for rows in (fit, judged)]
    model = HistGradientBoostingClassifier(
        learning_rate=0.06, max_iter=200, max_leaf_nodes=15, min_samples_leaf=60, l2_regularization=5.0, random_state=0
    ).fit(inputs[0], fit.chosen)
    return model.decision_function(inputs[0]), model.decision_function(inputs[1])


def _ratings(model: RatingModel, judged: Sequence[Exposures], stream: Stream) -> dict[str, float]:
    values, told, shares, given = model.own.values, [], [], []
    for one in judged:
        rated = np.isfinite(one.ratings)
        if one.profile.ratings is not None and rated.any():
            rater = model.rater(one.profile.history, one.profile.ratings, one.profile.user)
            told.append(model.of_rater(rater, one.items[rated]))
            shares.append(model.probabilities(rater, told[-1]))
            given.append(one.ratings[rated])
    expected, real, chances = np.clip(np.concatenate(told), *model.ends), np.concatenate(given), np.cumsum(np.concatenate(shares), axis=1)
    most = len(values) - 1
    middle = values[(chances < 0.5).sum(axis=1).clip(max=most)]
    drawn = (stream.generator().random(len(real))[:, None] >= chances).sum(axis=1).clip(max=most)
    histograms = [np.bincount(codes, minlength=len(values)) / len(codes) for codes in (model.own.codes(real), drawn)]
    return {
        "mae_of_expected": float(np.abs(expected - real).mean()),
        "mae_of_median": float(np.abs(middle - real).mean()),
        "rmse_of_expected": float(np.sqrt(((expected - real) ** 2).mean())),
        "histogram_total_variation": float(np.abs(histograms[0] - histograms[1]).sum() / 2.0),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(LOADERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="random", choices=["random", "temporal"])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    text = json.dumps(measure(given.data, given.folder, given.split, given.seed), indent=1)
    print(text)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What the log-odds of choosing an item are the sum of: level, popularity, each score of the evidence times its weight, and the rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agents.behaviour import FEATURES
from agents.calibration import RELATED, Calibration
from agents.calibration_fit import activity

LEVEL, OWN_LEVEL, OWN_SLOPE, SAMPLING, SITE = "level", "user's level", "user's slope", "sampling", "site"
COLD = "texts of new items"
MOOD, PLACE, FATIGUE, SAID, OTHER = "visit", "place", "fatigue", "language model", "other terms"
RELATED_LEVEL = f"{RELATED}: level"

KINDS: Mapping[str, str] = {
    LEVEL: "level",
    OWN_LEVEL: "level",
    OWN_SLOPE: "traits",
    "popularity": "popularity",
    SAMPLING: "popularity",
    SITE: "popularity",
    "age": "traits",
    "gender": "traits",
    "occupation": "traits",
    "own popularity": "traits",
    "own year": "traits",
    "own quality": "traits",
    MOOD: "page",
    PLACE: "page",
    FATIGUE: "page",
    SAID: "language model",
    OTHER: "other",
}
"""What kind of part it is, for a short table; the others are "evidence": what an item has to do with what the user did."""

EXACT = 1e-6
"""Log-odds of a probability are read back to so many digits; what is left of it below that is no part."""


def kind(part: str) -> str:
    """The kind of a part: "level", "popularity", "evidence", "traits", "language model", "page" or "other"."""
    return KINDS.get(part, "evidence")


def evidence_parts(weights: Calibration, features: np.ndarray, history: np.ndarray) -> dict[str, np.ndarray]:
    """What the evidence adds to the log-odds, by score, as `agents.calibration_fit.evidence_log_odds` times the trust in it.

    A score's products with popularity and with activity, and the bends of popularity, belong to the score. The scores of how items go with
    the history (`agents.related_scores`) enter as one taste, which is divided among them: each has its own weight times the taste's; what
    is taken off for the usual taste is a level of all.

    Args:
        weights: of the people. features: of the items (`Behaviour.features`), shape (n, names). history: of the user, item codes.

    Returns:
        Part -> log-odds, shape (n,); the intercept is in "level". They sum to the evidence's log-odds times its weight.
    """
    design, model, n = weights.design, weights.evidence, len(features)
    trust = weights.slope * dict(zip(weights.choice.names, weights.choice.weights.tolist(), strict=True)).get("evidence", 0.0)
    columns = design.columns(features, np.full(n, activity(history)))
    parts = {LEVEL: np.full(n, trust * float(model.weights[0]))}
    for name, column, weight in zip(model.names[1:], columns.T, model.weights[1:].tolist(), strict=True):
        owner = name.partition(" x ")[0].partition(" above ")[0]
        parts[owner] = parts.get(owner, np.zeros(n)) + trust * weight * column
    if RELATED in parts and len(design.related):
        parts |= _of_related(weights, features, parts.pop(RELATED))
    return parts


def _of_related(weights: Calibration, features: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
    """The taste's part divided among its scores."""
    design, place = weights.design, len(FEATURES)
    usual, spread = float(design.mean[place]), float(design.spread[place])
    standard = (design.tastes(features) - usual) / spread if np.isfinite(spread) else np.zeros(len(features))
    # Per unit of the taste, which may be different at each item: products with popularity and activity have a part in it.
    slope = np.divide(whole, standard * spread, out=np.zeros(len(whole)), where=np.abs(standard) > EXACT)
    parts: dict[str, np.ndarray] = {}
    for name, column, weight in zip(design.related, features[:, place:].T, design.taste.tolist(), strict=True):
        score = f"{RELATED}: {name.partition(',')[0]}"
        parts[score] = parts.get(score, np.zeros(len(whole))) + slope * weight * column
    return parts | {RELATED_LEVEL: whole - sum(parts.values())}


def completed(parts: Mapping[str, np.ndarray], log_odds: np.ndarray) -> dict[str, np.ndarray]:
    """The parts with what is missing in them, if anything is, as a part of its own.

    Args:
        parts: part -> log-odds, shape (n,). log_odds: what they should sum to, shape (n,); infinite where a probability is 0 or 1.
    """
    missing = np.where(np.isfinite(log_odds), log_odds - sum(parts.values()), 0.0)
    return dict(parts) if (np.abs(missing) < EXACT).all() else {**parts, OTHER: missing}

"""Weights of the calibrated people: what is estimated, from which rows, and how it is kept.

Of people on whom no language model was tuned, a share of the training interactions is hidden again (`agents.exposures`); all
evidence is computed from the rest, and the model learns to tell the hidden ones from items that the person never met. In
two steps: the weights of the evidence, on many people; then how far to trust that evidence, on the same people, and how much the
language model adds to it, on those of them about whom it was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.behaviour import FEATURES
from agents.choice_model import Logit, calibration, fit_logit
from simulator.errors import ConfigError
from simulator.files import read_document, write_document
from simulator.spread import spreads

RELATED = "related"
MAIN = (*FEATURES, RELATED)
EVIDENCE_L2 = 10.0
TASTE_L2 = 30.0
"""Penalty on the weights of the taste, as in `agents.choice_model.fit_logit`."""

CLIP = 6.0
FOLDS = 5
KNOTS = (-0.5, 0.5)
"""Where the weight of popularity may change, in standard deviations."""

VERSION = 4


@dataclass(frozen=True, eq=False)
class Design:
    """From evidence to the columns of the choice model: standardised, with products and bends.

    Columns: every feature and the taste; each of them times popularity and times the person's activity (the active go for rarer items,
    and an affinity says more about somebody who is known well); two hinges of popularity.

    The taste is a ridge logistic regression on the columns of `agents.related_scores`, without its intercept. It learns to tell what was
    chosen from items of the same popularity, so that popularity has no part in it.

    Attributes:
        mean, spread: of `MAIN` and of activity (natural log of 1 + items met), shape (len(MAIN) + 1,).
        related: names of the columns that the taste weighs. taste: their weights, shape (len(related),).
    """

    mean: np.ndarray
    spread: np.ndarray
    related: tuple[str, ...] = ()
    taste: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, features: np.ndarray, activity: np.ndarray, related: Sequence[str] = (), taste: np.ndarray | None = None) -> Design:
        """Standardises by these rows; a feature that never changes but for rounding becomes 0.

        Args:
            features: shape (n, len(FEATURES) + len(related)). activity: shape (n,). related, taste: see above.
        """
        weights = np.zeros(len(related)) if taste is None else taste
        rows = np.column_stack([features[:, : len(FEATURES)], _taste(features, weights), activity])
        if not len(rows):
            return cls(np.zeros(rows.shape[1]), np.full(rows.shape[1], np.inf), tuple(related), weights)
        spread = spreads(rows)
        return cls(rows.mean(axis=0), np.where(spread > 0, spread, np.inf), tuple(related), weights)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        products = [f"{name} x {other}" for other in ("popularity", "activity") for name in MAIN]
        return (*MAIN, *products, *(f"popularity above {knot:+g} sd" for knot in KNOTS))

    def tastes(self, features: np.ndarray) -> np.ndarray:
        """The taste, in log-odds against items of the same popularity, up to a constant of all; shape (n,)."""
        return _taste(features, self.taste)

    def columns(self, features: np.ndarray, activity: np.ndarray) -> np.ndarray:
        """The columns, float64, shape (n, len(names))."""
        rows = np.column_stack([features[:, : len(FEATURES)], self.tastes(features), activity])
        rows = np.clip((rows - self.mean) / self.spread, -CLIP, CLIP)
        main, popularity, active = rows[:, :-1], rows[:, [0]], rows[:, [-1]]
        return np.column_stack([main, main * popularity, main * active, *(np.maximum(popularity - knot, 0.0) for knot in KNOTS)])


@dataclass(eq=False)
class Calibration:
    """Everything that was estimated.

    Attributes:
        design, evidence: of the first step. choice: of the second: the evidence's log-odds and, where there is one, the language
            model's; with true exposures also place and fatigue.
        sampled_share: share of chosen rows among those that `choice` was fitted on; None if these were true exposures.
        slope: what all log-odds are multiplied by, so that they are as far apart as choices say (`agents.choice_model.slope_above_one`).
        background: mean and slope on the evidence's log-odds, and spread, of the language model's log-odds.
        people_effects: user id -> log-odds above the typical person's, shrunk; from true exposures only.
        rating_said: what is added to expected ratings where the language model is asked for stars, and per star above 3 that it says.
        leaving: weights of fatigue and satisfaction.
        reference: action -> the language model's mean log-probabilities by place that its answers were corrected by.
        report: counts, tests, calibration before and after, what it was fitted on; for people to read.
    """

    design: Design
    evidence: Logit
    choice: Logit
    sampled_share: float | None
    slope: float = 1.0
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    people_effects: dict[str, float] = field(default_factory=dict)
    rating_said: tuple[float, float] = (0.0, 0.0)
    leaving: Logit | None = None
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def save(self, file: Path, key: dict[str, Any]) -> None:
        """Writes JSON, atomically and with a checksum; `key` says what the weights hold for."""
        document = {
            "version": VERSION,
            "key": key,
            "report": self.report,
            "design": asdict(self.design),
            "evidence": asdict(self.evidence),
            "choice": asdict(self.choice),
            "sampled_share": self.sampled_share,
            "slope": self.slope,
            "background": self.background,
            "people_effects": self.people_effects,
            "rating_said": self.rating_said,
            "leaving": None if self.leaving is None else asdict(self.leaving),
            "reference": self.reference,
        }
        write_document(file, document, indent=1)

    @classmethod
    def load(cls, file: Path) -> tuple[Calibration, dict[str, Any]]:
        """Restores what `save` wrote, and its key.

        Raises:
            ConfigError: the file is missing or damaged, or does not hold weights of this version.
        """
        document, untouched = read_document(file, "fit the weights again", ConfigError, unlimited=True)
        if not untouched:
            raise ConfigError(
                f"{file} does not hold the weights that were written (its checksum differs); fit them again, or, if they were changed on "
                "purpose, remove the key 'checksum' from it."
            )
        try:
            if document["version"] != VERSION:
                raise ConfigError(f"{file} holds weights of version {document['version']}, not {VERSION}; fit them again.")
            made = cls(
                design=Design(**_arrays(document["design"])),
                evidence=_logit(document["evidence"]),
                choice=_logit(document["choice"]),
                sampled_share=document["sampled_share"],
                slope=float(document.get("slope", 1.0)),  # weights of before had none
                background=tuple(document["background"]),
                people_effects=document["people_effects"],
                rating_said=tuple(document.get("rating_said", (0.0, 0.0))),
                leaving=None if document["leaving"] is None else _logit(document["leaving"]),
                reference={name: np.array(values) for name, values in document["reference"].items()},
                report=document["report"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file} does not hold weights of calibrated people ({type(error).__name__}: {error}).") from error
        weights = (made.evidence.weights, made.choice.weights, *([] if made.leaving is None else [made.leaving.weights]))
        if not all(np.isfinite(values).all() for values in weights):
            raise ConfigError(f"{file} holds a weight that is no finite number; fit the weights again.")
        return made, document["key"]


def _arrays(stored: dict[str, Any]) -> dict[str, Any]:
    names = {"names", "related"}
    return {key: tuple(value) if key in names else np.array(value) if isinstance(value, list) else value for key, value in stored.items()}


def _logit(stored: dict[str, Any]) -> Logit:
    return Logit(**_arrays(stored))


def fit_taste(features: np.ndarray, chosen: np.ndarray, people: np.ndarray, related: Sequence[str], alike: np.ndarray) -> Logit:
    """Weights of the columns behind `FEATURES`, by which what was chosen is told from items of the same popularity.

    Args:
        features: shape (n, len(FEATURES) + len(related)). chosen: 0/1. people: codes. alike: whether a row was drawn for being as popular
            as one that was chosen; where none was, all rows count. Shape (n,).
    """
    rows = (chosen > 0) | alike if alike.any() else np.ones(len(chosen), dtype=bool)
    return fit_logit(features[rows, len(FEATURES) :], chosen[rows], people[rows], related, l2=TASTE_L2)


def fit_evidence(
    features: np.ndarray,
    activity: np.ndarray,
    chosen: np.ndarray,
    people: np.ndarray,
    related: Sequence[str] = (),
    alike: np.ndarray | None = None,
) -> tuple[Design, Logit, np.ndarray, dict[str, Any]]:
    """The first step: weights of the taste, and with it of the evidence.

    Args:
        features: shape (n, len(FEATURES) + len(related)). activity, chosen (0/1), people (codes): shape (n,).
        related, alike: as in `fit_taste`.

    Returns:
        Columns, weights, log-odds of each row by weights fitted without its person (in `FOLDS` parts), and what is worth telling:
        expected calibration error and Brier score of these, and of plain standardised popularity plus linear affinity.
    """
    alike = np.zeros(len(chosen), dtype=bool) if alike is None else alike

    def fitted(rows: np.ndarray) -> tuple[Design, Logit]:
        taste = fit_taste(features[rows], chosen[rows], people[rows], related, alike[rows])
        design = Design.of(features[rows], activity[rows], related, taste.weights[1:])
        columns = design.columns(features[rows], activity[rows])
        return design, fit_logit(columns, chosen[rows], people[rows], design.names, l2=EVIDENCE_L2)

    design, model = fitted(np.ones(len(chosen), dtype=bool))
    own, place = np.unique(people, return_inverse=True)
    fold = (place * FOLDS) // max(1, len(own))
    index = np.zeros(len(chosen))
    for number in range(FOLDS):
        rest, here = fold != number, fold == number
        if here.any() and rest.any():
            part, weights = fitted(rest)
            index[here] = weights.index(part.columns(features[here], activity[here]))
    told: dict[str, Any] = {"people": len(own), "rows": len(chosen)}
    if len(chosen):
        columns = design.columns(features, activity)
        naive = columns[:, FEATURES.index("popularity")] + columns[:, FEATURES.index("linear")]
        told |= {"before": calibration(_probability(naive), chosen), "after": calibration(_probability(index), chosen)}
    return design, model, index, told


def _taste(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("ij,j->i", features[:, len(FEATURES) :], weights))


def _probability(index: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-index)))


def weights_table(model: Logit) -> list[dict[str, float | str]]:
    """Each weight with its standard error, for reports."""
    return [
        {"name": name, "weight": float(weight), "error": float(error)}
        for name, weight, error in zip(model.names, model.weights, model.errors, strict=True)
    ]


def identity(names: Sequence[str]) -> Logit:
    """A second step that takes the evidence's log-odds as they are and gives anything else no weight."""
    weights = np.zeros(len(names) + 1)
    weights[1] = 1.0
    return Logit(("intercept", *names), weights, np.zeros(len(weights)), 0.0, 0)

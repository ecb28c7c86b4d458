"""Reward models for the direct and the doubly robust estimators, cross-fitted over people.

A model says what reward to expect of an item at a place for a person. It learns from the rows of other people only: people are
divided into folds, and what is said about a person comes from the model fitted without their fold, so that its errors are
independent of the rewards it corrects (Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 21, 2018).

Features: the item as the mean reward it earned in the fitted folds (target encoding, itself cross-fitted), place,
page of the session, the logging and the target policy's standardised scores (missing outside their candidates), and the
columns of `people` and `items`, such as popularity and activity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from simulator.errors import DataError
from simulator.seeds import Stream

FOLDS = 5
"""Groups of people; fewer where there are fewer people."""

Kind = Literal["boosting", "logistic"]
"""Gradient-boosted trees, or a logistic (for rewards that are not 0 or 1: ridge) regression."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Items at places, as a reward model sees them.

    Attributes:
        people: person of each row, codes from 0, shape (n,). items: item codes, shape (n,).
        features: numbers of each row, NaN where missing, shape (n, f).
    """

    people: np.ndarray
    items: np.ndarray
    features: np.ndarray


class RewardModel:
    """One model per fold of people.

    Args:
        kind: what kind of regression.
        rows: the logged rows. rewards: what they earned, shape (n,).
        stream: randomness of the folds and of the fit.

    Raises:
        DataError: there is only one person, so that nobody is left to learn from.
    """

    def __init__(self, kind: Kind, rows: Rows, rewards: np.ndarray, stream: Stream) -> None:
        people = int(rows.people.max(initial=-1)) + 1
        folds = min(FOLDS, len(np.unique(rows.people)))
        if folds < 2:
            raise DataError("a reward model learns from other people, and the log has only one; use the model-free estimators.")
        self._fold_of = stream.child("folds").generator().permutation(people) % folds
        fold = self._fold_of[rows.people]
        self._models = [
            _Fitted(kind, _taken(rows, fold != number), rewards[fold != number], stream.child("fit", number)) for number in range(folds)
        ]

    def predict(self, rows: Rows) -> np.ndarray:
        """Expected reward of rows, from models that have not seen their people, shape (n,)."""
        fold = self._fold_of[rows.people]
        result = np.zeros(len(rows.items))
        for number, model in enumerate(self._models):
            mine = np.flatnonzero(fold == number)
            if len(mine):
                result[mine] = model.predict(_taken(rows, mine))
        return result


class _Fitted:
    """Encoder and regression on the rows of some people; a constant where all rewards are equal."""

    def __init__(self, kind: Kind, rows: Rows, rewards: np.ndarray, stream: Stream) -> None:
        self._constant = float(rewards[0]) if np.ptp(rewards) == 0 else None
        if self._constant is not None:
            return
        self._binary = bool(np.isin(rewards, (0.0, 1.0)).all())
        labels = rewards.astype(np.int64) if self._binary else rewards
        self._encoder: Any = _encoder(rows.items, rewards)
        # A row must not be encoded with its own reward: people's items are encoded from the other half of the people.
        half = stream.child("halves").generator().permutation(int(rows.people.max()) + 1) % 2
        encoded = np.zeros((len(rows.items), 1))
        for number in (0, 1):
            mine = half[rows.people] == number
            other = _encoder(rows.items[~mine], rewards[~mine]) if (~mine).any() else self._encoder
            encoded[mine] = other.transform(rows.items[mine, None]) if mine.any() else 0.0
        # What nobody has says nothing, and the libraries' binning does not expect it.
        self._known = ~np.isnan(rows.features).all(axis=0)
        self._model = _regression(kind, binary=self._binary, seed=stream.child("model").integer())
        with threadpool_limits(limits=1):  # a few thousand rows: threads would only wait for each other
            self._model.fit(np.hstack([encoded, rows.features[:, self._known]]), labels)

    def predict(self, rows: Rows) -> np.ndarray:
        if self._constant is not None:
            return np.full(len(rows.items), self._constant)
        features = np.hstack([self._encoder.transform(rows.items[:, None]), rows.features[:, self._known]])
        with threadpool_limits(limits=1):
            return np.asarray(self._model.predict_proba(features)[:, 1] if self._binary else self._model.predict(features))


def _encoder(items: np.ndarray, rewards: np.ndarray) -> Any:
    """Mean reward by item, shrunk to the overall mean by empirical Bayes (Micci-Barreca, SIGKDD Explorations 3, 2001)."""
    return TargetEncoder(target_type="continuous").fit(items[:, None], rewards)


def _regression(kind: Kind, *, binary: bool, seed: int) -> Any:
    if kind == "boosting":
        options = {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 15, "l2_regularization": 1.0, "early_stopping": False}
        return (HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor)(**options, random_state=seed)
    regression = LogisticRegression(max_iter=1000) if binary else Ridge(random_state=seed)
    return make_pipeline(SimpleImputer(), StandardScaler(), regression)


def _taken(rows: Rows, which: np.ndarray) -> Rows:
    return Rows(rows.people[which], rows.items[which], rows.features[which])


def columns(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Feature columns side by side, float64, shape (n, f)."""
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts], axis=1)

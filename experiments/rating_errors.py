"""How wrong predicted ratings are, with intervals over people."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from experiments.analysis.intervals import Estimate, bootstrap_ratio
from experiments.analysis.ranking_metrics import explained_variance, r_squared
from simulator.errors import RecommenderError
from simulator.protocols import RatingPredictor
from simulator.seeds import Stream


@dataclass(frozen=True)
class RatingErrors:
    """The errors of one recommender's ratings, summed by person.

    Attributes:
        ratings: held-out ratings of each person, shape (n_users,).
        squared, absolute: sums of the squared and the absolute errors of each person, shape (n_users,).
        r_squared, explained_variance: over all held-out ratings (`experiments.analysis.ranking_metrics`); NaN where all are equal.
    """

    ratings: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray
    r_squared: float
    explained_variance: float

    def estimates(self, stream: Stream) -> dict[str, Estimate]:
        """ "rmse" and "mae" over all held-out ratings, in their units, with intervals that resample people; "r_squared" and
        "explained_variance" without."""
        squared = bootstrap_ratio(self.squared, self.ratings, stream.child("rmse"))
        rmse = Estimate(math.sqrt(squared.value), math.sqrt(squared.low), math.sqrt(squared.high), squared.people)
        found = {"rmse": rmse, "mae": bootstrap_ratio(self.absolute, self.ratings, stream.child("mae"))}
        whole = {"r_squared": self.r_squared, "explained_variance": self.explained_variance}
        return found | {name: Estimate(value, math.nan, math.nan, squared.people) for name, value in whole.items()}

    def against(self, other: RatingErrors, stream: Stream) -> Estimate:
        """The mean squared error minus that of another recommender on the same ratings, people paired; negative is better."""
        return bootstrap_ratio(self.squared - other.squared, self.ratings, stream)


def rating_errors(recommender: object, test: pl.DataFrame, n_users: int) -> RatingErrors | None:
    """The errors on held-out ratings; None if the recommender predicts none, or if there are none.

    Args:
        recommender: fitted.
        test: held-out interactions, `INTERACTIONS_SCHEMA`; rows without a rating do not count.
        n_users: number of people.

    Raises:
        RecommenderError: it does not give one finite number for each pair.
    """
    rated = test.filter(pl.col("rating").is_not_null())
    if not isinstance(recommender, RatingPredictor) or rated.is_empty():
        return None
    users, items = rated["user"].to_numpy(), rated["item"].to_numpy()
    predicted = np.asarray(recommender.predict_ratings(users, items), dtype=np.float64)
    if predicted.shape != users.shape or not np.isfinite(predicted).all():
        raise RecommenderError(
            f"{type(recommender).__name__}.predict_ratings returned an array of shape {predicted.shape}, of which "
            f"{int((~np.isfinite(predicted)).sum())} are no numbers, for {len(users)} pairs; one finite number per pair is wanted."
        )
    true = rated["rating"].to_numpy().astype(np.float64)
    errors = predicted - true
    differ = bool(np.ptp(true) > 0)
    r2, explained = (measure(true, predicted) if differ else math.nan for measure in (r_squared, explained_variance))
    by_person = [np.bincount(users, weights=values, minlength=n_users) for values in (np.ones(len(users)), errors**2, np.abs(errors))]
    return RatingErrors(by_person[0], by_person[1], by_person[2], r2, explained)

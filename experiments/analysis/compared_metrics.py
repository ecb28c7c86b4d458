"""What recommenders are compared by: nine metrics, whether more of each is better, and how each is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy import sparse

from experiments.analysis import paired
from experiments.analysis import person_sums as sums
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.paired import Measured
from simulator.dataset import Domain

Kind = Literal["use", "pleasure", "range"]


@dataclass(frozen=True)
class Part:
    """The log of one run, or of one round of it."""

    run: FinishedRun
    round: int | None = None

    @cached_property
    def impressions(self) -> pl.DataFrame:
        """One row per shown item."""
        return self._of_round(self.run.impressions)

    @cached_property
    def pages(self) -> pl.DataFrame:
        """One row per page turn."""
        return self._of_round(self.run.pages)

    @cached_property
    def sessions(self) -> pl.DataFrame:
        """One row per session."""
        return self._of_round(self.run.sessions)

    def _of_round(self, table: pl.DataFrame) -> pl.DataFrame:
        return table if self.round is None else table.filter(pl.col("round") == self.round)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: in files. name, unit: for people, with the domain's words in braces; see `in_words`.
        kind: "use" (how much people do), "pleasure" (how they like it) or "range" (what is shown at all).
        better: 1 if more is better, -1 if less is. For what is shown, "better" means broader.
        percent: whether the value is a share.
        sums: sums per person of a part (`experiments.analysis.person_sums`); None for a metric of the whole system.
        system: the metric of how often each person was shown each item; None for one of people.
        expected: tables and their columns with the probabilities that it is drawn from (`experiments.analysis.reactions`).
        through: another metric that it may move with, and the column that says how; None if there is none.
    """

    key: str
    name: str
    unit: str
    kind: Kind
    better: Literal[1, -1]
    percent: bool = False
    sums: Callable[[Part], pl.DataFrame] | None = None
    system: Callable[[sparse.csr_array], Measured] | None = None
    expected: tuple[tuple[str, str], ...] = ()
    through: tuple[str, str] | None = None

    def in_words(self, domain: Domain) -> tuple[str, str]:
        """Name and unit in the words of a domain, such as "read rate" and "share of shown books read"."""
        return domain.told(self.name), domain.told(self.unit)


def _likes(part: Part) -> pl.DataFrame:
    scale = part.run.rating_scale
    assert scale is not None
    return sums.like_rate(part.impressions, scale)


CHOOSING, RATING, LEAVING = ("impressions", "chosen_probability"), ("impressions", "rating_expected"), ("pages", "leave_probability")
"""Where the log says what choices, ratings and leaving are drawn from."""

METRICS: tuple[Metric, ...] = (
    Metric(
        "watch_rate",
        "{rate}",
        "share of shown {items} {chosen}",
        "use",
        1,
        True,
        lambda part: sums.watch_rate(part.impressions),
        expected=(CHOOSING,),
    ),
    Metric(
        "likes",
        "likes",
        "share of shown {items} {chosen} and rated three quarters up the scale",
        "use",
        1,
        True,
        _likes,
        expected=(CHOOSING, RATING),
    ),
    Metric("pages", "pages/session", "pages", "use", 1, False, lambda part: sums.pages_per_session(part.sessions), expected=(LEAVING,)),
    Metric(
        "rating",
        "rating",
        "mean rating given, the data's units",
        "pleasure",
        1,
        False,
        lambda part: sums.mean_rating(part.impressions),
        expected=(RATING,),
    ),
    Metric(
        "satisfaction",
        "satisfaction",
        "mean of sessions, 1 to 10",
        "pleasure",
        1,
        False,
        lambda part: sums.satisfaction(part.sessions),
        expected=(("sessions", "satisfaction_expected"),),
        through=("rating", "mean_rating"),
    ),
    Metric(
        "diversity",
        "diversity",
        "mean distance (1 - cosine of genres) of two {items} of a page",
        "range",
        1,
        False,
        lambda part: sums.page_diversity(part.impressions, part.run.items),
    ),
    Metric(
        "novelty",
        "novelty",
        "mean surprise of shown {items}, bits",
        "range",
        1,
        False,
        lambda part: sums.novelty(part.impressions, part.run.items),
    ),
    Metric("coverage", "coverage", "share of the catalog shown to anybody", "range", 1, True, system=paired.coverage),
    Metric("gini", "exposure Gini", "concentration of exposure, 0 to 1", "range", -1, False, system=paired.gini),
)
"""In the order in which they are shown."""

BY_KEY: Mapping[str, Metric] = {metric.key: metric for metric in METRICS}


def available(run: FinishedRun) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that a run's data allows, and metric -> reason for the others."""
    missing: dict[str, str] = {}
    if not run.has_ratings:
        missing |= {"likes": "the data has no ratings", "rating": "the data has no ratings"}
    if "satisfaction" not in run.sessions.columns:
        missing["satisfaction"] = "nobody was asked for satisfaction"
    if not run.has_genres:
        missing["diversity"] = "the items have no genres"
    return [metric for metric in METRICS if metric.key not in missing], missing


def measure(metric: Metric, parts: Sequence[Part], people: Sequence[str], weights: np.ndarray) -> Measured:
    """One metric of one arm.

    Args:
        metric: which. parts: the arm's run for each seed, or one round of them.
        people: user ids of everybody; the order in which influences are.
        weights: of the resamples, shape (resamples, people); the same for all arms of a comparison.
    """
    if metric.sums is not None:
        a, b = np.zeros(len(people)), np.zeros(len(people))
        for part in parts:
            found = pl.DataFrame({"user": people}).join(metric.sums(part), on="user", how="left", maintain_order="left")
            a += found["a"].fill_null(0.0).to_numpy()
            b += found["b"].fill_null(0.0).to_numpy()
        return paired.ratio(a, b, weights)
    assert metric.system is not None
    return paired.mean_of([metric.system(shown(part, people)) for part in parts])


def shown(part: Part, people: Sequence[str]) -> sparse.csr_array:
    """How often each person was shown each item of the catalog, int64, shape (people, items)."""
    items = part.run.items.select("item").with_row_index("column")
    rows = pl.DataFrame({"user": people}).with_row_index("row")
    found = part.impressions.select("user", "item").join(rows, on="user").join(items, on="item")
    ones = np.ones(found.height, dtype=np.int64)
    place = (found["row"].to_numpy(), found["column"].to_numpy())
    return sparse.csr_array((ones, place), shape=(len(people), items.height))

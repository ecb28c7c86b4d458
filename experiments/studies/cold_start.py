"""People and items that the recommender does not know, against the same people and items where it does."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field

from environments.rerankers.cold_start import cold_of
from experiments.analysis import person_sums as sums
from experiments.analysis.compared_metrics import CHOOSING, Metric, Part
from experiments.analysis.finished_run import FinishedRun
from experiments.run_data import data_of_run
from experiments.studies.findings import Arms, Findings, Row
from simulator.errors import ConfigError
from simulator.plugins import ComponentConfig

NAMES = {
    "watch_rate": "{rate} (share of shown {items} {chosen})",
    "exposure": "exposure (share of shown {items})",
    "rate_of_cold_items": "{rate} when shown (share of shown {items} {chosen})",
}
"""Metric -> name and unit, with the domain's words in braces."""


class ColdStartStudyConfig(ComponentConfig):
    """Options of `ColdStart`.

    Attributes:
        cold_as_in: the arm whose recommender (`environments.rerankers.cold_start:ColdStart`) says who and what is cold.
    """

    cold_as_in: str = Field(min_length=1)


class ColdStart:
    """Rows: watch rate of cold and of other people against the control, and how often cold items are shown and chosen; also by round.

    People are paired. With the control an arm that knows everybody, "cold people" against it is what not knowing them costs them, and
    "other people" is what the recommender lost for everybody by having less to learn from.
    """

    Config = ColdStartStudyConfig

    def __init__(self, config: ColdStartStudyConfig) -> None:
        self.config = config

    def measure(self, arms: Arms) -> Findings:
        """See `experiments.studies.findings.Analysis`."""
        people, items = cold_ids(arms.get(self.config.cold_as_in, "cold_as_in"))
        rows = []
        metrics = {f"{word} people": _watch_rate(people, cold=word == "cold") for word in ("cold", "other") if people or word == "other"}
        for group, metric in metrics.items():
            rows += self._rows(arms, metric, group)
        if items:
            rows += self._rows(arms, _exposure(items), "cold items")
            rows += self._rows(arms, _rate_of_cold(items), "cold items")
        names = {key: arms.domain.told(NAMES[key]) for key in dict.fromkeys(row.metric for row in rows)}
        return Findings(tuple(rows), tuple(_sentences(arms, rows, names)), names, "round")

    @staticmethod
    def _rows(arms: Arms, metric: Metric, group: str) -> list[Row]:
        rows = []
        whole = {name: arms.measure(metric, run) for name, run in arms.runs.items()}
        rows += [arms.row(name, metric.key, group, found) for name, found in whole.items()]
        rows += [arms.apart(metric, name, group, whole) for name in arms.others()]
        for name, run in arms.runs.items():
            for turn in sorted(run.sessions["round"].unique().to_list()):
                rows.append(arms.row(name, metric.key, f"{group} by round", arms.measure(metric, run, turn), x=turn + 1))
        return rows


def cold_ids(run: FinishedRun) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of the people and items that a run's recommender did not know.

    Raises:
        ConfigError: the run has no such recommender.
    """
    use = str(run.config["recommender"]["use"])
    if not use.endswith(":ColdStart"):
        raise ConfigError(
            f"[analysis] cold_as_in: the recommender of that arm is {use}; it must be environments.rerankers.cold_start:ColdStart."
        )
    users, items = cold_of(run.path / "recommenders" / "round-000")
    train = data_of_run(run.directory).train
    user_ids, item_ids = train.users["user_id"].to_numpy(), np.asarray(train.catalog.item_ids)
    return frozenset(user_ids[users].tolist()), frozenset(str(item) for item in item_ids[items])


def _watch_rate(people: frozenset[str], *, cold: bool) -> Metric:
    def of(part: Part) -> pl.DataFrame:
        is_cold = pl.col("user").is_in(list(people))
        return sums.watch_rate(part.impressions.filter(is_cold if cold else ~is_cold))

    return Metric("watch_rate", "{rate}", "share", "use", 1, True, sums=of, expected=(CHOOSING,))


def _exposure(items: frozenset[str]) -> Metric:
    is_cold = pl.col("item").is_in(list(items))
    return Metric(
        "exposure", "exposure", "share", "range", 1, True, sums=lambda part: sums.per_person(part.impressions, is_cold.sum(), pl.len())
    )


def _rate_of_cold(items: frozenset[str]) -> Metric:
    is_cold = pl.col("item").is_in(list(items))
    return Metric(
        "rate_of_cold_items",
        "{rate}",
        "share",
        "use",
        1,
        True,
        expected=(CHOOSING,),
        sums=lambda part: sums.watch_rate(part.impressions.filter(is_cold)),
    )


def _sentences(arms: Arms, rows: list[Row], names: dict[str, str]) -> list[str]:
    sentences = []
    for metric, group in dict.fromkeys((row.metric, row.group) for row in rows if row.x is None):
        own = [row for row in rows if row.metric == metric and row.group == group and row.x is None]
        base = next(row for row in own if row.arm == arms.control and not row.against)
        apart = "; ".join(f"{row.arm} {row.told()} against it" for row in own if row.against)
        sentences.append(f"{group}, {names[metric]}: {base.arm} {base.told()}; {apart}.")
    return sentences

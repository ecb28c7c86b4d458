"""How a visit goes on: choosing and leaving page by page, those who stay against themselves, and whether pleasure keeps people."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from experiments.analysis import person_sums as sums
from experiments.analysis.compared_metrics import Metric, Part
from experiments.analysis.paired import difference
from experiments.studies.findings import Arms, Findings, Row, change
from experiments.studies.study_metrics import METRICS
from simulator.plugins import ComponentConfig

NAMES = {
    "watch_rate": "{rate} (share of shown {items} {chosen})",
    "stayers": "{rate} of long visits (share of shown {items} {chosen})",
    "leaving": "leaving (share of pages after which people leave)",
    "satisfaction": "satisfaction with a visit (1 to 10)",
}
"""Metric -> name and unit, with the domain's words in braces."""


class FatigueConfig(ComponentConfig):
    """Options of `Fatigue`.

    Attributes:
        pages: pages of a visit that are looked at; visits of at least so many are the long ones.
    """

    pages: int = Field(6, ge=2, le=100)


class Fatigue:
    """Rows by page of the visit (x), and differences between the last of these pages and the first.

    The watch rate of a late page is that of those who stayed, who are other people than those of the first page. "stayers" looks at long
    visits only, so that every page has the same people: what is left of the fall is the page's, not theirs. "leaving" has the groups
    "pleased" and "not pleased": pages of visits in which the ratings given so far were above, or not above, the person's own mean.
    """

    Config = FatigueConfig

    def __init__(self, config: FatigueConfig) -> None:
        self.config = config

    def measure(self, arms: Arms) -> Findings:
        """See `experiments.studies.findings.Analysis`."""
        rows: list[Row] = []
        sentences = []
        for name, run in arms.runs.items():
            for key in ("watch_rate", "stayers", "leaving"):
                found = {page: arms.measure(self._on_page(key, page), run) for page in range(1, self.config.pages + 1)}
                rows += [arms.row(name, key, "by page", one, x=page) for page, one in found.items()]
                if key != "leaving":
                    fall = arms.row(name, key, "change", change(found[self.config.pages], found[1]))
                    rows.append(fall)
                    who = "long visits" if key == "stayers" else "whoever is there"
                    sentences.append(
                        f"{name}, {who}: {arms.domain.rate} of page {self.config.pages} less that of page 1: {fall.told(signed=True)}."
                    )
            rows.append(arms.row(name, "satisfaction", "all", arms.measure(METRICS["satisfaction"], run)))
            if run.has_ratings:
                moods = {mood: arms.measure(_leaving(mood), run) for mood in ("pleased", "not pleased")}
                rows += [arms.row(name, "leaving", mood, one) for mood, one in moods.items()]
                apart = arms.difference(name, "leaving", "pleased", difference(moods["pleased"], moods["not pleased"]), "not pleased")
                rows.append(apart)
                told = f"{moods['pleased'].value:.3f} of the pages, others after {moods['not pleased'].value:.3f}"
                sentences.append(f"{name}: people who are pleased so far leave after {told}; difference {apart.told()}.")
        satisfied = {name: arms.measure(METRICS["satisfaction"], run) for name, run in arms.runs.items()}
        for name in arms.others():
            rows.append(arms.apart(METRICS["satisfaction"], name, "all", satisfied))
            sentences.append(f"{name}: satisfaction {rows[-1].told()} against {arms.control}.")
        return Findings(tuple(rows), tuple(sentences), {key: arms.domain.told(name) for key, name in NAMES.items()}, "page of the visit")

    def _on_page(self, key: str, page: int) -> Metric:
        visit = ["user", "session"]

        def of(part: Part) -> pl.DataFrame:
            if key == "leaving":
                # leaving after the last page that there can be is no decision
                pages = part.run.pages.filter(pl.col("page") == page)
                return sums.per_person(pages, pl.col("leave").sum(), pl.len())
            shown = part.impressions
            if key == "stayers":
                long = part.sessions.filter(pl.col("pages") >= self.config.pages).select(visit)
                shown = shown.join(long, on=visit, how="semi")
            return sums.watch_rate(shown.filter(pl.col("page") == page))

        return Metric(key, key, "share", "use", 1, True, sums=of)


def _leaving(mood: str) -> Metric:
    """Leaving after pages up to which the mean rating given in the visit was above the person's own mean, or was not."""

    def of(part: Part) -> pl.DataFrame:
        key = ["user", "session", "page"]
        given = part.impressions.filter(pl.col("rating").is_not_null()).group_by(key).agg(total=pl.col("rating").sum(), count=pl.len())
        own = part.run.people.select("user", "mean_rating")
        so_far = (
            part.run.pages.select(*key, "leave")
            .join(given, on=key, how="left")
            .sort(key)
            .with_columns(pl.col("total", "count").fill_null(0).cum_sum().over("user", "session"))
            .filter(pl.col("count") > 0)
            .join(own, on="user")
        )
        pleased = pl.col("total") / pl.col("count") > pl.col("mean_rating")
        return sums.per_person(so_far.filter(pleased if mood == "pleased" else ~pleased), pl.col("leave").sum(), pl.len())

    return Metric("leaving", "leaving", "share", "use", -1, True, sums=of)

"""The effect of interventions: treated people against the control group, spillover, a check before they begin, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import Field

from experiments.analysis import person_sums as sums
from experiments.analysis.compared_metrics import Metric, Part
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.paired import Difference, difference
from experiments.studies.findings import Arms, Findings, Row, change
from simulator.dataset import Domain
from simulator.errors import ConfigError
from simulator.plugins import ComponentConfig

NAMES = {"chosen": "effect on choosing (share of shown {items})", "visit": "effect on a visit ({items} {chosen})"}
"""Metric -> name and unit, with the domain's words in braces."""

CONTROL_GROUP = "control group"
ITS_ITEMS, BEFORE, BEYOND = "its items", "its items, before it began", "its items, beyond the difference before"
GROUPS = (ITS_ITEMS, "other items on those pages", BEFORE, "whole visit")


class TreatmentConfig(ComponentConfig):
    """Options of `Treatment`.

    Attributes:
        truth: arm with a control group -> (arm in which everybody is treated, arm in which nobody is), the same people and luck.
    """

    truth: dict[str, tuple[str, str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Campaign:
    """One intervention of one run, with what its outcomes are read from."""

    name: str
    items: frozenset[str]
    from_round: int

    def outcome(self, group: str, *, expected: bool = False) -> Metric:
        """The metric of one of `GROUPS`; `expected` takes the probabilities that choices were drawn from, which leaves out luck."""
        on_item, begun = pl.col("item").is_in(list(self.items)), pl.col("round") >= self.from_round

        def of(part: Part) -> pl.DataFrame:
            if group == "whole visit":
                return sums.interactions_per_session(part.sessions.filter(begun))
            shown = part.impressions
            if expected:
                shown = shown.with_columns(chosen=pl.col("chosen_probability"))
            if group == BEFORE:
                return sums.watch_rate(shown.filter(on_item & ~begun))
            if group == ITS_ITEMS:
                return sums.watch_rate(shown.filter(on_item & begun))
            beside = on_item.any().over("user", "session", "page")
            return sums.watch_rate(shown.filter(begun & beside & ~on_item))

        key = "visit" if group == "whole visit" else "chosen"
        return Metric(key, key, "", "use", 1, sums=of)


class Treatment:
    """Rows: differences between the treated and the control group of each arm that has both, for each of `GROUPS` and `BEYOND`.

    `BEYOND` takes away the difference that was there before the intervention began (a difference in differences), and with it much of
    what tells people apart whatever is done to them.

    Assignment is by person, so the two groups are compared unpaired, people resampled. Where the options name two arms in which
    everybody and nobody is treated, their paired difference is the truth (rows against the latter): no control group can know it, the
    simulator can. An intervention whose assumed response is 0 is an A/A test: its truth is 0 by construction.

    Raises:
        ConfigError: no arm has both treated people and a control group.
    """

    Config = TreatmentConfig

    def __init__(self, config: TreatmentConfig) -> None:
        self.config = config

    def measure(self, arms: Arms) -> Findings:
        """See `experiments.studies.findings.Analysis`."""
        rows: list[Row] = []
        for name, run in arms.runs.items():
            for intervention in _on_people(run):
                rows += self._arm(arms, name, run, intervention)
        if not any(row.against == CONTROL_GROUP for row in rows):
            raise ConfigError(
                "no control group: no arm has an intervention on people with a share between 0 and 1 that both treated and untreated "
                "people met; give one, for example share = 0.5."
            )
        names = {key: arms.domain.told(NAMES[key]) for key in dict.fromkeys(row.metric for row in rows)}
        return Findings(tuple(rows), tuple(_sentence(row, arms.domain) for row in rows), names)

    def _arm(self, arms: Arms, name: str, run: FinishedRun, intervention: str) -> list[Row]:
        table = run.directory.read_table("treatments").filter(pl.col("intervention") == intervention)
        treated, control = (table.filter(pl.col("treated") == which)["user"].to_list() for which in (True, False))
        campaign = _campaign(arms, run, intervention)
        truths = self._truths(arms, name, campaign, run)
        rows, measured = [], {}
        for group in GROUPS:
            metric = campaign.outcome(group)
            both = [arms.measure(_among(metric, users), run) for users in (treated, control)]
            known = truths.get(group)
            truth = 0.0 if group == BEFORE or _is_aa(run, intervention) else known.value if known else None
            if all(np.isfinite(found.value) for found in both):
                measured[group] = both
                rows.append(arms.difference(name, metric.key, group, difference(*both), CONTROL_GROUP, truth=truth))
            if known is not None:
                rows.append(arms.difference(name, metric.key, f"{group}, everybody", known, "nobody treated"))
        if ITS_ITEMS in measured and BEFORE in measured:
            changes = [change(after, before) for after, before in zip(measured[ITS_ITEMS], measured[BEFORE], strict=True)]
            truth = next(row.truth for row in rows if row.group == ITS_ITEMS and row.against == CONTROL_GROUP)
            rows.append(arms.difference(name, "chosen", BEYOND, difference(*changes), CONTROL_GROUP, truth=truth))
        return rows

    def _truths(self, arms: Arms, name: str, campaign: _Campaign, run: FinishedRun) -> Mapping[str, Difference]:
        """What treating everybody does, by group of outcome."""
        if name not in self.config.truth:
            return {}
        everybody, nobody = (arms.get(arm, f"truth.{name}") for arm in self.config.truth[name])
        found = {}
        for group in GROUPS:
            if group == BEFORE:
                continue
            metric = campaign.outcome(group, expected=True)
            found[group] = difference(arms.measure(metric, everybody), arms.measure(metric, nobody))
        return found


def _on_people(run: FinishedRun) -> list[str]:
    """The interventions of a run that treat anybody, by person."""
    found = run.config.get("interventions") or {}
    return [name for name, one in found.items() if one["unit"] == "person" and one["share"] > 0]


def _is_aa(run: FinishedRun, intervention: str) -> bool:
    """Whether nobody can respond: an assumed response of 0, or the same text for both groups."""
    one = run.config["interventions"][intervention]
    return bool(one["response"] == 0) if one["response"] != "read" else one["text"] == one["control_text"]


def _campaign(arms: Arms, run: FinishedRun, intervention: str) -> _Campaign:
    """The intervention with the items that it aims at, which are the same in all arms that have it, as far as anybody was shown them."""
    tables = [other.impressions for other in arms.runs.values() if intervention in (other.config.get("interventions") or {})]
    met = [table.filter(pl.col("targeted").str.split("+").list.contains(intervention))["item"].unique() for table in tables]
    items = frozenset(item for found in met for item in found.to_list())
    return _Campaign(intervention, items, int(run.config["interventions"][intervention]["from_round"]))


def _among(metric: Metric, users: list[str]) -> Metric:
    of = metric.sums
    assert of is not None
    return Metric(metric.key, metric.name, "", "use", 1, sums=lambda part: of(part).filter(pl.col("user").is_in(users)))


def _sentence(row: Row, domain: Domain) -> str:
    unit = f"{domain.items} a visit" if row.metric == "visit" else f"of shown {domain.items} {domain.chosen}"
    told = f"{row.arm}, {row.group}: {row.told(signed=True)} {unit}, against {row.against}"
    if row.truth is None:
        return f"{told}."
    if not row.high > row.low:
        return f"{told} (truth {row.truth:+.3f}; there is no interval to hold it)."
    return f"{told} (truth {row.truth:+.3f}, {'inside' if row.low <= row.truth <= row.high else 'outside'} the interval)."

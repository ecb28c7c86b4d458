"""What a log seems to say about causes of choosing, against what intervening says: association, adjustment, PC, randomisation."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field
from scipy.stats import norm

from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.intervals import LEVEL
from experiments.studies.findings import Arms, Findings, Row
from experiments.studies.independence import skeleton, slope
from simulator.errors import ConfigError, with_suggestion
from simulator.plugins import ComponentConfig
from simulator.spread import spreads

VARIABLES = ("popularity", "score", "page", "position", "explanation")
TIERS = (("popularity",), ("score",), ("page", "position", "explanation"), ("chosen",))
"""What can cause what, by time: an item is popular before it is scored, scored before it is placed, placed before it is chosen."""

METHODS = ("association", "adjusted", "intervened")


class DiscoveryConfig(ComponentConfig):
    """Options of `Discovery`.

    Attributes:
        observed: arm whose log is read as an observer would.
        intervened: variable -> arm in which the simulator sets it at random; what a variable does to choosing there is the truth.
        nothing: variables of which people see nothing, so that setting them changes no choice; their truth is 0.
        alpha: level of the independence tests. largest: largest set of variables that the PC algorithm holds fixed.
    """

    observed: str
    intervened: dict[str, str] = Field(min_length=1)
    nothing: tuple[str, ...] = ()
    alpha: float = Field(0.01, gt=0, lt=1)
    largest: int = Field(3, ge=0, le=4)


class Discovery:
    """Rows: change of the probability of choosing per standard deviation of a variable (per presence, for an explanation).

    Groups: "association" is the slope alone in the observed log; "adjusted" the slope with all other observed variables held fixed;
    "intervened" the slope in the arm in which the variable is set at random, in the same unit. Standard deviations are those of the
    observed log, intervals are normal with people as clusters. Taste is observed by nobody, which is what adjusting cannot mend.

    Raises:
        ConfigError: an arm or a variable is not there, or nothing was varied in an arm that is to vary it.
    """

    Config = DiscoveryConfig

    def __init__(self, config: DiscoveryConfig) -> None:
        self.config = config
        for name in (*config.intervened, *config.nothing):
            if name not in VARIABLES:
                raise ConfigError(f"[analysis] intervened: {with_suggestion('variable', name, VARIABLES)}")

    def measure(self, arms: Arms) -> Findings:
        """See `experiments.studies.findings.Analysis`."""
        config = self.config
        observed = variables(arms.get(config.observed, "observed"))
        people = _people(arms.get(config.observed, "observed"))
        spread = {name: 1.0 if name == "explanation" else float(observed[name].std()) for name in VARIABLES}
        there = [name for name in VARIABLES if spreads(observed[name]) > 0]
        rows: list[Row] = []
        truth: dict[str, Row | None] = {}
        for name in there:
            truth[name] = self._truth(arms, name, spread[name])
            known = truth[name]
            true = 0.0 if name in config.nothing else known.value if known else None
            others = np.column_stack([observed[other] for other in there if other != name])
            for method, held in (("association", others[:, :0]), ("adjusted", others)):
                found = slope(observed[name] / spread[name], observed["chosen"], held, people)
                rows.append(_row(config.observed, name, method, found, len(arms.people), true))
            if known is not None:
                rows.append(known)
        edges, parted = skeleton(observed, people, TIERS, config.alpha, config.largest)
        into = {edge.cause for edge in edges if edge.effect == "chosen"}
        right, sentences = [], []
        for name in there:
            caused = self._causes(name, truth[name])
            if caused is None:
                continue
            right.append(caused == (name in into))
            sentences.append(
                f"{name} -> chosen: association {_told(rows, name, 'association')}, adjusted {_told(rows, name, 'adjusted')}, intervened "
                f"{'0 (people do not see it)' if name in config.nothing else _told(rows, name, 'intervened')}; PC "
                f"{'keeps' if name in into else 'removes'} the edge, the truth is {'an edge' if caused else 'no edge'}."
            )
        among = ", ".join(f"{edge.cause} -> {edge.effect}" for edge in edges if edge.effect != "chosen") or "none"
        separated = ", ".join(f"{one.cause} and {one.effect} given {'+'.join(one.given) or 'nothing'}" for one in parted) or "none"
        sentences.append(f"PC gets {sum(right)} of {len(right)} edges into choosing right; other edges: {among}; parted: {separated}.")
        names = dict.fromkeys(there, "change of the probability of choosing per standard deviation")
        return Findings(tuple(rows), tuple(sentences), {name: f"{name} -> chosen" for name in names})

    def _truth(self, arms: Arms, name: str, spread: float) -> Row | None:
        if name not in self.config.intervened:
            return None
        arm = self.config.intervened[name]
        run = arms.get(arm, f"intervened.{name}")
        data = variables(run)
        if spreads(data[name]) == 0:
            raise ConfigError(
                f"[analysis] intervened.{name}: the arm {arm} shows no differences in {name}, so it does not intervene on it."
            )
        return _row(
            arm,
            name,
            "intervened",
            slope(data[name] / spread, data["chosen"], np.zeros((len(data[name]), 0)), _people(run)),
            len(arms.people),
            None,
        )

    def _causes(self, name: str, truth: Row | None) -> bool | None:
        """Whether the variable truly has an edge to choosing, as far as is known."""
        if name in self.config.nothing:
            return False
        return None if truth is None else truth.surely_not_zero


def variables(run: FinishedRun) -> dict[str, np.ndarray]:
    """What an observer of a log sees at each shown item, and whether it was chosen, float64, shape (n,).

    popularity: natural log of 1 + training interactions. score: the recommender's, standardised within the round. page, position: from 1.
    explanation: 1 where an intervention of that kind treated the item, else 0.
    """
    shown = run.impressions.join(run.items.select("item", "train_count"), on="item", how="left", maintain_order="left")
    explained = [name for name, one in (run.config.get("interventions") or {}).items() if one["kind"] == "explanation"]
    score = pl.col("score")
    spread = pl.when(score.std().over("round") > 0).then(score.std().over("round")).otherwise(1.0)
    frame = shown.select(
        popularity=pl.col("train_count").fill_null(0).log1p(),
        score=(score - score.mean().over("round")) / spread,
        page=pl.col("page"),
        position=pl.col("position"),
        explanation=pl.any_horizontal(*(pl.col("treated").str.split("+").list.contains(name) for name in explained))
        if explained
        else pl.lit(0),
        chosen=pl.col("chosen"),
    )
    return {name: frame[name].cast(pl.Float64).to_numpy() for name in frame.columns}


def _people(run: FinishedRun) -> np.ndarray:
    return (
        run.impressions["user"].rle_id().to_numpy()
        if run.impressions["user"].is_sorted()
        else run.impressions["user"].rank("dense").to_numpy()
    )


def _row(arm: str, name: str, method: str, found: tuple[float, float], people: int, truth: float | None) -> Row:
    value, error = found
    half = float(norm.ppf((1 + LEVEL) / 2)) * error
    return Row(arm, name, method, value, value - half, value + half, people, truth=truth)


def _told(rows: list[Row], name: str, method: str) -> str:
    return next((row.told(signed=True) for row in rows if row.metric == name and row.group == method), "unknown")

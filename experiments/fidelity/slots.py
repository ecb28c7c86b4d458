"""Does a place on the page make people choose? Items shuffled within pages, top place against bottom place.

The candidates of held-out people stand on their pages in random order (`experiments.fidelity.scores`), so whatever differs between
places is not the items. A ratio of 1 means that places do not matter; published logs of simulated people reach 4.9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from experiments.analysis.finished_run import FinishedRun
from experiments.config import ExperimentConfig
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.resampling import estimate, person_index, plain, resample
from experiments.fidelity.scores import HELD_OUT, scored
from simulator.errors import UsersimError


def measure(context: FidelityContext) -> dict[str, Any]:
    """Watch rate at the top place over that at the bottom place, for every decision model, and from the run's log.

    Returns:
        ``models``: name -> ``ratio`` (estimate) and ``by_place`` (mean probability of choosing at each place); ``log``: the same
        from the run if its pages were filled at random; ``not_measured``: name -> reason.
    """
    found, missing = {}, {}
    for name in context.models.names:
        reason = context.models.why_not(name)
        if reason is None:
            try:
                found[name] = slot_ratio(
                    context, scored(context, name, HELD_OUT).filter(pl.col("choose").is_finite()), context.question_size
                )
            except UsersimError as error:
                reason = str(error)
        if reason is not None:
            missing[name] = reason
    result: dict[str, Any] = {"models": found, "not_measured": missing}
    if context.run is not None and shows_at_random(context.config):
        log = FinishedRun(context.run).impressions.select("user", "position", choose=pl.col("chosen").cast(pl.Float64))
        result["log"] = slot_ratio(context, log, context.page_size)
    else:
        missing["log"] = (
            "there is no run whose pages were filled at random (the random recommender, or exploration = 'epsilon' with epsilon = 1)"
        )
    return result


def slot_ratio(context: FidelityContext, rows: pl.DataFrame, page_size: int) -> dict[str, Any]:
    """The ratio and the mean at every place of full pages.

    Args:
        context: of the report. rows: `user`, `position` (from 1), `choose` (a probability, or 1 and 0). page_size: the bottom place.
    """
    person, n = person_index(rows["user"].to_numpy())
    place, choose = rows["position"].to_numpy() - 1, rows["choose"].to_numpy()
    cells = person * page_size + place
    sums = np.bincount(cells, weights=choose, minlength=n * page_size).reshape(n, page_size)
    counts = np.bincount(cells, minlength=n * page_size).reshape(n, page_size)
    rates = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    weights = resample(n, context.bootstrap, context.stream.child("slots"))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ sums) / (weights @ counts)
        ratios = means[:, 0] / means[:, -1]
        ratio = float(rates[0] / rates[-1]) if rates[-1] > 0 else float("nan")
    return {"ratio": plain(estimate(ratio, ratios, n)), "by_place": rates.tolist()}


def shows_at_random(config: ExperimentConfig) -> bool:
    """Whether every place of a page holds a uniformly random item."""
    feed = config.recommender.feed_config()
    at_random = config.recommender.use == "environments.recommenders.random:Random" and feed.exploration == "none"
    return at_random or (feed.exploration == "epsilon" and feed.epsilon == 1.0)

"""Whether a metric could have come out otherwise: what nothing moves, or what is the same for everybody, grounds no verdict.

A simulated person draws from probabilities that the log holds. Where those behind a metric are the same at the same place of two
arms, whatever stood there, the metric does not react to what is shown: its difference is luck, or exactly nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.analysis.compared_metrics import BY_KEY, Metric, Part
from experiments.analysis.paired import Difference, Measured

KEYS = {"impressions": ["user", "session", "page", "position"], "pages": ["user", "session", "page"], "sessions": ["user", "session"]}
"""What a place is in each table; rounds are left out, since sessions are counted over all of them."""

_EQUAL = 1e-9
"""Probabilities that differ by less differ by rounding."""


def no_verdict(
    metric: Metric, found: Difference, arm: tuple[str, Measured, Sequence[Part]], base: tuple[str, Measured, Sequence[Part]]
) -> str | None:
    """Why a difference grounds no verdict, in a few words; None if it may ground one.

    Args:
        metric: which. found: the difference. arm, base: name, value, and the run for each seed (or a round of it), of both arms.
    """
    empty = next((name for name, measured, _ in (arm, base) if not np.isfinite(measured.value)), None)
    if empty is not None:
        return f"there is nothing to measure it by in {empty}"
    if found.people < 2:
        return "one person tells no difference"
    if not np.isfinite(found.error):
        return "no single person moves it"
    if found.error == 0:
        return _without_spread(metric, found)
    if reacts(metric, arm[2], base[2]) is False:
        rated = all(part.run.has_ratings for _, _, parts in (arm, base) for part in parts)
        return "nothing that is shown moves it" + ("" if rated else ", since the data has no ratings")
    return None


def _without_spread(metric: Metric, found: Difference) -> str | None:
    if found.value == 0:
        return "it is the same for everybody in both arms"
    # What is shown may differ by exactly so much for everybody; what people draw from chances may not.
    return None if metric.kind == "range" else "it differs by the same for everybody"


def constant(table: pl.DataFrame, column: str) -> bool:
    """Whether what people drew from was the same in every row of a run's table, so that nothing there can have moved them.

    Args:
        table: of the log. column: with the expectation; without it nothing is known, and the answer is False.
    """
    if column not in table.columns or table.height < 2:
        return False
    known = table[column].drop_nulls()
    return known.len() > 1 and float(known.max()) - float(known.min()) <= _EQUAL  # type: ignore[arg-type]


def reacts(metric: Metric, arm: Sequence[Part], base: Sequence[Part]) -> bool | None:
    """Whether what is shown moves a metric of people; None where the logs cannot tell.

    Args:
        metric: which. arm, base: the runs of two arms, the same seeds in both.
    """
    found = [_reacts(metric, one, other) for one, other in zip(arm, base, strict=True)]
    return True if any(found) else None if None in found else False


def _reacts(metric: Metric, one: Part, other: Part) -> bool | None:
    if not metric.expected or _same_pages(one, other):
        return None
    if metric.key == "pages" and any((part.sessions["exit"] == "exhausted").any() for part in (one, other)):
        return True  # a visit that ends because nothing is left to show
    answers = [_differs(table, column, one, other, None) for table, column in metric.expected]
    if metric.through is not None and any(answers):
        # It moves with what people rated; where ratings do not react, it must move with the same ratings too.
        by, column = metric.through
        if _reacts(BY_KEY[by], one, other) is False:
            answers = [_differs(table, name, one, other, column) for table, name in metric.expected]
    return True if any(answers) else None if None in answers else False


def _same_pages(one: Part, other: Part) -> bool:
    columns = [*KEYS["impressions"], "item"]
    first, second = (part.impressions.select(columns).sort(columns) for part in (one, other))
    return first.equals(second)


def _differs(table: str, column: str, one: Part, other: Part, given: str | None) -> bool | None:
    """Whether an expectation differs at the same place of two arms; with `given`, only where that column is equal in both."""
    frames = [getattr(part, table) for part in (one, other)]
    if not all(column in frame.columns for frame in frames):
        return None
    wanted = [*KEYS[table], column, *([given] if given else [])]
    both = frames[0].select(wanted).join(frames[1].select(wanted), on=KEYS[table], suffix=" of the other")
    if given is not None:
        both = both.filter(pl.col(given).eq_missing(pl.col(f"{given} of the other")))
    gap = (both[column] - both[f"{column} of the other"]).abs().drop_nulls()
    return bool((gap > _EQUAL).any()) if len(gap) else None

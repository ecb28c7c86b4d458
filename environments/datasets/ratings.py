"""Ratings of interactions: which values mean "not rated", and which would stretch the scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.reading import Reader
from environments.datasets.values import NOTHING

STRETCHED = 5.0
"""A scale that values far from all others make so many times as wide is refused."""

WIDER = 2.0
"""A scale that they make so many times as wide is a note."""

LARGEST = 1e9
"""No rating is larger, up or down."""

_FEW_ROWS = 10
"""Fewer ratings say nothing about what is usual."""

_STEPS = 3.0
"""A gap is worth a note from so many of the usual steps between ratings on; small data misses a level or two."""

_FEW = 0.05
"""Share of the ratings that several values far from all others have, at most; a single value may be a sign with any share below half."""


@dataclass(frozen=True)
class Wild:
    """Values that stand apart from all other ratings.

    Attributes:
        low, high: of the other ratings. below: whether the values lie below them. times: as wide is the scale with them.
        values: how many different ones, lowest first. rows: how many ratings they are.
    """

    low: float
    high: float
    below: bool
    times: float
    values: tuple[float, ...]
    rows: int


def read_ratings(
    reader: Reader,
    table: RawTable,
    *,
    scale: tuple[float, float] | None = None,
    unrated: tuple[str | float, ...] = (),
    strict: bool = False,
) -> RawTable:
    """Turns the column `rating` of text into Float64 after checking it; null where an interaction is not rated.

    Args:
        reader: for the checks.
        table: picked interactions.
        scale: lowest and highest allowed value; None for any finite number.
        unrated: values that mean that an interaction is not rated, besides empty fields.
        strict: whether an empty field is an error, too.

    Raises:
        DataError: a value is no number or out of range, or without a given scale a few values would stretch it beyond all others.
    """
    text = pl.col("rating").str.strip_chars()
    signs = [sign for sign in unrated if isinstance(sign, str)]
    numbers = [float(sign) for sign in unrated if not isinstance(sign, str)]
    meant = text.is_in(signs) | text.cast(pl.Float64, strict=False).is_in(numbers)
    empty = text.is_null() | text.is_in(list(NOTHING))
    if not strict:
        table = table.with_column("rating", pl.when(~(meant.fill_null(False) | empty)).then(text))
    table = reader.numbers(table, "rating", scale=scale, optional=not strict)
    if scale is None:
        beyond = pl.col("rating").abs() > LARGEST
        table = reader.check(table, beyond, column="rating", reason="rating out of range", allowed=f"a number up to {LARGEST:g}")
        table = _unstretched(reader, table)
        _say_what_lowest_may_mean(reader, table)
    return table


def wild(values: np.ndarray) -> Wild | None:
    """Values on one side of the widest gap between ratings, if that gap is wider than all that is on the other side.

    Args:
        values: ratings, float, shape (n,).
    """
    levels, counts = np.unique(values, return_counts=True)
    if values.size < _FEW_ROWS or levels.size < 4:
        return None
    gaps = np.diff(levels)
    cut = int(gaps.argmax()) + 1
    below, above = int(counts[:cut].sum()), int(counts[cut:].sum())
    is_below = below < above
    apart, usual = (levels[:cut], levels[cut:]) if is_below else (levels[cut:], levels[:cut])
    rows = min(below, above)
    if usual.size < 3 or (apart.size > 1 and rows > _FEW * values.size):
        return None
    times = float((levels[-1] - levels[0]) / (usual[-1] - usual[0]))
    steps = float(gaps.max() / np.median(np.diff(usual)))
    if times < WIDER or (times < STRETCHED and (usual.size < 4 or steps < _STEPS)):
        return None
    return Wild(float(usual[0]), float(usual[-1]), is_below, times, tuple(apart.tolist()), rows)


def levels_in_words(values: pl.Series) -> str:
    """The different ratings: "1, 2, 3, 4, 5", "0.5 to 5 in steps of 0.5", or how many there are."""
    levels = np.unique(values.to_numpy().astype(np.float64))
    if levels.size <= 12:
        return ", ".join(f"{level:g}" for level in levels)
    steps = np.diff(levels)
    span = f"{levels.size} levels from {levels[0]:g} to {levels[-1]:g}"
    return f"{span}, in steps of {steps[0]:g}" if np.allclose(steps, steps[0], rtol=1e-3) else span


def _unstretched(reader: Reader, table: RawTable) -> RawTable:
    found = wild(table.frame["rating"].drop_nulls().to_numpy())
    if found is None:
        return table
    rating = pl.col("rating")
    apart = rating < found.low if found.below else rating > found.high
    settings = (
        f"dataset.rating_scale = [{found.low:g}, {found.high:g}] says what is allowed, or a wider one that it is right"
        f"{f', and dataset.unrated = [{found.values[0]:g}] that it means not rated' if len(found.values) == 1 else ''}"
    )
    if found.times >= STRETCHED:
        return reader.check(
            table,
            apart,
            column="rating",
            reason="rating far from all others",
            allowed=f"a rating near the others, which are from {found.low:g} to {found.high:g}",
            found=rating,
            advice=lambda _: (
                f"with it the scale would be {found.times:.3g} times as wide, and everybody else would rate in one corner of it; {settings}"
            ),
        )
    line, value = table.frame.filter(apart).select(LINE, rating).row(0)
    reader.note(
        f"{table.place(line, 'rating')}: {value:g} stands apart from all other ratings, {found.low:g} to {found.high:g}, and makes the "
        f"scale {found.times:.2g} times as wide ({found.rows:,} such rows); {settings}."
    )
    return table


def _say_what_lowest_may_mean(reader: Reader, table: RawTable) -> None:
    """A note where the lowest rating is 0 or -1 and the others start at 1, or -1 and they start at 0: it often means "not rated"."""
    values = table.frame["rating"].drop_nulls()
    levels = np.unique(values.to_numpy())
    if levels.size < 4 or levels[0] not in (0.0, -1.0) or levels[1] != (1.0 if levels[0] == 0 else levels[1]) or levels[1] < 0:
        return
    rows = int((values == levels[0]).sum())
    reader.note(
        f"{table.path}: the rating {levels[0]:g} stands on {rows:,} of {values.len():,} rows and is taken for the worst one; if it means "
        f"'not rated', set dataset.unrated = [{levels[0]:g}]."
    )

"""Times of interactions: numbers since 1970 or dates, exact to the nanosecond as far as the file is, so that their order is exact.

`read_times` leaves two columns: `timestamp`, whole seconds, which is what a data set stores, and `EXACT`, nanoseconds, by which
interactions are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import polars as pl

from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.reading import SKIPPING, Reader
from simulator.errors import DataError

TimeUnit = Literal["s", "ms", "us", "ns"]

EXACT = "\0exact"
"""Column of checked interactions with the time in nanoseconds since 1970, Int64."""

LATEST_TIME = 4_102_444_800
"""2100-01-01 in seconds since 1970; later timestamps are surely in another unit."""

TICKS: Mapping[TimeUnit, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How often a unit goes into a second."""

UNITS: Mapping[TimeUnit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_NANO = 1_000_000_000
_FIRST_YEAR = 31_536_000
_NUMBER = r"^\+?(\d{1,19})(?:\.(\d*))?$"

_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%Y.%m.%d", "%m %d, %Y", "%b %d, %Y", "%d %b %Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_ZONES = ("", "%z", " %z", " UTC")
_OTHERS = ("%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%Y%m%dT%H%M%S", "%Y-%m", "%Y/%m")
FORMATS = (*(f"{date}{clock}{zone}" for zone in _ZONES for clock in _CLOCKS for date in _DATES if clock or not zone), *_OTHERS)
"""Formats that are tried to name the one of a file."""

NUMBER_FORMATS: Mapping[int, str] = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Dates that are written as one number, by their digits."""


def read_times(
    reader: Reader, table: RawTable, *, unit: TimeUnit = "s", time_format: str | None = None, optional: bool = False
) -> RawTable:
    """Turns the column `timestamp` of text into whole seconds and `EXACT` after checking it.

    Args:
        reader: for the checks.
        table: picked interactions; times that came as dates with a type are dates, whatever unit or format is given.
        unit: of numbers.
        time_format: of dates in text; None for numbers.
        optional: whether an empty field is allowed and becomes null.

    Raises:
        DataError: a value is no time, before 1970 or after the year 2100, or the numbers are dates.
    """
    if "timestamp" in table.dates:
        unit, time_format = "ns", None
    if time_format is not None:
        dated, given = _dates(reader, table, time_format, optional)
        return _seconds(reader, dated, given, f"dates like {time_format!r}", None)
    _refuse_numbers_that_are_dates(table)
    text = pl.col("timestamp").str.strip_chars()
    value = text.cast(pl.Float64, strict=False)
    bad = value.is_null() | ~value.is_finite()
    bad = bad & (text.fill_null("") != "") if optional else bad | text.is_null()
    table = reader.check(
        table,
        bad,
        column="timestamp",
        reason="timestamp is not a number",
        allowed=f"a number, {UNITS[unit]} since 1970",
        advice=lambda found: _name_format(table.frame["timestamp"], found),
    )
    whole, part = text.str.extract(_NUMBER, 1).cast(pl.Int64, strict=False), text.str.extract(_NUMBER, 2).fill_null("")
    digits = len(str(_NANO // TICKS[unit])) - 1
    share = pl.lit(0) if not digits else part.str.slice(0, digits).str.pad_end(digits, "0").cast(pl.Int64, strict=False).fill_null(0)
    inside = (value / TICKS[unit] >= 0) & (value / TICKS[unit] < LATEST_TIME)
    exact = pl.when(inside & whole.is_not_null()).then(whole * (_NANO // TICKS[unit]) + share)
    rounded = pl.when(inside).then((value * (_NANO // TICKS[unit])).round().cast(pl.Int64, strict=False))  # such as 1.6e9
    table = table.with_column(EXACT, pl.coalesce(exact, rounded))
    if "timestamp" in table.dates:
        return _seconds(reader, table, text.fill_null("") != "", "dates with a type", None)
    return _seconds(reader, table, text.fill_null("") != "", f"{UNITS[unit]} since 1970", unit)


def checked_format(time_format: str) -> str:
    """The format as polars reads it (chrono's), where Python's has other signs.

    Raises:
        ValueError: it names no part of a date, or one that cannot be read.
    """
    if not 0 < time_format.count("%") <= 40 or len(time_format) > 200:
        raise ValueError("must be a format of dates such as '%Y-%m-%d %H:%M:%S'")
    if "%Z" in time_format:
        raise ValueError("%Z (a zone's name) tells no offset; use %z for offsets such as +0200, or write the name out, as in '%H:%M UTC'")
    chrono = time_format.replace(".%f", "%.f").replace("%f", "%6f")
    probe = pl.Series(["2001-02-03"]).str
    try:
        probe.to_datetime(chrono, strict=False, time_unit="us")
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"cannot be read: {str(error).splitlines()[0]}") from error
    return chrono


def likely_format(texts: pl.Series) -> str | None:
    """The first of `FORMATS` that reads all of the texts."""
    sample = texts.str.strip_chars().drop_nulls().unique(maintain_order=True).head(1_000)
    for time_format in FORMATS if sample.len() else ():
        if _parsed(sample, time_format, "us").null_count() == 0:
            return time_format
    return None


def _parsed(texts: pl.Series, time_format: str, unit: Literal["us", "ns"]) -> pl.Series:
    """UTC datetimes, null where a text is not of the format."""
    if "%z" in time_format:
        texts = texts.str.replace(r"Z$", "+0000")
    try:
        dates = texts.str.to_datetime(time_format, strict=False, time_unit=unit)
    except pl.exceptions.PolarsError:
        return pl.Series([None] * texts.len(), dtype=pl.Datetime(unit, "UTC"))
    return dates if dates.dtype == pl.Datetime(unit, "UTC") else dates.dt.replace_time_zone("UTC")


def _name_format(texts: pl.Series, found: str) -> str:
    """What to do about a time that is no number."""
    filled = texts.filter(texts.str.strip_chars().fill_null("") != "")
    whole = likely_format(filled.filter(filled.str.strip_chars().cast(pl.Float64, strict=False).is_null()))
    one = whole or likely_format(pl.Series([found]))
    if one:
        return f"times that are dates need their format: dataset.time_format = {one!r}"
    return (
        "correct the row; times that are dates need dataset.time_format, for example '%Y-%m-%d %H:%M:%S', and "
        "dataset.on_bad_rows = 'skip' leaves such rows out"
    )


def _dates(reader: Reader, table: RawTable, time_format: str, optional: bool) -> tuple[RawTable, pl.Expr]:
    text = table.frame["timestamp"].str.strip_chars()
    coarse, fine = _parsed(text, time_format, "us"), _parsed(text, time_format, "ns")
    bad = coarse.is_null() & (text.fill_null("") != "") if optional else coarse.is_null()
    other = likely_format(text.filter(bad)) if bad.any() else None
    table = reader.check(
        table.with_column("\0coarse", pl.lit(coarse.dt.epoch("s"))).with_column("\0fine", pl.lit(fine.dt.epoch("ns"))),
        pl.lit(bad),
        column="timestamp",
        reason="timestamp is not a date",
        allowed=f"a date like {time_format!r}",
        advice=None if other is None else lambda _: f"its format looks like {other!r} (dataset.time_format)",
    )
    seconds = pl.col("\0coarse")
    exact = pl.when((seconds >= 0) & (seconds < LATEST_TIME)).then(pl.col("\0fine"))
    given = pl.col("timestamp").str.strip_chars().fill_null("") != ""
    return replace(table, frame=table.frame.with_columns(exact.alias(EXACT)).drop("\0coarse", "\0fine")), given


def _seconds(reader: Reader, table: RawTable, given: pl.Expr, found: str, unit: TimeUnit | None) -> RawTable:
    """Checks that exact times are from 1970 to 2100, and floors them; says what they are. `unit` is that of numbers, None for dates."""
    outside, advice, allowed = given & pl.col(EXACT).is_null(), None, "a date from 1970 to 2099"
    if unit is not None:
        allowed = f"a time in {UNITS[unit]} since 1970, before the year 2100"
        settings = f"files in another unit need dataset.time_unit{_likelier_unit(table, unit)}, and dates need dataset.time_format"
        advice = lambda _: f"{settings}; {SKIPPING}"  # noqa: E731
    table = reader.check(table, outside, column="timestamp", reason="timestamp out of range", allowed=allowed, advice=advice)
    table = table.with_column("timestamp", pl.col(EXACT).floordiv(_NANO))
    last = table.frame["timestamp"].max()
    reader.tell("time unit", found)
    if isinstance(last, int) and last < _FIRST_YEAR:
        reader.note(
            f"{table.path}: all times lie in the year 1970, at most {last / 86_400:.2g} days after its beginning; they were read as "
            f"{found}: if they are in another unit or are dates, set dataset.time_unit or dataset.time_format, and if they are no "
            "times, dataset.timestamp = ''."
        )
    return table


def _likelier_unit(table: RawTable, unit: TimeUnit) -> str:
    """ " = 'ms'" if all numbers are times between 1990 and 2100 in that unit."""
    values = table.frame["timestamp"].str.strip_chars().cast(pl.Float64, strict=False).drop_nulls()
    for other, ticks in TICKS.items():
        if other != unit and values.len() and ((values / ticks > 631_152_000) & (values / ticks < LATEST_TIME)).all():
            return f" (here, it seems, {other!r})"
    return ""


def _refuse_numbers_that_are_dates(table: RawTable) -> None:
    """Stops at dates such as 20240131, which as numbers of seconds would all lie in one hour of 1970."""
    if "timestamp" in table.dates:
        return
    texts = table.frame["timestamp"].str.strip_chars()
    filled = texts.str.replace(r"\.0*$", "").filter(texts.fill_null("") != "")
    digits = filled.str.len_chars().unique()
    if digits.len() != 1 or digits[0] not in NUMBER_FORMATS or not filled.str.contains(r"^(?:19|20)\d+$").all():
        return
    time_format = NUMBER_FORMATS[digits[0]]
    if _parsed(filled, time_format, "us").null_count():
        return
    line = table.frame.filter(pl.col("timestamp").str.strip_chars().fill_null("") != "")[LINE][0]
    raise DataError(
        f"{table.place(line, 'timestamp')}: found '{filled[0]}', and all times are such dates written as numbers, not numbers since 1970; "
        f"set dataset.time_format = {time_format!r}."
    )

"""When people come: sessions read off the time gaps of their training history.

A session ends where nothing happens for half an hour, the usual rule (Catledge & Pitkow, "Characterizing browsing
strategies in the World-Wide Web", 1995, found 25.5 minutes; Halfaker et al., "User session identification based on
strong regularities in inter-activity time", WWW 2015, find a valley between minutes and days on MovieLens and elsewhere).
Most people of a public data set left only a few sessions, so everything is shrunk towards the population.
"""

from __future__ import annotations

import numpy as np

from agents.returning import return_rates
from agents.shrinkage import dirichlet_strength, normal_strength, shrink_shares
from agents.visits import Sessions, fit_visits
from simulator.records import Rhythm

WEEK = 7 * 24 * 3600.0
HOURS = 24
SESSION_GAP = 1_800.0
"""Seconds; a longer pause ends a session."""

FEWEST_SECONDS = 1.0
"""Nobody takes in an item faster than this, whatever a log of whole seconds says."""

DEFAULT_RHYTHM = Rhythm(
    sessions_per_week=2.0,
    gap_log_mean=float(np.log(WEEK / 2.0) - 0.5),
    gap_log_sd=1.0,
    items_per_session=10.0,
    seconds_per_item=30.0,
    hours=(1.0 / HOURS,) * HOURS,
    source="default",
)
"""For data without times: two sessions of ten items a week (the mean of the gap distribution is half a week), 30 s an item, any hour."""


def split_sessions(people: np.ndarray, times: np.ndarray, gap_seconds: float) -> Sessions:
    """Cuts histories wherever two consecutive interactions of a person are more than `gap_seconds` apart.

    Args:
        people: non-decreasing, shape (rows,), not empty. times: seconds, non-decreasing per person, shape (rows,).
        gap_seconds: longest pause within a session, > 0.

    Returns:
        The sessions; every interaction is in exactly one.
    """
    first = np.ones(len(people), dtype=bool)
    first[1:] = (np.diff(people) != 0) | (np.diff(times) > gap_seconds)
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(people)))
    return Sessions(people[starts], times[starts], times[starts + sizes - 1], sizes, np.cumsum(first) - 1)


def fit_rhythms(people: np.ndarray, times: np.ndarray | None, n: int, gap_seconds: float, kept: float = 1.0, seed: int = 0) -> list[Rhythm]:
    """The rhythm of everybody.

    * Gaps between sessions are lognormal. Log-mean and log-variance are shrunk by pseudo-gaps whose number is estimated
      (`normal_strength`); "own" means that the person's gaps outweigh them.
    * Sessions per week while active: (gaps + s) / (weeks from the first to the last session + s / population rate), the
      posterior mean of a Gamma-Poisson rate, with the same number s of pseudo-gaps.
    * Gaps are multiplied such that people come as often, relative to each other, as `agents.returning` finds, and all together as
      often as without.
    * Items per session: mean, completed by one session of the population.
    * Seconds per item: see `seconds_per_item`.
    * Hours: shares of session starts, completed by `dirichlet_strength` starts of the population.

    Args:
        people: 0..n-1, non-decreasing, everybody present, shape (rows,).
        times: seconds since 1970 UTC, non-decreasing per person, or None if the data has none.
        n: number of people.
        gap_seconds: longest pause within a session.
        kept, seed: `Dataset.kept_share` and `Dataset.split_seed`, for the visits (`agents.visits`).

    Returns:
        One rhythm per person; `DEFAULT_RHYTHM` for all if there are no times.
    """
    if times is None:
        return [DEFAULT_RHYTHM] * n
    sessions = split_sessions(people, times, gap_seconds)
    log_means, log_sds, n_gaps, strength = _gaps(sessions, n)
    rates = _rates(sessions, n_gaps, strength, n)
    counts = np.bincount(sessions.people, minlength=n)
    items = (np.bincount(people, minlength=n) + sessions.sizes.mean()) / (counts + 1.0)
    seconds = seconds_per_item(sessions, times, n)
    hours = _hours(sessions, n)
    visits = fit_visits(sessions, times, n, kept, seed)
    factors = _gap_factors(sessions, log_means, log_sds, float(times.max()), n)
    return [
        Rhythm(
            sessions_per_week=float(rates[i]),
            gap_log_mean=float(log_means[i]),
            gap_log_sd=float(log_sds[i]),
            items_per_session=float(items[i]),
            seconds_per_item=float(seconds[i]),
            hours=tuple(hours[i].tolist()),
            source="own" if n_gaps[i] > strength else "population",
            visits=visits[i],
            gap_factor=float(factors[i]),
        )
        for i in range(n)
    ]


def _gaps(sessions: Sessions, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Log-mean and log-sd of the gaps of each person after shrinking, number of own gaps, pseudo-gaps."""
    same = np.diff(sessions.people) == 0
    owners = sessions.people[1:][same]
    logs = np.log((sessions.starts[1:] - sessions.ends[:-1])[same].astype(np.float64))
    own = np.bincount(owners, minlength=n)
    strength = normal_strength(owners, logs, n)
    mean = float(logs.mean()) if len(logs) else DEFAULT_RHYTHM.gap_log_mean
    log_means = (np.bincount(owners, weights=logs, minlength=n) + strength * mean) / (own + strength)
    residuals = np.bincount(owners, weights=(logs - log_means[owners]) ** 2, minlength=n)
    pooled = float(residuals.sum() / len(logs)) if len(logs) > 1 else DEFAULT_RHYTHM.gap_log_sd**2
    variances = (residuals + strength * pooled) / (own + strength)
    return log_means, np.sqrt(np.maximum(variances, 1e-4)), own, strength


def _gap_factors(sessions: Sessions, log_means: np.ndarray, log_sds: np.ndarray, end: float, n: int) -> np.ndarray:
    """What the gaps of each person are multiplied by, shape (n,), > 0, for rates as of `return_rates` whose mean stays as it was.

    The rate of lognormal gaps is one over their mean, ``exp(-mean - sd^2 / 2)``.
    """
    starts = np.full(n, end)
    np.minimum.at(starts, sessions.people, sessions.starts.astype(np.float64))
    wanted = return_rates(np.bincount(sessions.people, minlength=n) - 1.0, (end - starts) / WEEK)
    rates = np.exp(-log_means - 0.5 * log_sds**2)
    if np.ptp(wanted) == 0.0:
        return np.ones(n)
    return np.asarray(rates / wanted * (wanted.mean() / rates.mean()))


def _rates(sessions: Sessions, n_gaps: np.ndarray, strength: float, n: int) -> np.ndarray:
    """Sessions per week of each person, > 0."""
    first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, dtype=np.int64)
    np.minimum.at(first, sessions.people, sessions.starts)
    np.maximum.at(last, sessions.people, sessions.starts)
    weeks = np.maximum(last - first, 0) / WEEK
    population = n_gaps.sum() / weeks.sum() if weeks.sum() > 0 else DEFAULT_RHYTHM.sessions_per_week
    rates: np.ndarray = (n_gaps + strength) / (weeks + strength / population)
    return rates


def seconds_per_item(sessions: Sessions, times: np.ndarray, n: int) -> np.ndarray:
    """Median seconds that each person spends on an item within a session, at least `FEWEST_SECONDS`.

    Logs of rating sites come in bursts: a page of ratings is sent at once, and twenty items carry the same second. The
    time since the burst before belongs to all items of the burst, so each gets an equal part of it. The log of the
    median is then completed by five items of the population's median.

    Args:
        sessions: of `split_sessions`. times: of the interactions, in the same order. n: number of people.

    Returns:
        Shape (n,); the default rhythm's value if no session of anybody has two different times.
    """
    first = np.ones(len(times), dtype=bool)
    first[1:] = (np.diff(times) != 0) | (np.diff(sessions.session) != 0)
    bursts = np.flatnonzero(first)
    sizes = np.diff(np.append(bursts, len(times)))[1:]
    within = np.diff(sessions.session[bursts]) == 0
    each = (np.diff(times[bursts]) / sizes)[within]
    values = np.repeat(each, sizes[within])
    owners = np.repeat(sessions.people[sessions.session[bursts[1:][within]]], sizes[within])
    if not len(values):
        return np.full(n, DEFAULT_RHYTHM.seconds_per_item)
    counts = np.bincount(owners, minlength=n)
    ordered = values[np.lexsort((values, owners))]
    starts = np.cumsum(counts) - counts
    known = np.flatnonzero(counts)
    middle = (ordered[starts[known] + (counts[known] - 1) // 2] + ordered[starts[known] + counts[known] // 2]) / 2.0
    logs = np.zeros(n)
    logs[known] = np.log(np.maximum(middle, FEWEST_SECONDS))
    usual = float(np.median(logs[known]))
    seconds: np.ndarray = np.exp((counts * logs + 5.0 * usual) / (counts + 5.0))
    return seconds


def _hours(sessions: Sessions, n: int) -> np.ndarray:
    """Shares of session starts by hour of the day, shape (n, 24), rows sum to 1."""
    counts = np.zeros((n, HOURS))
    np.add.at(counts, (sessions.people, (sessions.starts // 3600) % HOURS), 1.0)
    mean = (counts.sum(axis=0) + 1.0) / (counts.sum() + HOURS)
    return shrink_shares(counts, mean, dirichlet_strength(counts))

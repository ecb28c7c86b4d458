"""Visits as the training part shows them: how long they are, whether somebody comes back, when, and how fast they go.

Nothing is assumed about the shape of lengths and gaps. A person's next one is one of their own with probability
``n / (n + k)``, otherwise one of somebody else's: the predictive distribution of a Dirichlet process whose base is everybody
(Blackwell & MacQueen, "Ferguson distributions via Polya urn schemes", Annals of Statistics 1, 1973). So the heavy tails of
all people together stay as they are, and each person is as far from the others as k pseudo-observations allow; k is read off
the data (`agents.shrinkage.normal_strength`). First visits, in which people of rating sites rate what they remember, are kept
apart from later ones, and half of one is a person's own (`FIRST_STRENGTH`). Whether somebody comes back after a visit is a beta-geometric
model, as in Fader, Hardie & Lee, "'Counting your customers' the easy way", Marketing Science 24 (2005).

Where a random split left a share of the interactions (`Dataset.kept_share`), a visit is longer than it looks: the hidden ones
are drawn again, and visits weigh more the likelier such a visit was to vanish (Horvitz & Thompson, JASA 47, 1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import betaln, digamma

from agents.optimising import smallest
from agents.shrinkage import normal_strength
from simulator.records import VisitPool, Visits, Weighted
from simulator.seeds import Stream

FIRST_STRENGTH = 1.0
"""How many first visits of others complete a person's own one. Everybody has a single one, so the data cannot tell how much people differ;
but whoever lives their time again begins with the very visit that the log shows, and only as much is left open as
`agents.shrinkage.STRENGTHS` leaves of the clearest data."""

LONGEST = 5_000
"""Longer visits count as this long."""

SWEEPS, LEAST, STEEPEST = 5, 0.01, -0.9
"""Of the estimate of paces: repetitions, smallest variance between visits, and steepest change of pace with length."""

STEPS = 0.25
"""The mean number of choices on a page is taken to the nearest multiple of this."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Training interactions cut into sessions.

    Attributes:
        people: whose session it is, shape (n_sessions,), non-decreasing, in order of time per person.
        starts, ends: time of the first and the last interaction, seconds, shape (n_sessions,).
        sizes: interactions in it, >= 1, shape (n_sessions,).
        session: the session of each interaction, shape (rows,).
    """

    people: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sizes: np.ndarray
    session: np.ndarray


def fit_visits(sessions: Sessions, times: np.ndarray, n: int, kept: float = 1.0, seed: int = 0) -> list[Visits]:
    """The visits of everybody.

    Args:
        sessions: of `agents.rhythm.split_sessions`; everybody 0..n-1 has one. times: of the interactions, seconds, in the same order.
        n: number of people. kept: share of the interactions that a random split left, in (0, 1]; 1 if the log is whole.
        seed: of that split; what it hid is drawn again with it.

    Returns:
        One record per person; all share one pool.
    """
    sizes = _whole(sessions.sizes, sessions.people, kept, seed).clip(max=LONGEST)
    weights = 1.0 / (1.0 - (1.0 - kept) ** sizes)
    first = np.ones(len(sizes), dtype=bool)
    first[1:] = np.diff(sessions.people) != 0
    same = ~first[1:]
    owners, gaps = sessions.people[1:][same], (sessions.starts[1:] - sessions.ends[:-1])[same].astype(np.float64)
    paces, between_visits, between_pages, slope = _paces(sessions, times, kept, n)
    later = ~first
    pool = VisitPool(
        first=Weighted(sizes[first], weights[first]),
        later=Weighted(sizes[later], weights[later]) if later.any() else Weighted(sizes, weights),
        gaps=np.sort(gaps) if len(gaps) else np.array([7 * 86_400.0]),
        gap_shares=_by_person(owners, gaps, n),
        strength=normal_strength(sessions.people[later], np.log(sizes[later]), n),
        gap_strength=normal_strength(owners, np.log(gaps), n),
        pace_between_visits=between_visits,
        pace_between_pages=between_pages,
        pace_slope=slope,
    )
    # Who was last seen near the end of the log may still come back: they count as gone as far as others would have come by then.
    ends = np.zeros(n, dtype=np.float64)
    np.maximum.at(ends, sessions.people, sessions.ends.astype(np.float64))
    gone = np.searchsorted(pool.gaps, times.max() - ends, side="right") / len(pool.gaps) if len(gaps) else np.ones(n)
    came = np.bincount(sessions.people[later], weights=weights[later], minlength=n)
    a, b = beta_geometric(came, gone)
    bounds = np.searchsorted(sessions.people, np.arange(n + 1))
    gap_bounds = np.searchsorted(owners, np.arange(n + 1))
    return [
        Visits(
            start=int(sessions.starts[low]),
            first=Weighted(sizes[low : low + 1], weights[low : low + 1]),
            later=Weighted(sizes[low + 1 : high], weights[low + 1 : high]),
            gaps=gaps[gap_bounds[i] : gap_bounds[i + 1]],
            returns=(a + float(came[i]), b + float(gone[i])),
            pace=float(paces[i]),
            pool=pool,
        )
        for i, (low, high) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    ]


def comes_back(visits: Visits, session: int, stream: Stream) -> bool:
    """Whether there is another visit after the one before `session`; the person's own chance is drawn once from its posterior.

    Args:
        session: number of the visit that may come, from 1. stream: of the person, not of the round.
    """
    chance = stream.child("comes back").generator().beta(*visits.returns)
    return bool(stream.child("comes back", session).generator().random() < chance)


def gap(visits: Visits, session: int, stream: Stream) -> float:
    """Seconds from the end of a visit to the start of visit number `session`: one of the person's own gaps, or somebody else's."""
    rng, pool, own = stream.child("gap", session).generator(), visits.pool, visits.gaps
    if rng.random() * (len(own) + pool.gap_strength) < len(own):
        return float(own[int(rng.integers(len(own)))])
    return float(pool.gaps[min(int(np.searchsorted(pool.gap_shares, rng.random(), side="right")), len(pool.gaps) - 1)])


def seconds_on_page(visits: Visits, session: int, before: int, chosen: int, noise: float, stream: Stream, longest: float) -> int:
    """Seconds on a page on which some things were chosen: the person's pace, times that of the visit, times that of the page.

    The longer a visit lasts the quicker it goes, such that visits of every length take as long as they really do.

    Args:
        visits: of the person. session: number of the visit. before: things chosen in this visit before this page, >= 0.
        chosen: things chosen on the page, >= 1. noise: standard normal, of the page. stream: of the person.
        longest: seconds after which it would be another visit.
    """
    pool = visits.pool
    visit = pool.pace_between_visits * float(stream.child("pace", session).generator().standard_normal())
    page = pool.pace_between_pages * noise - 0.5 * pool.pace_between_pages**2
    power = 1.0 + pool.pace_slope
    effort = float((before + chosen) ** power - before**power)
    return max(1, round(min(effort * float(np.exp(visits.pace + visit + page)), longest)))


def leaving_chance(visits: Visits, session: int, chosen: int, step: float) -> float:
    """The probability of leaving after a page on which something was chosen.

    Args:
        session: number of the visit, from 0: the first one is of its own kind. chosen: in this visit so far, >= 1.
        step: mean number of choices on a page on which something is chosen, >= 1.
    """
    chances = _chances(visits, session == 0, max(1.0, round(step / STEPS) * STEPS))
    return float(chances[min(chosen, len(chances)) - 1])


def expected_length(visits: Visits) -> float:
    """Mean number of things chosen in a visit of this person, over as many visits as their log has, the first one among them."""
    later = len(visits.later.values)
    means = [float(length_shares(visits, is_first) @ np.arange(1, len(length_shares(visits, is_first)) + 1)) for is_first in (True, False)]
    return (means[0] + later * means[1]) / (1 + later)


def length_shares(visits: Visits, is_first: bool) -> np.ndarray:
    """Share of visits with 1, 2, ... things chosen: the person's own ones, completed by everybody's."""
    pool = visits.pool
    own, others, strength = (visits.first, pool.first, FIRST_STRENGTH) if is_first else (visits.later, pool.later, pool.strength)
    shares = np.zeros(int(max(others.values.max(), own.values.max(initial=1))))
    np.add.at(shares, own.values - 1, own.weights)
    np.add.at(shares, others.values - 1, others.weights * (strength / others.weights.sum()))
    return np.asarray(shares / shares.sum())


@lru_cache(maxsize=1_024)
def _chances(visits: Visits, is_first: bool, step: float) -> np.ndarray:
    return leaving_chances(length_shares(visits, is_first), step)


def leaving_chances(shares: np.ndarray, step: float) -> np.ndarray:
    """Probabilities of leaving after a page at which visits end up with wanted lengths.

    Somebody who chooses several things on a page cannot leave between them. If the number on a page with any is geometric with
    mean `step`, every count of choices is the end of a page with probability ``1 / step``, whatever was before. So of those still
    there before the n-th choice, at most that share can end with n; what cannot is made up for at the next count.

    Args:
        shares: wanted share of visits with 1, 2, ... choices, sums to 1, shape (longest,). step: >= 1.

    Returns:
        Probability of leaving after a page at whose end 1, 2, ... things are chosen in all, shape (longest,); the last is 1.
    """
    found = np.ones(len(shares))
    there, owed = 1.0, 0.0
    for n, share in enumerate(shares.tolist()):
        able = there / step
        if able <= 1e-15:
            break
        leaves = min(share + owed, able)
        owed += share - leaves
        found[n] = leaves / able
        there -= leaves
    found[-1] = 1.0
    return found


def beta_geometric(came: np.ndarray, gone: np.ndarray) -> tuple[float, float]:
    """Parameters a, b of the chances of coming back, beta distributed among people, by maximum likelihood.

    Args:
        came: how often each person came back, >= 0. gone: how far they are known to have left for good, in [0, 1].

    Returns:
        Both within [0.05, 100]; a person's posterior is ``beta(a + came, b + gone)``.
    """

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = np.exp(theta)
        value = -(betaln(a + came, b + gone) - betaln(a, b)).sum() + 0.01 * (theta**2).sum()
        both = digamma(a + b) - digamma(a + b + came + gone)
        slopes = np.array([a * (digamma(a + came) - digamma(a) + both).sum(), b * (digamma(b + gone) - digamma(b) + both).sum()])
        return float(value), -slopes + 0.02 * theta

    bound = (float(np.log(0.05)), float(np.log(100.0)))
    # The prior keeps it round, so that even an end that is no minimum is a sensible guess.
    a, b = np.exp(smallest(loss, [np.zeros(2), np.full(2, -1.0)], [bound, bound]).point)
    return float(a), float(b)


def _whole(sizes: np.ndarray, people: np.ndarray, kept: float, seed: int) -> np.ndarray:
    """How many interactions a visit had of which `sizes` are left: negative binomial, the posterior under a prior of 1 / length."""
    if kept >= 1.0:
        return sizes.astype(np.int64)
    stream, found = Stream(seed).child("hidden from visits"), sizes.astype(np.int64)
    bounds = np.searchsorted(people, np.arange(int(people.max()) + 2))
    for person, (low, high) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        if high > low:
            found[low:high] += stream.child(person).generator().negative_binomial(sizes[low:high], kept)
    return found


def _by_person(owners: np.ndarray, gaps: np.ndarray, n: int) -> np.ndarray:
    """Distribution function over all gaps in ascending order, in which every person with gaps weighs the same."""
    if not len(gaps):
        return np.ones(1)
    weights = 1.0 / np.bincount(owners, minlength=n)[owners]
    shares = np.cumsum(weights[np.argsort(gaps, kind="stable")])
    return np.asarray(shares / shares[-1])


def _paces(sessions: Sessions, times: np.ndarray, kept: float, n: int) -> tuple[np.ndarray, float, float, float]:
    """Log seconds per item of each person's visits, by their length; how much visits of one person differ, and pages of one visit.

    ``log pace = a + slope * log(length) + person + visit + chance``: what chance alone does to the mean of a few pauses is known from
    how much the pauses within visits differ (the variance of the log of a mean of k lognormal variables), so that short visits
    do not make all visits look restless. Weighted least squares; variances by moments, a person's part shrunken.

    Returns:
        a and the person's part, shape (n,); standard deviation between visits of a person, and of the log seconds between two
        different times of one visit, which stands for that of pages; slope.
    """
    visit, seconds = _pauses(sessions, times)
    pages = _between_pauses(visit, np.log(seconds))
    took = (sessions.ends - sessions.starts).astype(np.float64)
    timed = took > 0
    if timed.sum() < 2:
        return np.full(n, np.log(30.0)), 0.5, pages, 0.0
    # What is left behind last takes no time that the log could show.
    last = np.bincount(sessions.session[times == sessions.ends[sessions.session]], minlength=len(took))
    pauses = np.bincount(visit, minlength=len(took))[timed]
    chance = np.log1p(np.expm1(pages**2) / pauses)
    owners, logs = sessions.people[timed], np.log(took[timed] * kept / (sessions.sizes - last)[timed]) + 0.5 * chance
    x = np.column_stack([np.ones(len(logs)), np.log(sessions.sizes[timed] / kept)])
    if np.ptp(x[:, 1]) < 1e-9:
        x = x[:, :1]
    spread = 0.25
    for _ in range(SWEEPS):
        weights = 1.0 / (spread + chance)
        line = np.linalg.lstsq(x * np.sqrt(weights)[:, None], logs * np.sqrt(weights), rcond=None)[0]
        left = logs - x @ line
        spread = max(LEAST, float((weights * (left**2 - chance)).sum() / weights.sum()))
    # Two visits of one person have only the person in common.
    sums, squares = (np.bincount(owners, weights=values, minlength=n) for values in (weights * left, (weights * left) ** 2))
    pairs = np.bincount(owners, weights=weights, minlength=n) ** 2 - np.bincount(owners, weights=weights**2, minlength=n)
    between = float((sums**2 - squares).sum() / pairs.sum()) if pairs.sum() > 0 else 0.0
    between = min(max(0.0, between), spread - LEAST)
    precision = 1.0 / (spread - between + chance)
    of_person = np.bincount(owners, weights=precision * left, minlength=n)
    people = between * of_person / (1.0 + between * np.bincount(owners, weights=precision, minlength=n))
    slope = float(np.clip(line[1], STEEPEST, 0.0)) if x.shape[1] > 1 else 0.0
    return line[0] + people, float(np.sqrt(spread - between)), pages, slope


def _pauses(sessions: Sessions, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The seconds between two different times of one visit, and which visit that was, each of shape (pauses,)."""
    steps = np.diff(times).astype(np.float64)
    known = (np.diff(sessions.session) == 0) & (steps > 0)
    return sessions.session[1:][known], steps[known]


def _between_pauses(visit: np.ndarray, pauses: np.ndarray) -> float:
    """Standard deviation, within visits, of the log seconds of pauses."""
    counts = np.bincount(visit)
    centre = np.bincount(visit, weights=pauses) / np.maximum(counts, 1)
    freedom = int(np.maximum(counts - 1, 0).sum())
    return float(np.sqrt(((pauses - centre[visit]) ** 2).sum() / freedom)) if freedom else 0.5

"""How much users differ in the length of their sessions: held-out sessions of the data beside as many of simulated users.

A random split leaves part of each session in the held-out rows, so simulated sessions are thinned alike: of each choice of a session drawn
from what the user's training part says of their visits (`agents.visits`), the held-out share is kept, and sessions of which nothing is left
are not seen, as in the data. Where the split is one of time, held-out sessions are later ones and whole.

Sessions are those of users with ``decision.stay = "visits"``, whose lengths need no run.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from agents.rhythm import SESSION_GAP, split_sessions
from agents.visits import length_shares
from experiments.fidelity.baselines import Part
from simulator.records import Visits
from simulator.seeds import Stream

FEWEST_SESSIONS: Final[int] = 2
"""Held-out sessions of a user whose mean length is compared."""

FEWEST_USERS: Final[int] = 20
MOST_TRIED: Final[int] = 10_000
"""Sessions of a simulated user that are drawn at most until as many as the data has are seen."""

NO_TIMES: Final[str] = "the data has no times, so no sessions"
BY_VISITS: Final[str] = 'of users who stay as in their visits (decision.stay = "visits"); by default they stay by pages'
NO_PAGES: Final[str] = "the data does not say what users were shown"
TOO_FEW: Final[str] = f"fewer than {FEWEST_USERS} held-out users with {FEWEST_SESSIONS} held-out sessions"
NO_DIFFERENCE: Final[str] = "held-out users do not differ"


def add(figures: dict[str, Any], found: tuple[float, float] | str) -> None:
    """Puts session length and share chosen beside the other quantities of a data set; null with the reason in `variance_notes`.

    Args:
        figures: with `variance_ratio` and `variance_rho`, changed in place. found: of `compared`.
    """
    ratio, rho = (None, None) if isinstance(found, str) else found
    figures["variance_ratio"] |= {"session_length": ratio, "share_chosen": None}
    figures["variance_rho"] |= {"session_length": rho, "share_chosen": None}
    figures["variance_notes"] = {"session_length": found if isinstance(found, str) else BY_VISITS, "share_chosen": NO_PAGES}


def compared(part: Part, test: pl.DataFrame, stream: Stream) -> tuple[float, float] | str:
    """Variance between users of their mean session length, simulated over real, and the correlation of the two; or why there is none.

    Args:
        part: held-out users with their training part. test: held-out rows, with times. stream: draws sessions.
    """
    if not part.train.has_times:
        return NO_TIMES
    people = part.rows["user"].unique().sort()
    rows = test.filter(pl.col("user").is_in(people.implode())).sort("user", "timestamp")
    sessions = split_sessions(rows["user"].to_numpy(), rows["timestamp"].to_numpy(), SESSION_GAP)
    kept = 1.0 - part.train.kept_share if part.train.kept_share < 1.0 else 1.0
    drawn, real = [], []
    for user in people.to_list():
        sizes, profile = sessions.sizes[sessions.people == user], part.profiles[user]
        visits = profile.rhythm.visits
        if len(sizes) < FEWEST_SESSIONS or visits is None:
            continue
        seen = seen_sessions(visits, len(sizes), kept, stream.child(profile.user_id).generator())
        drawn.append(float(seen.mean()))
        real.append(float(sizes.mean()))
    if len(real) < FEWEST_USERS:
        return TOO_FEW
    if np.var(real) <= 0.0 or np.var(drawn) <= 0.0:
        return NO_DIFFERENCE
    return float(np.var(drawn) / np.var(real)), float(np.corrcoef(drawn, real)[0, 1])


def seen_sessions(visits: Visits, count: int, kept: float, generator: np.random.Generator) -> np.ndarray:
    """Lengths of the first `count` sessions of a user of which anything is seen, shape (at most count,), >= 1.

    Args:
        visits: of the user's training part. count: sessions wanted, >= 1. generator: draws lengths and what is seen.
        kept: share of a session that is seen, in (0, 1]; at 1 only later sessions are, whole.
    """
    found: list[int] = []
    for number in range(MOST_TRIED):
        shares = length_shares(visits, kept < 1.0 and number == 0)
        length = int(np.searchsorted(np.cumsum(shares), generator.random(), side="right")) + 1
        left = int(generator.binomial(min(length, len(shares)), kept))
        if left:
            found.append(left)
        if len(found) == count:
            break
    return np.array(found or [1])

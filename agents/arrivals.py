"""When people come: the start times of their sessions within a round, simulated seconds since 1970 UTC.

A round is a window of time between two fits of the recommender, so that a refit never learns from a later session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from agents.visits import comes_back, gap
from simulator.records import Rhythm, Visits
from simulator.seeds import Stream

Sessions = Literal["one", "rhythm", "relived"]
History = Literal["behind", "ahead"]

DAY = 86_400
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Window:
    """The time of one round: ``start <= time of a session's start < end``, simulated seconds."""

    start: int
    end: int


def one_arrival(rhythm: Rhythm, window: Window, stream: Stream) -> int:
    """The start of one session somewhere in the window: a uniform day, an hour of the person's own day, a uniform second in it."""
    rng = stream.child("arrival").generator()
    days = max(1, (window.end - window.start) // DAY)
    midnight = window.start // DAY * DAY
    time = midnight + int(rng.integers(days)) * DAY + int(rng.choice(24, p=rhythm.hours)) * HOUR + int(rng.integers(HOUR))
    return min(max(time, window.start), window.end - 1)


def next_arrival(rhythm: Rhythm, window: Window, origin: int, last_end: int | None, session: int, stream: Stream) -> int | None:
    """The next start of a renewal process with own lognormal gaps times the `gap_factor`, or None if it falls behind the window.

    The gap before a session is drawn from a stream named by the session's number, not by the round: who did not come
    back within one round is still the same time away in the next. Before the first session only the rest of a gap is
    waited (a uniform share of it), since the run begins at no special moment of the person's life.

    Args:
        rhythm: of the person.
        window: of the round.
        origin: start of the run's first round, simulated seconds.
        last_end: end of the person's last session, or None before the first.
        session: number of the session that is to come.
        stream: of the person, not of the round.
    """
    rng = stream.child("gap", session).generator()
    gap = rhythm.gap_factor * float(np.exp(rhythm.gap_log_mean + rhythm.gap_log_sd * rng.standard_normal()))
    time = origin + rng.random() * gap if last_end is None else last_end + gap
    return max(int(time), window.start) if time < window.end else None


def relived_arrival(visits: Visits, window: Window, last_end: int | None, session: int, stream: Stream) -> int | None:
    """The next start of a visit of somebody who lives their time in the data again, or None if there is none in the window.

    The first visit starts when their first one did; whether and when there is another is drawn (`agents.visits`). As in
    `next_arrival` the streams are named by the session's number, so that rounds change nothing.

    Args:
        visits: of the person. window, last_end, session, stream: as in `next_arrival`.
    """
    if last_end is None:
        time = float(visits.start)
    elif comes_back(visits, session, stream):
        time = last_end + gap(visits, session, stream)
    else:
        return None
    return max(int(time), window.start) if time < window.end else None

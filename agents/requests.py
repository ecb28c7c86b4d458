"""What somebody asks of a recommender at a page: one rule, for people who browse and for logs that are read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from agents.arrivals import History
from simulator.records import PageRequest
from simulator.seeds import Stream

Repeat = Literal["session", "never", "allow"]


def person_stream(run: Stream, user: int) -> Stream:
    """The randomness of one person, by user code, in a run with this stream."""
    return run.child("user", user)


def page_stream(person: Stream, session: int, page: int) -> Stream:
    """The randomness of one page of a person: session counted over the whole run from 0, page of the session from 1."""
    return person.child("session", session, "page", page)


def page_request(
    user: int,
    page: int,
    *,
    training: np.ndarray,
    chosen: np.ndarray,
    shown_before: Sequence[int] | np.ndarray,
    shown_here: Sequence[int] | np.ndarray,
    history: History,
    repeat: Repeat,
    stream: Stream,
) -> PageRequest:
    """The request for one page.

    Args:
        user: code of the person. page: of the session, from 1.
        training: item codes of the training part, oldest first. chosen: item codes chosen in the run so far, oldest first.
        shown_before: item codes shown in earlier sessions. shown_here: item codes shown in this session, oldest first.
        history: "behind" if what the training part has is not shown again, "ahead" if it is (`experiments.config.PopulationSection`).
        repeat: what else is not shown again (`environments.feed.FeedConfig`).
        stream: of the page, see `page_stream`.
    """
    met = chosen if history == "ahead" else np.concatenate([training, chosen])
    hidden = {"session": (shown_here,), "never": (shown_before, shown_here), "allow": ()}[repeat]
    shown = np.concatenate([np.zeros(0, dtype=np.int32), *(np.asarray(items, dtype=np.int32) for items in hidden)])
    return PageRequest(user, page, met, shown, stream.child("feed"))

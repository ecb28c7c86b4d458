import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.arrivals import DAY, HOUR, Window, next_arrival, one_arrival
from simulator.records import Rhythm
from simulator.seeds import Stream

WEEK = 7 * DAY


def rhythm(hours=None, gap_days=3.0, sd=0.5):
    shares = tuple(1 / 24 for _ in range(24)) if hours is None else tuple(1.0 if hour == hours else 0.0 for hour in range(24))
    return Rhythm(2.0, float(np.log(gap_days * DAY)), sd, 10.0, 20.0, shares, "own")


@given(st.integers(0, 2**31), st.integers(0, 1000))
def test_a_session_starts_within_its_round(start, user):
    window = Window(start, start + WEEK)
    assert window.start <= one_arrival(rhythm(), window, Stream(3, (user,))) < window.end


def test_people_come_at_their_own_hour():
    window = Window(100 * DAY, 107 * DAY)
    times = [one_arrival(rhythm(hours=20), window, Stream(3, (user,))) for user in range(200)]
    assert {time % DAY // HOUR for time in times} == {20}
    assert len({time // DAY for time in times}) == 7


def renewals(user, rounds, round_days):
    """All starts over some rounds of a person whose sessions take no time."""
    starts, last, session = [], None, 0
    for number in range(rounds):
        window = Window(number * round_days * DAY, (number + 1) * round_days * DAY)
        while (start := next_arrival(rhythm(), window, 0, last, session, Stream(1, ("user", user)))) is not None:
            assert window.start <= start < window.end
            starts.append(start)
            last, session = start, session + 1
    return starts


def test_the_length_of_a_round_does_not_change_when_people_come():
    for user in range(20):
        assert renewals(user, 12, 7) == renewals(user, 6, 14)


def test_people_come_as_often_as_their_gaps_say():
    counts = [len(renewals(user, 1, 300)) for user in range(40)]
    mean_gap = 3.0 * np.exp(0.5**2 / 2)
    assert abs(np.mean(counts) - 300 / mean_gap) < 8

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rhythm import DEFAULT_RHYTHM, fit_rhythms, seconds_per_item, split_sessions
from simulator.seeds import Stream

HALF_HOUR = 1800.0
DAY = 86_400


def test_a_session_ends_where_a_pause_exceeds_the_threshold_or_the_person_changes() -> None:
    people = np.array([0, 0, 0, 0, 1])
    times = np.array([0, 1800, 3601, 3700, 3701])
    sessions = split_sessions(people, times, HALF_HOUR)
    assert sessions.people.tolist() == [0, 0, 1]
    assert sessions.starts.tolist() == [0, 3601, 3701]
    assert sessions.ends.tolist() == [1800, 3700, 3701]
    assert sessions.sizes.tolist() == [2, 2, 1]
    assert sessions.session.tolist() == [0, 0, 1, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20_000)), min_size=1, max_size=60))
def test_every_interaction_is_in_exactly_one_session_and_pauses_within_are_short(rows: list[tuple[int, int]]) -> None:
    rows = sorted(rows)
    people, times = np.array([p for p, _ in rows]), np.array([t for _, t in rows])
    sessions = split_sessions(people, times, HALF_HOUR)
    assert sessions.sizes.sum() == len(rows)
    assert (sessions.people[sessions.session] == people).all()
    same = np.diff(sessions.session) == 0
    assert (np.diff(times)[same] <= HALF_HOUR).all()
    assert (np.diff(times)[~same & (np.diff(people) == 0)] > HALF_HOUR).all()


def test_a_burst_within_one_second_shares_the_time_before_it() -> None:
    times = np.array([0, 0, 0, 60, 60, 60, 120, 120, 120] + [200 + 60 * k for k in range(200)])
    people = np.array([0] * 9 + [1] * 200)
    seconds = seconds_per_item(split_sessions(people, times, HALF_HOUR), times, 2)
    assert 20 <= seconds[0] < 35
    assert seconds[1] == pytest.approx(60, rel=0.05)


def test_histories_of_single_bursts_still_have_a_positive_time_per_item() -> None:
    rhythms = fit_rhythms(np.array([0, 0, 1, 1]), np.array([5, 5, 9, 9]), 2, HALF_HOUR)
    assert [r.seconds_per_item for r in rhythms] == [DEFAULT_RHYTHM.seconds_per_item] * 2


def _coming_every(days: float, sessions: int, rng: np.random.Generator) -> np.ndarray:
    starts = np.cumsum(rng.lognormal(np.log(days * DAY), 0.3, sessions)).astype(np.int64)
    return (starts[:, None] + 20 * np.arange(5)).ravel()


def test_people_with_many_gaps_keep_their_own_rhythm_and_others_get_the_populations() -> None:
    rng = Stream(3).generator()
    histories = [_coming_every(1, 60, rng), _coming_every(10, 60, rng), np.array([0, 20, 40])]
    people = np.repeat(np.arange(3), [len(times) for times in histories])
    daily, rare, once = fit_rhythms(people, np.concatenate(histories), 3, HALF_HOUR)
    assert daily.source == rare.source == "own"
    assert once.source == "population"
    assert daily.gap_log_mean == pytest.approx(np.log(DAY), abs=0.15)
    assert rare.gap_log_mean == pytest.approx(np.log(10 * DAY), abs=0.15)
    assert daily.gap_log_mean < once.gap_log_mean < rare.gap_log_mean
    assert daily.sessions_per_week == pytest.approx(7, rel=0.15)
    assert rare.sessions_per_week == pytest.approx(0.7, rel=0.15)
    assert daily.items_per_session == pytest.approx(5, rel=0.02)
    assert daily.seconds_per_item == pytest.approx(20, rel=0.02)
    assert daily.gap_log_sd == pytest.approx(0.3, abs=0.1)


def test_hours_lean_to_the_persons_own_and_sum_to_one() -> None:
    rng = Stream(4).generator()
    evening = (np.arange(40) * DAY + 20 * 3600 + rng.integers(0, 3600, 40)).astype(np.int64)
    morning = (np.arange(40) * DAY + 7 * 3600 + rng.integers(0, 3600, 40)).astype(np.int64)
    owl, lark = fit_rhythms(np.repeat([0, 1], 40), np.concatenate([evening, morning]), 2, HALF_HOUR)
    assert np.argmax(owl.hours) == 20
    assert np.argmax(lark.hours) == 7
    assert sum(owl.hours) == pytest.approx(1.0)
    assert min(owl.hours) > 0


def test_without_times_everybody_has_the_documented_default() -> None:
    assert fit_rhythms(np.array([0, 1]), None, 2, HALF_HOUR) == [DEFAULT_RHYTHM] * 2
    assert DEFAULT_RHYTHM.source == "default"
    mean_gap = np.exp(DEFAULT_RHYTHM.gap_log_mean + DEFAULT_RHYTHM.gap_log_sd**2 / 2)
    assert mean_gap * DEFAULT_RHYTHM.sessions_per_week == pytest.approx(7 * DAY)

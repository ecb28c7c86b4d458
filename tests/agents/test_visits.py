from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.arrivals import DAY, Window, relived_arrival
from agents.rhythm import fit_rhythms, split_sessions
from agents.visits import beta_geometric, comes_back, expected_length, fit_visits, gap, leaving_chance, leaving_chances, seconds_on_page
from simulator.seeds import Stream

HALF_HOUR = 1800.0


def visits_of(histories, kept=1.0):
    """Visits of people whose histories are lists of (start of a sitting, number of items ten seconds apart)."""
    people = np.concatenate([np.full(sum(size for _, size in history), who) for who, history in enumerate(histories)])
    times = np.concatenate([start + 10 * np.arange(size) for history in histories for start, size in history])
    return fit_visits(split_sessions(people, times, HALF_HOUR), times, len(histories), kept)


def lengths(chances, step, count, rng):
    """Lengths of visits whose pages have a geometric number of choices."""
    found = []
    for _ in range(count):
        n = 0
        while True:
            n += int(rng.geometric(1.0 / step))
            if rng.random() < chances[min(n, len(chances)) - 1]:
                break
        found.append(n)
    return np.array(found)


@pytest.mark.parametrize("step", [1.0, 2.0])
def test_visits_end_up_as_long_as_they_should_whatever_a_page_holds(step):
    shares = np.array([0.2, 0.1, 0.1, 0.2, 0.0, 0.1, 0.1, 0.2])
    found = lengths(leaving_chances(shares, step), step, 40_000, np.random.default_rng(1))
    counts = np.bincount(found.clip(max=9), minlength=10)[1:9] / len(found)
    if step == 1.0:
        np.testing.assert_allclose(counts, shares, atol=0.01)
    else:
        np.testing.assert_allclose(counts[:4], shares[:4], atol=0.01)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30), st.floats(1.0, 5.0))
def test_chances_are_probabilities_and_nobody_stays_for_ever(weights, step):
    chances = leaving_chances(np.array(weights) / sum(weights), step)
    assert ((chances >= 0.0) & (chances <= 1.0 + 1e-12)).all()
    assert chances[-1] == 1.0


def test_what_cannot_end_between_two_choices_of_a_page_ends_soon_after():
    chances = leaving_chances(np.array([1.0, 0.0, 0.0, 0.0]), 2.0)
    np.testing.assert_allclose(chances, 1.0)


def test_somebody_with_long_visits_stays_longer_and_the_first_visit_is_of_its_own_kind():
    histories = [[(0, 40), *((k * DAY, 3) for k in range(1, 30))] for _ in range(10)] + [
        [(0, 40), *((k * DAY, 20) for k in range(1, 30))] for _ in range(10)
    ]
    found = visits_of(histories)
    short, long = found[0], found[-1]
    assert leaving_chance(short, 1, 3, 1.0) > 0.8
    assert leaving_chance(long, 1, 3, 1.0) < 0.2
    assert leaving_chance(short, 0, 3, 1.0) < 0.05
    assert leaving_chance(short, 5, 10**6, 1.0) == 1.0


def test_a_first_visit_is_as_likely_the_persons_own_as_anybodys():
    lazy, busy = visits_of([[(0, 4), (DAY, 3)]] * 30 + [[(0, 60), (DAY, 3)]] * 30)[::59]
    # half of the chances are the own visit's, half the pool's, of which half are as long
    assert leaving_chance(lazy, 0, 4, 1.0) == pytest.approx(0.75)
    assert leaving_chance(busy, 0, 4, 1.0) == pytest.approx(0.25)


def test_the_expected_length_lies_between_a_persons_own_visits_and_everybodys():
    found = visits_of([[(0, 10), (DAY, 2), (2 * DAY, 2)]] * 5 + [[(0, 50), (DAY, 30), (2 * DAY, 30)]] * 5)
    assert (10 + 2 + 2) / 3 < expected_length(found[0]) < (30 + 16 + 16) / 3 < expected_length(found[-1]) < (50 + 30 + 30) / 3


def test_gaps_are_those_of_the_log_and_mostly_a_persons_own_where_there_are_many():
    found = visits_of([[(k * DAY, 2) for k in range(60)], [(7 * k * DAY, 2) for k in range(60)]])
    daily = [gap(found[0], session, Stream(1, ("user", 0))) for session in range(1, 300)]
    assert set(np.round(np.array(daily) / DAY).tolist()) <= {1.0, 7.0}
    assert np.mean(np.round(np.array(daily) / DAY) == 1.0) > 0.9


def test_the_chances_of_coming_back_are_found_again():
    rng = np.random.default_rng(4)
    chance = rng.beta(1.0, 2.0, size=20_000)
    a, b = beta_geometric(rng.geometric(1.0 - chance) - 1.0, np.ones(20_000))
    assert a == pytest.approx(1.0, rel=0.1)
    assert b == pytest.approx(2.0, rel=0.1)


def test_people_come_as_often_as_in_the_log():
    rng = np.random.default_rng(5)
    counts = 1 + rng.geometric(0.5, size=400) * (rng.random(400) < 0.4)
    found = visits_of([[(k * 3 * DAY, 5) for k in range(count)] for count in counts.tolist()])
    window = Window(0, 1_000 * DAY)
    simulated = []
    for number, visits in enumerate(found):
        stream, session, end = Stream(2, ("user", number)), 0, None
        while (start := relived_arrival(visits, window, end, session, stream)) is not None:
            session, end = session + 1, start + 50
        simulated.append(session)
    assert simulated[0] >= 1
    assert np.mean(simulated) == pytest.approx(counts.mean(), rel=0.15)
    assert np.mean(np.array(simulated) == 1) == pytest.approx(np.mean(counts == 1), abs=0.08)


def test_the_first_visit_is_when_it_was_and_rounds_change_nothing():
    (visits,) = visits_of([[(5 * DAY, 3), (9 * DAY, 3), (20 * DAY, 3)]])

    def starts(rounds, days):
        found, session, end = [], 0, None
        for number in range(rounds):
            window = Window(number * days * DAY, (number + 1) * days * DAY)
            while (start := relived_arrival(visits, window, end, session, Stream(3))) is not None:
                found.append(start)
                session, end = session + 1, start
        return found

    assert starts(1, 60)[0] == 5 * DAY
    assert starts(6, 10) == starts(1, 60)
    assert comes_back(visits, 1, Stream(3)) == comes_back(visits, 1, Stream(3))


def test_visits_of_a_thinned_log_are_drawn_as_long_as_they_were():
    rng = np.random.default_rng(6)
    true = rng.choice([1, 2, 5, 20, 60], size=3_000, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    left = rng.binomial(true, 0.7)
    histories = [
        [(0, 200), *((number * DAY, int(size)) for number, size in enumerate(part, start=1) if size)] for part in left.reshape(100, 30)
    ]
    pool = visits_of(histories, kept=0.7)[0].pool.later
    assert np.average(pool.values, weights=pool.weights) == pytest.approx(true.mean(), rel=0.06)
    assert pool.weights[pool.values == 1].sum() / pool.weights.sum() == pytest.approx(0.3, abs=0.05)


def test_a_whole_log_is_taken_as_it_is():
    pool = visits_of([[(0, 7), (DAY, 3)], [(0, 2)]])[0].pool
    assert Counter(pool.first.values.tolist()) == {7: 1, 2: 1}
    assert pool.later.values.tolist() == [3]
    assert pool.later.weights.tolist() == [1.0]


def test_people_without_times_have_no_visits():
    assert fit_rhythms(np.array([0, 1]), None, 2, HALF_HOUR)[0].visits is None


def paced_log(slope, between, pause, n=200, visits=6):
    """Sittings in which each item but the last takes exp(4 + slope * log length + visit) seconds on average."""
    rng = np.random.default_rng(5)
    people, times = [], []
    for who in range(n):
        start = 0
        for _ in range(visits):
            size = int(rng.choice([2, 5, 20, 80]))
            pace = 4.0 + slope * np.log(size) + between * rng.standard_normal()
            steps = np.exp(pace + pause * rng.standard_normal(size - 1) - 0.5 * pause**2)
            found = start + np.concatenate([[0], np.cumsum(np.maximum(1, np.round(np.minimum(steps, 1_700)))).astype(np.int64)])
            people.append(np.full(size, who))
            times.append(found)
            start = int(found[-1]) + 10 * DAY
    return np.concatenate(people), np.concatenate(times)


def test_paces_are_told_from_what_chance_does_to_short_visits():
    people, times = paced_log(slope=-0.2, between=0.3, pause=0.8)
    pool = fit_visits(split_sessions(people, times, HALF_HOUR), times, 200)[0].pool
    assert pool.pace_slope == pytest.approx(-0.2, abs=0.06)
    assert pool.pace_between_visits == pytest.approx(0.3, abs=0.1)
    assert pool.pace_between_pages == pytest.approx(0.8, abs=0.1)


def test_visits_of_every_length_take_as_long_as_in_the_log():
    people, times = paced_log(slope=-0.2, between=0.3, pause=0.8)
    visits = fit_visits(split_sessions(people, times, HALF_HOUR), times, 200)[0]
    for size in (5, 80):
        took = []
        for number in range(400):
            stream = Stream(2).child("person", number)
            noise = stream.child("noise").generator().standard_normal(size)
            took.append(sum(seconds_on_page(visits, 1, k, 1, float(noise[k]), stream, HALF_HOUR) for k in range(size - 1)))
        assert np.log(np.median(took) / (size - 1)) == pytest.approx(4.0 - 0.2 * np.log(size), abs=0.15)

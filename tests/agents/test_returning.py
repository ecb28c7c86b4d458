"""Users come back as often as the log shows until its end, and the active among them oftener, as in the data."""

import numpy as np
import pytest

from agents.arrivals import DAY, Window, next_arrival
from agents.returning import return_rates
from agents.rhythm import WEEK, fit_rhythms
from simulator.seeds import Stream

END = 50 * int(WEEK)


def test_rates_are_posterior_means_of_a_gamma_distribution_among_users() -> None:
    rng = Stream(1).generator()
    true, time = rng.gamma(0.5, 0.2 / 0.5, 4_000), rng.uniform(1.0, 60.0, 4_000)
    came = rng.poisson(true * time).astype(float)
    assert return_rates(came, time) == pytest.approx((came + 0.5) / (time + 0.5 / 0.2), rel=0.15)


def test_the_longer_somebody_has_stayed_away_the_lower_the_rate() -> None:
    came, time = np.array([0.0, 0.0, 3.0, 3.0, 9.0]), np.array([1.0, 40.0, 4.0, 40.0, 40.0])
    rates = return_rates(came, time)
    assert rates[0] > rates[1]
    assert rates[2] > rates[3] > rates[1]
    assert rates[4] > rates[3]
    assert return_rates(np.zeros(3), np.ones(3)).tolist() == [1.0, 1.0, 1.0], "nobody ever came back"


def _data(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sessions of three rows; a third of the users come every eight weeks, a third every two, a third twice and never again."""
    rng, people, times = Stream(2).generator(), [], []
    for user in range(users):
        every, most = ((8, 99), (2, 99), (2, 2))[user % 3]
        starts = np.arange(0, END, every * int(WEEK))[:most] + rng.integers(0, 10 * DAY)
        starts = starts[starts < END] + rng.integers(0, 3 * DAY, len(starts[starts < END])).cumsum() // 9
        people.append(np.full(3 * len(starts), user))
        times.append((starts[:, None] + 30 * np.arange(3)).ravel())
    return np.concatenate(people), np.concatenate(times), np.arange(users) % 3


def test_the_active_come_oftener_as_in_the_data_and_all_together_as_often_as_without() -> None:
    people, times, kind = _data(60)
    rhythms = fit_rhythms(people, times, 60, 1_800.0)
    rate, factor = (
        np.array([np.exp(-one.gap_log_mean - one.gap_log_sd**2 / 2) for one in rhythms]),
        np.array([one.gap_factor for one in rhythms]),
    )
    assert (rate / factor).mean() == pytest.approx(rate.mean())

    def sessions(user: int) -> int:
        last, number, window = None, 0, Window(0, 8 * END)
        while (start := next_arrival(rhythms[user], window, 0, last, number, Stream(3).child(user))) is not None:
            last, number = start, number + 1
        return number

    simulated = np.array([sessions(user) for user in range(60)], dtype=float)
    real = np.bincount(people, minlength=60) / 3.0
    seldom, often, gone = (simulated[kind == one].mean() for one in range(3))
    assert often > 2.0 * seldom > 2.0 * gone
    assert np.corrcoef(real, simulated)[0, 1] > 0.9
    assert np.log(often / seldom) == pytest.approx(np.log(real[kind == 1].mean() / real[kind == 0].mean()), abs=0.35)

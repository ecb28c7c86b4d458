import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.intervals import bootstrap_crossed, bootstrap_ratio, wilson
from simulator.seeds import Stream


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_published_intervals_of_newcombe_1998(successes: int, trials: int, low: float, high: float) -> None:
    lower, upper = wilson(np.array([successes]), np.array([trials]))
    assert lower[0] == pytest.approx(low, abs=5e-5)
    assert upper[0] == pytest.approx(high, abs=5e-5)


@given(st.integers(0, 50), st.integers(0, 50))
def test_wilson_holds_the_share_and_stays_within_zero_and_one(successes: int, failures: int) -> None:
    lower, upper = wilson(np.array([successes]), np.array([successes + failures]))
    assert 0 <= lower[0] < upper[0] <= 1
    assert (lower[0] == 0) == (successes == 0)
    assert (upper[0] == 1) == (failures == 0)
    if successes + failures:
        assert lower[0] <= successes / (successes + failures) + 1e-12
        assert upper[0] >= successes / (successes + failures) - 1e-12


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_interval_of_many_people() -> None:
    values = Stream(1).generator().normal(3, 2, 2000)
    estimate = bootstrap_ratio(values, np.ones(2000), Stream(2))
    half = 1.96 * values.std() / np.sqrt(2000)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert estimate.people == 2000


def test_rows_of_one_person_do_not_narrow_the_interval() -> None:
    sums, rows = Stream(3).generator().normal(0, 1, 50), np.ones(50)
    once = bootstrap_ratio(sums, rows, Stream(4))
    tenfold = bootstrap_ratio(10 * sums, 10 * rows, Stream(4))
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_the_same_stream_gives_the_same_interval() -> None:
    numbers = np.arange(20.0)
    assert bootstrap_ratio(numbers, np.ones(20), Stream(5)) == bootstrap_ratio(numbers, np.ones(20), Stream(5))
    assert bootstrap_ratio(numbers, np.ones(20), Stream(5)) != bootstrap_ratio(numbers, np.ones(20), Stream(6))


def test_nothing_to_estimate_gives_nan_and_one_person_a_point() -> None:
    assert np.isnan(bootstrap_ratio(np.array([]), np.array([]), Stream(1)).value)
    assert np.isnan(bootstrap_ratio(np.zeros(3), np.zeros(3), Stream(1)).low)
    one = bootstrap_ratio(np.array([3.0]), np.array([2.0]), Stream(1))
    assert (one.value, one.low, one.high, one.people) == (1.5, 1.5, 1.5, 1)


def test_with_one_seed_the_crossed_bootstrap_is_the_bootstrap_over_people() -> None:
    values = Stream(5).generator().normal(1, 2, 400)
    crossed = bootstrap_crossed(values[:, None], Stream(6))
    plain = bootstrap_ratio(values, np.ones(400), Stream(6))
    assert crossed.value == pytest.approx(plain.value)
    assert crossed.high - crossed.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_what_all_people_of_a_seed_share_widens_the_interval() -> None:
    """Five seeds whose means differ by 1 and people without noise: an interval over people alone would have no width."""
    shared = np.tile(np.arange(5.0), (300, 1))
    found = bootstrap_crossed(shared, Stream(7))
    assert found.value == 2.0
    assert found.high - found.low > 2.0


def test_crossed_intervals_cover_the_truth_and_leave_out_missing_cells() -> None:
    hits = 0
    for world in range(60):
        rng = Stream(world).child("crossed").generator()
        values = rng.normal(0, 1, (80, 1)) + rng.normal(0, 0.3, (1, 6)) + rng.normal(0, 1, (80, 6))
        values[rng.random((80, 6)) < 0.2] = np.nan
        found = bootstrap_crossed(values, Stream(world))
        hits += found.low <= 0.0 <= found.high
        assert found.people == np.count_nonzero(~np.isnan(values).all(axis=1))
    assert hits >= 52


def test_nobody_has_no_interval() -> None:
    assert np.isnan(bootstrap_crossed(np.full((3, 2), np.nan), Stream(1)).value)

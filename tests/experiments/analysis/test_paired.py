"""Paired differences in worlds whose answer is known; Holm's correction; how many people it takes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from experiments.analysis import metrics, paired
from experiments.fidelity.resampling import resample
from simulator.seeds import Stream

STREAM = Stream(3)


def rates(n, rng, effect=0.0, shared=1.0):
    """Sums of a rate for two arms: people differ much (share `shared` of that is common to the arms), chance is the arm's own."""
    own = rng.normal(size=(3, n))
    sums = []
    for arm in (0, 1):
        level = 0.3 + 0.1 * (math.sqrt(shared) * own[2] + math.sqrt(1 - shared) * own[arm]) + arm * effect
        shown = rng.integers(5, 26, size=n)
        sums.append((rng.binomial(shown, level.clip(0.01, 0.99)).astype(float), shown.astype(float)))
    return sums


def compared(sums, weights):
    first, second = (paired.ratio(a, b, weights) for a, b in sums)
    return paired.difference(second, first)


def test_the_influence_gives_the_standard_error_of_the_bootstrap():
    (a, b), _ = rates(200, STREAM.child("error").generator())
    measured = paired.ratio(a, b, resample(200, 4_000, STREAM))
    assert measured.value == a.sum() / b.sum()
    assert measured.error == pytest.approx(measured.resampled.std(), rel=0.05)
    assert measured.interval[0] < measured.value < measured.interval[1]


def test_intervals_of_equal_arms_hold_zero_as_often_as_they_say_and_few_tests_cry_wolf():
    rng = STREAM.child("equal").generator()
    weights = resample(80, 800, STREAM.child("weights"))
    found = [compared(rates(80, rng), weights) for _ in range(600)]
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    claimed = np.mean([each.p <= 0.05 for each in found])
    # 600 trials at 95 %: three standard errors are 2.7 points
    assert 0.923 <= covered <= 0.977
    assert 0.023 <= claimed <= 0.077


def test_pairing_gains_what_the_arms_share():
    rng = STREAM.child("gain").generator()
    weights = resample(4_000, 20, STREAM)
    apart, together = (compared(rates(4_000, rng, shared=shared), weights) for shared in (0.0, 1.0))
    assert apart.gain == pytest.approx(1.0, abs=0.1)
    assert together.gain > 1.5
    assert together.people_needed is not None
    assert together.people_needed_unpaired / together.people_needed == pytest.approx(together.gain, rel=0.05)


def test_so_many_people_as_are_said_to_be_needed_see_the_difference_four_times_in_five():
    rng = STREAM.child("power").generator()
    big = compared(rates(100_000, rng, effect=0.03), resample(100_000, 2, STREAM))
    needed = big.people_needed
    assert 50 < needed < 500
    weights = resample(needed, 20, STREAM)
    seen = np.mean([compared(rates(needed, rng, effect=0.03), weights).p <= 0.05 for _ in range(400)])
    assert seen == pytest.approx(0.8, abs=0.07)
    assert big.detectable == pytest.approx(2.8016 * big.error, rel=1e-3)


def shown_by(n, items, rng):
    """Two arms that draw a page of ten items per person from one distribution: coverage and concentration are equal on average."""
    popularity = 1.0 / np.arange(1, items + 1)
    keys = np.log(popularity) + rng.gumbel(size=(2, n, items))
    tables = np.zeros((2, n, items), dtype=np.int64)
    np.put_along_axis(tables, np.argsort(-keys, axis=2)[:, :, :10], 1, axis=2)
    return [sparse.csr_array(table) for table in tables]


@pytest.mark.parametrize("metric", [paired.coverage, paired.gini])
def test_intervals_of_the_whole_system_hold_zero_for_equal_arms_at_least_as_often_as_they_say(metric):
    rng = STREAM.child("system").generator()
    found = []
    for _ in range(200):
        first, second = (metric(shown) for shown in shown_by(40, 150, rng))
        found.append(paired.difference(second, first))
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    # the jackknife is exact or wide; 200 trials: three standard errors are 4.6 points
    assert 0.904 <= covered
    assert np.mean([each.error for each in found]) < 2 * np.std([each.value for each in found])


@pytest.mark.parametrize("metric", [paired.coverage, paired.gini])
def test_leaving_one_out_is_done_as_it_would_be_by_hand(metric):
    shown, _ = shown_by(12, 30, STREAM.child("by hand").generator())
    shown = sparse.csr_array(shown.toarray() * (1 + np.arange(12)[:, None] % 3))
    plain = {
        paired.coverage: lambda counts: float((counts > 0).mean()),
        paired.gini: metrics.gini,
    }[metric]
    table = shown.toarray()
    found = metric(shown)
    assert found.value == pytest.approx(plain(table.sum(axis=0)))
    without = np.array([plain(np.delete(table, person, axis=0).sum(axis=0)) for person in range(12)])
    assert found.influence == pytest.approx(11 * (found.value - without), abs=1e-9)


def test_a_coverage_that_no_single_person_moves_is_no_certainty():
    few, many = np.zeros((4, 6), dtype=np.int64), np.zeros((4, 6), dtype=np.int64)
    few[:, :2], many[:2, :3], many[2:, :3] = 1, 1, 1
    found = paired.difference(paired.coverage(sparse.csr_array(many)), paired.coverage(sparse.csr_array(few)))
    assert found.value == pytest.approx(1 / 6)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p))


def test_what_cannot_vary_has_no_interval_and_rules_nothing_out():
    (a, b), _ = rates(30, STREAM.child("same").generator())
    weights = resample(30, 100, STREAM)
    same = paired.difference(paired.ratio(a, b, weights), paired.ratio(a, b, weights))
    constant = [paired.ratio(np.full(30, value), np.ones(30), weights) for value in (5.0, 6.0)]
    everybody = paired.difference(*constant)
    assert (same.value, same.error, same.p) == (0, 0, 1)
    assert (everybody.value, everybody.error) == (-1, 0)
    assert math.isnan(everybody.p)
    for found in (same, everybody):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.people_needed is None
        assert all(math.isnan(value) for value in (found.p_of_a_loss(0.01, 1), found.p_of_a_loss(2.0, 1), found.gain, found.detectable))


def test_one_person_has_no_interval():
    weights = resample(1, 100, STREAM)
    one = paired.ratio(np.array([3.0]), np.array([5.0]), weights)
    assert all(math.isnan(limit) for limit in one.interval)
    found = paired.difference(one, paired.ratio(np.array([2.0]), np.array([5.0]), weights))
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.p_of_a_loss(0.5, 1)))


def test_what_nobody_did_is_unknown_and_not_zero():
    weights = resample(10, 100, STREAM)
    nothing, something = paired.ratio(np.zeros(10), np.zeros(10), weights), paired.ratio(np.ones(10), np.full(10, 2.0), weights)
    found = paired.difference(nothing, something)
    assert all(math.isnan(value) for value in (found.value, found.low, found.high, found.p))
    assert found.people_needed is None


def test_a_loss_is_ruled_out_by_people_and_not_by_noise():
    rng = STREAM.child("loss").generator()
    many, few = (compared(rates(n, rng), resample(n, 20, STREAM)) for n in (3_000, 8))
    assert many.p_of_a_loss(0.03, 1) < 0.001
    assert many.p_of_a_loss(0.03, -1) < 0.001
    assert few.p_of_a_loss(0.0, 1) > 0.001
    worse = compared(rates(3_000, rng, effect=-0.1), resample(3_000, 20, STREAM))
    assert worse.p_of_a_loss(0.03, 1) > 0.99


def test_holm_gives_the_values_of_his_paper_s_procedure():
    assert paired.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(paired.holm(np.array([np.nan, 0.02]))).tolist() == [True, False]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_claims_no_more_than_bonferroni_allows_for_the_smallest_and_no_less(values):
    p = np.array(values)
    adjusted = paired.holm(p)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    # the procedure itself: step down through the ordered values until one fails
    rejected = 0
    while rejected < len(p) and p[order[rejected]] * (len(p) - rejected) <= 0.05:
        rejected += 1
    assert (adjusted <= 0.05).sum() == rejected


def test_people_needed_is_the_textbook_number():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert paired.people_needed(0.5, 1.0) == math.ceil(z**2 / 0.25) == 32
    assert paired.people_needed(0.0, 1.0) is None
    assert paired.people_needed(-9.0, 0.1) == 2

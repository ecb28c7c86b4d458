"""Distances and their noise floor, on samples whose difference is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import ks_2samp, wasserstein_distance

from experiments.fidelity.behaviour import Observed
from experiments.fidelity.distances import compare, halves, kolmogorov_smirnov, matched, ratio_to_floor, wasserstein, worst
from simulator.seeds import Stream

PEOPLE, EACH = 80, 12
STREAM = Stream(4)


def people_of_a_world(name, shift=0.0, own=1.0):
    """Everybody has a level of their own, so that the observations of one person depend on each other."""
    generator = STREAM.child(name).generator()
    person = np.repeat(np.arange(PEOPLE), EACH)
    return Observed(person, shift + own * generator.normal(size=PEOPLE)[person] + generator.normal(size=len(person)))


def ratios(result):
    return {name: found["ratio"] for name, found in result["distances"].items()}


def test_another_sample_of_the_same_world_is_about_at_the_noise_floor():
    found = [ratios(compare(people_of_a_world(f"a{k}"), people_of_a_world(f"b{k}"), PEOPLE, STREAM.child(k))) for k in range(5)]
    for distance in found[0]:
        assert np.mean([one[distance] for one in found]) == pytest.approx(1.0, abs=0.25)


def test_the_same_observations_are_not_further_away_than_the_floor():
    world = people_of_a_world("same")
    found = compare(world, world, PEOPLE, STREAM)
    for result in found["distances"].values():
        assert result["ratio"] == pytest.approx(1.0)
        assert result["low"] <= result["ratio"] <= result["high"]


def test_a_shifted_world_is_far_above_the_floor():
    found = compare(people_of_a_world("shifted", shift=2.0), people_of_a_world("real"), PEOPLE, STREAM)
    for result in found["distances"].values():
        assert result["ratio"] > 2
        assert result["low"] > 1.5
    assert found["distances"]["wasserstein"]["distance"] == pytest.approx(2.0, abs=0.4)


def test_people_who_are_all_alike_are_found_out_though_the_mean_is_right():
    found = compare(people_of_a_world("alike", own=0.0), people_of_a_world("different", own=3.0), PEOPLE, STREAM)
    assert all(ratio > 2 for ratio in ratios(found).values())


def test_where_nothing_varies_there_is_no_ratio():
    constant = Observed(np.repeat(np.arange(PEOPLE), 3), np.zeros(3 * PEOPLE))
    found = compare(constant, constant, PEOPLE, STREAM)
    assert all(ratio is None for ratio in ratios(found).values())
    assert worst({"constant": found}) is None


def test_three_people_are_too_few():
    few = Observed(np.array([0, 1, 2]), np.array([1.0, 2.0, 3.0]))
    assert compare(few, few, 3, STREAM) is None


numbers = some.lists(some.integers(0, 6), min_size=1, max_size=30)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scipy computes a p-value too, which we do not read
@settings(max_examples=40, deadline=None)
@given(numbers, numbers)
def test_distances_are_those_of_scipy(first, second):
    grid = np.arange(7)
    counts = [np.bincount(values, minlength=7)[None, :].astype(float) for values in (first, second)]
    assert wasserstein(*counts, np.diff(grid))[0] == pytest.approx(wasserstein_distance(first, second))
    assert kolmogorov_smirnov(*counts)[0] == pytest.approx(ks_2samp(first, second, method="asymp").statistic)


@settings(deadline=None)
@given(some.lists(some.integers(0, 5), min_size=1, max_size=40), some.lists(some.integers(0, 5), min_size=1, max_size=40))
def test_of_each_person_equally_many_observations_are_compared(first, second):
    samples = [Observed(np.array(people), np.arange(len(people), dtype=float)) for people in (first, second)]
    drawn = matched(*samples, 6, STREAM)
    expected = np.minimum(np.bincount(first, minlength=6), np.bincount(second, minlength=6))
    for sample, original in zip(drawn, samples, strict=True):
        assert np.bincount(sample.person, minlength=6).tolist() == expected.tolist()
        assert len(np.unique(sample.values)) == len(sample.values)
        assert (original.person[sample.values.astype(int)] == sample.person).all()


def test_halves_are_halves():
    sides = halves(9, 50, STREAM)
    assert (sides.sum(axis=1) == 4).all()
    assert 0 < sides.mean(axis=0).min() < 1


def test_the_ratio_does_not_depend_on_who_has_nothing():
    generator = STREAM.child("rows").generator()
    a, b = generator.integers(0, 5, size=(20, 4)).astype(float), generator.integers(1, 5, size=(20, 4)).astype(float)
    more = [np.vstack([table, empty]) for table, empty in ((a, np.zeros((1, 4))), (b, np.ones((1, 4))))]

    def distance(first, second):
        return kolmogorov_smirnov(first, second)

    assert ratio_to_floor(a, b, distance, STREAM) == ratio_to_floor(*more, distance, STREAM)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from agents import traits
from agents.shrinkage import STRENGTHS, dirichlet_strength, normal_strength, shrink_shares
from agents.traits import Histories
from simulator.seeds import Stream


def test_traits_follow_their_formulas() -> None:
    histories = Histories(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0], dtype=np.int32), np.array([5, 3, 1, 2], dtype=np.float32), 2)
    item_means = np.array([3.5, 3.0, 1.0])
    assert traits.activity(histories).tolist() == [3, 1]
    assert traits.pickiness(histories).tolist() == [3, 2]
    assert traits.conformity(histories, item_means).tolist() == pytest.approx([2.25 / 3, 2.25])


def test_diversity_counts_the_genres_that_cover_four_fifths() -> None:
    counts = np.array([[4, 1, 0], [3, 1, 1], [1, 1, 1], [0, 0, 0], [9, 0, 0]], dtype=float)
    assert traits.diversity(counts).tolist() == [1, 2, 3, 0, 1]
    assert traits.diversity(np.zeros((2, 0))).tolist() == [0, 0]


def test_genres_of_an_item_count_each() -> None:
    histories = Histories(np.array([0, 0, 1]), np.array([0, 1, 1], dtype=np.int32), None, 2)
    assert traits.genre_counts(histories, sparse.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]]))).tolist() == [[1, 2], [0, 1]]


def test_lift_is_one_for_a_person_like_everybody_and_grows_with_evidence() -> None:
    shares = np.array([0.5, 0.49, 0.01])
    alike, few, many, one_rarity = traits.genre_lift(np.array([[50, 49, 1], [2, 0, 0], [200, 0, 0], [0, 0, 1]], dtype=float), shares, 5.0)
    assert alike == pytest.approx([1, 1, 1])
    assert 1 < few[0] < many[0] < 2
    assert one_rarity[2] < 1.25


def test_percentiles_count_half_of_the_ties() -> None:
    reference = np.array([1.0, 2.0, 2.0, 3.0])
    assert traits.percentiles(np.array([0, 1, 2, 3, 9]), reference).tolist() == [0, 0.125, 0.5, 0.875, 1]


def test_levels_are_thirds_in_the_direction_of_the_traits_name() -> None:
    values = np.arange(9.0)
    assert [t.level for t in traits.as_traits(values, values)] == ["low"] * 3 + ["medium"] * 3 + ["high"] * 3
    assert [t.level for t in traits.as_traits(values, values, reverse=True)] == ["high"] * 3 + ["medium"] * 3 + ["low"] * 3
    assert traits.as_traits(values, values, reverse=True)[0].percentile == pytest.approx(1 / 18)
    assert traits.as_traits(np.ones(3), np.ones(3))[0].level == "medium"


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_percentiles_of_a_population_average_one_half(values: list[int]) -> None:
    array = np.array(values, dtype=float)
    assert traits.percentiles(array, array).mean() == pytest.approx(0.5)


def test_dirichlet_strength_finds_the_strength_that_made_the_data() -> None:
    rng = Stream(1).generator()
    mean = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    for strength in (3.0, 20.0):
        counts = np.array([rng.multinomial(int(size), rng.dirichlet(strength * mean)) for size in rng.integers(5, 80, 4000)])
        assert dirichlet_strength(counts.astype(float)) == pytest.approx(strength, rel=0.1)
    alike = rng.multinomial(50, mean, size=2000).astype(float)
    assert dirichlet_strength(alike) > 200


def test_normal_strength_finds_the_ratio_of_the_variances() -> None:
    rng = Stream(2).generator()
    people = np.repeat(np.arange(3000), rng.integers(1, 12, 3000))
    values = rng.normal(0, 1, 3000)[people] + rng.normal(0, 2, len(people))
    assert normal_strength(people, values, 3000) == pytest.approx(4.0, rel=0.15)


def test_strengths_of_data_that_cannot_say_are_the_default() -> None:
    assert dirichlet_strength(np.array([[1.0, 0.0]])) == 10.0
    assert dirichlet_strength(np.array([[1.0, 0.0], [0.0, 1.0]])) == 10.0
    assert normal_strength(np.array([0, 1]), np.array([1.0, 2.0]), 2) == 5.0
    assert normal_strength(np.array([], dtype=int), np.array([]), 3) == 5.0
    assert dirichlet_strength(np.array([[5.0, 5.0], [5.0, 5.0]])) == STRENGTHS[1]


@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=10), st.floats(0.1, 100))
def test_shrunk_shares_are_positive_and_sum_to_one(counts: list[list[int]], strength: float) -> None:
    shares = shrink_shares(np.array(counts, dtype=float), np.array([0.2, 0.3, 0.5]), strength)
    assert (shares > 0).all()
    assert shares.sum(axis=1) == pytest.approx(1.0)

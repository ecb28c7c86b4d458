import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.stars import STARS, stars, to_scale


def test_half_stars_go_to_the_nearest_whole_star_halves_up_and_at_least_one() -> None:
    assert stars([0.5, 1.0, 1.5, 2.5, 3.4, 4.5, 5.0], (0.5, 5.0)).tolist() == [1, 1, 2, 3, 3, 5, 5]


def test_other_scales_are_mapped_linearly() -> None:
    assert stars([1, 3, 5.5, 8, 10], (1.0, 10.0)).tolist() == [1, 2, 3, 4, 5]
    assert to_scale([1, 2, 3, 4, 5], (0.0, 100.0)).tolist() == [0, 25, 50, 75, 100]
    assert to_scale([1, 2, 3, 4, 5], (-10.0, 5.0)).tolist() == [-10, -6.25, -2.5, 1.25, 5]


def test_scales_that_end_at_five_already_count_stars() -> None:
    assert to_scale(STARS, (0.5, 5.0)).tolist() == STARS.tolist()
    assert to_scale(3.4, (1.0, 5.0)) == 3.4


@given(st.floats(-100, 100), st.floats(0.5, 200))
def test_stars_come_back_from_the_ratings_of_any_scale(lowest: float, width: float) -> None:
    scale = (lowest, lowest + width)
    assert stars(to_scale(STARS, scale), scale).tolist() == [1, 2, 3, 4, 5]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_stars_are_whole_within_one_to_five_and_in_the_order_of_the_ratings(ratings: list[float]) -> None:
    given_stars = stars(sorted(ratings), (0.0, 10.0))
    assert given_stars.min() >= 1
    assert given_stars.max() <= 5
    assert (np.diff(given_stars) >= 0).all()

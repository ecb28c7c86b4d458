"""When a rating is a positive one."""

import numpy as np
import pytest

from simulator.positives import least_positive


@pytest.mark.parametrize(("scale", "least"), [((1.0, 5.0), 4.0), ((0.0, 1.0), 0.75), ((1.0, 10.0), 7.75), ((-1.0, 1.0), 0.5)])
def test_of_a_stranger_three_quarters_of_the_scale_are_positive(scale, least):
    assert least_positive(scale) == least


def test_of_somebody_who_is_known_what_is_not_below_their_usual_rating_is_positive_but_no_lower_half():
    found = least_positive((1.0, 5.0), np.array([4.8, 3.6, 1.5, 5.0]))
    assert found.tolist() == [4.8, 3.6, 3.0, 5.0]
    given = np.array([5.0, 4.0, 3.0, 5.0])
    assert (given >= found).all()
    assert not (np.array([4.0, 3.0, 2.0, 4.0]) >= found).any()


def test_good_and_bad_are_told_apart_by_the_middle():
    assert least_positive((0.0, 1.0), np.array([0.1, 0.9, 1.0])).tolist() == [0.5, 0.9, 1.0]

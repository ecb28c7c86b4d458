"""What differs by no more than rounding has no spread."""

import numpy as np
import pytest

from simulator.spread import spreads, standard

RNG = np.random.Generator(np.random.Philox(3))
NOISE = RNG.normal(size=200)


@pytest.mark.parametrize(
    "column",
    [
        np.full(200, 0.36),
        0.36 + 1e-15 * NOISE,
        1e-14 * NOISE,
        1e9 + 1e-3 * np.sign(NOISE) * 1e-1,
        np.cumsum(np.full(200, 0.1)) - 0.1 * np.arange(1, 201),
        np.zeros(200),
    ],
    ids=["constant", "constant but for rounding", "cancelled to rounding", "large and constant", "sums of tenths", "zero"],
)
def test_what_is_constant_but_for_rounding_has_no_spread_and_becomes_zero(column):
    assert spreads(column) == 0.0
    assert np.array_equal(standard(column), np.zeros(len(column)))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_what_differs_is_standardised_whatever_its_scale(scale):
    column = standard(scale * (5.0 + NOISE), unit=scale)
    assert column.mean() == pytest.approx(0.0, abs=1e-9)
    assert column.std() == pytest.approx(1.0)


def test_columns_are_judged_one_by_one_and_no_rows_have_no_spread():
    table = np.column_stack([NOISE, np.full(200, 7.0)])
    found = spreads(table)
    assert found[0] == pytest.approx(NOISE.std())
    assert found[1] == 0.0
    assert spreads(np.zeros((0, 2))).tolist() == [0.0, 0.0]
    assert standard(np.zeros((0, 2))).shape == (0, 2)

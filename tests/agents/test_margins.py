"""What all choices together come to."""

import numpy as np
import pytest
from scipy.special import expit

from agents.margins import over_catalog, over_visits

N_ITEMS = 200


def test_over_all_visits_moods_change_nothing():
    generator = np.random.default_rng(6)
    popularity = np.sort(generator.standard_normal(N_ITEMS) - generator.exponential(1.0, N_ITEMS))  # with a tail of unpopular items
    pull = np.column_stack([0.8 * popularity, 0.5 * generator.standard_normal(N_ITEMS)])
    counts = np.exp(popularity)

    def chosen(shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the items over many visits, and the mean popularity of each visit."""
        odds = counts * np.exp(generator.standard_normal((20_000, 2)) @ pull.T - shift)
        shares = odds / odds.sum(axis=1, keepdims=True)
        return shares.mean(axis=0), shares @ popularity

    wanted = counts / counts.sum()
    found, means = chosen(over_visits(pull, counts))
    often = wanted > 5e-4  # of the others a few visits decide
    np.testing.assert_allclose(found[often], wanted[often], rtol=0.1)
    assert means.std() > 0.3
    without, _ = chosen(np.zeros(N_ITEMS))
    assert np.abs(without / wanted - 1.0).max() > 0.5


def test_without_moods_nothing_is_shifted():
    np.testing.assert_allclose(over_visits(np.zeros((5, 0)), np.arange(1, 6)), np.zeros(5), atol=1e-12)


def world(slope: float, n_users: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True log-odds with people of their own levels, what they met, and popularity, which enters with `slope`."""
    generator = np.random.default_rng(8)
    popularity = generator.standard_normal(N_ITEMS) * 1.2 - 3.0
    taste = generator.standard_normal((n_users, N_ITEMS))
    level = generator.uniform(-3.5, -0.5, n_users)
    true = taste + slope * (popularity + 3.0) + level[:, None]
    return true - level[:, None], generator.random(true.shape) < expit(true), popularity


@pytest.mark.parametrize("slope", [0.4, 1.5])
def test_each_level_of_popularity_is_met_as_often_as_expected(slope):
    true, met, popularity = world(slope)
    wrong = true - 0.9 * (popularity + 3.0)  # knows taste, and too little of popularity
    shift = over_catalog(wrong, met, popularity)
    between = (popularity > np.quantile(popularity, 0.1)) & (popularity < np.quantile(popularity, 0.9))
    assert np.polyfit(popularity[between], shift[between], 1)[0] == pytest.approx(0.9, abs=0.12)
    assert met.sum(axis=0) @ shift == pytest.approx(0.0, abs=1e-6 * met.sum())
    nothing = over_catalog(true, met, popularity)
    assert np.abs(nothing[between] - nothing[between].mean()).max() < 0.35


def test_people_who_met_nothing_or_everything_tell_nothing():
    index, met, popularity = np.zeros((2, 6)), np.array([[False] * 6, [True] * 6]), np.arange(6.0)
    np.testing.assert_array_equal(over_catalog(index, met, popularity), np.zeros(6))
    true, met, popularity = world(1.0, n_users=12)
    met[3], met[4] = False, True
    rest = [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    np.testing.assert_allclose(over_catalog(true, met, popularity), over_catalog(true[rest], met[rest], popularity), atol=1e-9)

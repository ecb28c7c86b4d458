"""Users' own slopes of popularity: they are found again, shrunken to everybody's, and drawn by name alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from agents import user_slopes
from agents.user_slopes import Curve, UserSlopes, prior_variance, sampled_items
from simulator.seeds import Stream

N_ITEMS = 400
POPULARITY = np.linspace(-2.0, 2.0, N_ITEMS)


def choices(slopes, count, name):
    """What users with these slopes choose, `count` each, of a catalog whose log-odds do not differ otherwise."""
    generator = Stream(5).child(name).generator()
    for slope in slopes:
        odds = np.exp(slope * POPULARITY)
        yield generator.choice(N_ITEMS, size=count, p=odds / odds.sum())


def curve_of(own):
    return Curve(POPULARITY, np.zeros(N_ITEMS), len(own), float(POPULARITY[own].mean()) if len(own) else 0.0)


def profile(own, name="u"):
    return SimpleNamespace(user_id=name, history=np.asarray(own, dtype=np.int64))


def nothing(_, items):
    return np.zeros(len(items))


def slopes_with(variance, seed=3):
    return UserSlopes(POPULARITY, np.arange(N_ITEMS), np.ones(N_ITEMS), variance, seed)


def test_the_spread_of_slopes_is_found_again():
    true = 0.6 * Stream(1).child("true").generator().standard_normal(150)
    curves = [curve_of(own) for own in choices(true, 25, "many")]
    assert prior_variance(curves) ** 0.5 == pytest.approx(0.6, abs=0.1)
    modes = [curve.posterior(0.36)[0] for curve in curves]
    assert np.corrcoef(modes, true)[0, 1] > 0.9
    assert np.var(modes) < np.var(true)


def test_users_who_differ_by_chance_alone_have_next_to_no_slopes():
    curves = [curve_of(own) for own in choices(np.zeros(150), 25, "alike")]
    assert prior_variance(curves) < 0.01
    assert prior_variance([]) == 0.0


def test_the_mode_solves_its_equation_and_the_deviation_is_the_curvature_there():
    curve = curve_of(np.arange(390, 400))
    mode, deviation = curve.posterior(0.25)
    _, mean, spread = curve.at(mode)
    assert 10 * (curve.mean - mean) == pytest.approx(mode / 0.25, abs=1e-4)
    assert deviation == pytest.approx((10 * spread + 4.0) ** -0.5)


def test_who_has_no_history_has_a_slope_drawn_from_the_prior():
    made = slopes_with(0.49)
    drawn = [made.slope(profile([], f"u{number}"), nothing) for number in range(400)]
    assert np.mean(drawn) == pytest.approx(0.0, abs=0.1)
    assert np.std(drawn) == pytest.approx(0.7, abs=0.07)


def test_slopes_drawn_again_have_mode_and_deviation_of_the_posterior():
    slopes, user, items = slopes_with(0.25), profile(np.arange(380, 400)), np.array([0, 399])
    mode, deviation = slopes.curve(user, nothing).posterior(0.25)
    changes = slopes.drawn_again(user, items, nothing, Stream(9), 4_000)
    again = changes[:, 1] / POPULARITY[399] + slopes.slope(user, nothing)
    assert again.mean() == pytest.approx(mode, abs=4 * deviation / 4_000**0.5)
    assert again.std() == pytest.approx(deviation, rel=0.05)
    assert np.allclose(changes[:, 0], -changes[:, 1])
    assert not slopes_with(0.0).drawn_again(user, items, nothing, Stream(9), 3).any()


def test_slopes_change_what_is_chosen_and_not_how_much_of_the_catalog():
    own = np.arange(350, 380)
    free = np.setdiff1d(np.arange(N_ITEMS), own)
    added = slopes_with(0.49).log_odds(profile(own), free, nothing)
    assert np.exp(added).sum() == pytest.approx(len(free))
    assert added[-1] > 0.5 > -0.5 > added[0]


def test_a_slope_depends_on_seed_and_user_and_not_on_who_else_was_asked():
    people = [profile(np.arange(start, start + 5), f"u{start}") for start in (0, 100, 300)]
    forwards, backwards, other = slopes_with(0.3), slopes_with(0.3), slopes_with(0.3, seed=4)
    first = [forwards.slope(one, nothing) for one in people]
    assert [backwards.slope(one, nothing) for one in reversed(people)] == first[::-1]
    assert [other.slope(one, nothing) for one in people] != first


def test_a_user_who_has_met_everything_or_a_prior_without_spread_adds_nothing():
    assert slopes_with(0.3).log_odds(profile(np.arange(N_ITEMS)), np.array([3]), nothing).tolist() == [0.0]
    assert slopes_with(0.0).log_odds(profile([1, 2]), np.array([3, 4]), nothing).tolist() == [0.0, 0.0]


def test_slopes_come_back_from_disk(tmp_path):
    made, one = slopes_with(0.3), profile([5, 6, 7])
    made.save(tmp_path)
    again = UserSlopes.load(tmp_path, 3)
    assert again is not None
    assert again.slope(one, nothing) == made.slope(one, nothing)
    assert UserSlopes.load(tmp_path / "nowhere", 3) is None


def test_a_sample_of_the_catalog_stands_for_all_of_it(monkeypatch):
    monkeypatch.setattr(user_slopes, "MOST_ITEMS", 200)
    counts = (5_000 / np.arange(1, 2_001)).astype(np.int64)
    items, weights = sampled_items(counts, Stream(2).generator())
    assert len(items) <= 200
    assert len(np.unique(items)) == len(items)
    assert set(range(10)) <= set(items.tolist())
    assert weights.sum() == pytest.approx(2_000, rel=0.1)
    assert (weights * counts[items]).sum() == pytest.approx(counts.sum(), rel=0.1)

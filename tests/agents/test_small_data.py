"""Fits on little data, on columns that hardly differ, and where optimisers fail: sensible numbers, or fewer weights and a sentence."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents import choice_model, ordinal
from agents.actions import actions_for
from agents.choice_model import fit_logit
from agents.decisions import first_page
from agents.evidence import Evidence
from agents.optimising import smallest
from agents.ordinal import fit_ordinal, probabilities
from agents.priors import intercept_for
from agents.profiles import fit_profiles
from environments.datasets.tables import InteractionTables
from simulator.plugins import build
from simulator.protocols import DecisionContext
from simulator.seeds import Stream

SEEDS = (1, 2, 3, 4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def small_log(folder, seed, users=60, each=12, factor=1.0):
    """Sixty people with twelve ratings each, half of whom like even items; no file of items."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(60) + 3.0)
    lines = ["user_id,item_id,rating,timestamp\n"]
    for user in range(users):
        odds = weights * np.where(np.arange(60) % 2 == user % 2, 3, 1)
        for place, item in enumerate(rng.choice(60, each, replace=False, p=odds / odds.sum()).tolist()):
            stars = int(np.clip(round(3.4 + (0.8 if item % 2 == user % 2 else -0.6) + rng.normal()), 1, 5))
            lines.append(f"{user + 1},{item + 1},{stars * factor:g},{1_600_000_000 + 86_400 * user + 3_600 * place}\n")
    (folder / "r.csv").write_text("".join(lines))
    return InteractionTables(InteractionTables.Config(path=folder, interactions="r.csv")).load()


def fitted(world, seed=7, **options):
    context = DecisionContext(world.catalog, actions_for(world), None, world.rating_scale, 5, 5, seed)
    made = build(
        "agents.calibrated:CalibratedDecisions",
        {"language_model": False, "weights": "fit", **options},
        where="decision",
        methods=("fit", "decide", "close_sessions", "save", "load"),
        context=context,
    )
    made.fit(world, fit_profiles(world), Stream(seed).child("decisions"))
    return made


def stars_of(made, world):
    """Probabilities of 1..5 stars for everybody and every item, shape (people * items, 5)."""
    pages = [first_page(profile, np.arange(world.n_items), Stream(1).child(profile.user)) for profile in fit_profiles(world)]
    return np.concatenate([decision.outcomes["rate"].probabilities for decision in made.decide(pages)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("whole_log", [False, True])
def test_ratings_learned_from_a_small_log_are_like_those_of_the_log(tmp_path, seed, whole_log):
    world = small_log(tmp_path, seed)
    made = fitted(world, seed, whole_log=whole_log)
    rating = made.calibration.rating
    assert rating is not None
    assert np.abs(rating.weights).max() < 30
    shares = stars_of(made, world)
    assert np.isfinite(shares).all()
    mean, real = shares.mean(axis=0) @ np.arange(1, 6), world.interactions["rating"].to_numpy()
    spread = np.sqrt(shares.mean(axis=0) @ (np.arange(1, 6) - mean) ** 2)
    assert abs(mean - real.mean()) < 0.6
    assert spread == pytest.approx(real.std(), rel=0.35)
    # something was learned: what people of one's kind like gets more stars
    items = np.tile(np.arange(world.n_items), world.n_users)
    numbers = world.catalog.item_ids[items].astype(int) - 1
    people = np.repeat(world.users["user_id"].to_numpy().astype(int) - 1, world.n_items)
    alike = numbers % 2 == people % 2
    expected = shares @ np.arange(1, 6)
    assert expected[alike].mean() >= expected[~alike].mean() - 0.05


@pytest.mark.parametrize("factor", [0.2, 20.0])
def test_the_scale_of_ratings_changes_no_probability(tmp_path, factor):
    (tmp_path / "scaled").mkdir()
    plain, scaled = small_log(tmp_path, 1), small_log(tmp_path / "scaled", 1, factor=factor)
    one, other = (stars_of(fitted(world, 1), world) for world in (plain, scaled))
    # the scale of 1..5 counts stars itself; others are mapped to it, and shrinkage in the data's units differs a little
    assert np.abs(one - other).mean() < 0.03


@pytest.mark.parametrize("noise", [0.0, 1e-15, 1e-13])
def test_a_column_that_is_constant_but_for_rounding_has_no_weight_and_takes_none_from_others(noise):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 2))
    stars = np.clip(np.round(3 + x[:, 0] + rng.normal(size=400)), 1, 5)
    histograms = np.tile([0.1, 0.2, 0.3, 0.2, 0.2], (400, 1))
    plain = fit_ordinal(x, histograms, stars, ("a", "b"))
    padded = np.column_stack([x, 0.36 + noise * rng.normal(size=400), noise * rng.normal(size=400)])
    found = fit_ordinal(padded, histograms, stars, ("a", "b", "constant", "nothing"))
    assert found.weights[2:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.weights[:2], plain.weights, atol=1e-6)
    assert found.trouble == ""


def test_a_column_that_hardly_differs_is_drawn_to_no_weight():
    rng = np.random.default_rng(6)
    x = np.column_stack([rng.normal(size=300), 1e-4 * rng.normal(size=300)])
    stars = np.clip(np.round(3 + x[:, 0] + rng.normal(size=300)), 1, 5)
    found = fit_ordinal(x, np.full((300, 5), 0.2), stars, ("a", "faint"))
    assert abs(found.weights[1]) < 1.0 < found.weights[0]


def test_one_grade_or_one_rating_is_enough_for_finite_probabilities():
    for n in (1, 2, 40):
        found = fit_ordinal(np.zeros((n, 2)), np.full((n, 5), 0.2), np.full(n, 4), ("a", "b"))
        shares = probabilities(found.cumulative(np.zeros((1, 2)), np.full((1, 5), 0.2)))[0]
        assert np.isfinite(shares).all()
        assert shares.argmax() == 3
        assert shares.sum() == pytest.approx(1.0)


def test_an_optimiser_that_says_it_succeeded_at_once_is_not_believed():
    """The slope decides, not what the optimiser says of itself; from another start it is found."""

    def bowl(x):
        # flat and useless near the first start, a bowl elsewhere
        return (float(x @ x), 2 * x) if abs(x[0] - 5) > 1e-9 else (1e3, np.array([np.nan, np.nan]))

    found = smallest(bowl, [np.array([5.0, 0.0]), np.array([1.0, 1.0])], [(-9.0, 9.0)] * 2)
    assert found.converged
    np.testing.assert_allclose(found.point, 0.0, atol=1e-3)
    assert found.attempts > 1


def test_a_minimum_at_a_bound_has_converged():
    found = smallest(lambda x: (float(x[0]), np.ones(1)), [np.array([0.5])], [(0.0, 1.0)])
    assert found.converged
    assert found.point[0] == 0.0


def test_where_nothing_converges_ratings_fall_back_to_levels_and_then_to_histograms(monkeypatch):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(200, 3))
    stars = np.clip(np.round(3 + x[:, 0] + rng.normal(size=200)), 1, 5)
    histograms = np.full((200, 5), 0.2)
    real = ordinal.smallest

    def failing(most):
        def attempt(objective, starts, bounds):
            found = real(objective, starts, bounds)
            return replace(found, converged=len(starts[0]) <= most)

        return attempt

    names = ("person", "item", "taste")
    monkeypatch.setattr(ordinal, "smallest", failing(ordinal.GRADES + 2))
    levels = fit_ordinal(x, histograms, stars, names)
    assert levels.weights[0] > 0.5
    assert levels.weights[2] == 0.0
    assert "person, item, taste" in levels.trouble
    monkeypatch.setattr(ordinal, "smallest", failing(0))
    nothing = fit_ordinal(x, histograms, stars, names)
    assert nothing.weights.tolist() == [0.0, 0.0, 0.0]
    shares = probabilities(nothing.cumulative(x[:1], histograms[:1]))
    assert np.isfinite(shares).all()


def test_choices_that_a_column_tells_apart_without_error_get_a_penalty_and_a_sentence():
    x = np.linspace(-1, 1, 40)[:, None]
    found = fit_logit(x, x[:, 0] > 0, np.arange(40), ("x",))
    assert np.isfinite(found.weights).all()
    assert found.weights[1] > 0
    assert np.abs(found.weights).max() < choice_model.MOST_WEIGHT


def test_choices_on_equal_columns_are_finite_and_a_failure_leaves_the_intercept(monkeypatch):
    column = np.random.default_rng(8).normal(size=60)
    chosen = np.arange(60) % 3 == 0
    both = fit_logit(np.column_stack([column, column]), chosen, np.arange(60), ("a", "same"))
    assert np.isfinite(both.weights).all()
    newton = choice_model._newton
    monkeypatch.setattr(choice_model, "_newton", lambda x, *rest: newton(x, *rest) if x.shape[1] == 1 else None)
    found = fit_logit(column[:, None], chosen, np.arange(60), ("a",))
    assert found.weights[1] == 0.0
    assert found.weights[0] == pytest.approx(np.log(20 / 40), abs=1e-6)
    assert "intercept" in found.trouble


def test_a_fit_that_failed_is_told(tmp_path, monkeypatch):
    real = ordinal.smallest
    monkeypatch.setattr(ordinal, "smallest", lambda objective, starts, bounds: replace(real(objective, starts, bounds), converged=False))
    made = fitted(small_log(tmp_path, 1))
    assert any("ratings of calibrated people" in warning for warning in made.calibration.report["warnings"])


@pytest.mark.parametrize("rate", [1e-30, 0.3, 1 - 1e-12])
def test_an_intercept_is_found_for_any_rate(rate):
    index = np.array([-400.0, 0.0, 300.0])
    c = intercept_for(index, rate)
    assert np.mean(1 / (1 + np.exp(-np.clip(index + c, -700, 700)))) == pytest.approx(rate, rel=1e-6, abs=1e-12)


def test_data_with_one_rating_for_everything_is_data_without_ratings(tmp_path):
    (tmp_path / "r.csv").write_text("user_id,item_id,rating\n" + "".join(f"{u},{i},1\n" for u in range(1, 9) for i in range(u, u + 6)))
    world = InteractionTables(InteractionTables.Config(path=tmp_path, interactions="r.csv")).load()
    assert world.rating_scale is None
    made = fitted(world)
    decisions = made.decide([first_page(profile, np.arange(3), Stream(1)) for profile in fit_profiles(world)])
    assert all("rate" not in decision.outcomes for decision in decisions)


def test_ratings_that_are_the_same_but_for_one_have_a_spread(tmp_path):
    """What is expected of ratings that hardly differ is finite, for the control as well."""
    rows = pl.DataFrame(
        {"user": [0, 0, 1, 1], "item": [0, 1, 0, 1], "rating": [4.0] * 4, "timestamp": [1, 2, 3, 4]},
        schema={"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64},
    )
    evidence = Evidence(rows, 2, 2)
    assert evidence.rating_sd > 0
    assert np.isfinite(evidence.features(np.array([0]), np.array([0, 1]))).all()

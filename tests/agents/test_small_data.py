"""Fits on little data, on columns that hardly differ, and where optimisers fail: sensible numbers, or fewer weights and a sentence."""

import numpy as np
import pytest

from agents import choice_model
from agents.actions import actions_for, on_scale
from agents.choice_model import fit_logit
from agents.decisions import first_page
from agents.optimising import smallest
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
    actions = tuple(on_scale(action, world) if action.name == "rate" else action for action in actions_for(world))
    context = DecisionContext(world.catalog, actions, None, world.rating_scale, 5, 5, seed)
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


def test_a_minimum_at_a_bound_has_converged():
    found = smallest(lambda x: (float(x[0]), np.ones(1)), [np.array([0.5])], [(0.0, 1.0)])
    assert found.converged
    assert found.point[0] == 0.0


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

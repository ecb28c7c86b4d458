"""The rating model: trusted where it helps, on the data's own values, and kind to nobody's unpicked items without saying so."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from agents import kept_ratings
from agents.rated_results import Raters
from agents.rating_model import FEWEST, RatingModel, Ratings, spread_of_people
from experiments.benchmarks.picked_ratings import Truth, judged
from experiments.benchmarks.ratings import coded, read
from simulator.one_thread import one_thread
from simulator.seeds import Stream

SHAPE = (100, 60)
HALVES = np.arange(0.5, 5.5, 0.5)


def tasteful(seed=1, values=HALVES, noise=0.6, share=0.4):
    """Ratings with tastes on some values, and as many held out."""
    rng = Stream(seed).child("tasteful").generator()
    people, things = rng.normal(size=(SHAPE[0], 2)), rng.normal(size=(SHAPE[1], 2))
    truth = 3.2 + 0.6 * people @ things.T + 0.4 * rng.normal(size=(SHAPE[0], 1)) + 0.4 * rng.normal(size=(1, SHAPE[1]))
    users, items = np.nonzero(rng.random(SHAPE) < share)
    given = truth[users, items] + noise * rng.normal(size=len(users))
    given = values[np.abs(given[:, None] - values).argmin(axis=1)]
    test = rng.random(len(users)) < 0.3
    make = lambda kept: Ratings.of(users[kept], items[kept], given[kept], SHAPE)  # noqa: E731
    return make(~test), make(test)


@pytest.fixture(scope="module")
def fitted():
    known, test = tasteful()
    with one_thread():
        return RatingModel.fit(known, Stream(1)), known, test


def rmse(told, given):
    return float(np.sqrt(np.mean((told - given) ** 2)))


def test_tastes_are_trusted_where_there_are_any(fitted):
    model, _, test = fitted
    assert model.trust > 0.8
    assert rmse(model.expected(test.users, test.items), test.given) < 0.85 * rmse(model.biases.expected(test.users, test.items), test.given)


def test_ratings_that_say_nothing_leave_the_biases_alone():
    known, _ = tasteful()
    shuffled = Ratings(known.users, known.items, Stream(2).child("shuffled").generator().permutation(known.given), SHAPE)
    model = RatingModel.fit(shuffled, Stream(1))
    assert model.trust == pytest.approx(0.0, abs=0.1)
    assert model.selection.gap < 0.1


def test_few_ratings_are_left_to_the_biases():
    known, _ = tasteful()
    model = RatingModel.fit(known.part(np.arange(FEWEST - 1)), Stream(1))
    assert model.factors is None
    assert np.isfinite(model.expected(np.array([0, 99]), np.array([0, 59]))).all()


@pytest.mark.parametrize("given", [[3.0], [2.0] * 60, [0.0, 1.0] * 40])
def test_any_ratings_can_be_fitted(given):
    n = len(given)
    model = RatingModel.fit(Ratings.of(np.arange(n) % 7, np.arange(n) // 7, np.array(given), (7, 12)), Stream(1))
    rater = model.rater(np.array([0, 1]), np.array(given[:1] * 2))
    shares = model.probabilities(rater, model.of_rater(rater, np.arange(12)))
    assert shares.shape == (12, len(set(given)))
    assert shares.sum(axis=1) == pytest.approx(np.ones(12))


def test_what_is_drawn_is_spread_like_what_was_given(fitted):
    model, _, test = fitted
    rng = Stream(3).child("draws").generator()
    level = model.level_spread(model.counts.sum(axis=1)) * rng.normal(size=SHAPE[0])
    expected = model.expected(test.users, test.items) + level[test.users]
    cumulative = np.cumsum(model.shape.probabilities(expected, model.counts[test.users]), axis=1)
    drawn = model.own.values[(rng.random(len(test))[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1).clip(max=9)]
    between, within = spread_of_people(drawn, test.users) / spread_of_people(test.given, test.users)
    assert between == pytest.approx(1.0, abs=0.15)
    assert within == pytest.approx(1.0, abs=0.1)
    bins = np.append(model.own.values, 9.0)
    assert np.abs(np.histogram(drawn, bins)[0] - np.histogram(test.given, bins)[0]).sum() / 2 / len(test) < 0.06


def test_an_own_level_is_drawn_once_and_is_small_where_much_is_known(fitted):
    model = fitted[0]
    few, many = model.level_spread(np.array([1.0, 400.0]))
    assert few > 3 * many > 0
    rater = model.rater(np.array([3]), np.array([4.0]))
    levels = [model.own_level(rater, Stream(1).child("level", k).generator()) for k in range(400)]
    assert np.std(levels) == pytest.approx(few, rel=0.15)
    assert levels[7] == model.own_level(rater, Stream(1).child("level", 7).generator())


def test_a_person_of_the_fit_is_known_and_anybody_else_is_folded_in(fitted):
    model, known, _ = fitted
    mine = known.users == 5
    items = np.arange(SHAPE[1])
    inside = model.of_rater(model.rater(known.items[mine], known.given[mine], 5), items)
    folded = model.of_rater(model.rater(known.items[mine], known.given[mine]), items)
    assert np.clip(inside, *model.ends) == pytest.approx(model.expected(np.full(SHAPE[1], 5), items), abs=1e-3)
    assert np.corrcoef(inside, folded)[0, 1] > 0.95
    assert not np.array_equal(inside, folded)
    changed = model.rater(known.items[mine][1:], known.given[mine][1:], 5)
    assert np.array_equal(changed.factors, model.factors.folded_in(known.items[mine][1:], known.given[mine][1:]))


def test_users_who_join_later_are_folded_in_by_their_history(fitted):
    """Drawn users, and those whom the fit knows by their code alone, are rated like people of the fit, and better than by biases."""
    everybody, known, test = fitted
    joining = np.arange(70, 100)
    with one_thread():
        model = RatingModel.fit(known.part(np.flatnonzero(~np.isin(known.users, joining))), Stream(1))
    assert model.factors is not None
    assert model.counts[joining].sum() == 0
    raters = Raters(model, Stream(3), np.eye(len(model.own.values)))
    asked = test.part(np.flatnonzero(np.isin(test.users, joining)))
    told, plain = np.zeros(len(asked)), np.zeros(len(asked))
    for user in joining.tolist():
        mine, here = known.users == user, asked.users == user
        of = {"user_id": f"u{user}", "history": known.items[mine], "ratings": known.given[mine]}
        told[here] = raters.expected(SimpleNamespace(**of, user=user, synthetic=False), asked.items[here])
        drawn = SimpleNamespace(**{**of, "user_id": f"synthetic-{user}"}, user=0, synthetic=True)
        assert np.array_equal(raters.expected(drawn, asked.items[here]), told[here])
        level = model.biases.of_history(known.items[mine], known.given[mine])
        plain[here] = model.biases.mean + level + model.biases.of_item[asked.items[here]]
    inside = everybody.expected(asked.users, asked.items)
    assert rmse(told, asked.given) < rmse(inside, asked.given) + 0.05
    assert rmse(told, asked.given) < 0.9 * rmse(plain, asked.given)


def test_the_fit_depends_on_the_seed_and_not_on_the_order_of_rows(fitted):
    model, known, _ = fitted
    order = Stream(5).child("order").generator().permutation(len(known))
    part = known.part(order)
    with one_thread():
        again = RatingModel.fit(Ratings.of(part.users, part.items, part.given, SHAPE), Stream(1))
        other = RatingModel.fit(known, Stream(2))
    assert again.report == model.report
    assert np.array_equal(again.factors.users, model.factors.users)
    assert other.report != model.report


def test_a_model_is_restored_to_the_bit(fitted, tmp_path):
    model = fitted[0]
    kept_ratings.save(model, tmp_path / "ratings.npz")
    again = kept_ratings.load(tmp_path / "ratings.npz")
    users, items = np.arange(60), np.arange(60)
    assert np.array_equal(again.expected(users, items), model.expected(users, items))
    rater = model.rater(np.array([3, 4]), np.array([4.0, 1.5]))
    assert np.array_equal(again.of_rater(rater, items), model.of_rater(rater, items))
    assert np.array_equal(again.probabilities(rater, np.array([2.2])), model.probabilities(rater, np.array([2.2])))
    assert (again.selection, again.levelled, again.report) == (model.selection, model.levelled, model.report)


def test_random_ratings_replace_what_is_assumed(fitted):
    model, _, test = fitted
    some = test.part(np.arange(200))
    kinder = model.measured_by(Ratings(some.users, some.items, some.given - 0.5, SHAPE))
    assert kinder.selection.measured == pytest.approx(0.5, abs=0.15)
    assert 0 < kinder.selection.measured_error < 0.15
    assert kinder.selection.assigned(0.2) == -kinder.selection.measured
    assert kinder.report["selection"]["measured"] is True


@pytest.fixture(scope="module")
def picked_world(shared_data):
    table = read(shared_data, "ml-100k")
    assert table.height == 100_000
    assert table.schema["rating"] == pl.Float64
    log = coded(table)
    return Truth.of(Ratings.of(log.users, log.items, log.given, log.shape), Stream(0))


def test_where_picks_say_nothing_of_ratings_nothing_is_shifted(picked_world):
    found = judged(picked_world, 0.0, 0.5, Stream(0).child("none"))
    assert found["found"] == 0.0
    assert abs(found["shifted"]["bias"]) < 0.02


def test_where_people_pick_what_they_like_most_of_the_bias_goes(picked_world):
    found = judged(picked_world, 0.5, 0.5, Stream(0).child("some"))
    assert found["found"] == pytest.approx(0.5, abs=0.12)
    assert found["unshifted"]["bias"] > 0.3
    assert found["shifted"]["bias"] < 0.6 * found["unshifted"]["bias"]
    assert found["shifted"]["rmse"] < found["unshifted"]["rmse"]

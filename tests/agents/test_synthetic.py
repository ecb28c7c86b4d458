import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ks_2samp, spearmanr

from agents.drawing import RatingStyle, draw_items, draw_ratings, item_rates
from agents.profiles import fit_profiles
from agents.synthetic import draw, fit_copula, synthesise
from environments.datasets.movielens import MovieLens100K
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.records import UserProfile
from simulator.seeds import Stream

DRAWN = 400


@pytest.fixture(scope="module")
def ml_100k(shared_data: Path) -> Dataset:
    return MovieLens100K(MovieLens100K.Config(path=str(shared_data / "ml-100k"))).load()


@pytest.fixture(scope="module")
def real(ml_100k: Dataset) -> list[UserProfile]:
    return fit_profiles(ml_100k)


@pytest.fixture(scope="module")
def drawn(ml_100k: Dataset, real: list[UserProfile]) -> list[UserProfile]:
    return synthesise(real, DRAWN, ml_100k, Stream(7).child("synthesise"))


def quantities(people: list[UserProfile]) -> dict[str, np.ndarray]:
    table = {name: np.array([getattr(p, name).value for p in people]) for name in ("activity", "conformity", "diversity", "pickiness")}
    table["age"] = np.array([p.age for p in people], dtype=float)
    for name in ("sessions_per_week", "gap_log_mean", "gap_log_sd", "gap_factor", "items_per_session", "seconds_per_item"):
        table[name] = np.array([getattr(p.rhythm, name) for p in people])
    for genre in ("Drama", "Comedy", "Action", "Horror", "Children's"):
        table[genre] = np.array([p.genres[genre] for p in people])
    return table


def test_each_quantity_of_drawn_people_is_distributed_like_that_of_real_ones(real, drawn) -> None:
    distances = {name: ks_2samp(values, quantities(drawn)[name]).statistic for name, values in quantities(real).items()}
    assert max(distances.values()) < 0.12, distances


def test_the_correlations_between_traits_are_those_of_real_people(real, drawn) -> None:
    ours, theirs = (spearmanr(np.stack(list(quantities(people).values()), axis=1)).statistic for people in (drawn, real))
    difference = np.abs(ours - theirs)
    # two correlations of 400 and 943 people differ by up to 0.17 by chance alone (three standard errors)
    assert difference[:5, :5].max() < 0.17
    assert difference.mean() < 0.06
    assert ours[0, 2] > 0.25, "active people are more versatile, in the data and here"


def test_drawn_people_rate_and_choose_popular_items_as_real_ones_do(ml_100k: Dataset, real, drawn) -> None:
    histograms = [np.mean([p.rating_histogram for p in people], axis=0) for people in (real, drawn)]
    assert np.abs(histograms[0] - histograms[1]).max() < 0.03
    popularity = np.log(np.maximum(np.bincount(ml_100k.interactions["item"].to_numpy(), minlength=ml_100k.n_items), 1))
    mainstream = [[popularity[p.history].mean() for p in people] for people in (real, drawn)]
    assert ks_2samp(*mainstream).statistic < 0.12


def test_drawn_people_are_marked_and_numbered_after_the_real_ones(ml_100k: Dataset, drawn) -> None:
    assert [p.user for p in drawn] == list(range(943, 943 + DRAWN))
    assert drawn[0].user_id == "synthetic-0000"
    assert all(p.synthetic and p.taste is None and p.rhythm.source == "population" for p in drawn)


def test_no_drawn_history_is_a_copy_of_a_real_one_or_of_another(real, drawn) -> None:
    taken = {frozenset(p.history.tolist()) for p in real}
    ours = [frozenset(p.history.tolist()) for p in drawn]
    assert not taken & set(ours)
    assert len(set(ours)) == DRAWN
    assert all(len(items) == len(p.history) for items, p in zip(ours, drawn, strict=True))
    most = max(len(items & other) / len(items | other) for items in ours for other in taken)
    assert most < 0.75


def test_the_profile_of_a_drawn_person_is_measured_on_the_drawn_history(drawn) -> None:
    for person in drawn:
        assert person.ratings is not None
        assert person.pickiness is not None
        assert person.activity.value == len(person.history) == len(person.ratings)
        assert person.pickiness.value == pytest.approx(float(person.ratings.mean()), abs=1e-5)
        assert set(person.liked) | set(person.disliked) <= set(person.history.tolist())
        assert sum(person.rhythm.hours) == pytest.approx(1.0)


def test_students_are_young_in_the_drawn_population_too(drawn) -> None:
    students = [p.age for p in drawn if p.occupation == "student"]
    others = [p.age for p in drawn if p.occupation != "student"]
    assert len(students) > DRAWN // 10
    assert np.mean(students) < np.mean(others) - 8


def test_the_same_stream_draws_the_same_people_and_more_people_keep_the_first(ml_100k: Dataset, real, drawn) -> None:
    again = synthesise(real, 3, ml_100k, Stream(7).child("synthesise"))
    other = synthesise(real, 3, ml_100k, Stream(8).child("synthesise"))
    for one, two, three in zip(again, drawn, other, strict=False):
        for field in dataclasses.fields(UserProfile):
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name))
        assert not np.array_equal(one.history, three.history)


def small_world(make_dataset, *, rated: bool, genres: bool, users: int = 40, items: int = 60) -> Dataset:
    rng = Stream(1).generator()
    rows = [
        (user, int(item), float(rng.integers(1, 6)) if rated else None, None)
        for user in range(users)
        for item in rng.permutation(items)[: rng.integers(3, 15)]
    ]
    return make_dataset(rows, [["A", "B"][i % 2 : i % 2 + 1] if genres else [] for i in range(items)], scale=(1.0, 5.0) if rated else None)


@pytest.mark.parametrize("rated", [True, False])
@pytest.mark.parametrize("genres", [True, False])
def test_data_without_ratings_genres_times_or_ages_is_drawn_from_too(make_dataset, rated: bool, genres: bool) -> None:
    train = small_world(make_dataset, rated=rated, genres=genres)
    for person in synthesise(fit_profiles(train), 5, train, Stream(3)):
        assert (person.ratings is not None) == (person.pickiness is not None) == rated
        assert bool(person.genres) == genres
        assert person.age is None
        assert person.rhythm.source == "default"


def test_too_few_people_to_learn_from_is_a_clear_error(make_dataset) -> None:
    train = small_world(make_dataset, rated=True, genres=True, users=9)
    with pytest.raises(ConfigError, match=r"population\.synthetic = 2 needs at least 10 real people to learn from, but the data has 9"):
        synthesise(fit_profiles(train), 2, train, Stream(3))


def test_data_in_which_every_history_is_taken_is_a_clear_error(make_dataset) -> None:
    train = make_dataset([(user, item, 3.0, None) for user in range(12) for item in range(3)], [["A"]] * 3)
    with pytest.raises(ConfigError, match="every history of 3 that was drawn is also a real person's"):
        synthesise(fit_profiles(train), 1, train, Stream(3))


def test_a_copula_keeps_margins_and_correlations_and_the_range() -> None:
    rng = Stream(2).generator()
    base = rng.standard_normal(3000)
    table = {"a": np.exp(base), "b": -base + 0.5 * rng.standard_normal(3000), "age": np.repeat([18.0, 25.0, 56.0], 1000)}
    copula = fit_copula(table)
    people = [draw(copula, rng)[0] for _ in range(3000)]
    a, b, ages = (np.array([person[name] for person in people]) for name in table)
    assert ks_2samp(a, table["a"]).statistic < 0.05
    assert spearmanr(a, b).statistic == pytest.approx(spearmanr(table["a"], table["b"]).statistic, abs=0.05)
    assert set(ages) == {18.0, 25.0, 56.0}
    assert table["a"].min() <= a.min() <= a.max() <= table["a"].max()


def test_rates_meet_the_wanted_number_genres_and_popularity() -> None:
    rng = Stream(4).generator()
    popularity = np.floor(rng.lognormal(3, 1, 800)) * (rng.random(800) < 0.9)
    genres = (rng.random((800, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(float)
    targets = np.array([0.2, 0.3, 0.2, 0.3])
    taken = -np.expm1(-item_rates(popularity, sparse.csr_array(genres), targets, 4.0, 50))
    assert taken.sum() == pytest.approx(50, rel=0.02)
    assert (taken @ genres) / (taken @ genres).sum() == pytest.approx(targets, abs=0.01)
    assert taken @ np.log(np.maximum(popularity, 1)) / taken.sum() == pytest.approx(4.0, abs=0.05)
    assert (taken[popularity == 0] == 0).all()


def test_drawn_items_are_different_and_the_eager_ones_come_often() -> None:
    rates = np.array([0.0, 1.0, 1.0, 20.0])
    rng = Stream(5).generator()
    draws = [draw_items(rates, 2, rng) for _ in range(500)]
    assert all(len(set(items.tolist())) == 2 and 0 not in items for items in draws)
    assert np.mean([3 in items for items in draws]) > 0.95


@pytest.mark.parametrize("style", [RatingStyle(3.6, 1.0, 0.9), RatingStyle(4.5, 0.7, 1.4), RatingStyle(2.0, 1.3, 3.5)])
def test_drawn_ratings_have_the_wanted_mean_spread_and_deviation(style: RatingStyle) -> None:
    rng = Stream(6).generator()
    means, grades = rng.normal(3.5, 0.5, 400), np.arange(1.0, 6.0)
    ratings = draw_ratings(means, grades, np.array([0.06, 0.11, 0.27, 0.34, 0.22]), style, rng)
    assert set(ratings.tolist()) <= set(grades.tolist())
    assert ratings.mean() == pytest.approx(style.mean, abs=0.05)
    assert ratings.std() == pytest.approx(style.spread, abs=0.08)
    assert ((ratings - means) ** 2).mean() == pytest.approx(style.deviation, abs=0.2)


def test_wishes_that_exclude_each_other_are_met_as_far_as_possible() -> None:
    ratings = draw_ratings(np.full(50, 4.0), np.arange(1.0, 6.0), np.full(5, 0.2), RatingStyle(1.0, 0.0, 0.0), Stream(7).generator())
    assert np.isfinite(ratings).all()
    assert 1 <= ratings.mean() <= 4

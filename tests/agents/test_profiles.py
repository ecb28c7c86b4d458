import dataclasses
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents.profiles import fit_norms, fit_profiles
from agents.stars import stars
from environments.datasets.movielens import MovieLens100K
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.records import UserProfile
from simulator.seeds import Stream

GENRES = [["Comedy"], ["Comedy", "Drama"], ["Horror"], ["Horror"], ["Drama"]]
DAY = 86_400


@pytest.fixture(scope="module")
def ml_100k(shared_data: Path) -> Dataset:
    return MovieLens100K(MovieLens100K.Config(path=str(shared_data / "ml-100k"))).load()


@pytest.fixture(scope="module")
def people(ml_100k: Dataset) -> list[UserProfile]:
    return fit_profiles(ml_100k)


def same(one: UserProfile, other: UserProfile) -> bool:
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(UserProfile))
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_only_people_with_training_interactions_have_a_profile_in_order_of_code(make_dataset) -> None:
    train = make_dataset([(3, 0, 4, 10), (1, 1, 2, 20)], GENRES, ages=[None, 30, None, None])
    profiles = fit_profiles(train)
    assert [(p.user, p.user_id, p.age, p.synthetic) for p in profiles] == [(1, "u1", 30, False), (3, "u3", None, False)]


def test_histories_are_in_order_of_time_whatever_the_order_of_the_rows(make_dataset) -> None:
    (profile,) = fit_profiles(make_dataset([(0, 2, 3, 300), (0, 0, 5, 100), (0, 1, 1, 200)], GENRES))
    assert profile.history.tolist() == [0, 1, 2]
    assert profile.ratings is not None
    assert profile.ratings.tolist() == [5, 1, 3]


def test_liked_and_disliked_are_ordered_by_rating_then_by_rarity(make_dataset) -> None:
    crowd = [(user, 0, 4.0, user) for user in range(1, 20)] + [(user, 1, 4.0, user) for user in range(1, 8)]
    mine = [(0, 0, 5.0, 1), (0, 1, 5.0, 2), (0, 2, 1.0, 3), (0, 3, 2.0, 4), (0, 4, 4.0, 5)]
    profile = fit_profiles(make_dataset(crowd + mine, GENRES))[0]
    assert profile.liked == (1, 0, 4)
    assert profile.disliked == (2, 3)


def test_an_item_that_nearly_nobody_knows_is_named_last_among_equals(make_dataset) -> None:
    crowd = [(user, item, 4.0, user) for user in range(1, 100) for item in ((0, 1) if user < 50 else (0,))]
    mine = [(0, 0, 5.0, 1), (0, 1, 5.0, 2), (0, 2, 5.0, 3), (0, 3, 1.0, 4)]
    profile = fit_profiles(make_dataset(crowd + mine, GENRES))[0]
    assert profile.liked == (1, 0, 2)


def test_a_person_who_gives_every_film_the_same_likes_all_or_none(make_dataset) -> None:
    rows = [(0, i, 4.0, i) for i in range(3)] + [(1, i, 1.0, i) for i in range(3)]
    content, sour = fit_profiles(make_dataset(rows, GENRES))
    assert set(content.liked) == {0, 1, 2}
    assert content.disliked == ()
    assert sour.liked == ()
    assert set(sour.disliked) == {0, 1, 2}


def test_lists_are_capped_and_name_an_item_once(make_dataset, monkeypatch) -> None:
    rows = [(0, 0, 5.0, 1), (0, 0, 5.0, 2), (0, 1, 4.0, 3), (0, 2, 1.0, 4), (0, 3, 1.0, 5)]
    monkeypatch.setattr("agents.profiles.LIKED", 1)
    monkeypatch.setattr("agents.profiles.DISLIKED", 1)
    (profile,) = fit_profiles(make_dataset(rows, GENRES))
    assert profile.liked == (0,)
    assert len(profile.disliked) == 1
    assert profile.activity.value == 5


def test_data_without_ratings_has_taste_by_recency_and_no_rating_traits(make_dataset) -> None:
    profile = fit_profiles(make_dataset([(0, 2, None, 30), (0, 0, None, 10), (0, 1, None, 20)], GENRES, scale=None))[0]
    assert profile.liked == (2, 1, 0)
    assert profile.disliked == ()
    assert (profile.ratings, profile.conformity, profile.pickiness, profile.rating_histogram) == (None, None, None, None)
    assert profile.activity.value == 3


def test_data_without_ratings_and_times_has_taste_by_rarity_whatever_the_order_of_the_rows(make_dataset) -> None:
    crowd = [(user, item, None, None) for user in range(1, 10) for item in range(4) if user <= 2 * item + 2]
    mine = [(0, 3, None, None), (0, 1, None, None), (0, 0, None, None), (0, 2, None, None)]
    for rows in (crowd + mine, crowd + mine[::-1]):
        assert fit_profiles(make_dataset(rows, GENRES, scale=None))[0].liked == (0, 1, 2, 3)


def test_data_without_times_has_the_default_rhythm(make_dataset) -> None:
    profile = fit_profiles(make_dataset([(0, 0, 4.0, None), (0, 1, 2.0, None)], GENRES))[0]
    assert profile.rhythm.source == "default"


def test_data_without_genres_has_profiles_too(make_dataset) -> None:
    profile = fit_profiles(make_dataset([(0, 0, 4.0, 1), (1, 1, 2.0, 2)], [[], []]))[0]
    assert profile.genres == {}
    assert (profile.diversity.value, profile.diversity.level) == (0, "medium")


def test_genres_are_ordered_by_lift(make_dataset) -> None:
    rows = [(0, 2, 4.0, 1), (0, 3, 4.0, 2), (0, 1, 4.0, 3), (1, 0, 4.0, 1), (1, 1, 4.0, 2), (1, 4, 4.0, 3)]
    one, other = fit_profiles(make_dataset(rows, GENRES))
    assert next(iter(one.genres)) == "Horror"
    assert list(other.genres)[-1] == "Horror"
    assert list(one.genres.values()) == sorted(one.genres.values(), reverse=True)


def test_no_interactions_is_a_clear_error(make_dataset) -> None:
    train = make_dataset([(0, 0, 4.0, 1)], GENRES)
    with pytest.raises(DataError, match=r"data set 'small' has no training interactions"):
        fit_profiles(train.with_interactions(train.interactions.clear()))


def test_changing_held_out_rows_changes_no_profile(ml_100k: Dataset) -> None:
    rows = ml_100k.interactions
    held_out = pl.int_range(pl.len()).over("user") >= (pl.len() * 0.8).over("user")
    shuffled = Stream(5).generator().permutation(rows["item"].to_numpy()).astype(np.int32)
    other = rows.with_columns(
        item=pl.when(held_out).then(pl.Series(shuffled)).otherwise("item"),
        rating=pl.when(held_out).then(pl.lit(1.0, pl.Float32)).otherwise("rating"),
        timestamp=pl.when(held_out).then(pl.col("timestamp") + DAY).otherwise("timestamp"),
    )
    assert not other.equals(rows)
    before, after = (fit_profiles(ml_100k.with_interactions(table.filter(~held_out))) for table in (rows, other))
    assert len(before) == len(after) == 943
    assert all(same(one, two) for one, two in zip(before, after, strict=True))
    whole = fit_profiles(ml_100k.with_interactions(other))
    assert not any(same(one, two) for one, two in zip(before, whole, strict=True))


def test_profiles_of_movielens_obey_their_contract(ml_100k: Dataset, people: list[UserProfile]) -> None:
    assert [p.user for p in people] == list(range(943))
    ratings = ml_100k.interactions.group_by("user", maintain_order=True).agg(pl.col("rating"))["rating"].to_list()
    for profile, own in zip(people, ratings, strict=True):
        assert profile.ratings is not None
        assert profile.pickiness is not None
        assert profile.rating_histogram is not None
        assert sorted(profile.ratings.tolist()) == sorted(own)
        assert profile.pickiness.value == pytest.approx(np.mean(own), abs=1e-5)
        assert sum(profile.rating_histogram) == pytest.approx(1.0)
        given = dict(zip(profile.history.tolist(), stars(profile.ratings, (1.0, 5.0)).tolist(), strict=True))
        assert all(given[item] >= 3 and given[item] >= np.mean(own) for item in profile.liked)
        assert all(given[item] <= 3 and given[item] <= np.mean(own) for item in profile.disliked)
        assert len(profile.liked) <= 20
        assert len(profile.disliked) <= 8
        assert not set(profile.liked) & set(profile.disliked)
        rhythm = profile.rhythm
        assert min(rhythm.sessions_per_week, rhythm.gap_log_sd, rhythm.seconds_per_item) > 0
        assert rhythm.items_per_session >= 1
        assert sum(rhythm.hours) == pytest.approx(1.0)


def test_traits_of_movielens_split_the_population_and_point_the_right_way(people: list[UserProfile]) -> None:
    for name in ("activity", "conformity", "pickiness"):
        levels = [getattr(p, name).level for p in people]
        assert all(300 <= levels.count(level) <= 330 for level in ("low", "medium", "high"))
    means = {level: np.mean([p.pickiness.value for p in people if p.pickiness and p.pickiness.level == level]) for level in ("low", "high")}
    assert means["high"] < means["low"] - 0.5
    deviations = {
        level: np.mean([p.conformity.value for p in people if p.conformity and p.conformity.level == level]) for level in ("low", "high")
    }
    assert deviations["high"] < deviations["low"] / 2


def test_a_million_ratings_take_seconds(ml_100k: Dataset) -> None:
    rows = ml_100k.interactions
    copies = [rows.with_columns(user=pl.col("user") + 943 * k) for k in range(10)]
    users = pl.concat([ml_100k.users] * 10).with_columns(user=pl.int_range(9430, dtype=pl.Int32))
    many = Dataset("many", ml_100k.catalog, users, pl.concat(copies).sort("user", maintain_order=True), (1.0, 5.0))
    start = time.perf_counter()
    assert len(fit_profiles(many)) == 9430
    assert time.perf_counter() - start < 10


def test_norms_are_those_of_the_training_part(make_dataset) -> None:
    norms = fit_norms(make_dataset([(0, 0, 4.0, 1), (1, 0, 2.0, 2), (1, 1, 5.0, 3)], GENRES))
    assert norms.popularity.tolist() == [2, 1, 0, 0, 0]
    assert norms.item_means is not None
    assert norms.item_means.tolist() == pytest.approx([3, 5, 11 / 3, 11 / 3, 11 / 3])
    assert norms.genre_shares.tolist() == [0.75, 0.25, 0.0]

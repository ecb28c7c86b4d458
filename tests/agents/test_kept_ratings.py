"""Rating models that are kept, and ratings of random items from files."""

from dataclasses import replace

import polars as pl
import pytest

from agents import kept_ratings
from simulator.errors import ConfigError, DataError
from simulator.seeds import Stream


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def kept(tmp_path):
    return sorted((tmp_path / "cache" / "calibration").glob("ratings-*.npz"))


def test_a_model_is_fitted_once(film_world, tmp_path, monkeypatch):
    first = kept_ratings.fitted(film_world, Stream(1), foreseen=0.5)
    (file,) = kept(tmp_path)
    monkeypatch.setattr(kept_ratings.RatingModel, "fit", None)
    again = kept_ratings.fitted(film_world, Stream(1), foreseen=0.25)
    assert again.report["trust"] == first.report["trust"]
    assert again.selection == replace(first.selection, foreseen=0.25)
    assert kept(tmp_path) == [file]


def test_other_data_and_other_seeds_have_other_keys(film_world, tmp_path):
    kept_ratings.fitted(film_world, Stream(1), foreseen=0.5)
    kept_ratings.fitted(film_world, Stream(2), foreseen=0.5)
    changed = film_world.interactions.with_columns(
        pl.when(pl.int_range(pl.len()) == 3).then(1.0).otherwise("rating").cast(pl.Float32).alias("rating")
    )
    kept_ratings.fitted(film_world.with_interactions(changed), Stream(1), foreseen=0.5)
    assert len(kept(tmp_path)) == 3


def test_a_damaged_entry_is_made_again(film_world, tmp_path):
    kept_ratings.fitted(film_world, Stream(1), foreseen=0.5)
    (file,) = kept(tmp_path)
    content = file.read_bytes()
    for damaged in (b"", content[:-200], content.replace(b"of_user", b"of_nobody"), content[: len(content) // 2]):
        file.write_bytes(damaged)
        kept_ratings.fitted(film_world, Stream(1), foreseen=0.5)
        assert kept(tmp_path) == [file]
        assert file.read_bytes() == content


def test_a_model_of_another_version_is_refused(film_world, tmp_path, monkeypatch):
    model = kept_ratings.fitted(film_world, Stream(1), foreseen=0.5)
    monkeypatch.setattr(kept_ratings, "VERSION", 0)
    kept_ratings.save(model, tmp_path / "old.npz")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="version 0, not 1"):
        kept_ratings.load(tmp_path / "old.npz")


def random_file(film_world, place, ratings):
    ids = film_world.catalog.item_ids
    pl.DataFrame({"user": ["u1"] * len(ratings), "item": ids[: len(ratings)].tolist(), "rating": ratings}).write_csv(place)
    return place


def test_random_ratings_are_read_by_ids(film_world, tmp_path):
    file = random_file(film_world, tmp_path / "random.csv", [1.0, 2.0, 1.0])
    found = kept_ratings.random_ratings(file, film_world)
    assert (found.users.tolist(), found.items.tolist(), found.given.tolist()) == ([1, 1, 1], [0, 1, 2], [1.0, 2.0, 1.0])
    pl.read_csv(file).write_parquet(tmp_path / "random.parquet")
    assert kept_ratings.random_ratings(tmp_path / "random.parquet", film_world).given.tolist() == [1.0, 2.0, 1.0]
    model = kept_ratings.fitted(film_world, Stream(1), foreseen=0.5, random=file)
    assert model.selection.measured is not None
    assert model.selection.rows == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("user,item\nu1,100\n", "has no column 'rating'"),
        ("user,item,rating\nu1,100,many\n", "rating is a number"),
        ("user,item,rating\nnobody,100,3\n", "no row is about a person and an item"),
        ("user,item,rating\nu1,100,9\n", "ratings from 9 to 9 on a scale from 1 to 5"),
    ],
)
def test_what_is_wrong_with_random_ratings_is_said(film_world, tmp_path, content, said):
    (tmp_path / "random.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        kept_ratings.random_ratings(tmp_path / "random.csv", film_world)
    with pytest.raises(ConfigError, match="there is no such file"):
        kept_ratings.random_ratings(tmp_path / "none.csv", film_world)

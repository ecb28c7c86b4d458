import numpy as np
import polars as pl

from agents.exposures import people_split
from experiments.tuning.item_factors import item_factors, who_has_what


def test_only_the_rows_of_the_learning_people_matter(film_world):
    split = people_split(film_world)
    factors = item_factors(film_world, split.fit, 6)
    assert factors.shape == (film_world.n_items + 1, 6)
    others = film_world.interactions.filter(~pl.col("user").is_in(split.fit))
    changed = others.with_columns(item=(pl.col("item") + 7) % film_world.n_items)
    mixed = pl.concat([film_world.interactions.filter(pl.col("user").is_in(split.fit)), changed]).sort("user", maintain_order=True)
    assert np.array_equal(item_factors(film_world.with_interactions(mixed), split.fit, 6), factors)
    assert not np.array_equal(item_factors(film_world.with_interactions(mixed), split.held_out, 6), factors)


def test_factors_tell_what_goes_together_and_are_short_where_little_is_known(film_world):
    people = people_split(film_world).fit
    factors = item_factors(film_world, people, 6)
    unit = factors[:-1] / np.maximum(np.linalg.norm(factors[:-1], axis=1, keepdims=True), 1e-9)
    alike = unit @ unit.T
    same = np.equal.outer(np.arange(len(alike)) % 2, np.arange(len(alike)) % 2) & ~np.eye(len(alike), dtype=bool)
    assert alike[same].mean() > alike[~same & ~np.eye(len(alike), dtype=bool)].mean() + 0.05
    counts = np.asarray(who_has_what(film_world, people).sum(axis=0)).ravel()
    lengths = np.linalg.norm(factors[:-1], axis=1)
    assert (lengths[counts == 0] == 0).all()
    assert (lengths < np.sqrt(6)).all()
    assert not factors[-1].any()

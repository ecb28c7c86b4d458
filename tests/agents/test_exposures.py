"""Sampled exposures: who is split from whom, what is hidden, and which items stand for what was not chosen."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.exposures import Negatives, candidates, hide, items_by_user, people_split
from simulator.dataset import USERS_SCHEMA
from simulator.seeds import Stream


def a_world(make_dataset, n_users=40, n_items=60, seed=0):
    generator = Stream(seed).child("exposures").generator()
    taste = 1.0 / np.arange(1, n_items + 1)
    rows = []
    for user in range(n_users):
        items = generator.choice(n_items, size=int(generator.integers(1, 21)), replace=False, p=taste / taste.sum())
        rows.extend((user, item, float(generator.integers(1, 6)), None) for item in items.tolist())
    return make_dataset(rows, [["Drama"]] * n_items)


@pytest.fixture(scope="module")
def world(make_dataset):
    return a_world(make_dataset)


def test_everybody_is_in_exactly_one_part(world):
    parts = people_split(world)
    everybody = np.concatenate([parts.fit, parts.validation, parts.held_out])
    assert sorted(everybody.tolist()) == list(range(world.n_users))
    assert (len(parts.held_out), len(parts.validation)) == (12, 8)
    assert all((np.diff(part) > 0).all() for part in (parts.fit, parts.validation, parts.held_out))


def test_no_part_has_more_than_a_thousand_people_to_judge_on(make_dataset):
    many = make_dataset([(user, 0, 3.0, None) for user in range(6_000)], [["Drama"]])
    parts = people_split(many)
    assert (len(parts.held_out), len(parts.validation), len(parts.fit)) == (1_000, 1_000, 4_000)


def test_the_split_of_the_people_depends_on_their_ids_alone(world):
    fewer_rows = world.with_interactions(world.interactions.gather_every(3))
    assert np.array_equal(people_split(world).held_out, people_split(fewer_rows).held_out)
    turned = world.users.with_columns(pl.col("user_id").reverse()).cast(dict(USERS_SCHEMA))
    moved = people_split(type(world)(world.name, world.catalog, turned, world.interactions, world.rating_scale))
    assert np.array_equal(np.sort(world.n_users - 1 - moved.held_out), people_split(world).held_out)


@pytest.mark.parametrize("order", ["random", "temporal"])
def test_hidden_and_observed_rows_together_are_the_training_part(world, order):
    if order == "temporal":
        world = world.with_interactions(world.interactions.with_columns(timestamp=pl.int_range(pl.len(), dtype=pl.Int64)))
    people = people_split(world).validation
    parts = hide(world, people, 0.3, order, Stream(1))
    together = pl.concat([parts.observed.interactions, parts.hidden])
    assert together.sort("user", "item").equals(world.interactions.sort("user", "item"))
    counts = np.bincount(world.interactions["user"], minlength=world.n_users)
    hidden = np.bincount(parts.hidden["user"], minlength=world.n_users)
    wanted = np.minimum(np.floor(counts * 0.3 + 0.5), counts - 1)
    assert np.array_equal(hidden[people], wanted[people])
    assert hidden.sum() == hidden[people].sum()
    assert (np.bincount(parts.observed.interactions["user"], minlength=world.n_users) >= 1).all()


def test_the_latest_interactions_are_hidden_where_the_data_was_split_by_time(make_dataset):
    world = make_dataset([(0, item, 3.0, 100 + item) for item in range(10)], [["Drama"]] * 10)
    assert hide(world, np.array([0]), 0.3, "temporal", Stream(1)).hidden["item"].to_list() == [7, 8, 9]


def test_what_is_hidden_of_somebody_does_not_depend_on_the_others(world):
    everybody = np.arange(world.n_users)
    alone = hide(world, np.array([5]), 0.3, "random", Stream(1)).hidden
    among = hide(world, everybody, 0.3, "random", Stream(1)).hidden.filter(pl.col("user") == 5)
    assert alone.equals(among)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_negatives_are_different_free_items_until_none_is_left(data):
    n_items = data.draw(st.integers(1, 40))
    popularity = np.array(data.draw(st.lists(st.integers(0, 50), min_size=n_items, max_size=n_items)))
    taken = np.array(data.draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items)))
    positives = np.array(data.draw(st.lists(st.integers(0, n_items - 1), min_size=1, max_size=30)))
    taken[positives] = True
    before = taken.copy()
    negatives = Negatives(popularity, Stream(0), window=data.draw(st.integers(1, 15)))
    for draw in (negatives.random, negatives.matched):
        drawn = draw(positives, taken, Stream(3).generator())
        found = drawn[drawn >= 0]
        assert len(found) == min(len(positives), int((~taken).sum()))
        assert len(set(found.tolist())) == len(found)
        assert not taken[found].any()
    assert np.array_equal(before, taken)


def test_matched_negatives_are_about_as_popular_as_their_positives_and_random_ones_are_not():
    generator = Stream(4).generator()
    popularity = np.sort(generator.zipf(1.6, size=1_000).clip(max=5_000))[::-1]
    taken = np.zeros(1_000, dtype=bool)
    positives = np.arange(0, 200, 4)
    taken[positives] = True
    negatives = Negatives(popularity, Stream(0))
    distance = {
        name: np.abs(np.log1p(popularity[draw(positives, taken, generator)]) - np.log1p(popularity[positives])).mean()
        for name, draw in (("matched", negatives.matched), ("random", negatives.random))
    }
    assert distance["matched"] < 0.3 < distance["random"]


def test_matched_negatives_are_neither_more_nor_less_popular_on_average():
    popularity = np.arange(2_000)
    taken = np.zeros(2_000, dtype=bool)
    positives = np.arange(100, 1_900, 30)
    taken[positives] = True
    shift = popularity[Negatives(popularity, Stream(0)).matched(positives, taken, Stream(5).generator())] - positives
    assert abs(shift.mean()) < 3 * shift.std() / np.sqrt(len(shift))
    assert np.abs(shift).max() <= 15


@pytest.mark.parametrize("kind", ["random", "matched"])
@pytest.mark.parametrize("ratio", [1, 3, 9])
def test_candidates_are_a_persons_hidden_items_among_items_they_never_met(world, kind, ratio):
    people = people_split(world).validation
    parts = hide(world, people, 0.4, "random", Stream(1))
    known = items_by_user(world.interactions, world.n_users)
    popularity = np.bincount(parts.observed.interactions["item"], minlength=world.n_items)
    found = list(
        candidates(
            parts.hidden,
            known,
            Negatives(popularity, Stream(0)),
            per_person=20,
            ratio=ratio,
            kind=kind,
            rng=Stream(2),
            user_ids=world.users["user_id"].to_list(),
        )
    )
    assert [one.user for one in found] == np.unique(parts.hidden["user"]).tolist()
    for one in found:
        hidden = parts.hidden.filter(pl.col("user") == one.user)
        given = dict(zip(hidden["item"].to_list(), hidden["rating"].to_list(), strict=True))
        positives = one.items[one.chosen].tolist()
        assert len(positives) == min(20 // (1 + ratio), len(given))
        assert set(positives) <= set(given)
        assert not set(one.items[~one.chosen].tolist()) & set(known[one.user].tolist())
        assert (~one.chosen).sum() == min(ratio * len(positives), world.n_items - len(known[one.user]))
        assert len(set(one.items.tolist())) == len(one.items)
        assert one.ratings[one.chosen].tolist() == [given[item] for item in positives]
        assert np.isnan(one.ratings[~one.chosen]).all()


def test_the_candidates_of_a_person_do_not_depend_on_the_others(world):
    known = items_by_user(world.interactions, world.n_users)
    negatives = Negatives(np.bincount(world.interactions["item"], minlength=world.n_items), Stream(0))

    def drawn(rows):
        made = candidates(
            rows,
            known,
            negatives,
            per_person=8,
            ratio=1,
            kind="random",
            rng=Stream(2),
            user_ids=world.users["user_id"].to_list(),
        )
        return {one.user: one for one in made}

    everybody, alone = drawn(world.interactions), drawn(world.interactions.filter(pl.col("user") == 7))
    assert list(alone) == [7]
    assert np.array_equal(alone[7].items, everybody[7].items)


def test_items_by_user_keeps_the_order_of_the_rows_and_has_an_entry_for_people_without_any(make_dataset):
    world = make_dataset([(0, 2, 3.0, 1), (0, 1, 3.0, 2), (2, 0, 3.0, 1)], [["Drama"]] * 3)
    assert [items.tolist() for items in items_by_user(world.interactions, world.n_users)] == [[2, 1], [], [0]]

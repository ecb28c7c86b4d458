"""Nested candidates: held-out interactions among items that a person never interacted with."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from agents.exposures import items_by_user
from environments.datasets.splits import SplitConfig, split
from experiments.fidelity.candidates import MIXES, in_mix, nested_candidates
from simulator.seeds import Stream

STREAM = Stream(3)


@pytest.fixture(scope="module")
def parts(film_world):
    return split(film_world, SplitConfig(method="random", test_share=0.3), STREAM)


@pytest.fixture(scope="module")
def everything(film_world):
    return items_by_user(film_world.interactions, film_world.n_users)


def candidates(parts, known, people=(0, 1, 2, 3, 4)):
    return nested_candidates(parts.test, known, parts.train, np.array(people), STREAM)


def test_every_item_of_a_person_is_asked_about_once(parts, everything):
    for table in candidates(parts, everything).values():
        assert table["item"].n_unique() == table.height


def test_positives_are_held_out_and_negatives_are_unknown_items(parts, everything):
    for user, table in candidates(parts, everything).items():
        held_out = set(parts.test.filter(pl.col("user") == user)["item"])
        assert set(table.filter(pl.col("kind") == "positive")["item"]) <= held_out
        assert not set(table.filter(pl.col("kind") != "positive")["item"]) & set(everything[user].tolist())


def test_the_candidates_of_a_person_do_not_depend_on_other_people(parts, everything):
    alone = candidates(parts, everything, people=(3,))[3]
    assert alone.equals(candidates(parts, everything)[3])


def test_order_tells_nothing_of_the_kind(parts, everything):
    tables = candidates(parts, everything, people=range(24)).values()
    first = [table["kind"][0] for table in tables]
    assert len(set(first)) > 1


def made_up(positives, random, matched):
    kinds = ["positive"] * positives + ["random"] * random + ["matched"] * matched
    ranks = [*range(positives), *range(random), *range(matched)]
    return pl.DataFrame({"user": [1] * len(kinds), "item": range(len(kinds)), "kind": kinds, "rank": ranks})


@given(some.integers(0, 10), some.integers(0, 18), some.integers(0, 10), some.sampled_from(sorted(MIXES)))
def test_a_mix_has_exactly_its_ratio(positives, random, matched, name):
    mix = MIXES[name]
    rows = in_mix(made_up(positives, random, matched), mix)
    chosen = int(rows["chosen"].sum())
    assert rows.height == chosen * (1 + mix.ratio)
    assert chosen == min(mix.positives, positives, (random if mix.kind == "random" else matched) // mix.ratio)

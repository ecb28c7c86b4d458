"""Items without interactions: what is written about them tells who chooses them, and nothing else of anybody changes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.actions import actions_for
from agents.calibrated import CalibratedDecisions
from agents.cold_items import ColdItems, ColdScores, Lesson, choices, some_items, without_items
from agents.exposures import people_split
from agents.profiles import fit_profiles
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.plugins import build
from simulator.protocols import DecisionContext
from simulator.seeds import Stream

WORDS = (("spaceship", "robots"), ("wedding", "letters"))
N_USERS, N_ITEMS = 120, 80


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def world(described=True):
    """Half of the users like odd items, half even ones; only descriptions say which is which."""
    generator = Stream(5).child("cold world").generator()
    texts = [f"A story of {WORDS[item % 2][0]} and {WORDS[item % 2][1]}" if described else None for item in range(N_ITEMS)]
    items = pl.DataFrame(
        {
            "item": np.arange(N_ITEMS, dtype=np.int32),
            "item_id": [f"i{item}" for item in range(N_ITEMS)],
            "title": [f"Film {item}" for item in range(N_ITEMS)],
            "year": pl.Series([None] * N_ITEMS, dtype=pl.Int32),
            "genres": pl.Series([[]] * N_ITEMS, dtype=pl.List(pl.String)),
            "description": pl.Series(texts, dtype=pl.String),
        }
    )
    none = pl.Series([None] * N_USERS, dtype=pl.String)
    users = pl.DataFrame(
        {
            "user": np.arange(N_USERS, dtype=np.int32),
            "user_id": [f"u{user}" for user in range(N_USERS)],
            "age": pl.Series([None] * N_USERS, dtype=pl.Int32),
            "gender": none,
            "occupation": none,
        }
    )
    rows = []
    for user in range(N_USERS):
        chance = np.where(np.arange(N_ITEMS) % 2 == user % 2, 6.0, 1.0)
        drawn = generator.choice(N_ITEMS, size=20, replace=False, p=chance / chance.sum())
        rows += [(user, int(item), None, None) for item in np.sort(drawn)]
    table = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    return Dataset("cold world", Catalog(items), users, table)


def fitted(data):
    model = build(
        "agents.calibrated:CalibratedDecisions",
        {"language_model": False, "hide": "random"},
        context=DecisionContext(
            language_model=None,
            catalog=data.catalog,
            actions=actions_for(data),
            max_pages=3,
            page_size=5,
            rating_scale=None,
            seed=3,
        ),
        where="decision",
        methods=("decide",),
    )
    assert isinstance(model, CalibratedDecisions)
    profiles = fit_profiles(data)
    model.fit(data, profiles, Stream(3).child("decision"))
    return model, profiles


def test_hidden_items_are_gone_from_everything_but_the_catalog():
    data = world()
    new = some_items(data, Stream(1))
    rest = without_items(data, new)
    assert len(new) == N_ITEMS // 5
    assert not set(new.tolist()) & set(rest.interactions["item"].to_list())
    assert rest.n_items == N_ITEMS


def test_who_is_asked_about_new_items_is_asked_about_what_they_met_and_about_others():
    data = world()
    new = some_items(data, Stream(1))
    met = {user: set(rows["item"].to_list()) for (user,), rows in data.interactions.group_by("user")}
    some = choices(data, new, np.arange(N_USERS), Stream(2))
    assert len(some) > N_USERS / 2
    for one in some:
        assert set(one.items.tolist()) <= set(new.tolist())
        assert set(one.items[one.chosen].tolist()) <= met[one.user]
        assert not set(one.items[~one.chosen].tolist()) & met[one.user]
        assert not set(one.met.tolist()) & set(new.tolist())


def test_words_tell_what_users_will_choose_of_items_that_nobody_met():
    data = world()
    new = some_items(data, Stream(1))
    found = ColdItems.fit(without_items(data, new), Stream(4))
    assert found is not None
    right = [
        np.subtract.outer(odds[one.chosen], odds[~one.chosen])
        for one in choices(data, new, people_split(data).held_out, Stream(2))
        for odds in [found.log_odds(one.user, one.met, one.items)]
    ]
    pairs = np.concatenate([one.ravel() for one in right])
    assert np.mean((pairs > 0) + 0.5 * (pairs == 0)) > 0.7


def test_the_weights_know_nothing_of_held_out_users():
    data = world()
    lesson = Lesson.of(data, Stream(4))
    assert lesson is not None
    assert not set(lesson.people.tolist()) & set(people_split(data).held_out.tolist())


def test_nothing_is_made_of_items_without_words_or_where_every_item_is_known():
    assert ColdItems.fit(world(), Stream(4)) is None
    bare = world(described=False)
    unnamed = replace(bare, catalog=Catalog(bare.catalog.items.with_columns(title=pl.lit(""))))
    assert ColdScores.fit(unnamed) is None
    assert ColdItems.fit(without_items(unnamed, np.array([0])), Stream(4)) is None


def test_calibrated_users_tell_new_items_by_words_and_judge_known_ones_as_before(tmp_path, monkeypatch):
    data = world()
    new = some_items(data, Stream(1))
    train = without_items(data, new)
    model, profiles = fitted(train)
    known = np.setdiff1d(np.arange(N_ITEMS), new)
    told = np.array([model.preferences(profile, new) for profile in profiles])
    before = np.array([model.preferences(profile, known) for profile in profiles[:20]])
    likes = np.array([profile.user % 2 for profile in profiles])[:, None] == new[None, :] % 2
    assert told[likes].mean() > told[~likes].mean() + 0.3

    model.save(tmp_path)
    again = build(
        "agents.calibrated:CalibratedDecisions",
        {"language_model": False, "hide": "random"},
        context=model._context,
        where="decision",
        methods=("decide",),
    )
    again.load(tmp_path)
    np.testing.assert_array_equal(again.preferences(profiles[3], new), told[3])

    monkeypatch.setattr(ColdItems, "fit", lambda *_: None)
    without, _ = fitted(train)
    np.testing.assert_array_equal([without.preferences(profile, known) for profile in profiles[:20]], before)
    assert np.ptp([without.preferences(profile, new) for profile in profiles]) < np.ptp(told)

"""Contract tests and a small known world that plug-in authors inherit.

The test file of a new recommender::

    from my_package.my_module import MyRecommender
    from simulator.testing import PersonalisedRecommenderContract

    class TestMyRecommender(PersonalisedRecommenderContract):
        def make(self): return MyRecommender()

Run it with pytest. This module itself needs no pytest.
"""
# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import SkipTest

import numpy as np
import polars as pl

from simulator.dataset import INTERACTIONS_SCHEMA, ITEMS_SCHEMA, REVIEW, USERS_SCHEMA, Catalog, Dataset
from simulator.protocols import Recommender
from simulator.records import Slate
from simulator.seeds import Stream


@dataclass(frozen=True)
class CheckerboardWorld:
    """People with even codes like the items with even codes, people with odd codes those with odd codes.

    Each person has interacted with a random half of the items they like. So the right answer is known: the unseen
    items of a person's own colour come before all others.

    Attributes:
        n_users, n_items: size of the board, even numbers of at least 4.
        ratings: whether the interactions have ratings (5 everywhere, on a scale of 1 to 5).
        times: whether they have times, one minute apart in order of person and item.
        seed: of the draw of the known halves.
        shuffled: whether a person's items come in an order of chance; if ascending, a recommender that reads histories in
            order learns just that, so test such a one with ``world = CheckerboardWorld(shuffled=True)``.
    """

    n_users: int = 40
    n_items: int = 48
    ratings: bool = True
    times: bool = True
    seed: int = 1
    shuffled: bool = False

    def liked(self, user: int) -> np.ndarray:
        """All items that a person likes, ascending, int32, shape (n_items / 2,)."""
        return np.arange(user % 2, self.n_items, 2, dtype=np.int32)

    def history(self, user: int) -> np.ndarray:
        """The half of the liked items that is in the data, ascending unless `shuffled`, int32, shape (n_items // 4,)."""
        generator = Stream(self.seed).child("checkerboard", user).generator()
        drawn = generator.choice(self.liked(user), size=self.n_items // 4, replace=False)
        return drawn if self.shuffled else np.sort(drawn)

    def unseen_liked(self, user: int) -> np.ndarray:
        """The right answer: liked items that are not in the data, ascending, int32."""
        return np.setdiff1d(self.liked(user), self.history(user))

    @cached_property
    def dataset(self) -> Dataset:
        """The world as a data set."""
        histories = [self.history(user) for user in range(self.n_users)]
        users = np.repeat(np.arange(self.n_users), [len(history) for history in histories])
        n = len(users)
        interactions = pl.DataFrame(
            {
                "user": users,
                "item": np.concatenate(histories),
                "rating": [5.0 if self.ratings else None] * n,
                "timestamp": [1_000_000_000 + 60 * row if self.times else None for row in range(n)],
            },
            schema=dict(INTERACTIONS_SCHEMA),
        )
        items = range(self.n_items)
        catalog = pl.DataFrame(
            {
                "item": items,
                "item_id": [f"i{item}" for item in items],
                "title": [f"Item {item}" for item in items],
                "year": [None] * self.n_items,
                "genres": [["even" if item % 2 == 0 else "odd"] for item in items],
                "description": [None] * self.n_items,
            },
            schema=dict(ITEMS_SCHEMA),
        )
        people = pl.DataFrame(
            {
                "user": range(self.n_users),
                "user_id": [f"u{user}" for user in range(self.n_users)],
                "age": [None] * self.n_users,
                "gender": [None] * self.n_users,
                "occupation": [None] * self.n_users,
            },
            schema=dict(USERS_SCHEMA),
        )
        return Dataset("checkerboard", Catalog(catalog), people, interactions, (1.0, 5.0) if self.ratings else None)


@dataclass(frozen=True)
class ReviewWorld(CheckerboardWorld):
    """A checkerboard for recommenders that learn from ratings and reviews: people rate items of both colours and say why.

    Half of what a person knows is of their own colour and rated 5, half of the other and rated 1. A review names the item's
    colour by its taste (even items are sweet, odd ones salty) and whether the person likes that, among words that mean nothing. So the
    right answer is known, for ratings too: 5 for an item of one's own colour, 1 for another. Means alone cannot tell: everybody
    gives as many fives as ones, and so does every item receive about as many.
    """

    def history(self, user: int) -> np.ndarray:
        """What the person has rated, ascending unless `shuffled`, int32, shape (n_items // 4,)."""
        generator = Stream(self.seed).child("reviews", user).generator()
        other = np.setdiff1d(np.arange(self.n_items, dtype=np.int32), self.liked(user))
        count = self.n_items // 8
        own = generator.choice(self.liked(user), size=self.n_items // 4 - count, replace=False)
        drawn = generator.permutation(np.concatenate((own, generator.choice(other, size=count, replace=False))))
        return drawn if self.shuffled else np.sort(drawn)

    @cached_property
    def dataset(self) -> Dataset:
        """The world as a data set with the column `REVIEW`."""
        plain = super().dataset
        generator = Stream(self.seed).child("words").generator()
        rows = plain.interactions
        texts, ratings = [], []
        for user, item in rows.select("user", "item").iter_rows():
            likes = user % 2 == item % 2
            taste, filler = ("sweet", "salty")[item % 2], generator.choice(["box", "card", "paper", "ribbon", "today"], size=3)
            texts.append(f"{filler[0]} I {'love' if likes else 'hate'} {taste} {filler[1]}, {filler[2]}!")
            ratings.append(5.0 if likes else 1.0)
        reviewed = rows.with_columns(pl.Series("rating", ratings, dtype=pl.Float32), pl.Series(REVIEW, texts))
        return plain.with_interactions(reviewed)


class RecommenderContract:
    """What every recommender must do, as tests. Inherit, and override `make`.

    Attributes:
        world: the data that the tests fit on; override for a recommender that needs other data.
    """

    world = CheckerboardWorld()

    def make(self) -> Recommender:
        """A new recommender that has not been fitted."""
        raise NotImplementedError("override make() in your test class")

    def fitted(self) -> Recommender:
        """A new recommender, fitted on `world`; equal calls give equal recommenders."""
        recommender = self.make()
        recommender.fit(self.world.dataset.interactions, self.world.dataset.catalog, Stream(5).child("fit"))
        return recommender

    def slates(self, recommender: Recommender, users: Sequence[int], n: int = 10, luck: int = 7) -> list[Slate]:
        """The recommender's answer for people of the world with their histories in the data; `luck` seeds what it draws."""
        histories = [self.world.history(user) for user in users]
        return recommender.recommend(np.array(users, dtype=np.int32), histories, n, Stream(luck).child("page"))

    def test_every_person_gets_as_many_distinct_unseen_items_as_wanted(self) -> None:
        users = range(self.world.n_users)
        slates = self.slates(self.fitted(), users)
        assert isinstance(slates, list)
        assert len(slates) == len(users)
        for user, slate in zip(users, slates, strict=True):
            assert len(slate.items) == len(np.unique(slate.items)) == 10
            assert slate.items.min() >= 0
            assert slate.items.max() < self.world.n_items
            assert not np.isin(slate.items, self.world.history(user)).any()

    def test_scores_are_finite_and_do_not_increase(self) -> None:
        for slate in self.slates(self.fitted(), range(self.world.n_users)):
            assert slate.scores.shape == slate.items.shape
            assert np.isfinite(slate.scores).all()
            assert (np.diff(slate.scores) <= 0).all()

    def test_a_list_is_drawn_with_propensities_or_is_the_same_whatever_the_luck(self) -> None:
        recommender, users = self.fitted(), range(self.world.n_users)
        slates = self.slates(recommender, users)
        propensities = [slate.propensities for slate in slates]
        if all(own is None for own in propensities):
            assert_same_slates(self.slates(recommender, users, luck=8), slates)
            return
        for slate, own in zip(slates, propensities, strict=True):
            assert own is not None, "either all lists have propensities, or none has"
            assert own.shape == slate.items.shape
            assert (own > 0).all()
            assert (own <= 1).all()

    def test_the_batch_and_its_order_do_not_matter(self) -> None:
        recommender = self.fitted()
        users = list(range(self.world.n_users))
        together = self.slates(recommender, users)
        for order in (users[::-1], users[3:4], users[1::5]):
            assert_same_slates(self.slates(recommender, order), [together[user] for user in order])

    def test_all_items_that_are_left_are_returned_when_more_are_wanted(self) -> None:
        for slate in self.slates(self.fitted(), range(4), n=10 * self.world.n_items):
            assert len(slate.items) == self.world.n_items - self.world.n_items // 4

    def test_a_deterministic_list_starts_like_a_longer_one(self) -> None:
        recommender = self.fitted()
        for short, long in zip(self.slates(recommender, range(8), n=3), self.slates(recommender, range(8), n=20), strict=True):
            if short.propensities is not None:
                raise SkipTest("this recommender draws its lists")
            np.testing.assert_array_equal(short.items, long.items[:3])

    def test_a_person_who_has_seen_everything_gets_an_empty_slate(self) -> None:
        everything = np.arange(self.world.n_items, dtype=np.int32)
        users = np.array([0], dtype=np.int32)
        assert len(self.fitted().recommend(users, [everything], 5, Stream(7))[0].items) == 0

    def test_unknown_people_get_an_answer_with_and_without_a_history(self) -> None:
        users = np.array([self.world.n_users, self.world.n_users + 1_000_000], dtype=np.int32)
        histories = [np.empty(0, dtype=np.int32), self.world.history(0)]
        for slate, history in zip(self.fitted().recommend(users, histories, 10, Stream(7)), histories, strict=True):
            assert len(slate.items) == 10
            assert not np.isin(slate.items, history).any()

    def test_a_history_that_grew_since_the_fit_is_left_out(self) -> None:
        grown = np.concatenate((self.world.history(0), self.world.unseen_liked(0)[:5]))
        slate = self.fitted().recommend(np.array([0], dtype=np.int32), [grown], 10, Stream(7))[0]
        assert len(slate.items) == 10
        assert not np.isin(slate.items, grown).any()

    def test_repeated_interactions_of_a_growing_log_can_be_fitted(self) -> None:
        recommender = self.make()
        log = self.world.dataset.interactions
        recommender.fit(pl.concat([log, log.head(50)]), self.world.dataset.catalog, Stream(5).child("fit"))
        assert all(len(slate.items) == 10 for slate in self.slates(recommender, range(4)))

    def test_two_fits_on_the_same_data_give_the_same_lists(self) -> None:
        users = range(self.world.n_users)
        assert_same_slates(self.slates(self.fitted(), users), self.slates(self.fitted(), users))

    def test_saved_and_loaded_it_gives_the_same_lists(self, tmp_path: Path) -> None:
        before = self.fitted()
        before.save(tmp_path)
        after = self.make()
        after.load(tmp_path)
        users = [*range(self.world.n_users)]
        assert_same_slates(self.slates(after, users), self.slates(before, users))

    def test_excluded_items_are_left_out_and_who_draws_takes_them(self) -> None:
        recommender = self.fitted()
        slate = self.slates(recommender, [0])[0]
        if "exclude" not in inspect.signature(recommender.recommend).parameters:
            assert slate.propensities is None, "a recommender that draws its lists has the keyword exclude (see environments/feed.py)"
            raise SkipTest("this recommender is deterministic, so the feed leaves items out")
        users, histories = np.array([0], dtype=np.int32), [self.world.history(0)]
        again = recommender.recommend(users, histories, self.world.n_items, Stream(7), exclude=[slate.items])[0]  # type: ignore[call-arg]
        assert len(again.items) == self.world.n_items - self.world.n_items // 4 - len(slate.items)
        assert not np.isin(again.items, slate.items).any()


class PersonalisedRecommenderContract(RecommenderContract):
    """What a recommender that learns a person's taste must do in addition: get the checkerboard right."""

    def test_people_get_the_items_of_their_own_colour_first(self) -> None:
        users = range(self.world.n_users)
        slates = self.slates(self.fitted(), users, n=len(self.world.unseen_liked(0)))
        own = np.array([slate.items % 2 == user % 2 for user, slate in zip(users, slates, strict=True)])
        assert own[:, :5].all()
        assert own.mean() > 0.9

    def test_a_new_person_gets_the_colour_of_the_history(self) -> None:
        users = np.array([self.world.n_users, self.world.n_users + 1], dtype=np.int32)
        histories = [self.world.liked(0)[:3], self.world.liked(1)[-3:]]
        for colour, slate in enumerate(self.fitted().recommend(users, histories, 5, Stream(7))):
            assert (slate.items % 2 == colour).all()


def assert_same_slates(left: Sequence[Slate], right: Sequence[Slate]) -> None:
    """Fails unless two lists of slates are equal to the last bit.

    Raises:
        AssertionError: they differ.
    """
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)
        if one.propensities is None or other.propensities is None:
            assert one.propensities is other.propensities
        else:
            np.testing.assert_array_equal(one.propensities, other.propensities)

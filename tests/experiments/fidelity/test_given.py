"""Choices given what was shown, on made-up worlds in which it is known who chooses as the real users do."""

import numpy as np
import pytest
from scipy.special import expit

from experiments.fidelity.behaviour import Observed
from experiments.fidelity.conditional import LIMIT, Kept, Shown, at_rate, compared, ranks_within, verdict
from experiments.fidelity.repeats import repeated
from simulator.seeds import Stream

STREAM = Stream(19)
USERS, ITEMS, SHOWN = 150, 400, 120


class World:
    """Users who choose by popularity and a taste of their own, and rate 1 to 5; the real ones choose from the whole catalog."""

    def __init__(self):
        generator = STREAM.child("world").generator()
        self.popularity = generator.normal(size=ITEMS)
        self.taste = generator.normal(size=(USERS, ITEMS))
        self.index = self.popularity + 1.2 * self.taste - 3.0
        self.stars = generator.choice(5, p=[0.06, 0.11, 0.27, 0.34, 0.22], size=(USERS, ITEMS)) + 1.0
        person, item = np.nonzero(generator.random((USERS, ITEMS)) < expit(self.index))
        self.real = Kept(person, item, self.stars[person, item])

    def pages(self, policy):
        """Items that a recommender shows each user, shape (USERS, SHOWN)."""
        generator = STREAM.child("pages", policy).generator()
        scores = {
            "random": generator.random((USERS, ITEMS)),
            "popularity": np.tile(self.popularity, (USERS, 1)),
            "ease": self.index + generator.normal(size=(USERS, ITEMS)),
        }[policy]
        return np.argsort(-scores, axis=1)[:, :SHOWN]

    def judged(self, policy, index, rating=None):
        """Simulated users with these log-odds of choosing, on the pages of a policy."""
        items = self.pages(policy)
        person, item = np.repeat(np.arange(USERS), SHOWN), items.ravel()
        generator = STREAM.child("simulated", policy).generator()
        chance = expit(index[person, item])
        chosen = generator.random(len(item)) < chance
        drawn = generator.choice(5, p=[0.06, 0.11, 0.27, 0.34, 0.22], size=len(item)) + 1.0
        given = np.where(chosen, drawn if rating is None else rating, np.nan)
        features = {"popularity": self.popularity[item], "taste": self.taste[person, item]}
        return compared(Shown(person, item, chosen, chance, given), self.real, features, USERS, STREAM.child("judged", policy))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("policy", ["random", "popularity", "ease"])
class TestOnThePagesOf:
    def test_users_who_choose_as_the_real_ones_do_are_good_however_often_they_choose(self, world, policy):
        for more in (0.0, 1.0):
            found = world.judged(policy, world.index + more)
            told = verdict(found["figures"], found["not_measured"])
            assert told["good"] is True, told
            assert found["shift"] == pytest.approx(-more, abs=0.2)

    def test_users_without_taste_who_choose_by_popularity_are_bad(self, world, policy):
        found = world.judged(policy, np.tile(world.popularity - 1.0, (USERS, 1)))
        told = verdict(found["figures"], found["not_measured"])
        assert told["good"] is False
        assert told["bad_figures"] == ["taste_given_shown"]

    def test_users_who_choose_at_random_are_bad(self, world, policy):
        found = world.judged(policy, np.full((USERS, ITEMS), -1.0))
        bad = verdict(found["figures"], found["not_measured"])["bad_figures"]
        assert "taste_given_shown" in bad
        assert "popularity_given_shown" in bad or policy == "popularity"  # there all items are about as popular

    def test_users_who_rate_everything_four_are_bad_for_that_alone(self, world, policy):
        found = world.judged(policy, world.index, rating=4.0)
        assert verdict(found["figures"], found["not_measured"])["bad_figures"] == ["ratings_given_shown"]


def test_the_order_of_rows_does_not_matter(world):
    items = world.pages("ease")
    person, item = np.repeat(np.arange(USERS), SHOWN), items.ravel()
    chance = expit(world.index[person, item])
    chosen = STREAM.child("order").generator().random(len(item)) < chance
    found = []
    for order in (np.arange(len(item)), STREAM.child("shuffled").generator().permutation(len(item))):
        shown = Shown(person[order], item[order], chosen[order], chance[order], np.full(len(item), np.nan))
        real = world.real if not found else Kept(*(column[::-1] for column in (world.real.person, world.real.item, world.real.rating)))
        found.append(compared(shown, real, {"popularity": world.popularity[shown.item]}, USERS, STREAM))
    first, second = (one["figures"]["popularity_given_shown"] for one in found)
    assert first["distances"] == second["distances"]


def test_thinning_by_probabilities_is_worth_what_the_odds_say():
    # two kinds of items, chosen with .8 and .5; at a quarter of that rate odds of 4 : 1 must remain
    chance = np.tile([0.8, 0.5], 20_000)
    chosen = STREAM.child("thinned").generator().random(len(chance)) < chance
    nobody = np.full(len(chance), np.nan)
    pool = Shown(np.zeros(len(chance), dtype=int), np.arange(len(chance)), chosen, chance, nobody)
    weights, shift = at_rate(pool, 6_000)
    assert weights.max() <= 1.0
    kept = [weights[k::2].sum() / 20_000 for k in (0, 1)]
    assert sum(kept) * 20_000 == pytest.approx(6_000, rel=0.03)
    odds = [share / (1 - share) for share in kept]
    assert odds[0] / odds[1] == pytest.approx(4.0, rel=0.05)
    assert shift < 0
    without = Shown(pool.person, pool.item, chosen, nobody, nobody)
    assert at_rate(without, 6_000)[1] is None


def test_ranks_are_those_of_the_own_pages_and_ties_share_one():
    found = ranks_within(np.array([1, 0, 1, 0, 1, 1]), np.array([5.0, 2.0, 5.0, 9.0, 7.0, 1.0]))
    assert found == pytest.approx([0.5, 0.25, 0.5, 0.75, 0.875, 0.125])


def test_too_few_users_get_no_verdict():
    few = Shown(*(np.arange(5) for _ in range(2)), np.ones(5, dtype=bool), np.full(5, 0.5), np.full(5, np.nan))
    found = compared(few, Kept(np.arange(5), np.arange(5), np.full(5, np.nan)), {"popularity": np.arange(5.0)}, 5, STREAM)
    told = verdict(found["figures"], found["not_measured"])
    assert told["good"] is None
    assert "fewer than 20 users" in told["sentence"]


def test_repeats_that_nobody_real_makes_are_found_and_none_are_no_distance():
    person = np.repeat(np.arange(60), 10)
    nobody = Observed(person, np.zeros(600))
    often = Observed(person, (STREAM.child("again").generator().random(600) < 0.4).astype(float))
    found = repeated(often, nobody, 60, STREAM)["distances"]["kolmogorov_smirnov"]
    assert found["floor"] == pytest.approx(1 / 300)
    assert found["distance"] == pytest.approx(0.4, abs=0.06)
    assert found["low"] > LIMIT
    for one in repeated(nobody, nobody, 60, STREAM)["distances"].values():
        assert one["ratio"] == 0.0

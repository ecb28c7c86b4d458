"""The contract that ships for recommenders: it holds what it names, and passes nobody by not applying."""

from unittest import SkipTest

import numpy as np
import pytest

from environments.recommenders.popularity import Popularity
from environments.recommenders.random import Random
from simulator.records import Slate
from simulator.testing import RecommenderContract


class Lucky(Popularity):
    """Draws its lists, and does not say so."""

    def recommend(self, user_ids, histories, n, rng):
        order = rng.child("order").generator().permutation(40)
        slates = []
        for history in histories:
            items = order[~np.isin(order, history)][:n].astype(np.int32)
            slates.append(Slate(items, np.zeros(len(items))))
        return slates


class Unaware(Random):
    """Draws its lists with propensities, and cannot be told what to leave out."""

    def recommend(self, user_ids, histories, n, rng):
        return super().recommend(user_ids, histories, n, rng)


class Sometimes(Random):
    """Has propensities for some people only."""

    def recommend(self, user_ids, histories, n, rng, exclude=None):
        slates = super().recommend(user_ids, histories, n, rng, exclude)
        return [Slate(slate.items, slate.scores, slate.propensities if row % 2 else None) for row, slate in enumerate(slates)]


def contract(kind):
    class Contract(RecommenderContract):
        def make(self):
            return kind()

    return Contract()


@pytest.mark.parametrize("kind", [Lucky, Sometimes])
def test_a_list_that_is_drawn_without_propensities_fails(kind):
    with pytest.raises(AssertionError):
        contract(kind).test_a_list_is_drawn_with_propensities_or_is_the_same_whatever_the_luck()


def test_who_draws_and_cannot_leave_items_out_fails():
    with pytest.raises(AssertionError, match="has the keyword exclude"):
        contract(Unaware).test_excluded_items_are_left_out_and_who_draws_takes_them()


def test_what_does_not_apply_is_skipped_and_not_passed():
    with pytest.raises(SkipTest, match="deterministic"):
        contract(Popularity).test_excluded_items_are_left_out_and_who_draws_takes_them()
    with pytest.raises(SkipTest, match="draws its lists"):
        contract(Random).test_a_deterministic_list_starts_like_a_longer_one()
    contract(Random).test_excluded_items_are_left_out_and_who_draws_takes_them()

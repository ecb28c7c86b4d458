"""Figures of satisfaction: of a run, and of real held-out users."""

import numpy as np
import polars as pl
import pytest

from environments.datasets.splits import SplitConfig, split
from experiments.fidelity.satisfaction import of_held_out, of_run, sentences
from simulator.dataset import FILMS, INTERACTIONS_SCHEMA, ITEMS_SCHEMA, USERS_SCHEMA, Catalog, Dataset
from simulator.seeds import Stream


def sessions(satisfaction, mean_rating):
    chosen = [0 if rating is None else 2 for rating in mean_rating]
    return pl.DataFrame({"user": ["a"] * len(chosen), "satisfaction": satisfaction, "interactions": chosen, "mean_rating": mean_rating})


def test_of_a_run():
    found = of_run(sessions([1.0, 3.0, 5.0, 6.0, 8.0], [None, 2.0, 3.0, 4.0, 5.0]), Stream(1), 50)
    assert found["satisfaction_rho_rating"] == pytest.approx(1.0)
    assert found["satisfaction_nothing_chosen_rank"] == 1
    assert found["satisfaction_by_group"]["nothing chosen"] == 1.0
    noise = of_run(sessions([7.0, 3.0, 5.0, 6.0, 4.0], [None, 2.0, 3.0, 4.0, 5.0]), Stream(1), 50)
    assert noise["satisfaction_rho_rating"] == pytest.approx(0.4)
    assert noise["satisfaction_nothing_chosen_rank"] == 5
    assert "number 5 from below of 5 groups" in sentences(noise)[1]


def test_the_interval_of_a_rank_is_over_users():
    many = pl.concat(
        [
            sessions([float(2 + (number % 3 == 0)), 2.5, 5.0, 6.0, 8.0], [None, 2.0, 3.0, 4.0, 5.0]).with_columns(user=pl.lit(str(number)))
            for number in range(30)
        ]
    )
    found = of_run(many, Stream(1), 200)
    assert found["satisfaction_nothing_chosen_rank"] == 1
    assert found["satisfaction_nothing_chosen_rank_low"] == 1
    assert found["satisfaction_nothing_chosen_rank_high"] == 2
    assert found["satisfaction_nothing_chosen_rank_users"] == 30


def test_of_a_run_without_ratings_or_without_such_sessions():
    assert of_run(sessions([1.0, 3.0], [None, None]), Stream(1))["satisfaction_rho_rating"] is None
    assert of_run(sessions([2.0, 3.0, 4.0], [3.0, 4.0, 5.0]), Stream(1))["satisfaction_nothing_chosen_rank"] is None


@pytest.fixture(scope="module")
def data():
    """Users whose next session is as good as the one before."""
    generator, rows = Stream(4).child("log").generator(), []
    for user in range(60):
        pleased = 0.0
        for session in range(6):
            pleased = 0.9 * pleased + generator.normal()
            for k, item in enumerate(generator.permutation(40)[:4].tolist()):
                rating = float(np.clip(round(3.0 + pleased + 0.3 * generator.normal()), 1, 5))
                rows.append((user, item, rating, session * 200_000 + 10 * k))
    items = pl.DataFrame(
        {"item": range(40), "item_id": [f"i{i}" for i in range(40)], "title": ["Film"] * 40, "genres": [["Drama"]] * 40}
        | {"year": [None] * 40, "description": [None] * 40}
    ).select(list(ITEMS_SCHEMA))
    users = pl.DataFrame(
        {"user": range(60), "user_id": [f"u{i}" for i in range(60)], "age": [None] * 60, "gender": [None] * 60, "occupation": [None] * 60}
    )
    log = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    return Dataset("waves", Catalog(items.cast(dict(ITEMS_SCHEMA)), FILMS), users.cast(dict(USERS_SCHEMA)), log, (1.0, 5.0))


def test_of_held_out_users(data):
    parts = split(data, SplitConfig(), Stream(7))
    found = of_held_out(parts, Stream(7), resamples=200)
    assert found["satisfaction_users"] == 18
    assert 0.3 < found["satisfaction_rho_outcome_low"] < found["satisfaction_rho_outcome"] < found["satisfaction_rho_outcome_high"]
    assert found["satisfaction_outcomes"]["return within a week"]["satisfaction"] == [None] * 3, "everybody does"
    assert found["satisfaction_model"]["source"] in ("stated", "fitted")
    again = of_held_out(parts, Stream(7), resamples=200)
    assert again == found

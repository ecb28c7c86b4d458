"""Whether the recommenders know real people: MovieLens-100K, a random fifth held back, NDCG@10 over unseen items."""

import numpy as np
import polars as pl
import pytest

from environments.recommenders.bpr import BPR, BPRConfig
from environments.recommenders.ease import EASE
from environments.recommenders.item_knn import ItemKNN
from environments.recommenders.mult_vae import MultVAE, MultVAEConfig
from environments.recommenders.popularity import Popularity
from environments.recommenders.random import Random
from environments.recommenders.user_knn import UserKNN
from simulator.dataset import INTERACTIONS_SCHEMA, ITEMS_SCHEMA, Catalog
from simulator.seeds import Stream

DISCOUNT = 1.0 / np.log2(np.arange(2, 12))


@pytest.fixture(scope="module")
def split(shared_data):
    file = shared_data / "ml-100k" / "u.data"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    log = pl.read_csv(file, separator="\t", has_header=False, new_columns=list(INTERACTIONS_SCHEMA))
    log = log.with_columns(pl.col("user", "item") - 1).cast(dict(INTERACTIONS_SCHEMA))
    n_items = log["item"].max() + 1
    names = [str(item) for item in range(n_items)]
    columns = {"item": range(n_items), "item_id": names, "title": names, "year": [None] * n_items, "genres": [[]] * n_items}
    catalog = Catalog(pl.DataFrame(columns | {"description": [None] * n_items}, schema=dict(ITEMS_SCHEMA)))
    held_back = Stream(0).child("split").generator().random(log.height) < 0.2
    return log.filter(~held_back), log.filter(held_back), catalog


def lists(log):
    grouped = log.group_by("user").agg(pl.col("item"))
    return {user: np.array(items, dtype=np.int32) for user, items in zip(grouped["user"], grouped["item"].to_list(), strict=True)}


def ndcg(recommender, split, newcomers=False):
    train, test, catalog = split
    recommender.fit(train, catalog, Stream(1))
    histories, wanted = lists(train), lists(test)
    users = np.array(sorted(histories.keys() & wanted.keys()), dtype=np.int32)
    slates = recommender.recommend(users + 10_000 if newcomers else users, [histories[user] for user in users], 10, Stream(2))
    gains = [
        (np.isin(slate.items, wanted[user]) * DISCOUNT).sum() / DISCOUNT[: len(wanted[user])].sum()
        for user, slate in zip(users, slates, strict=True)
    ]
    return float(np.mean(gains))


def test_taste_beats_popularity_and_popularity_beats_chance(split):
    popularity = ndcg(Popularity(), split)
    assert popularity > 10 * ndcg(Random(), split)
    assert ndcg(ItemKNN(), split) > 1.5 * popularity
    assert ndcg(UserKNN(), split) > 1.5 * popularity
    assert ndcg(EASE(), split) > 1.7 * popularity


def test_bpr_beats_popularity_for_the_people_it_was_trained_on_and_for_newcomers(split):
    quick = BPRConfig(dimension=32, epochs=25)
    popularity = ndcg(Popularity(), split)
    assert ndcg(BPR(quick), split) > 1.5 * popularity
    assert ndcg(BPR(quick), split, newcomers=True) > 1.5 * popularity


def test_an_autoencoder_beats_popularity_for_newcomers_too(split):
    quick = MultVAEConfig(epochs=30, anneal_epochs=10, learning_rate=0.003, device="cpu")
    assert ndcg(MultVAE(quick), split, newcomers=True) > 1.5 * ndcg(Popularity(), split)

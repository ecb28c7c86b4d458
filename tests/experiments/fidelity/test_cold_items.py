"""The benchmark of new items: rows are what they say, and a world whose words decide is read from its words."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from environments.datasets.assembly import items_from_ids, users_from_ids
from experiments import config as configuration
from experiments.fidelity import cold_items, sentence_encoder
from experiments.fidelity.cold_language import Reader
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.seeds import Stream

N_USERS, N_ITEMS = 120, 80


@pytest.fixture(scope="module")
def world():
    generator = Stream(5).child("world of words").generator()
    texts = ["spaceship robots" if item % 2 else "wedding letters" for item in range(N_ITEMS)]
    items = items_from_ids(pl.Series([f"i{item}" for item in range(N_ITEMS)])).with_columns(description=pl.Series(texts, dtype=pl.String))
    rows = []
    for user in range(N_USERS):
        chance = np.where(np.arange(N_ITEMS) % 2 == user % 2, 6.0, 1.0)
        drawn = np.sort(generator.choice(N_ITEMS, size=20, replace=False, p=chance / chance.sum()))
        rows += [(user, int(item), None, None) for item in drawn]
    table = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    return Dataset("world of words", Catalog(items), users_from_ids(pl.Series([f"u{user}" for user in range(N_USERS)])), table)


def test_words_tell_new_items_apart_and_popularity_does_not(world, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "installed", lambda: False)
    found = cold_items.measure(world)
    rows = found["rows_auc"]
    assert found["new_items"] == N_ITEMS // 5
    assert rows["popularity"]["auc"]["value"] == rows["popularity"]["auc_pooled"]["value"] == 0.5
    assert rows[cold_items.TODAY]["auc"]["value"] == pytest.approx(0.5, abs=0.05)
    assert rows["tfidf"]["auc"]["low"] > 0.6
    assert rows[cold_items.SHIPPED]["lift"]["low"] > 0.1
    assert "not installed" in rows["sentence_encoder"]["why"]
    assert "why" in rows["language_model"]
    assert len(cold_items.table({"data": {"words": found}})) == len(rows)
    assert cold_items.measure(world) == found


def test_a_language_model_is_asked_by_fewer_users_and_its_lift_is_paired_with_words(world, monkeypatch, tmp_path):
    monkeypatch.setattr(sentence_encoder, "installed", lambda: False)
    config = configuration.read(
        Path("movielens"), ["language_model={use='simulator.llm.scripted:ScriptedLanguageModel'}", "recommender.page_size=5"]
    )
    found = cold_items.measure(world, reader=Reader(config, 6, tmp_path))
    row, about = found["rows_auc"]["language_model"], found["language_model"]
    assert row["auc"]["people"] == row["lift_over_tfidf"]["people"] == about["asked"] == about["validation_users"] == 6
    assert row["lift_over_tfidf"]["value"] < 0, "words decide in this world, and the scripted model cannot read"
    assert found["rows_auc"]["all_and_language_model"]["auc"]["value"] > 0.6
    assert (about["learned_from"], about["unusable_pages"]) == ([], 0)
    assert 0 <= about["p"] <= 1


def test_a_category_path_is_taken_out_of_a_title():
    title = "Sanding Roll, 80 Grit. Industrial & Scientific Abrasive Sanding Rolls. PORTER-CABLE."
    items = items_from_ids(pl.Series(["a", "b"])).with_columns(title=pl.Series([title, "A book"]))
    told = cold_items._with_categories(Catalog(items)).items
    assert told["title"].to_list() == ["Sanding Roll, 80 Grit.  PORTER-CABLE.", "A book"]
    assert told["genres"].to_list()[0] == ["abrasive", "industrial", "rolls", "sanding", "scientific"]
    assert told["genres"].to_list()[1] == []


def test_titles_are_the_words_of_today_where_they_are_all_the_text():
    assert cold_items._of_known(("genres", "words"), {"genres", "texts"}) == ("genres", "texts")
    assert cold_items._of_known(("genres", "words"), {"genres", "texts", "words"}) == ("genres", "words")
    assert cold_items._of_known(("encoder",), {"genres", "texts"}) == ()

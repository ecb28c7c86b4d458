import numpy as np
import polars as pl
import pytest

from environments.recommenders.content_based import ContentBased, ContentBasedConfig, item_texts
from simulator.dataset import Catalog
from simulator.errors import PluginError, RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, assert_same_slates

WORLD = CheckerboardWorld(n_users=4, n_items=8)


class Colours:
    """Encodes the colour and a little of the number."""

    def encode(self, texts):
        return np.array([[text.endswith("even"), text.endswith("odd"), 0.01 * len(text)] for text in texts])


class Flat:
    def encode(self, texts):
        return np.zeros(len(texts))


class Broken:
    def encode(self, texts):
        raise RuntimeError("no weights")


class TestTfIdf(PersonalisedRecommenderContract):
    def make(self):
        return ContentBased()


class TestEncoder(PersonalisedRecommenderContract):
    def make(self):
        return ContentBased(ContentBasedConfig(encoder=f"{__file__}:Colours"))


def with_texts(titles, genres=None, descriptions=None):
    items = WORLD.dataset.catalog.items.head(len(titles))
    columns = [pl.Series("title", titles), pl.Series("genres", genres or [[]] * len(titles), dtype=pl.List(pl.String))]
    return Catalog(items.with_columns(*columns, pl.Series("description", descriptions or [None] * len(titles), dtype=pl.String)))


def ranked(catalog, history, **options):
    recommender = ContentBased(ContentBasedConfig(**options))
    recommender.fit(WORLD.dataset.interactions.clear(), catalog, Stream(1))
    return recommender.recommend(np.array([0]), [np.array(history, dtype=np.int32)], len(catalog), Stream(1))[0]


def test_a_text_has_title_genres_and_description():
    catalog = with_texts(["Heat", "Alien"], [["Crime", "Drama"], []], [None, "A crew meets it."])
    assert item_texts(catalog) == ["Heat. Crime Drama", "Alien. . A crew meets it."]


def test_the_score_is_the_cosine_of_word_vectors_and_a_rare_word_says_more():
    slate = ranked(with_texts(["heat common", "heat", "common", "common other"]), [0])
    assert slate.items.tolist() == [1, 2, 3]
    heat, common = 1 + np.log(5 / 3), 1 + np.log(5 / 4)
    assert slate.scores[0] == pytest.approx(heat / np.hypot(heat, common), abs=1e-6)


def test_texts_without_a_word_are_no_error():
    assert ranked(with_texts(["", "a", "?!"]), [0]).items.tolist() == [1, 2]


def test_a_saved_encoder_needs_no_encoder_to_be_loaded(tmp_path):
    before = ContentBased(ContentBasedConfig(encoder=f"{__file__}:Colours"))
    before.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    before.save(tmp_path)
    after = ContentBased()
    after.load(tmp_path)
    question = (np.array([0]), [WORLD.history(0)], 5, Stream(1))
    assert_same_slates(before.recommend(*question), after.recommend(*question))


def test_an_encoder_that_fails_is_named():
    with pytest.raises(
        PluginError, match=r"Flat' gave an array of shape \(8,\) for 8 texts; it must give finite numbers of shape \(8, d\)"
    ):
        ranked(WORLD.dataset.catalog, [0], encoder=f"{__file__}:Flat")
    with pytest.raises(PluginError, match="Broken' failed on 8 texts: RuntimeError: no weights"):
        ranked(WORLD.dataset.catalog, [0], encoder=f"{__file__}:Broken")
    with pytest.raises(PluginError, match="has no method encode"):
        ranked(WORLD.dataset.catalog, [0], encoder=f"{__file__}:TestTfIdf")


def test_used_before_fit_it_says_so(tmp_path):
    with pytest.raises(RecommenderError, match="ContentBased was used before fit"):
        ContentBased().recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match="ContentBased was used before fit"):
        ContentBased().save(tmp_path)

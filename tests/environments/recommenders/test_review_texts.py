import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.recommenders.review_texts import documents, encode, require_reviews, vocabulary
from simulator.dataset import INTERACTIONS_SCHEMA, REVIEW
from simulator.errors import DataError

LOG = pl.DataFrame(
    [
        (0, 4, 5.0, 30, "It’s GOOD, good!"),
        (0, 5, None, 10, None),
        (1, 4, 3.0, 20, "good https " + "x" * 31),
        (2, 6, 3.0, None, "Über-good"),
        (2, 7, 1.0, 40, "?!"),
    ],
    schema={**INTERACTIONS_SCHEMA, REVIEW: pl.String},
    orient="row",
)


def test_words_are_ordered_by_the_reviews_they_are_in():
    assert vocabulary(LOG, 99).tolist() == ["good", "https", "it's", "über"]
    assert vocabulary(LOG, 2).tolist() == ["good", "https"]
    assert vocabulary(LOG.with_columns(pl.lit(None, dtype=pl.String).alias(REVIEW)), 9).tolist() == []


def test_reviews_are_codes_in_the_order_of_time_and_unknown_words_are_left_out():
    texts = encode(LOG, np.array(["good", "it's"]), most=2)
    assert texts.users.tolist() == [2, 1, 0]
    assert texts.items.tolist() == [6, 4, 4]
    assert [texts.words[start:end].tolist() for start, end in zip(texts.starts[:-1], texts.starts[1:], strict=True)] == [[1], [1], [2, 1]]
    assert len(encode(LOG, np.array([], dtype=str), most=2)) == 0


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 6))
def test_a_document_holds_the_newest_reviews_of_its_owner_in_order(owners, most):
    matrix = documents(np.array(owners, dtype=np.int64), 7, most)
    for owner, row in enumerate(matrix):
        assert row[row >= 0].tolist() == [number for number, other in enumerate(owners) if other == owner][-most:]


@pytest.mark.parametrize("log", [LOG.drop(REVIEW), LOG.with_columns(pl.lit(None, dtype=pl.String).alias(REVIEW))])
def test_a_log_without_reviews_is_refused_with_advice(log):
    with pytest.raises(DataError, match=r"list learns from reviews, and the data set has none; .*AmazonReviews.*dataset\.review"):
        require_reviews(log, [])

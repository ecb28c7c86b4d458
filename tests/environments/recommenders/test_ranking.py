import sys

import numpy as np
import polars as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from environments.recommenders.ranking import (
    best_of_rows,
    history_matrix,
    interaction_matrix,
    popularity_share,
    product_by_row,
    sums_of_rows,
    top_unseen,
    top_unseen_of_order,
)
from simulator.seeds import Stream

score_matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.integers(-2, 2).map(float) | st.floats(-9, 9, width=32)
)


@given(score_matrices, st.integers(1, 15), st.data())
def test_the_best_unseen_items_are_those_of_a_full_sort_by_score_then_code(scores, n, data):
    m = scores.shape[1]
    histories = [np.array(data.draw(st.lists(st.integers(0, m - 1))), dtype=np.int32) for _ in scores]
    for row, slate in enumerate(top_unseen(scores.copy(), histories, n)):
        unseen = [item for item in range(m) if item not in histories[row]]
        expected = sorted(unseen, key=lambda item: (-scores[row, item], item))[:n]
        assert slate.items.tolist() == expected
        np.testing.assert_array_equal(slate.scores, scores[row, expected].astype(np.float64))


@given(score_matrices, st.integers(1, 15), st.data())
def test_one_order_for_everybody_gives_the_same_slates_as_a_matrix(scores, n, data):
    m = scores.shape[1]
    histories = [np.array(data.draw(st.lists(st.integers(0, m - 1))), dtype=np.int32) for _ in scores]
    same = np.repeat(scores[:1], len(scores), axis=0)
    order = np.argsort(-scores[0], kind="stable")
    for one, other in zip(top_unseen_of_order(order, scores[0], histories, n), top_unseen(same, histories, n), strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_repeated_pairs_count_once_in_every_matrix():
    log = pl.DataFrame({"user": [2, 0, 2], "item": [1, 3, 1]}, schema={"user": pl.Int32, "item": pl.Int32})
    np.testing.assert_array_equal(interaction_matrix(log, 4).toarray(), [[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(
        history_matrix([np.array([3, 1, 3]), np.array([], dtype=np.int32)], 4).toarray(), [[0, 1, 0, 1], [0, 0, 0, 0]]
    )
    np.testing.assert_allclose(popularity_share(log, 4), [0, 0.5, 0, 0.5])


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 300), st.integers(0, 99))
def test_a_row_of_a_product_does_not_depend_on_the_other_rows(b, k, n, seed):
    generator = Stream(seed).generator()
    left, right = (generator.standard_normal(shape).astype(np.float32) for shape in ((b, k), (k, n)))
    product = product_by_row(left, right)
    np.testing.assert_allclose(product, left @ right, rtol=1e-3, atol=1e-4)
    order = generator.permutation(b)[: b // 2 + 1]
    np.testing.assert_array_equal(product_by_row(left[order], right), product[order])


@given(score_matrices, st.integers(1, 4))
def test_the_best_of_rows_are_the_first_of_a_stable_sort(scores, n):
    rows, columns, values, ends = best_of_rows(scores, n)
    assert ends.tolist() == [min(n, scores.shape[1]) * (row + 1) for row in range(len(scores))]
    for row, found in enumerate(np.split(columns, ends[:-1])):
        assert found.tolist() == np.argsort(-scores[row], kind="stable")[:n].tolist()
    np.testing.assert_array_equal(values, scores[rows, columns])


def test_sums_of_rows_are_the_same_to_the_bit_with_torch_and_without(monkeypatch):
    rng = Stream(1).generator()
    table = rng.normal(size=(300, 1_003)).astype(np.float32)
    owned = history_matrix([rng.choice(300, size, replace=False) for size in (0, 1, 2, 17, 250, 0)], 300)
    with_torch = sums_of_rows(owned, table)
    assert sys.modules["torch"] is torch
    monkeypatch.delitem(sys.modules, "torch")
    np.testing.assert_array_equal(sums_of_rows(owned, table), with_torch)
    np.testing.assert_allclose(with_torch, owned.toarray().astype(np.float64) @ table, atol=1e-3)

"""Dividing sequences into calls."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.llm.batching import CALL_COST, CELLS, batches

LIMITS = {"tokens": 256, "members": 5, "rows": 30}


def cost(calls, lengths):
    return sum(CALL_COST + len(call) * max(lengths[i] for i in call) for call in calls)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), max_size=40))
def test_every_sequence_is_in_one_call_and_calls_keep_the_limits(sequences):
    lengths, outputs = [length for length, _ in sequences], [rows for _, rows in sequences]
    calls = batches(lengths, outputs, **LIMITS)
    assert sorted(i for call in calls for i in call) == list(range(len(sequences)))
    for call in calls:
        if len(call) > 1:
            assert len(call) <= LIMITS["members"]
            assert len(call) * max(lengths[i] for i in call) <= LIMITS["tokens"]
            assert sum(outputs[i] for i in call) <= LIMITS["rows"]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=7))
def test_no_other_cut_of_the_sorted_sequences_costs_less(lengths):
    ordered = sorted(lengths)
    best = cost(batches(ordered, [1] * len(ordered), tokens=10_000, members=100, rows=100), ordered)
    for n in range(len(ordered)):
        for cuts in combinations(range(1, len(ordered)), n):
            edges = [0, *cuts, len(ordered)]
            assert best <= cost([list(range(a, b)) for a, b in pairwise(edges)], ordered)


@pytest.mark.parametrize(("lengths", "expected"), [([70, 71, 70], [[0, 2, 1]]), ([8, 200], [[0], [1]]), ([], [])])
def test_similar_lengths_share_a_call_and_others_do_not(lengths, expected):
    assert batches(lengths, [2] * len(lengths), tokens=512, members=16, rows=64) == expected


def test_a_sequence_that_needs_more_cells_does_not_make_the_others_dearer():
    short, long = [CELLS - 80] * 3, [CELLS - 20] * 3
    calls = batches([70] * 6, [2] * 6, tokens=512, members=16, rows=64, starts=[short[0], long[0], short[1], long[1], short[2], long[2]])
    assert calls == [[0, 2, 4], [1, 3, 5]]


def test_a_call_that_pays_for_its_cells_anyway_is_shared():
    assert batches([10, 10], [2, 2], tokens=512, members=16, rows=64, starts=[CELLS - 20, CELLS - 5]) == [[0, 1]]

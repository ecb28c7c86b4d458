import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.tuning.packs import Ask, Branch, Pack, PackBuilder, alike, batches, steps

KINDS, LABELS = ("choose", "leave"), (((7,), (8, 9)), ((5,), (6,)))


def a_pack(people, row_tokens=40, seed=0):
    generator = np.random.default_rng(seed)
    builder = PackBuilder(KINDS, LABELS, row_tokens)
    for user, pages in enumerate(people):
        branches = [
            Branch(
                generator.integers(10, 50, size=length).astype(np.int32),
                (Ask(length - 2, 0, int(generator.integers(2)), 3, 1), Ask(length - 1, 1, -1, -1, 0)),
            )
            for length in pages
        ]
        builder.add(user, generator.integers(10, 50, size=6 + user % 3).astype(np.int32), 2, branches)
    return builder.build()


lengths = st.lists(st.lists(st.integers(2, 30), min_size=1, max_size=6), min_size=1, max_size=6)


@given(lengths)
@settings(max_examples=40, deadline=None)
def test_every_page_continues_the_prefix_of_its_person(people):
    pack = a_pack(people)
    prefixes = {}
    for row in range(len(pack)):
        part = slice(int(pack.starts[row]), int(pack.starts[row + 1]))
        branches, positions = pack.branches[part], pack.positions[part]
        prefix = pack.tokens[part][branches == 0]
        user = int(pack.probe_user[(pack.probe_at >= part.start) & (pack.probe_at < part.stop)][0])
        assert prefixes.setdefault(user, prefix.tolist()) == prefix.tolist()
        for branch in range(1, int(branches.max()) + 1):
            assert positions[branches == branch].tolist() == list(range(len(prefix), len(prefix) + int((branches == branch).sum())))
    assert (pack.branches > 0).sum() == sum(map(sum, people))
    assert len(pack.probe_at) == 2 * sum(map(len, people))


@given(lengths)
@settings(max_examples=40, deadline=None)
def test_a_row_is_as_long_as_allowed_unless_one_page_is_longer(people):
    pack = a_pack(people)
    for row in range(len(pack)):
        pages = int(pack.branches[pack.starts[row] : pack.starts[row + 1]].max())
        assert pack.lengths[row] <= 40 or pages == 1


@given(lengths, st.integers(20, 200))
@settings(max_examples=40, deadline=None)
def test_batches_hold_every_row_once_and_fit(people, most):
    pack = a_pack(people)
    found = list(batches(pack, most, np.random.default_rng(1).permutation(len(pack))))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(pack)))
    assert all(len(rows) == 1 or pack.lengths[rows].max() * len(rows) <= most for rows in found)


@given(lengths, st.integers(1, 400), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_steps_hold_every_row_once_in_order_and_about_equally_many_tokens(people, wanted, seed):
    pack = a_pack(people)
    order = np.random.default_rng(seed).permutation(len(pack))
    found = list(steps(pack, wanted, order))
    assert np.concatenate(found).tolist() == order.tolist()
    each = int(pack.lengths.sum()) / max(1, round(int(pack.lengths.sum()) / wanted))
    for rows in found:
        assert len(rows)
        assert pack.lengths[rows].sum() < each + pack.lengths.max()
        parts = alike(pack.lengths, rows, 50)
        assert sorted(np.concatenate(parts).tolist()) == sorted(rows.tolist())
        assert all(len(part) == 1 or pack.lengths[part].max() * len(part) <= 50 for part in parts)


@given(lengths, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_some_rows_are_what_they_were_among_all(people, seed):
    pack = a_pack(people)
    rows = np.random.default_rng(seed).random(len(pack)) < 0.5
    some = pack.only(rows)
    assert len(some) == rows.sum()
    assert (some.users == pack.users[rows]).all()
    for new, old in enumerate(np.flatnonzero(rows)):
        here, there = slice(*some.starts[new : new + 2]), slice(*pack.starts[old : old + 2])
        for name in ("tokens", "positions", "branches", "personal"):
            assert (getattr(some, name)[here] == getattr(pack, name)[there]).all()
        own = (some.probe_at >= here.start) & (some.probe_at < here.stop)
        was = (pack.probe_at >= there.start) & (pack.probe_at < there.stop)
        assert (some.probe_at[own] - here.start == pack.probe_at[was] - there.start).all()
        assert (some.probe_label[own] == pack.probe_label[was]).all()


def test_what_is_saved_is_read_back(tmp_path):
    pack = a_pack([[5, 9], [12]])
    pack.save(tmp_path / "pack.npz")
    read = Pack.load(tmp_path / "pack.npz")
    assert read.kinds == pack.kinds
    assert read.label_tokens == pack.label_tokens
    for name in ("tokens", "positions", "branches", "personal", "starts", "probe_at", "probe_label"):
        assert np.array_equal(getattr(read, name), getattr(pack, name))


def test_a_probe_right_behind_the_prefix_is_read_at_its_last_token():
    builder = PackBuilder(KINDS, LABELS, 100)
    builder.add(0, np.arange(5, dtype=np.int32), 1, [Branch(np.arange(3, dtype=np.int32), (Ask(-1, 0, 1, 2, 1),))])
    assert builder.build().probe_at.tolist() == [4]
    assert builder.build().labels == pytest.approx(1)

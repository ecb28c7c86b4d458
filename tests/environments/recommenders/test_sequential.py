from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from environments.recommenders.bert4rec import BERT4Rec, BERT4RecConfig
from environments.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from environments.recommenders.sasrec import SASRec, SASRecConfig
from environments.recommenders.sequential import Dropout, Windows, sequences_of
from environments.recommenders.training import shuffled
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import ConfigError, RecommenderError
from simulator.plugins import build
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, assert_same_slates

CYCLE = 10
CATALOG = CheckerboardWorld(n_users=4, n_items=CYCLE).dataset.catalog


def cycle_log(n_users=60, length=6):
    """Everybody goes round: after item i comes item i + 1, and after the last the first; only the start differs."""
    rows = [(user, (user + step) % CYCLE, None, 100 + step) for user in range(n_users) for step in range(length)]
    return pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row").sample(fraction=1.0, shuffle=True, seed=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: GRU4Rec(GRU4RecConfig(hidden=16, **options)),
        lambda **options: SASRec(SASRecConfig(max_length=8, layers=1, **options)),
        lambda **options: BERT4Rec(BERT4RecConfig(max_length=8, layers=1, last_share=0.5, **options)),
    ],
)
def test_the_next_item_of_a_cycle_is_predicted_from_the_order(make):
    recommender = make(dimension=16, epochs=60, batch_size=16, learning_rate=0.01, validation_share=0.0, dropout=0.0, device="cpu")
    recommender.fit(cycle_log(), CATALOG, Stream(1))
    forwards = [np.array([start, start + 1, start + 2], dtype=np.int32) % CYCLE for start in range(CYCLE)]
    slates = recommender.recommend(np.arange(100, 110), forwards, 1, Stream(1))
    assert [slate.items[0] for slate in slates] == [(start + 3) % CYCLE for start in range(CYCLE)]


def test_a_history_longer_than_is_read_counts_by_its_newest_items():
    recommender = SASRec(SASRecConfig(max_length=8, dimension=8, epochs=2, device="cpu"))
    recommender.fit(cycle_log(), CATALOG, Stream(1))
    newest = np.arange(8, dtype=np.int32)
    longer = np.concatenate((np.array([9, 9, 9], dtype=np.int32), newest))
    one, other = (recommender.recommend(np.array([0]), [history], 1, Stream(1))[0] for history in (newest, longer))
    assert one.items.tolist() in ([8], [9])
    assert other.scores[0] == slate_score(recommender, newest, 8)


def slate_score(recommender, history, item):
    slate = recommender.recommend(np.array([0]), [history], CYCLE, Stream(1))[0]
    return slate.scores[slate.items == item][0]


def test_sequences_follow_time_and_then_the_order_of_the_rows():
    rows = [(1, 5, None, 30), (0, 7, None, None), (1, 6, None, 10), (1, 4, None, 30), (0, 2, None, None), (3, 1, None, 5)]
    log = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    assert [sequence.tolist() for sequence in sequences_of(log)] == [[7, 2], [6, 5, 4], [], [1]]


def numbered(lengths):
    return [np.arange(100 * number, 100 * number + count) for number, count in enumerate(lengths)]


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(2, 6))
def test_windows_hold_every_step_of_every_sequence_once(lengths, length):
    sequences = numbered(lengths)
    windows = Windows(sequences, length, -1, torch.device("cpu"))
    steps = []
    for number in range(len(windows)):
        (window,), (size,) = windows.batch(torch.tensor([number]))
        assert size == windows.lengths[number] == (window >= 0).sum() >= 2
        steps += pairwise(window[:size].tolist())
    assert sorted(steps) == [(a, b) for sequence in sequences for a, b in pairwise(sequence)]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(2, 6))
def test_the_newest_window_of_everybody_is_there_even_if_it_is_empty(lengths, length):
    windows = Windows(numbered(lengths), length, -1, torch.device("cpu"), newest=True)
    codes, sizes = windows.batch(torch.arange(len(lengths)))
    assert [row[row >= 0].tolist() for row in codes] == [sequence[-length:].tolist() for sequence in numbered(lengths)]
    assert sizes.tolist() == [min(count, length) for count in lengths]


@given(st.lists(st.integers(2, 12), min_size=1, max_size=5), st.integers(2, 6), st.integers(0, 99))
def test_a_window_that_ends_early_is_full_as_far_as_its_sequence_reaches(lengths, length, seed):
    windows = Windows(numbered(lengths), length, -1, torch.device("cpu"))
    torch.manual_seed(seed)
    codes, sizes = windows.batch(torch.arange(len(windows)), earlier=1.0)
    for window, size in zip(codes.tolist(), sizes.tolist(), strict=True):
        assert window[:size] == list(range(window[0], window[0] + size))
        assert set(window[size:]) <= {-1}
        assert size == min(length, window[size - 1] % 100 + 1) >= 2


def test_batches_of_similar_length_hold_every_window_once():
    torch.manual_seed(1)
    lengths = torch.randint(2, 100, (1_000,))
    batches = shuffled(1_000, 10, torch.device("cpu"), lengths)
    assert sorted(torch.cat(batches).tolist()) == list(range(1_000))
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    at_random = sum(int(lengths[batch].max()) * len(batch) for batch in shuffled(1_000, 10, torch.device("cpu")))
    assert int(lengths.sum()) <= padded < 0.7 * at_random


def test_dropout_drops_the_share_and_keeps_the_mean():
    torch.manual_seed(1)
    ones, dropout = torch.ones(1_001, 101), Dropout(0.25)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropout.eval()(ones), ones)


def test_the_gbce_loss_is_that_of_the_paper_by_hand(monkeypatch):
    recommender = SASRec(SASRecConfig(dimension=4, heads=1, loss="gbce", negatives=3, calibration=0.5, dropout=0.0))
    network = recommender.network(7, np.zeros(7)).eval()
    windows, lengths = torch.tensor([[0, 1, 2], [3, 4, 7]]), torch.tensor([3, 2])
    drawn = torch.tensor([[5, 6, 1], [0, 1, 2]])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: drawn)
    states = network._read(windows[:, :-1]).detach().numpy()
    items = network.items.weight.detach().numpy()
    share = 3 / 6
    beta = share * (0.5 * (1 - 1 / share) + 1 / share)

    def log_sigmoid(x):
        return -np.log1p(np.exp(-x))

    losses = []
    for row, place, target, others in ((0, 0, 1, (5, 6)), (0, 1, 2, (5, 6, 1)), (1, 0, 4, (0, 1, 2))):
        state = states[row, place]
        losses.append(-(beta * log_sigmoid(state @ items[target]) + sum(log_sigmoid(-state @ items[other]) for other in others)) / 4)
    assert network.loss(windows, lengths).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_many_batches_of_any_size_give_the_same_lists():
    recommender = SASRec(SASRecConfig(dimension=16, epochs=1, device="cpu"))
    world = CheckerboardWorld(n_users=90, shuffled=True)
    recommender.fit(world.dataset.interactions, world.dataset.catalog, Stream(1))
    histories = [np.concatenate((world.history(user),) * (1 + user % 9))[: user % 61 + 1] for user in range(90)]
    together = recommender.recommend(np.arange(90), histories, 5, Stream(1))
    alone = [recommender.recommend(np.array([user]), [histories[user]], 5, Stream(1))[0] for user in range(90)]
    assert_same_slates(together, alone)


def test_another_configuration_is_refused_by_load(tmp_path):
    before = SASRec(SASRecConfig(dimension=8, epochs=1, device="cpu"))
    before.fit(cycle_log(), CATALOG, Stream(1))
    before.save(tmp_path)
    with pytest.raises(RecommenderError, match="holds a SASRec of another configuration"):
        SASRec(SASRecConfig(dimension=16)).load(tmp_path)


@pytest.mark.parametrize("name", ["sasrec:SASRec", "bert4rec:BERT4Rec"])
def test_heads_that_cannot_share_the_dimension_are_refused(name):
    with pytest.raises(ConfigError, match="dimension 10 cannot be shared by 4 heads; it must be a multiple"):
        build(f"environments.recommenders.{name}", {"dimension": 10, "heads": 4}, where="recommender", methods=("fit",))

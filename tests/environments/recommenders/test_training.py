import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from environments.recommenders import graphs, training
from environments.recommenders.bert4rec import BERT4Rec, BERT4RecConfig
from environments.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from environments.recommenders.lightgcn import LightGCN, LightGCNConfig
from environments.recommenders.mult_vae import MultVAE, MultVAEConfig
from environments.recommenders.neumf import NeuMF, NeuMFConfig
from environments.recommenders.ngcf import NGCF, NGCFConfig
from environments.recommenders.ranking import interaction_matrix
from environments.recommenders.sasrec import SASRec, SASRecConfig
from environments.recommenders.training_config import TrainingConfig
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, assert_same_slates

CPU = torch.device("cpu")
WORLD = CheckerboardWorld(shuffled=True)
LOG, CATALOG = WORLD.dataset.interactions, WORLD.dataset.catalog
OPTIONS = {"dimension": 8, "epochs": 3, "warm_epochs": 2, "batch_size": 64, "device": "cpu"}
MODELS = [
    (LightGCN, LightGCNConfig, {}),
    (NGCF, NGCFConfig, {"layers": 2}),
    (NeuMF, NeuMFConfig, {"hidden": (8,)}),
    (MultVAE, MultVAEConfig, {"hidden": 8}),
    (GRU4Rec, GRU4RecConfig, {"hidden": 8}),
    (SASRec, SASRecConfig, {"max_length": 12}),
    (BERT4Rec, BERT4RecConfig, {"max_length": 12, "validation_share": 0.5}),
]

histories = st.lists(st.sets(st.integers(0, 8), max_size=8), min_size=1, max_size=6)


def binary(rows, n_items=9):
    matrix = np.zeros((len(rows), n_items), dtype=np.float32)
    for row, items in enumerate(rows):
        matrix[row, list(items)] = 1
    return sparse.csr_array(matrix)


def answer(recommender, n=48):
    users = np.arange(WORLD.n_users, dtype=np.int32)
    return recommender.recommend(users, [WORLD.history(user) for user in users], n, Stream(3))


@given(histories, st.floats(0, 0.99), st.integers(0, 99))
def test_held_back_items_are_taken_from_people_who_keep_at_least_one(rows, share, seed):
    matrix = binary(rows)
    train, valid = training.hold_back(matrix, share, Stream(seed))
    np.testing.assert_array_equal((train + valid).toarray(), matrix.toarray())
    lengths, kept, held = (np.diff(part.indptr) for part in (matrix, train, valid))
    assert (kept[lengths > 0] >= 1).all()
    assert (np.abs(held - share * lengths)[kept > 1] < 1).all()


def test_the_expected_share_is_held_back_from_short_histories_too():
    _, valid = training.hold_back(binary([{1, 4, 6}] * 20_000), 0.1, Stream(1))
    assert valid.nnz / 60_000 == pytest.approx(0.1, abs=0.005)


@settings(deadline=None)
@given(histories, st.integers(0, 99))
def test_drawn_items_are_never_owned(rows, seed):
    matrix = binary(rows)
    torch.manual_seed(seed)
    for users, chosen, others in training.PairSampler(matrix, CPU).epoch(4, negatives=5):
        assert (matrix.toarray()[users, chosen] == 1).all()
        assert not matrix.toarray()[users[:, None].expand(-1, 5), others].any()


def test_an_epoch_has_every_usable_interaction_once_and_draws_are_uniform():
    matrix = binary([{1, 4}, set(range(9)), {0}] + [{2}] * 3_000)
    torch.manual_seed(1)
    batches = list(training.PairSampler(matrix, CPU).epoch(512, negatives=4))
    users, chosen, others = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
    assert sorted(zip(users.tolist(), chosen.tolist(), strict=True))[:4] == [(0, 1), (0, 4), (2, 0), (3, 2)]
    assert len(users) == 3_003
    counts = np.bincount(others[users > 2].ravel(), minlength=9)
    assert counts[2] == 0
    assert np.abs(np.delete(counts, 2) - 1_500).max() < 4 * np.sqrt(1_500)


def test_the_validation_is_the_ndcg_over_unknown_items_by_hand():
    known, wanted = binary([{0}, {1}, set()], 3), binary([{1, 2}, {2}, set()], 3)
    scores = torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 2.0], [0.0, 0.0, 0.0]])
    value = training.Validation(known, wanted, CPU, Stream(1)).ndcg(lambda users: scores[users])
    assert value == pytest.approx((1.0 + 1.0 / np.log2(3)) / 2)


def minimise(targets, values, **options):
    """Trains one number towards each target, an epoch each, where epochs are judged by `values`."""
    weight = {"w": torch.zeros(1, requires_grad=True)}
    seen, reports = [], []

    def losses():
        yield (weight["w"] - targets[len(seen)]).square().sum()

    def validate():
        seen.append(weight["w"].item())
        return values[len(seen) - 1]

    training.optimise(weight, losses, TrainingConfig(learning_rate=1.0, **options), validate=validate, progress=reports.append)
    return weight["w"].item(), seen, reports


def test_training_stops_when_it_gets_no_better_and_the_best_weights_are_kept():
    kept, seen, reports = minimise([5.0] * 9, [0.1, 0.3, 0.2, 0.2, 0.9], patience=2)
    assert len(seen) == 4
    assert kept == seen[1]
    assert [(report.epoch, report.validation) for report in reports] == [(1, 0.1), (2, 0.3), (3, 0.2), (4, 0.2)]


def test_a_loss_that_is_no_number_is_an_error_that_says_what_to_do():
    with pytest.raises(RecommenderError, match=r"diverged: the loss is nan in epoch 2; lower learning_rate \(now 1\.0\)"):
        minimise([1.0, float("nan")], [0.1, 0.2])


def test_cuda_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    with pytest.raises(RecommenderError, match="torch sees no CUDA device"), training.session(TrainingConfig(device="cuda"), Stream(1)):
        pass


def test_training_leaves_torch_as_it_was():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with training.session(TrainingConfig(device="cpu", threads=threads + 1), Stream(1)):
        assert torch.get_num_threads() == threads + 1
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_graph_is_normalised_by_degrees_and_propagation_has_the_gradient_of_a_product():
    matrix = binary([{0, 1}, {1}, set()], 3)
    r = np.array([[1 / np.sqrt(2), 1 / 2, 0], [0, 1 / np.sqrt(2), 0], [0, 0, 0]])
    expected = np.block([[np.zeros((3, 3)), r], [r.T, np.zeros((3, 3))]])
    graph = graphs.adjacency(matrix, CPU)
    np.testing.assert_allclose(graph.to_dense().numpy(), expected, atol=1e-7)
    nodes = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.arange(12.0).view(6, 2)
    (gradient,) = torch.autograd.grad((graphs.propagate(graph, nodes) * weights).sum(), nodes)
    np.testing.assert_allclose(gradient.numpy(), expected.T @ weights.numpy(), atol=1e-5)


@pytest.mark.parametrize(("model", "config", "options"), MODELS)
def test_a_warm_start_continues_alike_in_the_process_and_from_disk_and_a_cold_one_forgets(model, config, options, tmp_path):
    options = OPTIONS | options
    first = model(config(**options))
    first.fit(LOG, CATALOG, Stream(1))
    first.save(tmp_path)
    reports, answers = {}, {}
    for name, warm in (("in the process", True), ("from disk", True), ("cold", False)):
        recommender = first if name == "in the process" else model(config(**options, warm_start=warm))
        if name != "in the process":
            recommender.load(tmp_path)
        recommender.config = config(**options, warm_start=warm)
        reports[name] = []
        recommender.progress = reports[name].append
        recommender.fit(LOG, CATALOG, Stream(2))
        answers[name] = answer(recommender)
    assert_same_slates(answers["in the process"], answers["from disk"])
    assert [report.epoch for report in reports["from disk"]] == [0, 1, 2]
    assert [report.epoch for report in reports["cold"]] == [1, 2, 3]
    fresh = model(config(**options))
    fresh.fit(LOG, CATALOG, Stream(2))
    assert_same_slates(answer(fresh), answers["cold"])


@pytest.mark.parametrize(("model", "config", "options"), MODELS)
def test_a_warm_start_takes_in_new_people_and_starts_anew_for_another_catalog(model, config, options):
    recommender = model(config(**OPTIONS | options, warm_start=True))
    recommender.fit(LOG.filter(pl.col("user") < 20), CATALOG, Stream(1))
    recommender.fit(LOG, CATALOG, Stream(2))
    assert all(len(slate.items) == 36 for slate in answer(recommender))
    small = CheckerboardWorld(n_users=8, n_items=12)
    recommender.fit(small.dataset.interactions, small.dataset.catalog, Stream(2))
    assert len(recommender.recommend(np.array([0]), [small.history(0)], 12, Stream(3))[0].items) == 9


@pytest.mark.parametrize(("model", "config", "options"), MODELS)
def test_an_empty_log_can_be_fitted(model, config, options):
    recommender = model(config(**OPTIONS | options))
    recommender.fit(LOG.clear(), CATALOG, Stream(1))
    assert len(recommender.recommend(np.array([0]), [np.array([1, 2])], 20, Stream(1))[0].items) == 20


@pytest.mark.parametrize(("model", "config", "options"), MODELS)
def test_used_before_fit_it_says_so(model, config, options, tmp_path):
    with pytest.raises(RecommenderError, match=f"{model.__name__} was used before fit"):
        model(config(**OPTIONS | options)).recommend(np.array([0]), [np.array([0])], 1, Stream(1))
    with pytest.raises(RecommenderError, match=f"{model.__name__} was used before fit"):
        model(config(**OPTIONS | options)).save(tmp_path)


@pytest.mark.parametrize(("model", "config", "options"), MODELS[:4])
def test_a_loaded_factor_model_recommends_without_torch(model, config, options, tmp_path):
    recommender = model(config(**OPTIONS | options))
    recommender.fit(LOG, CATALOG, Stream(1))
    recommender.save(tmp_path)
    program = (
        "import sys; from pathlib import Path; import numpy as np; from simulator.seeds import Stream; from simulator.plugins import load\n"
        "kind = load(sys.argv[2]); model = kind(kind.Config.model_validate_json(sys.argv[3])); model.load(Path(sys.argv[1]))\n"
        "print(len(model.recommend(np.array([0]), [np.array([1, 2])], 7, Stream(1))[0].items), 'torch' in sys.modules)"
    )
    arguments = (str(tmp_path), f"{model.__module__}:{model.__name__}", recommender.config.model_dump_json())
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False"]


def test_the_hidden_test_edges_do_not_enter_the_graph_of_training(monkeypatch):
    """What is held back would otherwise be seen by the propagation, and validation would be too good to be true."""
    seen = []
    monkeypatch.setattr(
        graphs, "adjacency", lambda matrix, device, real=graphs.adjacency: (seen.append(matrix.nnz), real(matrix, device))[1]
    )
    LightGCN(LightGCNConfig(**OPTIONS, validation_share=0.25)).fit(LOG, CATALOG, Stream(1))
    everything = interaction_matrix(LOG, len(CATALOG)).nnz
    assert seen == [everything - everything // 4, everything]


def test_the_learning_rate_rises_and_falls_as_told():
    config = TrainingConfig(learning_rate=1.0, epochs=11, warm_up=2, last_rate=0.5, warm_epochs=3)
    assert [config.rate(number, 11) for number in (1, 2, 3, 6, 11)] == pytest.approx([1 / 3, 0.95 * 2 / 3, 0.9, 0.75, 0.5])
    assert [config.rate(number, 3) for number in (1, 2, 3)] == pytest.approx([0.6, 0.55, 0.5])  # the end of the fall
    assert TrainingConfig().rate(7, 100) == TrainingConfig().learning_rate

"""DeepCoNN and NARRE, and what they share."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch

from environments.recommenders.biases import Biases
from environments.recommenders.deepconn import DeepCoNN, DeepCoNNConfig
from environments.recommenders.narre import NARRE, NARREConfig
from environments.recommenders.review_ratings import ReviewNetwork, Texts, WordWindows
from environments.recommenders.review_texts import encode, vocabulary
from simulator.dataset import REVIEW
from simulator.errors import DataError, RecommenderError
from simulator.protocols import RatingPredictor
from simulator.seeds import Stream
from simulator.testing import RecommenderContract, ReviewWorld, assert_same_slates

WORLD = ReviewWorld(n_users=24, n_items=32)
LOG, CATALOG = WORLD.dataset.interactions, WORLD.dataset.catalog
OPTIONS = {
    "word_dimension": 8,
    "filters": 16,
    "dimension": 8,
    "dropout": 0.0,
    "l2": 0.0,
    "epochs": 25,
    "batch_size": 32,
    "learning_rate": 0.03,
    "validation_share": 0.0,
    "device": "cpu",
}
QUICK = OPTIONS | {"epochs": 2, "warm_epochs": 1}
MODELS = [(DeepCoNN, DeepCoNNConfig), (NARRE, NARREConfig)]


class TestDeepCoNN(RecommenderContract):
    world = WORLD

    def make(self):
        return DeepCoNN(DeepCoNNConfig(**QUICK))


class TestNARRE(RecommenderContract):
    world = WORLD

    def make(self):
        return NARRE(NARREConfig(**QUICK))


def unseen_pairs():
    pairs = [(user, item) for user in range(WORLD.n_users) for item in np.setdiff1d(np.arange(WORLD.n_items), WORLD.history(user))]
    users, items = np.array(pairs).T
    return users, items


def fitted(model, config, log=LOG, seed=1, **options):
    recommender = model(config(**QUICK | options))
    reports = []
    recommender.progress = reports.append
    recommender.fit(log, CATALOG, Stream(seed))
    return recommender, reports


def right_ratings(users, items):
    return np.where(users % 2 == items % 2, 5.0, 1.0)


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_tastes_that_only_the_texts_tell_are_learned(model, config):
    # The largest value of a filter over all texts is a narrow gate: DeepCoNN needs smaller steps, and more of them.
    slower = {"epochs": 100, "learning_rate": 0.01} if model is DeepCoNN else {"epochs": OPTIONS["epochs"]}
    recommender, users = fitted(model, config, **slower)[0], np.arange(WORLD.n_users)
    slates = recommender.recommend(users, [WORLD.history(user) for user in users], 10, Stream(3))
    assert np.mean([slate.items % 2 == user % 2 for user, slate in enumerate(slates)]) > 0.95
    biases = Biases()
    biases.fit(LOG, CATALOG, Stream(1))
    pairs = unseen_pairs()
    errors = [np.sqrt(np.mean((one.predict_ratings(*pairs) - right_ratings(*pairs)) ** 2)) for one in (recommender, biases)]
    assert errors[0] < 1.0
    assert errors[1] > 1.9


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_the_review_of_the_rating_that_is_trained_on_is_not_read(model, config):
    """Hidden, it changes a rating as if it were not in the log; and the option reaches the training."""
    recommender = model(config(**QUICK))
    known = vocabulary(LOG, 99)
    shape, cpu = (WORLD.n_users, WORLD.n_items), torch.device("cpu")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = ReviewNetwork(len(known), recommender.config, *recommender.towers(shape, (torch.zeros(shape[0]), torch.zeros(shape[1]))))
    network.eval()
    for row in (0, 50, 100):
        user, item = (torch.tensor([code]) for code in LOG.select("user", "item").row(row))
        rated = {}
        for name, log, hide in (
            ("hidden", LOG, True),
            ("absent", LOG.with_row_index().filter(pl.col("index") != row), False),
            ("read", LOG, False),
        ):
            texts = Texts.on(cpu, encode(log, known, 99), shape, 99)
            rated[name] = network.ratings(user, item, texts, hide=hide)[0].item()
        assert rated["hidden"] == pytest.approx(rated["absent"], abs=1e-6)
        assert rated["hidden"] != pytest.approx(rated["read"], abs=1e-6)
    losses = [fitted(model, config, exclude_target=hidden)[1][-1].loss for hidden in (True, False)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_training_stops_by_the_error_on_ratings_held_back(model, config):
    reports = fitted(model, config, epochs=12, patience=2, validation_share=0.3)[1]
    errors = [-report.validation for report in reports]
    assert np.sqrt(np.mean(np.square(LOG["rating"].to_numpy() - 3))) == pytest.approx(2)
    assert 0 < min(errors) < 2.5
    assert len(reports) == 12 or int(np.argmin(errors)) == len(reports) - 1 - 2


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_interactions_without_text_or_rating_are_normal(model, config):
    silent = LOG.head(100).with_columns(pl.lit(None, dtype=pl.String).alias(REVIEW))
    unrated = LOG.tail(20).with_columns(pl.lit(None, dtype=pl.Float32).alias("rating"))
    recommender, reports = fitted(model, config, pl.concat([silent, LOG, unrated]))
    assert np.isfinite([report.loss for report in reports]).all()
    assert np.isfinite(recommender.predict_ratings(*unseen_pairs())).all()


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_who_is_new_or_unread_is_rated_near_the_items_bias(model, config):
    log = LOG.filter(pl.col("item") != 7).with_columns(
        rating=pl.when(pl.col("item") == 6).then(pl.lit(5.0)).otherwise(pl.col("rating")).cast(pl.Float32),
        review=pl.when(pl.col("item") == 6).then(None).otherwise(pl.col(REVIEW)),
    )
    recommender = fitted(model, config, log)[0]
    new = np.array([WORLD.n_users, WORLD.n_users + 10**6])
    loved, unknown = (recommender.predict_ratings(new, np.array([item, item])) for item in (6, 7))
    assert loved[0] == loved[1] > unknown[0] == unknown[1]
    assert unknown[0] == pytest.approx(log["rating"].mean(), abs=0.8)


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_a_warm_start_continues_alike_in_the_process_and_from_disk(model, config, tmp_path):
    first = fitted(model, config, LOG.filter(pl.col("user") < 20), warm_start=True)[0]
    first.save(tmp_path)
    second = model(config(**QUICK, warm_start=True))
    second.load(tmp_path)
    users = np.arange(WORLD.n_users, dtype=np.int32)
    answers = []
    for recommender in (first, second):
        recommender.progress = (reports := []).append
        recommender.fit(LOG, CATALOG, Stream(2))
        answers.append(recommender.recommend(users, [WORLD.history(user) for user in users], 20, Stream(3)))
        assert [report.epoch for report in reports] == [1]
    assert_same_slates(*answers)


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_saved_and_loaded_it_predicts_the_same_ratings(model, config, tmp_path):
    before = fitted(model, config)[0]
    before.save(tmp_path)
    after = model(config(**QUICK))
    after.load(tmp_path)
    np.testing.assert_array_equal(after.predict_ratings(*unseen_pairs()), before.predict_ratings(*unseen_pairs()))
    assert isinstance(after, RatingPredictor)


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_data_that_cannot_be_learned_from_is_refused(model, config):
    with pytest.raises(DataError, match=f"{model.__name__} learns from reviews, and the data set has none"):
        fitted(model, config, LOG.drop(REVIEW))
    with pytest.raises(DataError, match=f"{model.__name__} predicts ratings, and no interaction has one"):
        fitted(model, config, LOG.with_columns(pl.lit(None, dtype=pl.Float32).alias("rating")))
    with pytest.raises(RecommenderError, match=f"{model.__name__} was used before fit"):
        model().predict_ratings(np.array([0]), np.array([0]))


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_reviews_without_a_single_word_can_be_fitted(model, config):
    recommender = fitted(model, config, LOG.with_columns(pl.lit("?!").alias(REVIEW)))[0]
    assert np.isfinite(recommender.predict_ratings(*unseen_pairs())).all()


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_it_trains_on_cuda(model, config):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")
    recommender = fitted(model, config, epochs=OPTIONS["epochs"], device="cuda")[0]
    pairs = unseen_pairs()
    assert np.sqrt(np.mean((recommender.predict_ratings(*pairs) - right_ratings(*pairs)) ** 2)) < 1.0


def test_a_convolution_of_many_reviews_is_that_of_each_by_hand():
    config = DeepCoNNConfig(word_dimension=2, filters=3, window=2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        windows, vectors = WordWindows(config), torch.nn.Embedding(6, 2, padding_idx=0)
    words, starts = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 3, 4, 5])
    features = windows(vectors, words, starts, torch.tensor([2, 0]))
    weight, bias, padding = windows.convolution.weight, windows.convolution.bias, torch.zeros(2)
    for row, review in enumerate(([5], [1, 2, 3])):
        text = [*vectors(torch.tensor(review)), padding]
        values = [weight[:, :, 0] @ one + weight[:, :, 1] @ two + bias for one, two in itertools.pairwise(text)]
        torch.testing.assert_close(features[row], torch.relu(torch.stack(values)).amax(0))


def test_ratings_of_deepconn_are_those_of_a_factorisation_machine():
    config = DeepCoNNConfig(filters=4, dimension=3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        people, items = DeepCoNN(config).towers((2, 2), (torch.zeros(2), torch.zeros(2)))
        sides = [torch.rand(1, 1, 4), torch.rand(1, 1, 4)]
    code, real = torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool)
    (p, b_u, _), (q, b_i, _) = (tower(code, read, code[None], real) for tower, read in zip((people, items), sides, strict=True))
    z = torch.cat([torch.relu(tower.dense(read[0, 0])) for tower, read in zip((people, items), sides, strict=True)])
    v, w = torch.cat((people.factors, items.factors)), torch.cat((people.linear.weight[0], items.linear.weight[0]))
    pairs = sum(v[k] @ v[m] * z[k] * z[m] for k in range(6) for m in range(k + 1, 6))
    torch.testing.assert_close((b_u + b_i + (p * q).sum(1))[0], w @ z + pairs)


def test_the_usefulness_of_reviews_sums_to_one_and_names_their_writers():
    recommender = fitted(*MODELS[1])[0]
    weights = recommender.usefulness(3)
    assert {writer for writer, _ in weights} <= set(LOG.filter(item=3)["user"].to_list())
    assert len(weights) == min(LOG.filter(item=3).height, recommender.config.reviews)
    assert [weight for _, weight in weights] == sorted((weight for _, weight in weights), reverse=True)
    assert sum(weight for _, weight in weights) == pytest.approx(1, abs=1e-5)
    assert fitted(*MODELS[1], log=LOG.filter(pl.col("item") != 3))[0].usefulness(3) == []


def test_without_biases_deepconn_rates_all_items_without_reviews_alike():
    unread = pl.col("item").is_in([6, 7])
    loved = pl.when(pl.col("item") == 6).then(5.0).otherwise(pl.col("rating")).cast(pl.Float32)
    log = LOG.with_columns(rating=loved, review=pl.when(unread).then(None).otherwise(pl.col(REVIEW)))
    users = np.arange(WORLD.n_users)
    for biases in (True, False):
        recommender = fitted(DeepCoNN, DeepCoNNConfig, log, biases=biases)[0]
        six, seven = (recommender.predict_ratings(users, np.full(len(users), item)) for item in (6, 7))
        assert np.allclose(six, seven) != biases

import json

import numpy as np
import pytest

from environments.datasets.splits import split
from environments.recommenders.popularity import Popularity
from experiments import evaluate_recommenders as evaluation
from experiments.analysis import ranking_metrics as metrics
from experiments.cli import call
from simulator.errors import ConfigError, PluginError
from simulator.seeds import Stream

FILE = """
name = "films"
k = 4

[dataset]
use = "environments.datasets.movielens:MovieLens100K"
path = {path!r}

[recommenders.popularity]
use = "environments.recommenders.popularity:Popularity"

[recommenders.knn]
use = "environments.recommenders.item_knn:ItemKNN"
tune.neighbours = [1, 20]
tune.shrinkage = [0.0]

[recommenders.diverse]
use = "environments.rerankers.mmr:MMR"
diversity = 0.9
base = {{use = "environments.recommenders.item_knn:ItemKNN"}}
"""


@pytest.fixture
def file(tmp_path, film_files):
    place = tmp_path / "films.toml"
    place.write_text(FILE.format(path=str(film_files)))
    return place


def test_the_command_writes_and_prints_what_was_measured(file, tmp_path, capsys):
    assert call(["evaluate-recommenders", str(file), "--json", "--output", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "recommenders.json").read_text()) == {k: v for k, v in printed.items() if k != "file"}
    popularity, knn, diverse = printed["recommenders"]
    assert popularity["difference"] is None
    assert knn["metrics"]["ndcg"]["value"] > popularity["metrics"]["ndcg"]["value"]
    assert diverse["metrics"]["diversity"]["value"] > knn["metrics"]["diversity"]["value"]
    for result in printed["recommenders"]:
        for metric in ("ndcg", "recall", "map", "novelty", "miscalibration"):
            estimate = result["metrics"][metric]
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert result["metrics"]["coverage"]["low"] is None


def test_the_best_combination_on_the_validation_part_is_the_one_tested(file, tmp_path, capsys):
    call(["evaluate-recommenders", str(file), "--json", "--output", str(tmp_path)])
    knn = json.loads(capsys.readouterr().out)["recommenders"][1]
    assert [trial["options"]["neighbours"] for trial in knn["trials"]] == [1, 20]
    best = max(knn["trials"], key=lambda trial: trial["ndcg"])["options"]
    assert {name: knn["options"][name] for name in best} == best


def test_two_evaluations_agree_and_people_read_a_table(file, tmp_path, capsys):
    for name in ("one", "two"):
        assert call(["evaluate-recommenders", str(file), "--output", str(tmp_path / name)]) == 0
    assert "popularity" in capsys.readouterr().out
    one, two = (json.loads((tmp_path / name / "recommenders.json").read_text())["recommenders"] for name in ("one", "two"))
    assert [result["metrics"] for result in one] == [result["metrics"] for result in two]


def test_the_numbers_are_those_of_a_calculation_by_hand(file, film_world):
    config = evaluation.read(file)
    result = evaluation.evaluate(config, lambda *_: None)[0]
    parts = split(film_world, config.dataset.split_config(), Stream(config.seed).child("split"))
    popularity = Popularity()
    popularity.fit(parts.train.interactions, parts.train.catalog, Stream(0))
    values = []
    for user in range(film_world.n_users):
        wanted = set(parts.test.filter(user=user)["item"].to_list())
        history = parts.train.interactions.filter(user=user)["item"].to_numpy()
        shown = popularity.recommend(np.array([user], dtype=np.int32), [history], 4, Stream(0))[0].items.tolist()
        values.append(len(wanted & set(shown)) / len(wanted))
    assert result.metrics["recall"].value == pytest.approx(np.mean(values))
    assert result.metrics["recall"].people == film_world.n_users


def test_the_last_list_counts_in_full_when_people_do_not_fill_a_batch(monkeypatch, film_world):
    popularity = Popularity()
    popularity.fit(film_world.interactions, film_world.catalog, Stream(0))
    users = np.arange(film_world.n_users)
    histories = evaluation.histories_of(film_world.interactions, users)
    whole = evaluation.ranked_lists(popularity, users, histories, 5, Stream(0))
    monkeypatch.setattr("experiments.ranked_lists.BATCH", 7)
    np.testing.assert_array_equal(evaluation.ranked_lists(popularity, users, histories, 5, Stream(0)), whole)
    assert whole.shape == (film_world.n_users, 5)
    assert metrics.mean(metrics.hit_rate(metrics.hit_matrix(whole, histories), 5)) == 0


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("k=0", ConfigError, r"\[evaluation\] k = 0"),
        ("dataset.splits=random", ConfigError, r"\[dataset\] unknown key 'splits'"),
        ("dataset.split=half", ConfigError, r"\[dataset\].*split = 'half'"),
        ("recommenders.knn.neighbour=3", ConfigError, r"\[recommenders\.knn\] unknown key 'neighbour'; did you mean 'neighbours'"),
        ("recommenders.knn.tune.neighbours=[0]", ConfigError, r"\[recommenders\.knn\] neighbours = 0"),
        ("recommenders.knn.use=nothing:Nothing", PluginError, "there is no module 'nothing'"),
        ("rounds=2", ConfigError, "unknown key 'rounds'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(file, override, error, message):
    with pytest.raises(error, match=message):
        evaluation.read(file, [override])


def test_an_evaluation_file_that_is_not_there_names_those_that_are(file):
    with pytest.raises(ConfigError, match=r"come with usersim: .*recommenders"):
        evaluation.read(file.with_name("absent.toml"))
    assert evaluation.read(file.with_name("films.toml")).name == "films"

import json

import numpy as np
import polars as pl
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


RETURNS = """user_id,item_id,timestamp
1,a,1
1,b,2
1,c,3
1,d,4
1,a,5
2,a,1
2,b,2
2,c,3
2,e,4
2,d,5
3,b,1
3,d,2
3,e,3
3,a,4
3,b,5
4,a,1
4,c,2
4,d,3
4,e,4
4,c,5
"""


def test_all_means_are_over_the_same_people_also_where_some_come_back_to_what_they_had(tmp_path, capsys):
    """Three of four people's last interaction is one that they had before, so that only one has anything to find."""
    (tmp_path / "log.csv").write_text(RETURNS, encoding="utf-8")
    (tmp_path / "returns.toml").write_text(
        'name = "returns"\nk = 2\n[dataset]\nuse = "environments.datasets.tables:InteractionTables"\n'
        f'interactions = "{tmp_path / "log.csv"}"\nduplicates = "keep"\nsplit = "temporal"\n'
        '[recommenders.popularity]\nuse = "environments.recommenders.popularity:Popularity"\n',
        encoding="utf-8",
    )
    assert call(["evaluate-recommenders", str(tmp_path / "returns.toml"), "--json", "--output", str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["recommenders"][0]["metrics"]
    assert {estimate["people"] for estimate in found.values()} == {1}
    assert found["recall"]["value"] == found["hit_rate"]["value"] == 1.0
    assert "min(k, relevant items)" in document["conventions"]["map"]
    assert call(["evaluate-recommenders", str(tmp_path / "returns.toml"), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "map/min" in said.out
    assert "±" not in said.out  # one person has no interval
    assert "over min(k, relevant items)" in " ".join(said.err.split())


def test_nobody_with_anything_to_find_is_one_sentence(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,a,1\n1,b,2\n1,a,3\n2,a,1\n2,b,2\n2,b,3\n", encoding="utf-8")
    (tmp_path / "returns.toml").write_text(
        'name = "returns"\n[dataset]\nuse = "environments.datasets.tables:InteractionTables"\n'
        f'interactions = "{tmp_path / "log.csv"}"\nduplicates = "keep"\nsplit = "temporal"\n'
        '[recommenders.popularity]\nuse = "environments.recommenders.popularity:Popularity"\n',
        encoding="utf-8",
    )
    assert call(["evaluate-recommenders", str(tmp_path / "returns.toml"), "--output", str(tmp_path / "out")]) == 2
    assert "there is nothing to find" in " ".join(capsys.readouterr().err.split())


def test_the_two_ways_of_map_and_what_else_is_told_of_hits(film_world):
    ranked, relevant = np.array([[0, 1, 2, 3]]), [np.array([0, 2, 5, 6, 7, 8])]
    train = film_world.interactions.filter(pl.col("user") == 0)
    values = evaluation.per_person(ranked, relevant, train, np.array([0]), film_world.catalog, 4)
    above = 1 + 2 / 3
    assert values["map"][0] == pytest.approx(above / 4)
    assert values["map_all_relevant"][0] == pytest.approx(above / 6)
    assert values["f1"][0] == pytest.approx(2 * (2 / 4) * (2 / 6) / (2 / 4 + 2 / 6))
    assert values["rbp"][0] == pytest.approx(0.2 * (1 + 0.8**2))
    assert set(evaluation.CONVENTIONS) <= set(values)
    assert all(value.shape == (1,) for value in values.values())


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

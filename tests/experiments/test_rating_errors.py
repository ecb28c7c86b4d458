import json

import numpy as np
import polars as pl
import pytest

from experiments.analysis import ranking_metrics as metrics
from experiments.cli import call
from experiments.rating_errors import rating_errors
from simulator.dataset import INTERACTIONS_SCHEMA
from simulator.errors import RecommenderError
from simulator.seeds import Stream

ROWS = [(0, 0, 5.0, 1), (0, 1, 3.0, 2), (2, 0, 1.0, 3), (2, 2, None, 4)]
TEST = pl.DataFrame(ROWS, schema=dict(INTERACTIONS_SCHEMA), orient="row")

FILE = """
name = "films"
k = 4

[dataset]
use = "environments.datasets.movielens:MovieLens100K"
path = {path!r}

[recommenders.popularity]
use = "environments.recommenders.popularity:Popularity"

[recommenders.mean]
use = "environments.recommenders.biases:Biases"
items = false
people = false

[recommenders.biases]
use = "environments.recommenders.biases:Biases"
"""


class Says:
    def __init__(self, *ratings):
        self.ratings = ratings

    def predict_ratings(self, user_ids, items):
        return np.array(self.ratings)


def test_errors_are_those_of_all_ratings_that_are_there():
    found = rating_errors(Says(4.0, 4.0, 3.0), TEST, 4)
    estimates = found.estimates(Stream(1))
    true, predicted = np.array([5.0, 3.0, 1.0]), np.array([4.0, 4.0, 3.0])
    assert estimates["rmse"].value == pytest.approx(metrics.rmse(true, predicted))
    assert estimates["mae"].value == pytest.approx(metrics.mae(true, predicted))
    assert estimates["rmse"].people == 2
    assert estimates["rmse"].low <= estimates["rmse"].value <= estimates["rmse"].high
    assert found.squared.tolist() == [2.0, 0.0, 4.0, 0.0]


def test_two_recommenders_are_compared_on_the_same_people():
    one, other = rating_errors(Says(5.0, 3.0, 2.0), TEST, 3), rating_errors(Says(4.0, 4.0, 3.0), TEST, 3)
    difference = one.against(other, Stream(1))
    assert difference.value == pytest.approx((1 - 6) / 3)
    assert difference.high < 0


def test_who_predicts_no_ratings_has_no_errors_and_nonsense_is_refused():
    assert rating_errors(object(), TEST, 3) is None
    assert rating_errors(Says(), TEST.with_columns(pl.lit(None, dtype=pl.Float32).alias("rating")), 3) is None
    with pytest.raises(RecommenderError, match=r"Says\.predict_ratings returned an array of shape \(2,\).* for 3 pairs"):
        rating_errors(Says(1.0, 2.0), TEST, 3)
    with pytest.raises(RecommenderError, match="of which 1 are no numbers"):
        rating_errors(Says(1.0, 2.0, float("nan")), TEST, 3)


def test_the_command_prints_the_errors_of_those_that_predict_ratings(tmp_path, film_files, capsys):
    file = tmp_path / "films.toml"
    file.write_text(FILE.format(path=str(film_files)))
    assert call(["evaluate-recommenders", str(file), "--json", "--output", str(tmp_path)]) == 0
    popularity, mean, biases = json.loads(capsys.readouterr().out)["recommenders"]
    assert "rmse" not in popularity["metrics"]
    assert biases["metrics"]["rmse"]["value"] != mean["metrics"]["rmse"]["value"]
    assert popularity["rating_difference"] is mean["rating_difference"] is None
    gap = biases["metrics"]["rmse"]["value"] ** 2 - mean["metrics"]["rmse"]["value"] ** 2
    assert biases["rating_difference"]["value"] == pytest.approx(gap)
    assert call(["evaluate-recommenders", str(file), "--output", str(tmp_path)]) == 0
    assert "errors of the predicted ratings" in capsys.readouterr().out

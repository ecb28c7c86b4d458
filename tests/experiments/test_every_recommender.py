"""Every recommender that comes with usersim fills the pages of three rounds; one line of the experiment file is all that differs."""

import polars as pl
import pytest

from experiments.config import read
from experiments.run import start

pytestmark = pytest.mark.usefixtures("no_report")
EXPERIMENT = """
name = "three-rounds"
rounds = 3
language_model = false
[dataset]
path = "{data}"
[population]
users = 6
[decision]
use = "agents.controls:RandomDecisions"
[recommender]
page_size = 4
max_pages = 2
refit = "scratch"
{line}
"""
RECOMMENDERS = {
    "random:Random": "",
    "popularity:Popularity": "",
    "item_knn:ItemKNN": "",
    "user_knn:UserKNN": "",
    "ease:EASE": "",
    "als:ALS": "implicit",
    "bpr:BPR": "",
    "neumf:NeuMF": "",
    "ngcf:NGCF": "",
    "lightgcn:LightGCN": "",
    "mult_vae:MultVAE": "",
    "gru4rec:GRU4Rec": "",
    "sasrec:SASRec": "",
    "bert4rec:BERT4Rec": "",
    "content_based:ContentBased": "",
    "biases:Biases": "",
    "implicit_library:ImplicitLibrary": "implicit",
    "lenskit_library:LensKitLibrary": "lenskit",
    "rectools_library:RecToolsLibrary": "rectools",
}
"""Module and class -> the optional package that it needs. Those that read reviews or other processes have tests of their own."""


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_it_fills_the_pages_of_three_rounds_and_the_log_names_it(name, tmp_path, film_files):
    if RECOMMENDERS[name]:
        pytest.importorskip(RECOMMENDERS[name])
    file = tmp_path / "three.toml"
    file.write_text(EXPERIMENT.format(data=film_files, line=f'use = "environments.recommenders.{name}"'), encoding="utf-8")
    start(read(file, []), tmp_path / "run", 1, lambda what, done, total, result: None)
    shown = pl.read_parquet(tmp_path / "run/impressions.parquet")
    assert shown["round"].unique().sort().to_list() == [0, 1, 2]
    (policy,) = shown["policy"].unique().to_list()
    assert policy.partition("-")[0] == name.partition(":")[2]
    assert not shown.select("user", "session", "item").is_duplicated().any()
    assert not shown.filter("chosen").select("user", "item").is_duplicated().any()  # what was chosen is not shown again

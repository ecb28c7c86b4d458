"""One rule fits the recommender of a round, and one makes a page request: in a run, and when its log is read again."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from experiments import config as configuration
from experiments.cli import call
from experiments.logged_pages import read_logged_pages
from experiments.offline_evaluation import Options, evaluate
from experiments.policy_on_log import logged_probabilities, policy_on_log
from experiments.round_recommender import fitted
from experiments.target_policy import fitted_target, on_target, policy_folder, read_target, recommenders_of_run

EXPERIMENT = """
name = "rounds"
rounds = {rounds}
cohort_size = 8
round_days = {days}
language_model = false
[dataset]
{data}
[population]
users = "all"
{population}
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
page_size = 3
max_pages = 3
exploration = "plackett-luce"
temperature = 2
{recommender}
"""
KNN = 'use = "environments.recommenders.item_knn:ItemKNN"'
BPR = 'use = "environments.recommenders.bpr:BPR"\ndimension = 4\nepochs = 20\nwarm_epochs = 3\nbatch_size = 64'
COLD = """use = "environments.rerankers.cold_start:ColdStart"
refit = "never"
people = 0.3
keep = 1
items = 0.1
[recommender.base]
use = "environments.recommenders.item_knn:ItemKNN"
"""


def simulated(folder, data, recommender=KNN, population="", rounds=3, days=7):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "run.toml"
    text = EXPERIMENT.format(data=data, recommender=recommender, population=population, rounds=rounds, days=days)
    file.write_text(text, encoding="utf-8")
    assert call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Runs draw figures at their end, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        yield


@pytest.fixture
def films(film_files):
    return f'path = "{film_files}"'


@pytest.fixture
def reviewed(tmp_path, film_world):
    """The same world as a table with a review of everything."""
    world, ids = film_world, film_world.catalog.item_ids
    rows = [f"{user},{ids[item]},{rating:.0f},{time},I saw {item}." for user, item, rating, time in world.interactions.iter_rows()]
    (tmp_path / "log.csv").write_text("user_id,item_id,rating,timestamp,review\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return f'use = "environments.datasets.tables:InteractionTables"\ninteractions = "{tmp_path / "log.csv"}"\nreview = "review"'


def silent(what, done, total):
    pass


def gives_its_log(log, recommenders, config):
    """Whether a policy gives the logged propensities of a run."""
    policy = policy_on_log(log, recommenders, config.recommender.feed_config(), 10, silent)
    return np.allclose(logged_probabilities(policy, log), log.propensity, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("recommender", "population", "days"),
    [
        (KNN, 'history = "ahead"', 7),
        (KNN, 'history = "ahead"\nsessions = "relived"', 60),
        (KNN, 'sessions = "relived"\nsynthetic = 3', 60),
        (KNN + '\nrepeat = "never"', 'sessions = "rhythm"\nhistory = "ahead"', 20),
        (COLD, "", 7),
    ],
)
def test_a_run_of_any_population_gives_its_logged_propensities_when_it_is_asked_again(tmp_path, films, recommender, population, days):
    run = simulated(tmp_path, films, recommender, population, days=days)
    log = read_logged_pages(run)
    assert len(log.requests) > 20
    assert gives_its_log(log, recommenders_of_run(log), log.config)
    found = evaluate(run, log.config, Options(reward_model="logistic"), silent)
    assert found.reproduced < 1e-9
    assert found.answers["SNIPS"].value == pytest.approx(found.logged.value, rel=1e-6)


@pytest.mark.parametrize(("recommender", "days"), [(BPR + '\nrefit = "warm"', 7), (BPR, 7), (COLD, 7)])
def test_a_policy_fitted_on_a_log_is_the_recommender_that_learned_from_it(tmp_path, films, recommender, days):
    run = simulated(tmp_path, films, recommender, days=days)
    shutil.rmtree(run / "recommenders")
    log = read_logged_pages(run)
    assert gives_its_log(log, fitted_target(log, log.config), log.config)


def test_a_warm_policy_goes_on_through_rounds_in_which_nobody_came(tmp_path, films):
    run = simulated(tmp_path, films, BPR + '\nrefit = "warm"')
    shutil.rmtree(run / "recommenders")
    table = pl.read_parquet(run / "impressions.parquet")
    table.filter(pl.col("round") != 1).write_parquet(run / "impressions.parquet")
    log = read_logged_pages(run)
    recommenders = fitted_target(log, log.config)
    assert sorted(recommenders) == [0, 2]
    kept = policy_folder(log.run, log.config) / "recommenders"
    assert sorted(folder.name for folder in kept.iterdir()) == ["round-000", "round-001", "round-002"]


def test_a_policy_that_learns_warm_is_another_one_than_one_that_learns_from_scratch(tmp_path, films):
    run = simulated(tmp_path, films, rounds=2)
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[recommender]\n{BPR}\nexploration = "plackett-luce"\n', encoding="utf-8")
    own = configuration.of_run(run / "config.toml")
    log = read_logged_pages(run)
    shown, folders = [], []
    for refit in ("scratch", "warm", "never"):
        target = read_target(policy, [f"recommender.refit={refit}"], own)
        aimed = on_target(log, target)
        made = policy_on_log(aimed, fitted_target(aimed, target), target.recommender.feed_config(), 10, silent)
        shown.append(logged_probabilities(made, aimed)[log.rounds[log.page] == 1])
        folders.append(policy_folder(log.run, target))
    assert len(set(folders)) == 3
    assert not np.allclose(shown[0], shown[1])
    assert not np.allclose(shown[0], shown[2])


def test_a_policy_is_fitted_and_judged_on_data_with_reviews(tmp_path, reviewed, capsys):
    run = simulated(tmp_path, reviewed, rounds=2)
    policy = tmp_path / "policy.toml"
    policy.write_text('[recommender]\nuse = "environments.recommenders.ease:EASE"\nexploration = "plackett-luce"\n', encoding="utf-8")
    capsys.readouterr()
    assert call(["evaluate", str(run), "--policy", str(policy), "--reward-model", "logistic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reproduced"] < 1e-9
    shutil.rmtree(run / "recommenders")
    log = read_logged_pages(run)
    assert gives_its_log(log, fitted_target(log, log.config), log.config)


def test_what_people_did_is_learned_beside_reviews_that_only_the_data_has(film_world, tmp_path, films):
    config = configuration.read(simulated(tmp_path, films, rounds=1) / "config.toml")
    did = film_world.interactions.head(5)
    train = film_world.interactions.with_columns(review=pl.lit("good"))
    seen = []

    class Keeps:
        def fit(self, interactions, catalog, rng):
            seen.append((interactions, rng.path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.build.recommender", lambda _: Keeps())
        fitted(config, type(film_world)(**{**_fields(film_world), "interactions": train}), 1, did)
    (interactions, path) = seen[0]
    assert interactions.height == train.height + 5
    assert interactions["review"].null_count() == 5
    assert path == ("recommender", 1)


def _fields(dataset):
    return {name: getattr(dataset, name) for name in dataset.__dataclass_fields__}


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_propensity_that_cannot_be_is_named_with_its_row(tmp_path, films, wrong, capsys):
    run = simulated(tmp_path, films, rounds=1)
    table = pl.read_parquet(run / "impressions.parquet")
    row = table.row(4, named=True)
    is_it = pl.int_range(pl.len()) == 4
    table.with_columns(propensity=pl.when(is_it).then(pl.lit(wrong)).otherwise("propensity")).write_parquet(run / "impressions.parquet")
    assert call(["evaluate", str(run), "--policy", str(run / "config.toml")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of" in said
    assert "impossible propensity" in said
    assert f"(user {row['user']}, session {row['session']}, page {row['page']}, position {row['position']})" in said


def test_a_log_that_was_changed_is_not_blamed_on_the_data(tmp_path, films, capsys):
    run = simulated(tmp_path, films, rounds=1)
    table = pl.read_parquet(run / "impressions.parquet")
    table.with_columns(propensity=pl.col("propensity") / 2).write_parquet(run / "impressions.parquet")
    assert call(["evaluate", str(run), "--policy", str(run / "config.toml")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "though its data is the same" in said
    assert "the log itself has changed" in said

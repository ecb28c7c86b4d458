"""Logs of somebody else: our own read as one gives the run's figures; bad users are called bad; what cannot be judged is said."""

import json

import numpy as np
import polars as pl
import pytest

from experiments import config as configuration
from experiments.cli import call
from experiments.fidelity import report
from experiments.fidelity.judged_log import judge
from experiments.run_data import data_of_run
from experiments.stored_settings import config_of
from simulator.run_directory import RunDirectory

EXPERIMENT = """
name = "judged"
rounds = 2
cohort_size = 12
[dataset]
path = "{data}"
[population]
users = 24
sessions = "rhythm"
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 4
max_pages = 3
"""
BOOTSTRAP = 20


@pytest.fixture(scope="module")
def experiment(simulated, film_files):
    return simulated("judged", EXPERIMENT.format(data=film_files))


@pytest.fixture(scope="module")
def run(experiment):
    return experiment.parent / "run"


@pytest.fixture(scope="module")
def log(run):
    """The run's impressions as somebody would write them."""
    shown = pl.read_parquet(run / "impressions.parquet")
    return shown.select(
        customer="user",
        film="item",
        stars="rating",
        when="time",
        session="session",
        page="page",
        position="position",
        chosen="chosen",
        probability="chosen_probability",
    )


COLUMNS = {"user": "customer", "item": "film", "rating": "stars", "timestamp": "when"}


def judged(log, experiment, tmp_path, columns=COLUMNS, **options):
    file = tmp_path / "log.csv"
    log.write_csv(file)
    config = configuration.read(experiment)
    options = {"bootstrap": BOOTSTRAP, "days": float(config.rounds * config.round_days), **options}
    return judge(file, config, columns=columns, **options)


@pytest.fixture(scope="module")
def plain(experiment, log, tmp_path_factory):
    """The report of the log as it is."""
    return judged(log, experiment, tmp_path_factory.mktemp("plain"))


def test_our_own_log_read_as_a_foreign_one_gives_the_runs_own_figures(experiment, run, plain, tmp_path):
    options = report.Options(300, report.OF_A_LOG, BOOTSTRAP, None)
    own = report.measure(config_of(RunDirectory.open(run)), tmp_path / "own", run, options, lambda what, done, total: None)
    foreign = plain
    of_the_run = judge(run, configuration.read(experiment), bootstrap=BOOTSTRAP)
    for name in report.OF_A_LOG:
        expected = {key: value for key, value in own["parts"][name].items() if key != "seconds"}
        assert foreign["parts"][name] == expected
        assert of_the_run["parts"][name] == expected
    assert len(foreign["parts"]["distributions"]["distributions"]) > 5
    figures = ("worst_distribution_ratio", "c2st_auc", "variance_ratio_popularity", "positivity_shift", "activity_ratio")
    assert {key: foreign["headline"][key]["value"] for key in figures} == {key: own["headline"][key]["value"] for key in figures}
    assert foreign["not_measured"]["choose"] == "asks a decision model, and there is only its log"


def test_the_order_of_rows_and_a_table_of_users_change_nothing(experiment, log, plain, tmp_path):
    expected = plain
    mixed = log.sample(fraction=1.0, shuffle=True, seed=3)
    assert judged(mixed, experiment, tmp_path)["parts"] == expected["parts"]
    users = log["customer"].unique().sort()
    pl.DataFrame({"log": [f"sim {k}" for k in range(len(users))], "user": users}).write_csv(tmp_path / "users.csv")
    renamed = log.with_columns(customer="sim " + (pl.col("customer").replace_strict(users, range(len(users)))).cast(pl.String))
    found = judged(renamed, experiment, tmp_path, users=tmp_path / "users.csv")
    assert found["parts"] == expected["parts"]
    assert found["log"]["users_matched_by"] == "table"


def test_a_log_that_knows_the_truth_is_right_and_one_that_rates_everything_4_is_seen(experiment, run, log, plain, tmp_path):
    data = data_of_run(run)
    ids, items = data.train.users["user_id"].to_list(), data.train.catalog.item_ids
    test = data.test.with_row_index()
    truth = {(ids[user], items[item]) for user, item in test.select("user", "item").iter_rows()}
    oracle = log.with_columns(chosen=pl.struct("customer", "film").map_elements(lambda r: (r["customer"], r["film"]) in truth, pl.Boolean))
    oracle = oracle.drop("probability").with_columns(stars=pl.when("chosen").then(4.0))
    found = judged(oracle, experiment, tmp_path)
    assert found["parts"]["shown"]["among_shown"]["auc"]["value"] == 1.0
    assert found["parts"]["shown"]["among_shown"]["lift"]["value"] > 0
    within = found["parts"]["shown"]["among_shown"]["within"]
    assert within["auc"]["value"] == 1.0
    assert within["lift"]["value"] == pytest.approx(1.0 - within["baselines"][within["best"]])
    assert found["parts"]["shown"]["hits"]["share"] == 1.0
    flat = log.with_columns(stars=pl.when("chosen").then(4.0))
    ratings = [one["parts"]["distributions"]["distributions"]["ratings"] for one in (plain, judged(flat, experiment, tmp_path))]
    assert ratings[1]["distances"]["wasserstein"]["distance"] > ratings[0]["distances"]["wasserstein"]["distance"]
    shown = plain["parts"]["shown"]
    assert shown["choose_rate"]["value"] == pytest.approx(log["chosen"].mean())
    assert shown["places"]["rows"][0] == log.filter(pl.col("position") == 1).height


def test_choices_at_random_hit_as_often_as_popularity_explains(experiment, log, tmp_path):
    rng = np.random.default_rng(1)
    users = log["customer"].unique().sort().to_list()
    films = log["film"].unique().sort().to_list()
    rows = [(user, film) for user in users for film in rng.permutation(films)[:20].tolist()]
    found = judged(
        pl.DataFrame(rows, schema=["customer", "film"], orient="row"), experiment, tmp_path, {"user": "customer", "item": "film"}
    )
    assert 0.5 < found["parts"]["shown"]["hits"]["lift"]["value"] < 2.0


def test_what_cannot_be_judged_is_said(experiment, log, tmp_path):
    chosen = log.filter(pl.col("chosen")).select("customer", "film")
    found = judged(chosen, experiment, tmp_path, {"user": "customer", "item": "film"})
    told = found["not_measured"]
    assert told["distributions"]["ratings"] == "the log has no ratings, or not in all rows"
    assert told["distributions"]["gaps"].startswith("the log has no times")
    assert told["shown"]["among_shown"] == "the log does not tell what was shown and not chosen"
    assert any("cannot be told apart" in sentence for sentence in found["warnings"])
    nobody = judged(log.with_columns(customer="x" + pl.col("customer")), experiment, tmp_path, users="none")
    assert nobody["log"]["users_matched_by"] == "none"
    assert {"novelty", "repeat_share"} <= set(nobody["not_measured"]["distributions"])
    assert "classifier" in nobody["not_measured"]["realism"]
    assert "hits" in nobody["not_measured"]["shown"]
    assert nobody["parts"]["distributions"]["distributions"]["popularity_of_chosen"]["distances"]["wasserstein"]["ratio"] > 0
    assert nobody["parts"]["shown"]["choose_rate"]["value"] == pytest.approx(log["chosen"].mean())


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({"film": "no such film"}, (), "line 2: item 'no such film' is not in the data"),
        ({"customer": "nobody"}, (), "line 2: user 'nobody' is not in the data"),
        ({"stars": "9"}, (), "found '9', allowed is a number from 1 to 5; correct the row, or leave such rows out with --skip-unknown"),
        ({"chosen": "perhaps"}, (), "found 'perhaps', allowed is true, false, 1 or 0"),
        ({}, ("--column", "customer"), "write ROLE=NAME"),
        ({}, ("--column", "usr=customer"), "did you mean 'user'"),
        ({}, ("--users", "nowhere.csv"), "--users nowhere.csv: there is no such file"),
        ({}, ("--parts", "realism"), "--parts and --benchmark go with a run"),
    ],
)
def test_what_is_wrong_with_a_log_is_said_in_a_sentence(experiment, log, tmp_path, capsys, change, options, told):
    file = tmp_path / "log.csv"
    first = log.head(1).cast(pl.String).with_columns(pl.lit(value).alias(name) for name, value in change.items())
    pl.concat([first, log.tail(-1).cast(pl.String)]).write_csv(file)
    columns = [part for role, name in COLUMNS.items() for part in ("--column", f"{role}={name}")]
    assert call(["fidelity", "--log", str(file), "--data", str(experiment), *columns, *options]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert told in error
    assert "Traceback" not in error


def test_the_command_writes_the_report_and_leaves_out_what_it_may(experiment, log, tmp_path, capsys):
    file = tmp_path / "log.parquet"
    log.with_columns(film=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("no such film")).otherwise("film")).write_parquet(file)
    columns = [part for role, name in COLUMNS.items() for part in ("--column", f"{role}={name}")]
    command = ["fidelity", "--log", str(file), "--data", str(experiment), *columns, "--skip-unknown", "--bootstrap", "10"]
    assert call([*command, "--output", str(tmp_path / "report"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["log"]["left_out"] == {"unknown item": 1}
    assert json.loads((tmp_path / "report" / "fidelity.json").read_text())["parts"] == document["parts"]
    assert call([*command, "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr()
    assert "held-out" in printed.out
    assert "not judged: choose" in printed.err
    assert call(["fidelity"]) == 2
    assert "one of the two" in " ".join(capsys.readouterr().err.split())

"""`usersim evaluate` on whole runs of a small world."""

import json
import sys

import numpy as np
import polars as pl
import pytest

from experiments import build
from experiments import config as configuration
from experiments.cli import call
from experiments.logged_pages import read_logged_pages
from experiments.offline_evaluation import Options, evaluate
from experiments.policy_on_log import Sampled, logged_probabilities, policy_on_log, unsupported
from experiments.target_policy import read_target, recommenders_of_run
from simulator.provenance import code_sha256

EXPERIMENT = """
name = "evaluated"
rounds = {rounds}
cohort_size = 8
language_model = false
[dataset]
path = "{data}"
[population]
users = "all"
synthetic = 3
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.{recommender}"
page_size = 3
max_pages = 3
exploration = "{exploration}"
{more}
"""
DRAWS_ITSELF = '''
import numpy as np
from environments.recommenders.random import Random
from simulator.records import Slate


class Tilted(Random):
    """Lower item codes first, twice as likely as the others; draws by Gumbel noise, with its own propensities."""

    def recommend(self, user_ids, histories, n, rng, exclude=None):
        slates = []
        for row, user in enumerate(user_ids):
            allowed = np.ones(len(self._weights), dtype=bool)
            allowed[histories[row]] = False
            if exclude is not None:
                allowed[exclude[row]] = False
            items = np.flatnonzero(allowed).astype(np.int32)
            weights = np.where(items < len(self._weights) // 2, 2.0, 1.0)
            order = np.argsort(-(np.log(weights) + rng.child(int(user)).generator().gumbel(size=len(items))))
            ranked = weights[order]
            propensities = ranked / ranked[::-1].cumsum()[::-1]
            slates.append(Slate(items[order][:n], np.zeros(len(items[:n])), propensities[:n]))
        return slates
'''


def simulated(folder, data, recommender="ease:EASE", exploration="plackett-luce", more="", rounds=2):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "logging.toml"
    file.write_text(
        EXPERIMENT.format(data=data, recommender=recommender, exploration=exploration, more=more, rounds=rounds), encoding="utf-8"
    )
    assert call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


def policy(folder, recommender="ease:EASE", more='exploration = "plackett-luce"\ntemperature = 0.7'):
    file = folder / "policy.toml"
    file.write_text(f'[recommender]\nuse = "environments.recommenders.{recommender}"\n{more}\n', encoding="utf-8")
    return file


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Runs draw figures at their end, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        yield


@pytest.fixture(scope="module")
def logged(tmp_path_factory, film_files):
    return simulated(tmp_path_factory.mktemp("logged"), film_files)


def silent(what, done, total):
    pass


def config_of(run):
    return configuration.read(run / "config.toml")


@pytest.mark.parametrize(
    ("recommender", "exploration", "more"),
    [
        ("ease:EASE", "plackett-luce", 'repeat = "never"'),
        ("popularity:Popularity", "epsilon", 'repeat = "allow"\nepsilon = 0.4'),
        ("random:Random", "none", ""),
    ],
)
def test_the_policy_of_a_run_asked_again_gives_its_logged_propensities(tmp_path, film_files, recommender, exploration, more):
    log = read_logged_pages(simulated(tmp_path, film_files, recommender, exploration, more))
    own = policy_on_log(log, recommenders_of_run(log), log.config.recommender.feed_config(), 10, silent)
    assert own.draws == 0
    assert np.allclose(logged_probabilities(own, log), log.propensity, rtol=1e-9, atol=0)
    assert unsupported(own, own, log).max() == 0
    assert len(set(log.fitted_rounds.tolist())) == 2


def test_the_same_policy_is_worth_what_the_log_earned(logged, tmp_path):
    found = evaluate(logged, config_of(logged), Options(), silent)
    assert found.reproduced < 1e-9
    for name in ("IPS", "SNIPS", "RIPS", "nRIPS", "independent IPS"):
        assert found.answers[name].value == pytest.approx(found.logged.value, rel=1e-6)
        assert found.answers[name].unsupported < 1e-9


def test_a_policy_that_draws_by_itself_is_estimated_by_asking_it_again(logged, tmp_path):
    (tmp_path / "tilted.py").write_text(DRAWS_ITSELF, encoding="utf-8")
    file = tmp_path / "policy.toml"
    file.write_text(f'[recommender]\nuse = "{tmp_path / "tilted.py"}:Tilted"\n', encoding="utf-8")
    target = read_target(file, [], config_of(logged))
    log = read_logged_pages(logged)
    recommender = build.recommender(target)
    recommender.fit(log.train.interactions, log.train.catalog, None)
    drawn = policy_on_log(log, {0: recommender, 1: recommender}, target.recommender.feed_config(), 60, silent)
    assert isinstance(drawn, Sampled)
    tops = np.flatnonzero(log.place == 0)[:40]
    exact = []
    for row in tops:
        request = log.requests[log.page[row]]
        left = np.setdiff1d(np.arange(log.train.n_items), np.concatenate([request.history, request.shown]))
        weights = np.where(left < log.train.n_items // 2, 2.0, 1.0)
        exact.append((weights * (left == log.items[row])).sum() / weights.sum())
    estimated = logged_probabilities(drawn, log)[tops]
    error = np.sqrt(np.array(exact) * (1 - np.array(exact)) / 60)
    assert (np.abs(estimated - exact) < 5 * error).all()
    found = evaluate(logged, target, Options(draws=10, reward_model="logistic", force=True), silent)
    assert found.monte_carlo_error > 0
    assert "independent IPS" in found.left_out


def test_the_command_writes_numbers_and_a_figure(logged, tmp_path, capsys):
    assert call(["evaluate", str(logged), "--policy", str(policy(tmp_path)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    stored = json.loads((logged / "offline" / document["policy"] / "evaluation-chosen.json").read_text())
    assert stored == document
    assert set(document["answers"]) >= {"IPS", "clipped IPS", "SNIPS", "DM", "DR", "SNDR", "Switch-DR", "DRos", "RIPS", "cascade-DR"}
    for answer in document["answers"].values():
        assert answer["normal"]["low"] <= answer["value"] <= answer["normal"]["high"]
        assert 0 < answer["effective_sample_size"] <= document["impressions"] + 1e-6
    assert (logged / "offline" / document["policy"] / "estimates-chosen.png").read_bytes()[:4] == b"\x89PNG"
    assert "replay" in document["left_out"]
    assert set(document["believe"]["estimators"]) <= set(document["answers"])
    assert "effective" in document["believe"]["sentences"][0] or "worth" in document["believe"]["sentences"][0]


@pytest.mark.parametrize("reward", ["rating", "like"])
def test_other_rewards_are_evaluated_too(logged, tmp_path, reward, capsys):
    command = ["evaluate", str(logged), "--policy", str(policy(tmp_path)), "--reward", reward, "--reward-model", "logistic", "--json"]
    assert call(command) == 0
    document = json.loads(capsys.readouterr().out)
    table = pl.read_parquet(logged / "impressions.parquet")
    expected = table["rating"].fill_null(0).mean() if reward == "rating" else (table["rating"] >= 4).fill_null(value=False).mean()
    assert document["logged"]["value"] == pytest.approx(expected)


def test_a_deterministic_log_is_refused_for_another_policy(tmp_path, film_files, capsys):
    run = simulated(tmp_path, film_files, exploration="none", rounds=1)
    assert call(["evaluate", str(run), "--policy", str(policy(tmp_path, "popularity:Popularity", ""))]) == 2
    assert "every propensity is 1" in capsys.readouterr().err


def test_a_run_without_propensities_is_refused(logged, tmp_path, capsys):
    import shutil

    run = shutil.copytree(logged, tmp_path / "run")
    table = pl.read_parquet(run / "impressions.parquet")
    table.with_columns(propensity=pl.lit(None, dtype=pl.Float64)).write_parquet(run / "impressions.parquet")
    assert call(["evaluate", str(run), "--policy", str(policy(tmp_path))]) == 2
    assert "no propensity" in capsys.readouterr().err
    table.with_columns(item=pl.lit("nowhere")).write_parquet(run / "impressions.parquet")
    assert call(["evaluate", str(run), "--policy", str(policy(tmp_path))]) == 2
    assert "item 'nowhere', which its data set does not have" in capsys.readouterr().err
    table.with_columns(propensity=pl.col("propensity") / 2).write_parquet(run / "impressions.parquet")
    assert call(["evaluate", str(run), "--policy", str(policy(tmp_path))]) == 2
    assert "gives other probabilities than its log" in capsys.readouterr().err


def test_too_little_support_is_refused_unless_forced(tmp_path, film_files, capsys):
    run = simulated(tmp_path, film_files, more="candidates = 4\ntemperature = 0.3", rounds=1)
    command = ["evaluate", str(run), "--policy", str(policy(tmp_path, "random:Random", ""))]
    assert call(command) == 2
    assert "is never shown by the logging policy" in " ".join(capsys.readouterr().err.split())
    assert call([*command, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsupported"] > 0.5


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ("[population]\nusers = 3\n", "no section \\[recommender\\]"),
        ('[recommender]\npage_size = 9\nuse = "environments.recommenders.ease:EASE"\n', "page_size = 9"),
        ('[dataset]\nuse = "environments.datasets.movielens:MovieLens1M"\n[recommender]\n', "policy over other items"),
        ('[recommender]\nuse = "environments.recommenders.ease:EASE"\nl3 = 1\n', "unknown key 'l3'"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(logged, tmp_path, contents, says, capsys):
    file = tmp_path / "policy.toml"
    file.write_text(contents, encoding="utf-8")
    assert call(["evaluate", str(logged), "--policy", str(file)]) == 2
    assert pl.Series([" ".join(capsys.readouterr().err.split())]).str.contains(says)[0]


def test_wrong_options_are_refused(logged, tmp_path, capsys):
    command = ["evaluate", str(logged), "--policy", str(policy(tmp_path))]
    for options, says in ((["--reward", "liked"], "did you mean 'like'"), (["--seeds", "3"], "--truth"), (["--clip", "0"], "above 0")):
        assert call([*command, *options]) == 2
        assert says in capsys.readouterr().err


def test_a_policy_whose_code_was_edited_is_fitted_and_run_anew(tmp_path, film_files, capsys):
    """What is kept of a policy is found again as long as it would come out the same, and not by the policy's name."""
    run = simulated(tmp_path, film_files, rounds=1)
    code = tmp_path / "mine.py"
    text = "from environments.recommenders.ease import EASE\n\n\nclass Mine(EASE):\n    def fit(self, interactions, catalog, rng):\n"
    code.write_text(text + "        super().fit(interactions, catalog, rng)\n")
    file = tmp_path / "policy.toml"
    file.write_text(f'[recommender]\nuse = "{code}:Mine"\nexploration = "plackett-luce"\ntemperature = 0.7\n')

    def evaluated(*more):
        for name in [name for name in sys.modules if name.startswith("usersim_plugin_mine")]:
            del sys.modules[name]
        code_sha256.cache_clear()  # as in another process
        capsys.readouterr()
        status = call(["evaluate", str(run), "--policy", str(file), "--force", "--workers", "1", "--json", *more])
        told = capsys.readouterr()
        return (json.loads(told.out) if status == 0 else None), told.err

    first, _ = evaluated("--truth")
    (kept,) = (run / "offline").glob("Mine*/recommenders/round-000")
    made = kept.stat().st_mtime_ns
    assert evaluated()[0]["answers"] == first["answers"]
    assert kept.stat().st_mtime_ns == made, "the same code finds what it made"
    code.write_text(text + "        super().fit(interactions.filter(interactions['item'] < 5), catalog, rng)\n")
    again, _ = evaluated()
    assert again["policy"] == first["policy"]
    assert again["answers"] != first["answers"]
    truth, said = evaluated("--truth")
    assert truth is None
    assert "was made by other code" in said
    assert "remove it, and it is run again" in said


def test_the_truth_is_run_once_and_found_again(tmp_path, film_files, capsys):
    run = simulated(tmp_path, film_files, rounds=1)
    command = [
        "evaluate",
        str(run),
        "--policy",
        str(policy(tmp_path)),
        "--truth",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--reward-model",
        "logistic",
        "--json",
    ]
    capsys.readouterr()
    assert call(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["truth"]["seeds"] == [7, 8]
    assert set(first["truth"]["estimators"]) == set(first["answers"])
    tables = sorted((run / "offline/truth").glob("*/seed-*/impressions.parquet"))
    assert len(tables) == 3
    times = [table.stat().st_mtime_ns for table in tables]
    # An interrupted run is continued: without its summary it counts as not finished.
    (tables[0].parent / "summary.json").unlink()
    assert call(command) == 0
    assert json.loads(capsys.readouterr().out)["truth"] == first["truth"]
    assert [table.stat().st_mtime_ns for table in tables[1:]] == times[1:]
    target = pl.read_parquet(run / "offline/truth" / first["policy"] / "seed-7/impressions.parquet")
    assert first["truth"]["value"] == pytest.approx(target["chosen_probability"].mean())
    assert target["user"].unique().sort().equals(pl.read_parquet(run / "impressions.parquet")["user"].unique().sort())

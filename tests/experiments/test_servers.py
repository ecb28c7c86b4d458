"""Whole runs whose people ask a server, and runs whose answers come from a cache."""

import json
import tomllib

import polars as pl
import pytest

from experiments.cli import call
from simulator.llm.limits import Ledger
from simulator.llm.testing_server import MadeUpServer

EXPERIMENT = """
name = "servers"
rounds = 1
cohort_size = 3
[dataset]
path = {data}
[population]
users = 9
[decision]
reference_pages = 6
max_fallback_share = 0.5
[language_model]
use = "{model}"
{options}
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 3
max_pages = 2
"""
SERVER = "simulator.llm.openai_api:OpenAIServer"
SCRIPTED = "simulator.llm.scripted:ScriptedLanguageModel"


def written(folder, data, model, **options):
    file = folder / "servers.toml"
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    file.write_text(EXPERIMENT.format(data=json.dumps(str(data)), model=model, options=lines), encoding="utf-8")
    return file


def quick(server, **options):
    return {"base_url": server.url, "first_wait_s": 0.01, "timeout_s": 5.0, "retries": 2, **options}


def run(file, output, *extra, workers="1"):
    return call(["run", str(file), "--output", str(output), "--workers", workers, *extra])


def hashes(output):
    return json.loads((output / "summary.json").read_text())["sha256"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory, film_files):
    """The log of a run whose server never fails."""
    folder = tmp_path_factory.mktemp("expected")
    with MadeUpServer() as server:
        assert run(written(folder, film_files, SERVER, **quick(server)), folder / "run") == 0
    assert json.loads((folder / "run" / "summary.json").read_text())["fallback_share"] == 0
    ledger = Ledger(folder / "run" / "ledger.sqlite")
    spent = ledger.spent()
    ledger.close()
    return hashes(folder / "run"), spent


def test_a_server_that_often_fails_gives_the_same_log(tmp_path, film_files, expected):
    faults = ["500", "ok", "cut", "ok", "ok", "429", "not json", "slow", "ok", "ok"] * 20
    with MadeUpServer(["ok", "ok", "ok", *faults]) as server:
        server.retry_after = 0.02
        assert run(written(tmp_path, film_files, SERVER, **quick(server, retries=6)), tmp_path / "run") == 0
    assert hashes(tmp_path / "run") == expected[0]


def test_a_run_resumes_to_the_same_log_after_its_server_was_gone(tmp_path, film_files, expected, capsys):
    with MadeUpServer() as server:
        counted = expected[1].requests // 2
        server_faults = iter(["ok"] * counted)

        def failing(body, original=server.fault_of):
            original(body)
            return next(server_faults, "500")

        server.fault_of = failing
        assert run(written(tmp_path, film_files, SERVER, **quick(server)), tmp_path / "run") == 1
        assert "keeps failing" in capsys.readouterr().err
        assert not (tmp_path / "run" / "summary.json").exists()
        del server.fault_of
        assert call(["resume", str(tmp_path / "run"), "--workers", "1"]) == 0
    assert hashes(tmp_path / "run") == expected[0]


def test_a_run_resumes_to_the_same_log_with_a_larger_budget(tmp_path, film_files, expected, capsys):
    whole = expected[1]
    price = {"price_per_million_prompt_tokens": 1e6, "price_per_million_completion_tokens": 0.0}
    with MadeUpServer() as server:
        file = written(tmp_path, film_files, SERVER, **quick(server, budget=whole.prompt_tokens * 0.7, **price))
        assert run(file, tmp_path / "run", workers="2") == 1
        assert "budget of" in capsys.readouterr().err
        assert call(["resume", str(tmp_path / "run"), "--workers", "1"]) == 1
        again = ["resume", str(tmp_path / "run"), "--workers", "1"]
        assert call([*again, "--set", "language_model.budget=1e9", "--set", "language_model.concurrency=2"]) == 0
        assert call([*again, "--set", "language_model.budget=1e9"]) == 2
        assert "is complete" in capsys.readouterr().err
    settings = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["language_model"]
    assert (settings["budget"], settings["concurrency"]) == (1e9, 2)
    changed = json.loads((tmp_path / "run" / "manifest.json").read_text())["changed"]
    assert [entry["settings"] for entry in changed] == [["language_model.budget=1e9", "language_model.concurrency=2"]]
    assert hashes(tmp_path / "run") == expected[0]
    ledger = Ledger(tmp_path / "run" / "ledger.sqlite")
    assert ledger.spent().money == pytest.approx(ledger.spent().prompt_tokens)
    assert ledger.spent().prompt_tokens >= whole.prompt_tokens
    ledger.close()


def test_a_run_goes_on_at_another_address_of_its_server(tmp_path, film_files, expected, capsys):
    with MadeUpServer() as server:
        faults = iter(["ok"] * (expected[1].requests // 2))

        def failing(body, original=server.fault_of):
            original(body)
            return next(faults, "500")

        server.fault_of = failing
        assert run(written(tmp_path, film_files, SERVER, **quick(server)), tmp_path / "run") == 1
    with MadeUpServer() as moved:
        again = ["resume", str(tmp_path / "run"), "--workers", "1"]
        assert call([*again, "--set", f"language_model.base_url={moved.url}"]) == 0
    assert hashes(tmp_path / "run") == expected[0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed=8", ("seed", "language_model.budget", "its log stays one")),
        ("language_model.mode=schema", ("language_model.mode", "language_model.base_url")),
        ("language_model.concurrency=none", ("concurrency", "'none'")),
        ("language_model.budget", ("section.key=value",)),
    ],
)
def test_what_a_resumed_run_may_not_change_is_named(tmp_path, film_files, capsys, setting, words):
    price = {"price_per_million_prompt_tokens": 1e6}
    with MadeUpServer() as server:
        assert run(written(tmp_path, film_files, SERVER, **quick(server, budget=2000.0, **price)), tmp_path / "run") == 1
        assert "--set language_model.budget=" in capsys.readouterr().err
        before = (tmp_path / "run" / "config.toml").read_bytes()
        assert call(["resume", str(tmp_path / "run"), "--workers", "1", "--set", setting]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_forms_that_are_not_filled_in_are_counted_and_logged(tmp_path, film_files):
    with MadeUpServer(probabilities=False) as server:
        options = quick(server)
        file = written(tmp_path, film_files, SERVER, **options)
        assert run(file, tmp_path / "run", "--set", "decision.recentre=false") == 0
        server.says = "I would rather not say."
        refuse = ("--set", "decision.recentre=false", "--set", "decision.max_fallback_share=1.0")
        assert run(file, tmp_path / "silent", *refuse) == 0
    good, bad = (pl.read_parquet(tmp_path / name / "pages.parquet") for name in ("run", "silent"))
    assert set(good["status"]) == {"ok"}
    assert set(bad["status"]) == {"unreadable"}
    assert set(bad["reply"]) == {"I would rather not say."}
    assert good["chosen_count"].sum() > 0 == bad["chosen_count"].sum()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_is_the_same_without_a_cache_with_a_cold_one_a_warm_one_and_a_replayed_one(tmp_path, film_files, workers):
    assert run(written(tmp_path, film_files, SCRIPTED, unusable_share=0.1), tmp_path / "plain") == 0
    options = {"unusable_share": 0.1, "cache_path": str(tmp_path / "cache.sqlite")}
    tokens = {}
    for name, mode in (("cold", "read-write"), ("warm", "read-write"), ("replayed", "replay-only")):
        file = written(tmp_path, film_files, SCRIPTED, cache=mode, **options)
        assert run(file, tmp_path / name, workers=workers) == 0
        assert hashes(tmp_path / name) == hashes(tmp_path / "plain")
        tokens[name] = json.loads((tmp_path / name / "summary.json").read_text())["tokens"]["calls"]
    assert tokens["cold"] > 0 == tokens["warm"] == tokens["replayed"]


def test_a_replay_of_another_experiment_names_what_is_missing(tmp_path, film_files, capsys):
    options = {"cache_path": str(tmp_path / "cache.sqlite")}
    assert run(written(tmp_path, film_files, SCRIPTED, cache="replay-only", **options), tmp_path / "early") == 2
    assert "there is no cache at" in capsys.readouterr().err
    assert run(written(tmp_path, film_files, SCRIPTED, cache="read-write", **options), tmp_path / "run") == 0
    file = written(tmp_path, film_files, SCRIPTED, cache="replay-only", **options)
    assert run(file, tmp_path / "other", "--seed", "8") == 2
    assert "does not hold the answer to the text that ends with" in capsys.readouterr().err
    assert run(file, tmp_path / "wrong", "--set", "language_model.cache=sometimes") == 2
    assert "[language_model] cache = 'sometimes'" in capsys.readouterr().err

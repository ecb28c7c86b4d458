"""Recommenders over the rounds of whole runs: continued from the round before, and repaired answers counted."""

import json
import shutil
import sys
import tomllib

import numpy as np
import pytest

from experiments.cli import call

EXPERIMENT = """
name = "refit"
rounds = 3
cohort_size = 5
language_model = false
[dataset]
path = "{data}"
[population]
users = 10
[decision]
use = "agents.controls:RandomDecisions"
[recommender]
page_size = 4
max_pages = 2
{recommender}
"""
BPR = """
use = "environments.recommenders.bpr:BPR"
dimension = 4
epochs = 30
warm_epochs = 3
batch_size = 64
"""
CLUMSY = """
import json, sys
ids = []
for line in sys.stdin:
    message = json.loads(line)
    reply = {"state": "learned"}
    if message["do"] == "fit":
        ids = [item["id"] for item in message["items"]]
    elif message["do"] == "save":
        open(message["folder"] + "/ids.json", "w").write(json.dumps(ids))
    elif message["do"] == "load":
        ids = json.load(open(message["folder"] + "/ids.json"))
    else:
        slates = []
        for person in message["people"]:
            left = [item for item in ids if item not in {*person["history"], *person["exclude"]}][: message["n"]]
            items = ["no such item", left[0], left[0], left[1]]
            slates.append({"items": items, "scores": [9.0, 8.0, 8.0, 7.0] if int(person["user"]) % 2 else [9.0, 8.0, 8.0, None]})
        reply = {"slates": slates}
    print(json.dumps(reply), flush=True)
"""


def written(folder, data, recommender):
    file = folder / "refit.toml"
    file.write_text(EXPERIMENT.format(data=data, recommender=recommender), encoding="utf-8")
    return file


def run(file, output, *extra, workers="1"):
    assert call(["run", str(file), "--output", str(output), "--workers", workers, *extra]) == 0
    return output


def summary(output):
    return json.loads((output / "summary.json").read_text())


def fitted(output, number):
    with np.load(output / f"recommenders/round-{number:03}/state.npz") as state:
        return dict(state)


def interrupted(output, into):
    """A copy of a run as it was when its last round had one cohort."""
    shutil.copytree(output, into)
    for file in (*into.glob("*.parquet"), into / "summary.json"):
        file.unlink()
    shutil.rmtree(into / "rounds/002/cohort-0001")
    return into


@pytest.fixture(scope="module")
def warm(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("warm")
    return run(written(folder, film_files, BPR + 'refit = "warm"'), folder / "run")


def test_a_warm_refit_goes_on_from_the_round_before(warm, tmp_path, film_files):
    scratch = run(written(tmp_path, film_files, BPR), tmp_path / "scratch")
    first, second, third = (fitted(warm, number)["items"] for number in range(3))
    np.testing.assert_array_equal(first, fitted(scratch, 0)["items"])
    anew = fitted(scratch, 1)["items"]
    assert 0 < np.abs(second - first).mean() < 0.5 * np.abs(anew - first).mean()
    assert 0 < np.abs(third - second).mean() < 0.5 * np.abs(anew - first).mean()
    assert tomllib.loads((warm / "config.toml").read_text())["recommender"]["warm_start"] is True


@pytest.mark.parametrize("lost", [(), ("round-002",), ("round-001", "round-002")])
def test_an_interrupted_run_with_warm_refits_resumes_to_the_same_bytes(warm, tmp_path, lost):
    again = interrupted(warm, tmp_path / "again")
    for folder in lost:
        shutil.rmtree(again / "recommenders" / folder)
    assert call(["resume", str(again), "--workers", "1"]) == 0
    assert summary(again)["sha256"] == summary(warm)["sha256"]
    for number in range(3):
        name = f"recommenders/round-{number:03}/state.npz"
        assert (again / name).read_bytes() == (warm / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ('use = "environments.recommenders.ease:EASE"', "environments.recommenders.ease:EASE has no option warm_start"),
        (
            'use = "environments.rerankers.popularity_penalty:PopularityPenalty"\n'
            'base = {use = "environments.recommenders.item_knn:ItemKNN"}',
            "environments.recommenders.item_knn:ItemKNN has no option warm_start",
        ),
    ],
)
def test_a_recommender_that_cannot_start_warm_is_refused_before_the_run(tmp_path, film_files, capsys, options, refused):
    file = written(tmp_path, film_files, options + '\nrefit = "warm"')
    assert call(["run", str(file), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "[recommender] refit = 'warm'" in said
    assert refused in said.replace("\n", " ")
    assert "Traceback" not in said


def test_the_base_of_a_reranker_starts_warm(tmp_path, film_files):
    base = 'use = "environments.recommenders.bpr:BPR", dimension = 4, epochs = 30, warm_epochs = 3'
    options = f'use = "environments.rerankers.popularity_penalty:PopularityPenalty"\nrefit = "warm"\nbase = {{{base}}}'
    output = run(written(tmp_path, film_files, options), tmp_path / "run", "--set", "rounds=2")
    states = []
    for number in range(2):
        with np.load(output / f"recommenders/round-{number:03}/base/state.npz") as state:
            states.append(state["items"])
    assert 0 < np.abs(states[1] - states[0]).mean() < 0.5 * np.abs(states[0]).mean()


@pytest.fixture(scope="module")
def clumsy(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("clumsy")
    (folder / "clumsy.py").write_text(CLUMSY)
    command = json.dumps([sys.executable, str(folder / "clumsy.py")])
    options = f'use = "environments.recommenders.program:Program"\nrepair = "repair"\ncommand = {command}'
    return written(folder, film_files, options)


def test_repairs_are_counted_by_round_and_shown(clumsy, tmp_path, capsys):
    output = run(clumsy, tmp_path / "run")
    counts = summary(output)["repairs"]
    assert len(counts) == 3
    pages = [json.loads(file.read_text())["pages"] for file in sorted((output / "rounds/000").glob("*/result.json"))]
    for count in counts:
        assert list(count) == sorted(count)
        assert count["unknown item"] == count["repeated item"] == count["too few items"]
        assert 0 < count["score"] < count["unknown item"]
    assert counts[0]["unknown item"] == sum(pages)  # each page of a person was answered with one unknown item
    total = sum(count["unknown item"] for count in counts)
    assert f"unknown item {total}" in capsys.readouterr().out.replace(",", "")


def test_the_counts_do_not_depend_on_workers_or_interruptions(clumsy, tmp_path):
    one = run(clumsy, tmp_path / "one")
    two = run(clumsy, tmp_path / "two", workers="2")
    again = interrupted(one, tmp_path / "again")
    assert call(["resume", str(again), "--workers", "1", "--trust"]) == 0
    assert summary(one)["repairs"] == summary(two)["repairs"] == summary(again)["repairs"]


def test_nothing_is_said_where_nothing_was_repaired(warm):
    assert summary(warm)["repairs"] == [{}, {}, {}]

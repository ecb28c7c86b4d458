"""A run that is killed at any of its writes, again and again, ends with the bytes of one that nobody disturbed."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from simulator.kill_points import VARIABLE
from simulator.seeds import Stream

KILLS = int(os.environ.get("USERSIM_KILLS", "2"))
"""How many kills each experiment is to survive; `make fuzz` tries more."""

EXPERIMENT = """
name = "killed"
rounds = 2
cohort_size = 5
{more}
[dataset]
path = {data}
[population]
users = 14
synthetic = 2
{population}
[decision]
use = "agents.{decision}"
[recommender]
use = "environments.recommenders.{recommender}"
page_size = 4
max_pages = 3
exploration = "epsilon"
"""
SCRIPTED = '[language_model]\nuse = "simulator.llm.scripted:ScriptedLanguageModel"'
KINDS = {
    "a language model that writes": {
        "more": "",
        "population": f"taste = true\n{SCRIPTED}",
        "decision": "decisions:LanguageModelDecisions",
        "recommender": "ease:EASE",
        "workers": 1,
    },
    "people without one, a recommender that goes on learning": {
        "more": "language_model = false",
        "population": "",
        "decision": "controls:EvidenceDecisions",
        "recommender": 'bpr:BPR"\nrefit = "warm"\nepochs = 2 #',
        "workers": 1,
    },
    "two workers": {
        "more": "",
        "population": SCRIPTED,
        "decision": "decisions:LanguageModelDecisions",
        "recommender": "popularity:Popularity",
        "workers": 2,
    },
}


def command(arguments: list[str], point: int) -> None:
    """One command line in this process, which is to die at a write."""
    from experiments.analysis import report
    from experiments.cli import call

    os.environ[VARIABLE] = str(point)
    report.write_report = lambda _: None
    os._exit(call([*arguments, "-q"]))


def ended(arguments: list[str], point: int = 0) -> int:
    """The exit status of a command line in a process of its own, forked from one that has imported everything and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.cli", "experiments.commands.run", "experiments.run", "experiments.analysis.report"])
    process = context.Process(target=command, args=(arguments, point))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def contents(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common, to the byte."""
    tables = {file.name: file.read_bytes() for file in sorted(run.glob("*.parquet"))}
    return tables | {"sha256": json.dumps(json.loads((run / "summary.json").read_text())["sha256"]).encode()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_at_drawn_writes_ends_with_the_same_bytes(kind, tmp_path, film_files):
    settings = {name: value for name, value in KINDS[kind].items() if name != "workers"}
    workers = ["--workers", str(KINDS[kind]["workers"])]
    file = tmp_path / "killed.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files)), **settings), encoding="utf-8")
    assert ended(["run", str(file), "--output", str(tmp_path / "whole"), *workers]) == 0
    whole = contents(tmp_path / "whole")
    points = Stream(7).child("kills", kind).generator()
    kills = number = 0
    while kills < KILLS:
        output, number, done = tmp_path / f"run-{number}", number + 1, False
        while not done:
            start = ["resume", str(output)] if (output / "config.toml").is_file() else ["run", str(file), "--output", str(output)]
            # most starts die soon, some at the very end; a few are left alone, so that every run comes to an end
            status = ended([*start, *workers], int(points.choice([3, 8, 20, 60]) * points.random()) + 1 if points.random() < 0.9 else 0)
            done = status == 0
            kills += status == -9
            assert status in (0, -9) or (status == 1 and workers[1] == "2"), f"{kind}: {start} ended with {status}"
        assert contents(output) == whole
        assert ended(["verify", str(output)]) == 0
        assert not list(output.rglob("*.part"))

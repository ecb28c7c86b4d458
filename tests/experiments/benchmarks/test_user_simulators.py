"""The leaderboard: rows by name, a report of somebody else's log beside them, the table in its document."""

import json

import pytest

from experiments import config as configuration
from experiments.benchmarks import user_simulators as simulators
from experiments.cli import call

EXPERIMENT = """
name = "leaderboard"
[dataset]
path = "{data}"
split = "random"
test_share = 0.4
"""


@pytest.fixture
def experiment(tmp_path, film_files, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(simulators, "USERS", 4)
    monkeypatch.setattr(simulators, "PAGES", 3)
    monkeypatch.setattr(simulators, "PAGE_SIZE", 8)
    monkeypatch.setattr(simulators, "RESAMPLES", 10)
    file = tmp_path / "leaderboard.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    return file


def test_rows_are_written_one_by_one_and_everything_4_rates_so(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(simulators, "experiment", lambda name, folder: configuration.read(experiment))
    output = tmp_path / "users.json"
    found = simulators.run(tmp_path, ["ml-100k"], ["popularity"], output, lambda text: None)
    found = simulators.run(tmp_path, ["ml-100k"], [simulators.EVERYTHING], output, lambda text: None)
    rows = found["data"]["ml-100k"]
    assert list(rows) == ["popularity", "everything 4"]
    assert json.loads(output.read_text()) == found
    for row in rows.values():
        assert row["users"] > 0
        assert 0 < row["choose_rate"] < 1
        assert row["choose_rate_low"] <= row["choose_rate"] <= row["choose_rate_high"]
    assert rows["everything 4"]["rating_variance"] in (0, None)
    assert rows["popularity"]["rating_shift"] != rows["everything 4"]["rating_shift"]


def test_a_report_of_somebody_else_becomes_a_row_and_the_table_stands_in_its_document(tmp_path, capsys):
    report = {"data": "ml-100k", "log": {"users": 7, "choices": 50}, "headline": {}, "parts": {"shown": {}}}
    report["parts"]["shown"]["choose_rate"] = {"value": 0.25, "low": 0.2, "high": 0.3}
    (tmp_path / "fidelity.json").write_text(json.dumps(report))
    page = tmp_path / "page.md"
    page.write_text(f"# Users\n\n{simulators.START}\nold\n{simulators.END}\nend\n")
    entry = f"theirs={tmp_path / 'fidelity.json'}"
    command = ["benchmark", "users", "--add", entry, "--output", str(tmp_path / "users.json"), "--page", str(page)]
    assert call([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["data"]["ml-100k"]["theirs"]
    assert (row["users"], row["choose_rate"], row["auc_shown"]) == (7, 0.25, None)
    text = page.read_text()
    assert "| ml-100k | theirs |" in text
    assert "old" not in text
    assert text.startswith("# Users")
    assert text.endswith("end\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give the folder with the data sets, or --add"),
        (("--add", "mine"), "write NAME=FILE"),
        (("--add", "mine=nowhere.json"), "nowhere.json"),
        (("--data", "netflix"), "there is no data set 'netflix' here"),
        (("--population", "nobody"), "there is no population 'nobody' here"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(options, told, tmp_path, capsys):
    assert call(["benchmark", "users", "--output", str(tmp_path / "users.json"), *options]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert told in error
    assert "Traceback" not in error


def test_the_committed_page_has_its_marks():
    from pathlib import Path

    text = (Path(__file__).parents[3] / simulators.PAGE).read_text(encoding="utf-8")
    assert text.count(simulators.START) == text.count(simulators.END) == 1

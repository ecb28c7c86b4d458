"""Sessions are shorter where people find less, by an assumption that is said wherever the run is shown."""

import json

import polars as pl
import pytest

from experiments.cli import call
from experiments.told import read_told

EXPERIMENT = """
name = "react"
rounds = 2
language_model = false
[dataset]
path = "{data}"
[population]
users = "all"
[decision]
use = "{decision}"
{options}
[recommender]
use = "environments.recommenders.{recommender}"
page_size = 5
max_pages = 5
[anchor]
use = "ease"
page_size = 5
"""
CALIBRATED = "language_model = false"


def run(folder, data, recommender, decision="agents.calibrated:CalibratedDecisions", options=CALIBRATED):
    folder.mkdir()
    (folder / "react.toml").write_text(EXPERIMENT.format(data=data, decision=decision, options=options, recommender=recommender))
    assert call(["run", str(folder / "react.toml"), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USERSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Sixty people who like half of sixty films, as files; the first films of a kind are the well known ones."""
    from simulator.seeds import Stream

    folder = tmp_path_factory.mktemp("data")
    rng = Stream(4).generator()
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(60):
        odds = [(8.0 if item % 2 == user % 2 else 1.0) / (1 + item // 2) for item in range(60)]
        drawn = rng.choice(60, 14, replace=False, p=[one / sum(odds) for one in odds])
        lines += [
            f"{user},{item},{5 if item % 2 == user % 2 else 2},{1_500_000_000 + 90_000 * user + (90_000 if n > 6 else 0) + 60 * n}"
            for n, item in enumerate(drawn)
        ]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return folder


def on(data, options=CALIBRATED):
    return f'{data}"\ninteractions = "log.csv"\nuse = "environments.datasets.tables:InteractionTables', options


def lengths(run_folder):
    sessions = pl.read_parquet(run_folder / "sessions.parquet")
    return sessions["pages"].mean(), (sessions["pages"] == 1).mean()


@pytest.fixture
def without_report(monkeypatch):
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda path: path)


def test_people_bounce_more_from_random_pages_than_from_a_recommender_that_knows_them(tmp_path, films, without_report):
    where, options = on(films)
    good = lengths(run(tmp_path / "good", where, "ease:EASE", options=options))
    poor = lengths(run(tmp_path / "poor", where, "random:Random", options=options))
    assert poor[0] < good[0] - 0.1
    assert poor[1] > good[1]


def test_the_assumption_is_in_the_report_the_summary_and_the_data_card(tmp_path, films):
    where, options = on(films)
    folder = run(tmp_path / "told", where, "popularity:Popularity", options=options)
    assumption, satisfaction = read_told(folder).assumptions
    assert "decision.leave_response = 1" in assumption
    assert satisfaction.startswith("satisfaction follows from")
    assert f"assumption: {assumption}" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "summary.json").read_text())["assumptions"] == [assumption, satisfaction]
    assert call(["export", str(folder), "--format", "csv", "--output", str(tmp_path / "out")]) == 0
    assert f"assumption: {assumption}" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_is_not_assumed_is_not_said(tmp_path, films, without_report):
    where, options = on(films, CALIBRATED + "\nleave_response = 0.0")
    folder = run(tmp_path / "calm", where, "popularity:Popularity", options=options)
    (satisfaction,) = read_told(folder).sentences
    assert "satisfaction follows from" in satisfaction

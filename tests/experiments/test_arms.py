"""Arms of an experiment: ordinary runs under one folder, found again, continued, and sharing what does not depend on the recommender."""

import json
import shutil

import pytest

from agents.controls import EvidenceDecisions
from experiments import config as configuration
from experiments.arms import run_arms
from experiments.cli import call
from simulator.errors import ConfigError, RunError

EXPERIMENT = {
    "name": "arms",
    "rounds": 2,
    "cohort_size": 8,
    "language_model": False,
    "population": {"users": 12},
    "decision": {"use": "agents.controls:EvidenceDecisions"},
}


def arms(data, *recommenders, **changes):
    found = {}
    for name in recommenders:
        recommender = {"use": f"environments.recommenders.{name}", "page_size": 3, "max_pages": 3}
        document = {**EXPERIMENT, "dataset": {"path": str(data)}, "recommender": recommender, **changes}
        found[name.partition(":")[2]] = configuration.check(document, "test")
    return found


def hashes(run):
    return json.loads((run / "summary.json").read_text())["sha256"]


def silent(what, done, total, result):
    pass


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Runs draw figures at their end, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("arms")
    return folder, run_arms(folder, arms(film_files, "random:Random", "ease:EASE"), 1, silent)


def test_every_arm_is_the_run_that_it_would_be_alone(finished, film_files, tmp_path):
    _, runs = finished
    assert list(runs) == ["Random", "EASE"]
    alone = tmp_path / "alone"
    assert call(["run", str(runs["EASE"] / "config.toml"), "--output", str(alone), "--workers", "1"]) == 0
    assert hashes(alone) == hashes(runs["EASE"])
    assert hashes(runs["Random"]) != hashes(runs["EASE"])


def test_the_decision_model_is_fitted_once_and_complete_arms_are_not_touched(finished, film_files, tmp_path, monkeypatch):
    fits = []
    fit = EvidenceDecisions.fit
    monkeypatch.setattr(EvidenceDecisions, "fit", lambda self, *rest: fits.append(1) or fit(self, *rest))
    said = []
    experiments = arms(film_files, "random:Random", "ease:EASE", "popularity:Popularity")
    runs = run_arms(tmp_path, experiments, 1, lambda what, *rest: said.append(what))
    assert len(fits) == 1
    assert {what.partition(":")[0] for what in said} == {"Random (1 of 3)", "EASE (2 of 3)", "Popularity (3 of 3)"}
    assert [hashes(runs[name]) for name in ("Random", "EASE")] == [hashes(run) for run in finished[1].values()]
    said.clear()
    run_arms(tmp_path, experiments, 1, lambda what, *rest: said.append(what))
    assert not said


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"decision": {**EXPERIMENT["decision"], "choose_rate": 0.4}}, {"population": {"users": 13}}]
)
def test_the_decision_model_of_an_arm_with_other_people_is_fitted_anew(changes, finished, film_files, tmp_path, monkeypatch):
    fits = []
    fit = EvidenceDecisions.fit
    monkeypatch.setattr(EvidenceDecisions, "fit", lambda self, *rest: fits.append(1) or fit(self, *rest))
    one, other = arms(film_files, "random:Random"), arms(film_files, "random:Random", **changes)
    run_arms(tmp_path, {"one": one["Random"], "other": other["Random"]}, 1, silent)
    assert len(fits) == 2


def test_an_arm_that_was_interrupted_is_continued_to_the_same_bytes(finished, film_files, tmp_path):
    folder, runs = finished
    shutil.copytree(folder, tmp_path / "again")
    broken = tmp_path / "again" / "arms" / "EASE"
    (broken / "summary.json").unlink()
    shutil.rmtree(broken / "decisions")
    shutil.rmtree(broken / "rounds" / "001" / "cohort-0000")
    bare = tmp_path / "again" / "arms" / "Random"
    shutil.rmtree(bare)
    bare.mkdir()
    (bare / ".config.toml.0123.part").write_text("killed while it was written")
    again = run_arms(tmp_path / "again", arms(film_files, "random:Random", "ease:EASE"), 1, silent)
    assert [hashes(run) for run in again.values()] == [hashes(run) for run in runs.values()]
    assert not list(tmp_path.rglob("*.part"))


def test_an_arm_of_other_settings_is_refused_before_anything_runs(finished, film_files):
    folder, _ = finished
    changed = arms(film_files, "popularity:Popularity", "ease:EASE", population={"users": 10})
    with pytest.raises(RunError, match=r"EASE was run with population.users = 12, and now 10 is wanted; choose another folder"):
        run_arms(folder, changed, 1, silent)
    assert not (folder / "arms" / "Popularity").exists()


def test_a_name_that_cannot_be_a_folder_is_refused(film_files, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be called '\.\./x'"):
        run_arms(tmp_path, {"../x": arms(film_files, "random:Random")["Random"]}, 1, silent)


def test_an_arm_is_not_run_beside_one_that_other_code_or_other_data_made(finished, film_files, tmp_path):
    folder, _ = finished
    copied = tmp_path / "arms"
    shutil.copytree(folder, copied)
    file = copied / "arms" / "EASE" / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "code": {**manifest["code"], "run": "older"}}))
    more = arms(film_files, "random:Random", "ease:EASE", "popularity:Popularity")
    with pytest.raises(RunError, match=r"EASE was made by other code .*\(code\).*choose another folder"):
        run_arms(copied, more, 1, silent)
    assert set(run_arms(copied, arms(film_files, "random:Random", "ease:EASE"), 1, silent)) == {"Random", "EASE"}
    for arm in ("EASE", "Random"):
        file = copied / "arms" / arm / "manifest.json"
        manifest = json.loads((folder / "arms" / arm / "manifest.json").read_text())
        file.write_text(json.dumps({**manifest, "data": {**manifest["data"], "fingerprint": "other"}}))
    with pytest.raises(RunError, match="data"):
        run_arms(copied, more, 1, silent)

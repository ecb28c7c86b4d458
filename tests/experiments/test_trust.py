"""Somebody's run folder is not opened if that would run code, start programs or ask hosts; one's own experiments need no leave."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from experiments import comparison_arms as arms_of
from experiments import config as configuration
from experiments.analysis import comparison_figures, report
from experiments.arms import run_arms
from experiments.cli import call
from experiments.run import resume, start
from experiments.stored_settings import flat, settings_sha256
from experiments.trust import UntrustedError, check_trusted, dangers, granted, own
from simulator.errors import ConfigError
from simulator.run_directory import RunDirectory

EXPERIMENT = """
name = "mine"
cohort_size = 6
language_model = false
[dataset]
path = {data}
[population]
users = 6
[decision]
use = "agents.controls:RandomDecisions"
[recommender]
use = {use}
page_size = 3
max_pages = 2
exploration = "plackett-luce"
"""
MINE = """
from pathlib import Path

from environments.recommenders.item_knn import ItemKNN

Path({marker!r}).touch()


class Mine(ItemKNN):
    Config = ItemKNN.Config
"""


def silent(*_):
    """Progress for nobody."""


def written(folder, data, use):
    file = folder / "mine.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(data)), use=json.dumps(use)), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def nothing_is_trusted(monkeypatch):
    monkeypatch.delenv("USERSIM_TRUST", raising=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, film_files):
    """A complete run that names nothing but usersim."""
    folder = tmp_path_factory.mktemp("plain")
    file = written(folder, film_files, "environments.recommenders.item_knn:ItemKNN")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", silent)  # nobody looks at it here
        return start(configuration.read(file), folder / "run", 1, silent).path


@pytest.fixture
def somebodys(plain, tmp_path):
    """A copy of the run, whose configuration names code in its own folder, which leaves a mark when it is imported."""

    def make(**sections):
        run = tmp_path / "somebodys"
        shutil.copytree(plain, run)
        (run / "evil.py").write_text(MINE.format(marker=str(tmp_path / "imported")))
        document = configuration.document(run / "config.toml")
        for section, changes in (sections or {"recommender": {"use": f"{run}/evil.py:Mine"}}).items():
            document[section] = {**(document.get(section) or {}), **changes}
        import tomli_w

        (run / "config.toml").write_text(tomli_w.dumps(document))
        directory, made_with = RunDirectory(run), dict(flat(json.loads(json.dumps(document))))
        kept = {"settings": made_with, "settings_sha256": settings_sha256(made_with)}
        directory.write_json("manifest", {**directory.read_json("manifest"), **kept})
        return run

    return make


def commands(run: Path, plain: Path, tmp_path: Path) -> dict[str, list[str]]:
    return {
        "compare": ["compare", str(run), str(plain), "--output", str(tmp_path / "c")],
        "compare, second": ["compare", str(plain), str(run), "--output", str(tmp_path / "c")],
        "evaluate": ["evaluate", str(run), "--policy", "movielens"],
        "evaluate, policy": ["evaluate", str(plain), "--policy", str(run / "config.toml")],
        "fidelity": ["fidelity", str(run), "--parts", "choose"],
        "interview": ["interview", str(run), "--user", "1", "--ask", "Why?"],
        "dashboard": ["dashboard", str(run), "--port", "0"],
        "resume": ["resume", str(run), "--workers", "1"],
        "run": ["run", str(run / "config.toml"), "--output", str(tmp_path / "again")],
        "augment": ["augment", str(run / "config.toml"), "--output", str(tmp_path / "again")],
        "tune": ["tune", str(run / "config.toml"), "--name", "x"],
    }


@pytest.mark.parametrize("command", list(commands(Path(), Path(), Path())))
def test_no_command_opens_a_run_that_names_code_and_nothing_is_imported(somebodys, plain, tmp_path, capsys, command):
    run = somebodys()
    assert call(commands(run, plain, tmp_path)[command]) == 2
    told = capsys.readouterr().err
    assert "is not trusted: opening it runs the code" in told
    assert "--trust" in told
    assert "recommender.use" in told
    assert "Traceback" not in told
    assert not (tmp_path / "imported").exists()


def test_a_run_is_opened_with_the_option_the_variable_or_a_trusted_folder(somebodys, plain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison_figures, "make_figures", lambda *_: {})
    run = somebodys()
    command = ["compare", str(run), str(plain), "--output", str(tmp_path / "c")]
    assert call([*command, "--trust"]) == 0
    assert (tmp_path / "imported").exists()
    assert call(command) == 2  # the next one is asked again
    for trusted in ("1", str(run), f"/nowhere:{tmp_path}"):
        monkeypatch.setenv("USERSIM_TRUST", trusted)
        check_trusted(configuration.document(run / "config.toml"), run)
    for other in ("0", "", "/nowhere", str(run / "sub")):
        monkeypatch.setenv("USERSIM_TRUST", other)
        with pytest.raises(UntrustedError):
            configuration.of_run(run / "config.toml")
    capsys.readouterr()


@pytest.mark.parametrize(
    "sections",
    [
        {"recommender": {"use": "os:system"}},
        {"recommender": {"use": "antigravity:x"}},
        {"recommender": {"use": "evil.py:Mine"}},
        {"recommender": {"use": "evil:Mine"}},
        {"recommender": {"use": "/tmp/x/evil.py:Mine"}},
        {"recommender": {"use": "environments.recommenders.program:Program", "command": ["touch", "x"]}},
        {"recommender": {"use": "environments.rerankers.mmr:MMR", "base": {"use": "os:system"}}},
        {"recommender": {"use": "environments.rerankers.mmr:MMR", "base": {"use": "x:Y", "command": ["touch"]}}},
        {"recommender": {"use": "environments.recommenders.http_service:HttpService", "url": "http://evil.example/x"}},
        {"recommender": {"use": "environments.recommenders.lenskit_library:LensKit"}},
        {"memory": {"encoder": "evil:Encoder"}},
        {"memory": {"use": "evil.py:Memory"}},
        {"decision": {"use": "os:system"}},
        {"dataset": {"use": "os:system"}},
        {"language_model": {"use": "simulator.llm.openai_api:OpenAIServer", "base_url": "https://evil.example/v1", "api_key_env": "HOME"}},
        {"augmentation": {"recommenders": {"x": {"use": "evil.py:X"}}}},
    ],
)
def test_whatever_a_run_names_is_refused_before_anything_is_imported(somebodys, plain, tmp_path, capsys, monkeypatch, sections):
    run = somebodys(**sections)
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(str(run))
    before = set(sys.modules)
    for command in (["compare", str(run), str(plain), "--output", str(tmp_path / "c")], ["resume", str(run)], ["fidelity", str(run)]):
        assert call(command) == 2
        assert "is not trusted" in capsys.readouterr().err
    assert {"antigravity", "evil"}.isdisjoint(set(sys.modules) - before)
    assert not (tmp_path / "imported").exists()


def test_environments_for_agents_ask_too(somebodys, tmp_path):
    pytest.importorskip("gymnasium")
    from experiments.reinforcement import make, make_vector

    run = somebodys()
    for wanted in (lambda **more: make(run, **more), lambda **more: make_vector(2, str(run), **more)):
        with pytest.raises(UntrustedError, match="trust=True"):
            wanted()
    assert not (tmp_path / "imported").exists()
    make(run, trust=True).close()
    assert (tmp_path / "imported").exists()


def test_a_comparison_or_a_study_of_somebody_is_not_continued(plain, tmp_path, capsys):
    document = configuration.document(plain / "config.toml")
    arms = {
        name: {**document, "recommender": {**document["recommender"], "use": use}} for name, use in (("a", "os:system"), ("b", "x.py:Y"))
    }
    comparison, study = tmp_path / "comparison", tmp_path / "study"
    for folder in (comparison, study):
        folder.mkdir()
    (comparison / "plan.json").write_text(json.dumps({"baseline": "a", "margin": 0.05, "seeds": 1, "arms": arms}))
    assert call(["compare", str(comparison)]) == 2
    assert "is not trusted" in capsys.readouterr().err
    (study / "overrides.json").write_text("[]")
    for content in (
        'analysis = {use = "os:system"}',
        'analysis = {use = "experiments.studies.arm_metrics:ArmMetrics"}\nbase = "other.toml"',
    ):
        (study / "other.toml").write_text('name = "x"\n[recommender]\nuse = "evil.py:X"\n')
        (study / "study.toml").write_text(f'name = "s"\nquestion = "?"\ncontrol = "a"\n{content}\n[arms.a]\n[arms.b]\n')
        assert call(["study", str(study)]) == 2
        assert "is not trusted" in capsys.readouterr().err


def test_own_experiments_need_no_leave_though_their_arms_are_runs(film_files, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_report", silent)
    (tmp_path / "mine.py").write_text(MINE.format(marker=str(tmp_path / "imported")))
    file, folder = written(tmp_path, film_files, f"{tmp_path}/mine.py:Mine"), tmp_path / "comparison"
    arms = arms_of.from_recommenders(file, f"{tmp_path}/mine.py:Mine,popularity", [])
    arms_of.write_plan(folder, arms, arms_of.Options("Mine", 0.05, 1))
    run = run_arms(folder, arms, 1, silent)["Mine"]
    for name in ("summary.json", "impressions.parquet"):
        (run / name).unlink()  # as if it had been interrupted
    shutil.rmtree(folder / "arms" / "Popularity")
    with pytest.raises(UntrustedError):
        arms_of.read_plan(folder)
    with pytest.raises(UntrustedError):
        resume(run, 1, silent)
    run_arms(folder, arms, 1, silent)
    assert (run / "summary.json").is_file()


def test_plain_runs_and_loopback_need_no_leave(plain):
    assert configuration.of_run(plain / "config.toml").recommender.use == "environments.recommenders.item_knn:ItemKNN"
    check_trusted(
        {"language_model": {"base_url": "http://127.0.0.1:8000/v1", "api_key_env": "KEY"}, "recommender": {"url": "http://[::1]:1"}}, plain
    )


def test_what_the_users_own_experiment_names_is_known_in_its_runs(tmp_path):
    mine = {"recommender": {"use": "mine.py:Mine", "command": ["a", "b"]}}
    with own(mine):
        check_trusted({"recommender": {"use": str(Path("mine.py").resolve()) + ":Mine"}}, tmp_path)
        for other in ({"use": "other.py:Mine"}, {"command": ["a", "c"]}):
            with pytest.raises(UntrustedError):
                check_trusted({"recommender": other}, tmp_path)
    with pytest.raises(UntrustedError):
        check_trusted(mine, tmp_path)
    with granted():
        check_trusted(mine, tmp_path)


def test_an_untrusted_run_is_a_configuration_error_without_its_secrets():
    assert issubclass(UntrustedError, ConfigError)
    found = list(dangers({"recommender": {"command": ["curl", "http://user:hunter2@h"], "url": "http://user:hunter2@h"}}))
    assert len(found) == 2
    assert "hunter2" not in str([words for _, words in found])

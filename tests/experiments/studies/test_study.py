"""Whole studies through the command line, on made-up films."""

import json
import shutil
import tomllib

import pytest

from experiments.cli import call
from experiments.studies.study_config import arms_of, layered, read, shipped

BASE = """
name = "base"
rounds = 2
cohort_size = 8
language_model = false
[dataset]
path = "{data}"
[population]
users = 12
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 2
"""
STUDY = """
name = "small"
question = "Is random worse?"
base = "base.toml"
control = "random"
[arms.ease]
[arms.random.recommender]
use = "environments.recommenders.random:Random"
[analysis]
use = "experiments.studies.arm_metrics:ArmMetrics"
metrics = ["watch_rate", "coverage"]
by_round = true
[figure]
form = "lines"
"""


@pytest.fixture
def file(tmp_path, film_files):
    (tmp_path / "base.toml").write_text(BASE.format(data=film_files))
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path / "small.toml"


def change(file, before, after):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def study(file, output, *more):
    return call(["study", str(file), "--output", str(output), "--workers", "1", *more])


def hashes(folder):
    return {arm: json.loads((folder / "arms" / arm / "summary.json").read_text())["sha256"] for arm in ("ease", "random")}


def test_a_study_ends_with_arms_numbers_a_figure_and_a_report(file, tmp_path, capsys):
    assert study(file, tmp_path / "out", "--json", "--set", "population.users=10") == 0
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "out" / "study.json").read_text())
    assert printed["people"] == kept["people"] == 10
    assert kept["rows"] == printed["rows"]
    assert {row["group"] for row in kept["rows"]} == {"all", "round 1", "round 2", "change"}
    assert (tmp_path / "out" / kept["figure"]["file"]).read_bytes().startswith(b"\x89PNG")
    assert "Is random worse?" in (tmp_path / "out" / "report.html").read_text()
    assert set(kept["arms"]) == {"ease", "random"}
    assert kept["decided_by"] == ["EvidenceDecisions without a language model"]


def test_an_interrupted_study_goes_on_and_ends_with_the_same_bytes(file, tmp_path):
    assert study(file, tmp_path / "whole") == 0
    assert study(file, tmp_path / "cut") == 0
    (tmp_path / "cut" / "study.json").unlink()
    (tmp_path / "cut" / "arms" / "random" / "summary.json").unlink()
    untouched = (tmp_path / "cut" / "arms" / "ease" / "summary.json").stat().st_mtime_ns
    assert call(["study", str(tmp_path / "cut"), "--workers", "1"]) == 0
    assert (tmp_path / "cut" / "arms" / "ease" / "summary.json").stat().st_mtime_ns == untouched
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert (tmp_path / "cut" / "study.json").read_bytes() == (tmp_path / "whole" / "study.json").read_bytes()
    assert study(file, tmp_path / "cut") == 0  # the same study in the same folder only reads again


def test_a_study_goes_on_from_any_folder_as_it_was_begun(file, tmp_path, film_files, monkeypatch, capsys):
    """With relative paths in the study, its base and a setting of the command; whatever became of the base."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        shutil.copytree(film_files, folder / "films")
    change(tmp_path / "base.toml", str(film_files), "films")
    shutil.copy(file, here / "small.toml")
    shutil.copy(tmp_path / "base.toml", here / "base.toml")
    change(here / "small.toml", "[arms.ease]", "[arms.ease]\n[arms.mine.recommender]\nuse = 'mine.py:Mine'\n")
    (here / "mine.py").write_text("from environments.recommenders.popularity import Popularity\n\nclass Mine(Popularity):\n    pass\n")
    monkeypatch.chdir(here)
    assert study("small.toml", "out") == 0
    whole = hashes(here / "out")
    for gone in ("study.json", "arms/ease/summary.json"):
        (here / "out" / gone).unlink()
    shutil.rmtree(here / "out" / "arms" / "random")
    (here / "base.toml").unlink()
    monkeypatch.chdir(there)
    monkeypatch.setenv("USERSIM_TRUST", str(here))
    assert call(["study", "../here/out", "--workers", "1"]) == 0, capsys.readouterr().err
    assert hashes(here / "out") == whole


def test_a_study_does_not_go_on_as_its_base_is_now(file, tmp_path, capsys):
    assert study(file, tmp_path / "out") == 0
    shutil.rmtree(tmp_path / "out" / "arms")
    change(tmp_path / "base.toml", "users = 12", "users = 11")
    assert study(file, tmp_path / "out") == 2
    assert "was begun with population.users = 12 for the arm ease, and now 11 is wanted" in capsys.readouterr().err
    assert call(["study", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert json.loads((tmp_path / "out" / "study.json").read_text())["people"] == 12


def test_people_meet_the_arms_in_pairs(file, tmp_path, capsys):
    change(file, "[arms.random.recommender]", "[arms.same]\n[arms.random.recommender]")
    assert study(file, tmp_path / "out", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    values = {row["arm"]: row["value"] for row in rows if row["metric"] == "watch_rate" and row["group"] == "all" and not row["against"]}
    assert values["same"] == values["ease"]


def test_a_user_can_bring_an_analysis_of_their_own(file, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from experiments.studies.findings import Findings, Row\n"
        "class Mine:\n"
        "    def measure(self, arms):\n"
        "        rows = [Row(a, 'pages', 'all', float(r.pages.height), float('nan'), float('nan'), 1) for a, r in arms.runs.items()]\n"
        "        return Findings(tuple(rows), ('Pages were counted.',), {'pages': 'pages (count)'})\n"
    )
    text = file.read_text()
    own = f'[analysis]\nuse = "{tmp_path}/mine.py:Mine"\n[figure]\nform = "intervals"\n'
    file.write_text(text[: text.index("[analysis]")] + own)
    assert study(file, tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sentences"] == ["Pages were counted."]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("[arms.ease]", "[arms.ease.population]\nuser = 3", "arm ease: [population] unknown key 'user'; did you mean 'users'?"),
        ("[arms.ease]", "[arms.ease.recommender]\nl3 = 3", "arm ease: [recommender] unknown key 'l3'"),
        ("arm_metrics:ArmMetrics", "arm_metrics:ArmMetric", "did you mean 'ArmMetrics'?"),
        ("experiments.studies.arm_metrics", "experiments.studies.arm_metric", "there is no module 'experiments.studies.arm_metric'"),
        ('"coverage"', '"cover"', "unknown metric 'cover'"),
        ('control = "random"', 'control = "rand"', "unknown arm for control 'rand'; did you mean 'random'?"),
        ('control = "random"', "", "control is missing"),
        ('base = "base.toml"', 'base = "nothing"', "there is no experiment file nothing"),
        ('form = "lines"', 'form = "pie"', "form = 'pie'"),
        ('form = "lines"', 'form = "tradeoff"', "needs x and y"),
        ('form = "lines"', 'forms = "lines"', "[figure] unknown key 'forms'; did you mean 'form'?"),
        ('name = "small"', 'name = "small"\narm = 3', "unknown key or section 'arm'"),
    ],
)
def test_a_wrong_study_gets_a_sentence_before_anything_runs(file, tmp_path, capsys, before, after, says):
    change(file, before, after)
    assert study(file, tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out" / "arms").exists()


def test_a_figure_of_a_metric_that_was_not_measured_is_refused(file, tmp_path, capsys):
    change(file, 'form = "lines"', 'form = "lines"\nmetrics = ["gini"]')
    assert study(file, tmp_path / "out") == 2
    assert "[figure] unknown metric 'gini'" in capsys.readouterr().err


def test_another_study_does_not_go_into_the_same_folder(file, tmp_path, capsys):
    assert study(file, tmp_path / "out") == 0
    assert study(file, tmp_path / "out", "--seed", "9") == 2
    assert "holds a study with other settings" in capsys.readouterr().err
    assert call(["study", str(tmp_path / "out"), "--seed", "9"]) == 2
    assert "leave out --set, --seed and --output" in capsys.readouterr().err
    assert call(["study", str(tmp_path)]) == 2
    assert "is no study" in capsys.readouterr().err


def test_the_list_names_all_studies_that_come_with_usersim(capsys):
    assert call(["study", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["study"] for row in rows] == [file.stem for file in shipped()]
    assert len(rows) >= 7
    assert call(["study", "nothing"]) == 2
    assert "studies that come with usersim: causal-discovery" in capsys.readouterr().err


@pytest.mark.parametrize("name", [file.stem for file in shipped()])
def test_every_shipped_study_is_right(name):
    from pathlib import Path

    config = read(Path(name))
    assert config.name == name
    arms = arms_of(config, ["population.users=30"])
    assert len(arms) >= 3
    assert len({arm.model_dump_json() for arm in arms.values()}) == len(arms)


def test_another_component_drops_the_options_of_the_former_and_keeps_the_section():
    below = tomllib.loads('[recommender]\nuse = "x:A"\nl2 = 3\npage_size = 7\n[interventions.a]\nitems = {popular = 3}')
    above = tomllib.loads('[recommender]\nuse = "x:B"\nk = 1\n[interventions.a]\nitems = {share = 0.5}')
    merged = layered(below, above)
    assert merged["recommender"] == {"use": "x:B", "page_size": 7, "k": 1}
    assert merged["interventions"]["a"]["items"] == {"share": 0.5}
    assert below["recommender"]["use"] == "x:A"

"""`usersim verify` finds whatever was changed in a finished run, and nothing in one that was not."""

import json
import shutil

import polars as pl
import pytest

from experiments.cli import call

EXPERIMENT = """
name = "verified"
rounds = 2
cohort_size = 8
[dataset]
path = {data}
[population]
users = 16
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 3
max_pages = 2
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("verified")
    file = folder / "verified.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files))), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        assert call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def verified(capsys, run):
    capsys.readouterr()
    status = call(["verify", str(run), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["whole"] is (status == 0)
    return status, {(check["check"], check["found"]) for check in document["checks"] if check["state"] == "wrong"}


def test_a_finished_run_is_whole_wherever_it_lies(finished, copy, capsys):
    assert verified(capsys, finished) == (0, set())
    assert verified(capsys, copy) == (0, set())


def test_what_is_derived_from_a_run_may_be_there_or_not(copy, capsys):
    (copy / "figures").mkdir()
    (copy / "report.html").write_text("<p>")
    (copy / "run.log").unlink()
    assert verified(capsys, copy) == (0, set())


def spoil_table(run):
    frame = pl.read_parquet(run / "impressions.parquet")
    frame.with_columns(chosen=~pl.col("chosen")).write_parquet(run / "impressions.parquet")


def edit(run, name, before, after):
    text = (run / name).read_text()
    assert before in text
    (run / name).write_text(text.replace(before, after, 1))


DAMAGES = {
    "a value of a table": (spoil_table, ("table impressions", "impressions.parquet")),
    "a table that was cut": (
        lambda run: (run / "pages.parquet").write_bytes((run / "pages.parquet").read_bytes()[:200]),
        ("table pages", "pages"),
    ),
    "a table that is gone": (lambda run: (run / "texts.parquet").unlink(), ("table texts", "texts.parquet")),
    "a setting": (lambda run: edit(run, "config.toml", "seed = 7", "seed = 8"), ("settings", "seed was 7")),
    "a setting and its record": (
        lambda run: (
            edit(run, "config.toml", "seed = 7", "seed = 8"),
            edit(run, "manifest.json", '"seed": 7,\n    "', '"seed": 8,\n    "'),
        ),
        ("settings", "settings_sha256"),
    ),
    "a shard that is gone": (lambda run: shutil.rmtree(run / "rounds/001/cohort-0001"), ("shards", "rounds/001/cohort-0001 is missing")),
    "a shard too many": (
        lambda run: shutil.copytree(run / "rounds/001/cohort-0001", run / "rounds/001/cohort-0002"),
        ("shards", "rounds/001/cohort-0002 does not belong"),
    ),
    "a shard that stands twice": (
        lambda run: (
            shutil.rmtree(run / "rounds/000/cohort-0001"),
            shutil.copytree(run / "rounds/000/cohort-0000", run / "rounds/000/cohort-0001"),
        ),
        ("people", "is twice in round 0"),
    ),
    "the result of a shard": (
        lambda run: (run / "rounds/000/cohort-0000/result.json").write_text("{"),
        ("shards", "is not JSON"),
    ),
    "a fitted part": (lambda run: next((run / "recommenders").rglob("*.npz")).write_bytes(b"x"), ("files", "recommenders/round-000")),
    "a file too many": (lambda run: (run / "decisions" / "more").write_text("x"), ("files", "decisions/more was not there")),
    "people": (lambda run: (run / "people.parquet").unlink(), ("files", "people.parquet is missing")),
    "a count": (lambda run: edit(run, "summary.json", '"people": 16', '"people": 17'), ("counts", "people is 17")),
    "the hashes": (lambda run: edit(run, "hashes.json", '"config.toml": "', '"config.toml": "0'), ("files", "hashes.json")),
    "the summary": (lambda run: (run / "summary.json").unlink(), ("complete", "resume")),
    "the manifest": (lambda run: (run / "manifest.json").write_text("{"), ("settings", "manifest.json")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_change_of_a_finished_run_is_found_and_named(damage, copy, capsys):
    spoil, (check, said) = DAMAGES[damage]
    spoil(copy)
    status, wrong = verified(capsys, copy)
    assert status == 1
    assert any(name == check and said in found for name, found in wrong), wrong


def test_a_run_of_an_older_version_is_checked_as_far_as_it_says_something(copy, capsys):
    manifest = json.loads((copy / "manifest.json").read_text())
    summary = json.loads((copy / "summary.json").read_text())
    for key in ("settings", "settings_sha256", "code"):
        del manifest[key]
    del summary["hashes_sha256"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "summary.json").write_text(json.dumps(summary))
    (copy / "hashes.json").unlink()
    for file in copy.rglob("result.json"):
        result = json.loads(file.read_text())
        del result["people"]
        file.write_text(json.dumps(result))
    assert verified(capsys, copy) == (0, set())
    assert call(["verify", str(copy)]) == 0
    assert capsys.readouterr().out.count("not recorded") == 3
    spoil_table(copy)
    assert verified(capsys, copy)[0] == 1


def test_a_run_that_names_a_program_is_verified_without_being_trusted(copy, capsys, monkeypatch):
    """Nothing of what it names is started or imported."""
    monkeypatch.setattr("simulator.plugins.importlib.import_module", lambda name: pytest.fail(f"{name} was imported"))
    edit(copy, "config.toml", "environments.recommenders.popularity:Popularity", "somewhere.else:Popularity")
    status, wrong = verified(capsys, copy)
    assert status == 1
    assert {check for check, _ in wrong} == {"settings", "files"}
    assert not any("trusted" in found for _, found in wrong)


def test_what_is_no_run_is_said_in_one_sentence(tmp_path, capsys):
    assert call(["verify", str(tmp_path / "nowhere")]) == 2
    assert "there is no run at" in capsys.readouterr().err

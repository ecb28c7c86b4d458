"""Damaged files of a run are made again where that gives the same bytes, else they are one sentence; no other log, no traceback."""

import json
import shutil

import polars as pl
import pytest

from experiments.cli import call
from experiments.told import read_told
from simulator.errors import RunError
from simulator.files import sha256, sums_of

EXPERIMENT = """
name = "damaged"
rounds = 2
cohort_size = 4
language_model = false
[dataset]
path = "{data}"
[population]
users = 8
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.item_knn:ItemKNN"
page_size = 4
max_pages = 2
"""
TREATED = """
[interventions.sale]
kind = "price"
response = 0.5
items = {share = 0.3}
"""
JOINED = ("impressions", "pages", "sessions", "memories", "texts")
TABLES = (*JOINED, "people", "items", "real")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "damaged.toml").write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    assert call(["run", str(folder / "damaged.toml"), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures are drawn from the tables, whatever happened before."""
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")


@pytest.fixture
def finished(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def interrupted(finished):
    """The run as it was when its last round had one cohort."""
    for name in ("summary.json", *(f"{table}.parquet" for table in JOINED)):
        (finished / name).unlink()
    shutil.rmtree(finished / "rounds" / "001" / "cohort-0001")
    return finished


def sums(run):
    return {name: sha256(run / f"{name}.parquet") for name in TABLES}


def truncate(file):
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))


def delete(file):
    file.unlink()


def folder_instead(file):
    file.unlink()
    file.mkdir()


def other_json(file):
    file.write_text("[3]")


SPOILS = (truncate, empty, flip, delete, folder_instead, other_json)
PARTS = (
    "rounds/000/cohort-0000/impressions.parquet",
    "rounds/001/cohort-0000/result.json",
    "decisions/evidence.npz",
    "recommenders/round-001/state.npz",
    "people.parquet",
)


@pytest.mark.parametrize("spoil", SPOILS)
def test_damaged_parts_of_an_interrupted_run_are_made_again_to_the_same_bytes(whole, interrupted, spoil, caplog):
    for part in PARTS:
        spoil(interrupted / part)
    assert call(["resume", str(interrupted), "--workers", "1"]) == 0
    assert sums(interrupted) == sums(whole)
    for part in PARTS[:-1]:
        assert f"{interrupted / part.rpartition('/')[0]} is damaged" in caplog.text


def test_who_was_treated_is_written_again_where_it_is_gone(whole, tmp_path, film_files):
    (tmp_path / "treated.toml").write_text(EXPERIMENT.format(data=film_files) + TREATED, encoding="utf-8")
    run = tmp_path / "run"
    assert call(["run", str(tmp_path / "treated.toml"), "--output", str(run), "--workers", "1"]) == 0
    before = sha256(run / "treatments.parquet")
    for spoil in (delete, lambda file: (delete(file), file.symlink_to("nothing"))):
        spoil(run / "treatments.parquet")
        assert call(["resume", str(run), "--workers", "1"]) == 0
        assert sha256(run / "treatments.parquet") == before


def swap(one, other):
    aside = one.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_shards_of_another_place_or_run_are_made_again(whole, interrupted, caplog):
    """Each is whole, so that its own sums say nothing; a copy that went wrong, say."""
    swap(interrupted / "rounds/000/cohort-0000", interrupted / "rounds/001/cohort-0000")
    place = interrupted / "rounds/000/cohort-0001/PLACE"
    place.write_text(place.read_text().replace("run ", "run 0"))
    (place.parent / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums_of(place.parent).items()))
    assert call(["resume", str(interrupted), "--workers", "1"]) == 0
    assert sums(interrupted) == sums(whole)
    assert "cohort-0000 is damaged (it is rounds/001/cohort-0000 of run " in caplog.text
    assert "cohort-0001 is damaged (it is rounds/000/cohort-0001 of run 0" in caplog.text


def test_a_recommender_of_another_round_is_refused_where_people_were_simulated_with_it(interrupted, capsys):
    swap(interrupted / "recommenders/round-000", interrupted / "recommenders/round-001")
    assert call(["resume", str(interrupted), "--workers", "1"]) == 2
    assert "round-000 is damaged (it is recommenders/round-001 of run " in capsys.readouterr().err


def test_a_folder_whose_sums_are_gone_is_not_believed(whole, interrupted, caplog):
    (interrupted / "rounds/000/cohort-0001/SHA256SUMS").unlink()
    assert call(["resume", str(interrupted), "--workers", "1"]) == 0
    assert sums(interrupted) == sums(whole)
    assert "cohort-0001 is damaged (SHA256SUMS is missing)" in caplog.text


def test_what_shards_were_made_with_must_come_out_as_it_was(interrupted, monkeypatch, capsys):
    """Here it does not: the weights come from other code, as they may come from another machine."""
    monkeypatch.setattr("agents.controls.EvidenceDecisions._matched_intercept", lambda *_: 0.25)
    flip(interrupted / "decisions" / "evidence.npz")
    assert call(["resume", str(interrupted), "--workers", "1"]) == 2
    assert "is not what the simulated cohorts were made with" in capsys.readouterr().err


def cut_off(file):
    pl.read_parquet(file).head(2).write_parquet(file)


@pytest.mark.parametrize("spoil", [truncate, empty, delete, folder_instead, cut_off])
def test_a_damaged_table_of_a_finished_run_is_refused_in_one_sentence(finished, spoil, capsys):
    spoil(finished / "impressions.parquet")
    for command in (["plot", str(finished)], ["export", str(finished), "--format", "csv"]):
        assert call(command) == 2, command
        said = capsys.readouterr().err
        assert "impressions.parquet" in said
        assert "usersim resume" in said


@pytest.mark.parametrize("spoil", [truncate, flip, delete, folder_instead])
def test_what_is_assumed_of_the_people_is_not_left_out_of_a_report_in_silence(finished, spoil):
    spoil(finished / "decisions" / "told.json")
    with pytest.raises(RunError, match=r"told\.json"):
        read_told(finished)


@pytest.mark.parametrize("spoil", [truncate, flip, delete, folder_instead, cut_off])
def test_damaged_tables_of_a_finished_run_are_made_again_by_resume(whole, finished, spoil):
    for name in ("impressions", "memories", "people", "real"):
        spoil(finished / f"{name}.parquet")
    assert call(["resume", str(finished), "--workers", "1"]) == 0
    assert sums(finished) == sums(whole)


def test_tables_are_joined_again_without_the_data(whole, finished, monkeypatch):
    monkeypatch.delattr("experiments.build.data")
    truncate(finished / "pages.parquet")
    assert call(["resume", str(finished), "--workers", "1"]) == 0
    assert sums(finished) == sums(whole)


def other_number(file):
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**document, "pages": document["pages"] + 1}), encoding="utf-8")


@pytest.mark.parametrize("spoil", [*(one for one in SPOILS if one is not flip), other_number])
def test_a_damaged_summary_is_one_sentence_and_written_again_by_resume(whole, finished, spoil, capsys):
    spoil(finished / "summary.json")
    status, said = call(["plot", str(finished)]), capsys.readouterr().err
    # A number that is another one is told from the checksum, and read: somebody may have had a reason.
    assert (
        (status, "its checksum differs" in said) == (0, True) if spoil is other_number else (status, "usersim resume" in said) == (2, True)
    )
    assert call(["resume", str(finished), "--workers", "1"]) == 0
    assert sums(finished) == sums(whole)
    assert json.loads((finished / "summary.json").read_text())["sha256"] == json.loads((whole / "summary.json").read_text())["sha256"]


@pytest.mark.parametrize("spoil", [truncate, delete, folder_instead, other_json])
@pytest.mark.parametrize("name", ["manifest.json", "config.toml"])
def test_what_says_how_a_run_was_made_is_refused_in_one_sentence(whole, interrupted, name, spoil, capsys):
    spoil(interrupted / name)
    for command in (["resume", str(interrupted)], ["compare", str(whole), str(interrupted)]):
        assert call(command) == 2, command
        assert "usersim: " in capsys.readouterr().err


def test_a_run_in_a_folder_with_brackets_is_run_resumed_drawn_and_exported(finished, tmp_path):
    old = tmp_path / "x [old]" / "run *"
    old.parent.mkdir()
    finished.rename(old)
    shutil.rmtree(old / "rounds" / "000" / "cohort-0000")
    (old / "summary.json").unlink()
    for command in (["resume", str(old), "--workers", "1"], ["plot", str(old)], ["export", str(old), "--format", "parquet"]):
        assert call(command) == 0, command


@pytest.mark.parametrize("gone", ["[tuning]\nnegatives = 1.5\n", "[tuning]\nepochs = 3\n\n[tuning.training]\noptimiser = 'x'\n"])
def test_a_run_of_an_older_version_can_be_compared(finished, tmp_path, gone):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    for run in (finished, other):
        with (run / "config.toml").open("a", encoding="utf-8") as file:
            file.write("\n" + gone)
    assert call(["compare", str(finished), str(other), "--output", str(tmp_path / "comparison")]) == 0


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"name = ", b"name = 3\n", b"recommender = 3\n", b'decision = "x"\n', b'seed = "x"\n', b"dataset = []\n"]
)
def test_a_configuration_that_is_none_is_one_sentence_for_whoever_reads_a_finished_run(whole, finished, content, capsys):
    (finished / "config.toml").write_bytes(content)
    for command in (["plot", str(finished)], ["export", str(finished), "--format", "csv"], ["compare", str(whole), str(finished)]):
        assert call(command) == 2, command
        assert "config.toml" in capsys.readouterr().err


def test_an_unknown_option_of_a_part_of_a_run_is_told_with_the_file(whole, finished, capsys):
    config = finished / "config.toml"
    config.write_text(config.read_text().replace("neighbours = ", "neighbour = "))
    assert call(["compare", str(whole), str(finished), "--output", str(finished.parent / "out")]) == 2
    assert f"{config}: [recommender] unknown key 'neighbour'; did you mean 'neighbours'?" in capsys.readouterr().err


def test_settings_that_a_finished_run_was_not_made_with_are_told(finished, capsys):
    config = finished / "config.toml"
    config.write_text(config.read_text().replace("seed = 7", "seed = 5"))
    assert call(["export", str(finished), "--format", "csv"]) == 0
    assert "seed was 7 when the run was made, now it is 5" in capsys.readouterr().err


def test_damaged_parts_of_a_finished_run_are_told_by_resume_and_do_not_matter_to_its_tables(whole, finished, capsys):
    flip(finished / "rounds/000/cohort-0000/pages.parquet")
    flip(finished / "decisions/evidence.npz")
    assert call(["resume", str(finished), "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "cohort-0000 is damaged (pages.parquet is not what was written)" in said
    assert "decisions is damaged" in said
    assert sums(finished) == sums(whole)


@pytest.mark.parametrize("name", ["impressions", "real"])
def test_a_table_with_the_same_rows_in_other_bytes_is_read_and_written_again_by_resume(whole, finished, name):
    file = finished / f"{name}.parquet"
    pl.read_parquet(file).write_parquet(file, compression="snappy")
    assert call(["export", str(finished), "--format", "csv"]) == 0
    assert call(["resume", str(finished), "--workers", "1"]) == 0
    assert sums(finished) == sums(whole)

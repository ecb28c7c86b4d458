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
    (model,) = answer(models.app, "list", "--json")["rows"]
    assert model["path"] == str(cache / "models/SmolLM2-135M-Instruct.Q4_1.gguf")


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

"""Language models that cannot be used: every command says so in one sentence and leaves no half run behind."""

import json
import socket
import struct

import pytest

from experiments.cli import call
from simulator.llm.testing_server import MadeUpServer

EXPERIMENT = """
name = "wrong-models"
[dataset]
path = {data}
[population]
users = 3
[language_model]
{model}
"""


def said(folder, data, model, capsys):
    """Exit status of a run, and the sentence on stderr."""
    file = folder / "wrong.toml"
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in model.items())
    file.write_text(EXPERIMENT.format(data=json.dumps(str(data)), model=lines), encoding="utf-8")
    status = call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"])
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("usersim: ")]
    assert len(told) == 1
    assert not (folder / "run" / "summary.json").exists()
    return status, told[0]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (None, "no model file"),
        (b"PK\x03\x04 no model at all", "not a GGUF file"),
        (b"", "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 200, 30) + b"\x10\x00", "cut off"),
    ],
    ids=["missing", "another kind", "empty", "cut off"],
)
def test_a_file_that_is_no_model(tmp_path, film_files, contents, words, capsys):
    file = tmp_path / "model.gguf"
    if contents is not None:
        file.write_bytes(contents)
    status, sentence = said(tmp_path, film_files, {"path": str(file)}, capsys)
    assert status == 2
    assert words in sentence
    assert str(file) in sentence


def test_a_server_that_is_not_there(tmp_path, film_files, capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = {"use": "simulator.llm.openai_api:OpenAIServer", "base_url": f"http://127.0.0.1:{port}/v1", "retries": 1, "first_wait_s": 0.01}
    status, sentence = said(tmp_path, film_files, server, capsys)
    assert status == 1
    assert f"there is no server at http://127.0.0.1:{port}/v1" in sentence
    assert "start it, or correct base_url" in sentence


def test_a_wrong_key(tmp_path, film_files, capsys, monkeypatch):
    monkeypatch.setenv("MADE_UP_KEY", "wrong-key")
    with MadeUpServer(key="right-key") as server:
        asked = {"use": "simulator.llm.openai_api:OpenAIServer", "base_url": server.url, "api_key_env": "MADE_UP_KEY", "first_wait_s": 0.01}
        status, sentence = said(tmp_path, film_files, asked, capsys)
    assert status == 2
    assert "does not accept the key in $MADE_UP_KEY: 401 incorrect key" in sentence
    assert "wrong-key" not in sentence

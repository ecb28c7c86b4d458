"""Nothing that a run leaves or prints holds a secret: not a complete one, not one that failed, nor what is made of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments.cli import call
from simulator.llm.testing_server import MadeUpServer

SECRETS = ("hunter2", "tops3cret", "sk-0123456789abcdefghij")
EXPERIMENT = """
name = "secrets"
cohort_size = 3
[dataset]
path = {data}
[population]
users = 6
[decision]
reference_pages = 4
max_fallback_share = 1.0
[language_model]
use = "simulator.llm.openai_api:OpenAIServer"
base_url = "{model}"
api_key_env = "MODEL_KEY"
first_wait_s = 0.01
retries = 0
cache = "read-write"
cache_path = {cache}
[recommender]
use = "environments.recommenders.http_service:HttpService"
url = "{service}"
attempts = 1
headers_env = {{Authorization = "SERVICE_TOKEN"}}
headers_file = {file}
page_size = 3
max_pages = 2
"""


class Service(BaseHTTPRequestHandler):
    """Ranks by name, for those who know the secrets; repeats all that it was sent when it refuses."""

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        knows = self.headers["Authorization"] == "Bearer hunter2" and self.headers["X-Api-Key"] == "tops3cret"
        if self.server.broken or not knows:
            body, status = f"not for {self.headers['Authorization']} and {self.headers['X-Api-Key']}".encode(), self.server.broken or 401
        elif "items" in message:
            self.server.items = [item["id"] for item in message["items"]]
            body, status = b'{"state": "s"}', 200
        else:
            slates = []
            for person in message["people"]:
                left = [item for item in self.server.items if item not in {*person["history"], *person["exclude"]}][: message["n"]]
                slates.append({"items": left, "scores": [-place for place in range(len(left))]})
            body, status = json.dumps({"slates": slates}).encode(), 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service():
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.broken = 0
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def world(tmp_path, monkeypatch, film_files, service):
    """Writes an experiment whose service and language model want keys, which are given by name."""
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODEL_KEY", SECRETS[2])
    monkeypatch.setenv("SERVICE_TOKEN", "Bearer hunter2")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "headers").write_text("X-Api-Key: tops3cret\n")

    def write(model):
        file = tmp_path / "secrets.toml"
        told = {"data": film_files, "cache": tmp_path / "cache" / "answers.sqlite", "file": outside / "headers"}
        quoted = {name: json.dumps(str(path)) for name, path in told.items()}
        file.write_text(EXPERIMENT.format(model=model, service=f"http://127.0.0.1:{service.server_port}", **quoted), encoding="utf-8")
        return file

    return write


def leaked(folder: Path) -> list[str]:
    """Files below a folder that hold a secret, whatever is outside of the reach of a run left aside."""
    files = [file for file in folder.rglob("*") if file.is_file() and "outside" not in file.parts]
    assert files
    return [f"{file}: {secret}" for file in files for secret in SECRETS if secret.encode() in file.read_bytes()]


def test_nothing_that_a_run_leaves_or_prints_holds_a_secret(world, tmp_path, capsys):
    with MadeUpServer(key=SECRETS[2]) as server:
        file, run = world(server.url), tmp_path / "run"
        assert call(["run", str(file), "--output", str(run), "--workers", "1"]) == 0
        assert call(["export", str(run), "--format", "csv", "--output", str(tmp_path / "export")]) == 0
    assert "headers_env" in (run / "config.toml").read_text()
    assert (run / "report.html").is_file()
    printed = capsys.readouterr()
    assert not [secret for secret in SECRETS if secret in printed.out + printed.err]
    assert leaked(tmp_path) == []


@pytest.mark.parametrize("status", [500, 403, 302])
def test_nothing_that_a_failed_run_leaves_or_prints_holds_a_secret(world, tmp_path, capsys, service, status):
    service.broken = status
    with MadeUpServer(key=SECRETS[2]) as server:
        assert call(["run", str(world(server.url)), "--output", str(tmp_path / "run"), "--workers", "1"]) == 2
    told = capsys.readouterr().err
    assert f"status {status}" in told
    assert not [secret for secret in SECRETS if secret in told]
    assert leaked(tmp_path) == []


def test_a_refused_key_of_the_language_model_is_not_repeated(world, tmp_path, capsys):
    with MadeUpServer(key="another") as server:
        assert call(["run", str(world(server.url)), "--output", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert SECRETS[2] not in capsys.readouterr().err
    assert leaked(tmp_path) == []


@pytest.mark.parametrize(
    "setting",
    [
        'recommender.headers={Authorization = "Bearer hunter2"}',
        "recommender.headers.Authorization=hunter2",
        "recommender.headers.X-Mine=hunter2",
        "recommender.headers=hunter2",
        "recommender.url=http://user:hunter2@127.0.0.1:9",
        "recommender.url=user:hunter2@127.0.0.1:9",
        "recommender.headers_env.Authorization=hunter2",
        "recommender.password=hunter2",
        "recommender.headers.Authorization:hunter2",
        "language_model.base_url=http://user:hunter2@127.0.0.1:9/v1",
        "language_model.base_url=http://127.0.0.1:9/v1?api_key=hunter2",
        "language_model.api_key_env=hunter2",
        "language_model.api_key_env=sk-0123456789abcdefghij",
        "language_model.api_key=hunter2",
        'language_model.extra_body={api_key = "hunter2"}',
    ],
)
def test_a_secret_that_is_typed_is_refused_and_neither_stored_nor_repeated(world, tmp_path, capsys, setting):
    with MadeUpServer(key=SECRETS[2]) as server:
        file = world(server.url)
        run = ["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]
        compare = ["compare", str(file), "--recommenders", "ease,popularity", "--output", str(tmp_path / "comparison")]
        for command in (run, compare):
            assert call([*command, "--set", setting]) == 2
        assert server.attempts == 0
    told = capsys.readouterr()
    assert not [secret for secret in SECRETS if secret in told.err + told.out]
    assert leaked(tmp_path) == []


def test_a_secret_in_a_file_is_refused_and_one_that_an_older_run_kept_is_masked_in_its_report(world, tmp_path, capsys, make_run):
    from experiments.analysis.report import write_report

    old = make_run(tmp_path / "old", people=6)
    config = old / "config.toml"
    section = '[recommender]\nurl = "http://user:hunter2@h"\nheaders = {Authorization = "Bearer hunter2"}\n'
    config.write_text(config.read_text().replace("[recommender]\n", section), encoding="utf-8")
    report = write_report(old).read_text()
    assert "hunter2" not in report
    assert "***" in report
    assert call(["run", str(config), "--output", str(tmp_path / "run")]) == 2
    assert "hunter2" not in capsys.readouterr().err

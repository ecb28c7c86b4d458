"""The OpenAI backend against a real server on this machine: ``python -m llama_cpp.server`` with the default model.

The server has one small context and one thread, and everything asked of it is short, so that this passes on one slow core.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from experiments.cli import call
from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.llm.models import DEFAULT, is_present, resolve
from simulator.llm.openai_api import OpenAIConfig, OpenAIServer
from simulator.records import GenerationRequest, Message, Probe, Prompt, Segment
from simulator.seeds import Stream

for needed in ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings"):
    pytest.importorskip(needed)

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not is_present(DEFAULT), reason="the default model is not in the cache (usersim models get)"),
    pytest.mark.timeout(600),
]

ROOT = Path(__file__).resolve().parents[3]
PATIENT = {"timeout_s": 120.0, "retries": 2, "concurrency": 1, "first_wait_s": 0.5}
STARTS = 150.0
"""Seconds until the server must answer; a loaded core needs most of a minute to import it."""


@contextlib.contextmanager
def serving(folder, *, probabilities):
    """The address of a server that is stopped, by its own process id, whatever happens."""
    log = folder / "server.log"
    for attempt in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(resolve(DEFAULT)), "--model_alias", "small"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "768", "--n_batch", "256", "--n_threads", "1"]
        command += ["--n_threads_batch", "1", "--logits_all", str(probabilities).lower(), "--verbose", "false"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder)
        try:
            if answers(f"http://127.0.0.1:{port}/v1/models", process):
                yield f"http://127.0.0.1:{port}/v1"
                return
            said = log.read_text(errors="replace")[-2000:]
            # Somebody may have taken the port in between.
            assert "address already in use" in said.lower(), f"attempt {attempt + 1}, exit status {process.poll()}: {said}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    pytest.fail("no port stayed free")


def answers(address, process):
    deadline = time.monotonic() + STARTS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, timeout=20.0).status_code == 200:
                return True
        time.sleep(0.25)
    return False


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A server that tells log-probabilities."""
    with serving(tmp_path_factory.mktemp("telling"), probabilities=True) as address:
        yield address


def page(number):
    """One item: behind a rating the texts of the two backends differ by the space that digits stand behind."""
    film = ("Heat (1995) Crime", "Babe (1995) Children")[number - 1]
    parts = (f"Page {number}.\n1. {film} | watch:", Probe("watch", ("yes", "no")), " stars:", Probe("rate", tuple("12345")))
    return Prompt((Segment(("A person browses a film site.\n",)), Segment((f"The person is {30 + number}.\n",)), Segment(parts)))


def test_probabilities_of_a_server_are_those_of_the_same_model_in_this_process(telling):
    here = LlamaCpp(LlamaCppConfig(format="as-is", context=512, sequences=1, threads=1))
    expected = here.score([page(1), page(2)])
    here.close()
    server = OpenAIServer(OpenAIConfig(base_url=telling, **PATIENT))
    assert server.mode in ("echo", "logprobs")
    assert server.identity.name == "small"
    scores = server.score([page(1), page(2)])
    assert [score.status for score in scores] == ["ok", "ok"]
    for one, other in zip(scores, expected, strict=True):
        for asked, computed, mass, share in zip(one.logprobs, other.logprobs, one.mass, other.mass, strict=True):
            divergence = float(np.sum(np.exp(computed) * (computed - asked)))
            assert abs(divergence) < 0.05
            assert mass == pytest.approx(share, abs=0.1)
    assert server.usage.prompt_tokens > 50
    text = server.generate([GenerationRequest((Message("user", "Say hello."),), 6, Stream(1), temperature=0.0)])[0]
    assert text.status in ("ok", "length")
    assert text.text.strip()
    server.close()


def test_a_server_without_probabilities_fills_in_forms(tmp_path):
    with serving(tmp_path, probabilities=False) as address:
        server = OpenAIServer(OpenAIConfig(base_url=address, **PATIENT))
        assert server.mode == "schema"
        score = server.score([page(1)])[0]
        assert score.status == "ok"
        assert [len(values) for values in score.logprobs] == [2, 5]
        assert all(float(np.exp(values).max()) == pytest.approx(0.98) for values in score.logprobs)
        server.close()


EXPERIMENT = """
name = "real-server"
cohort_size = 1
[dataset]
path = {data}
[population]
users = 3
[memory]
use = "agents.memory:NoMemory"
[decision]
use = "agents.decisions:LanguageModelDecisions"
recentre = false
[language_model]
use = "simulator.llm.openai_api:OpenAIServer"
base_url = "{address}"
{options}
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 2
max_pages = 1
"""


def test_a_run_that_is_killed_resumes_and_keeps_what_it_had(telling, tmp_path, film_files):
    file = tmp_path / "real-server.toml"
    options = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**PATIENT, "top_logprobs": 5_000}.items())
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files)), address=telling, options=options), encoding="utf-8")
    output = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.cli", "run", str(file), "--output", str(output), "--workers", "1"]
    with (tmp_path / "run.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    finished = output / "rounds" / "000" / "cohort-0000" / "result.json"
    deadline = time.monotonic() + 300
    while process.poll() is None and not finished.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert finished.is_file(), (tmp_path / "run.log").read_text()
    assert running, "the run was over before it could be killed"
    assert not (output / "summary.json").exists()
    kept = (finished.parent / "impressions.parquet").read_bytes()

    assert call(["resume", str(output), "--workers", "1"]) == 0
    assert (finished.parent / "impressions.parquet").read_bytes() == kept
    log, pages = pl.read_parquet(output / "impressions.parquet"), pl.read_parquet(output / "pages.parquet")
    assert pages["user"].n_unique() == pages.height == 3
    assert log.height == 6
    assert pages["status"].to_list() == ["ok"] * 3
    assert log["chosen_probability"].is_between(0, 1, closed="none").all()
    assert log["chosen_probability"].n_unique() > 1
    assert json.loads((output / "summary.json").read_text())["tokens"]["prompt_tokens"] > 0

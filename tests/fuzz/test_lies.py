"""Recommenders and servers that lie end in a run whose log is right, with the failures counted, or in one sentence."""

import contextlib
import hashlib
import io
import json
import math
import os
import random
import shutil
import sys
import threading
import traceback
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from environments.recommenders import http_service, program
from simulator import downloads
from simulator.errors import DownloadError
from simulator.files import rows_sha256
from simulator.llm import http_server
from simulator.llm.testing_server import MadeUpServer
from simulator.testing_liars import LIES, Lying

CASES = int(os.environ.get("USERSIM_FUZZ_LIES", "8"))
"""How many seeds are tried; `make fuzz` tries more."""
FIRST = int(os.environ.get("USERSIM_FUZZ_FIRST", "0"))
"""The first of the seeds."""

EXPERIMENT = """
name = "lies"
rounds = {rounds}
cohort_size = 4
{more}
[dataset]
path = {data}
[population]
users = {users}
[decision]
use = "agents.{decision}"
max_fallback_share = {most}
{model}
[recommender]
page_size = 3
max_pages = 2
{recommender}
"""


@contextlib.contextmanager
def serving(server):
    """A server on a thread of its own, as long as it lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures, and limits that are reached soon."""
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")
    for module in (http_service, program, http_server):
        monkeypatch.setattr(module, "LARGEST_ANSWER", 2_000_000)
    for name, value in (("LARGEST", 2_000_000), ("STALL", 0.3)):
        monkeypatch.setattr(downloads, name, value)


LOG = ("impressions", "pages", "sessions", "memories", "texts")


def lines(settings) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


class Service(ThreadingHTTPServer):
    """A recommender behind HTTP that lies in a share of its answers, and keeps what it answered.

    Attributes:
        answered: what was asked, and the bytes that were answered with status 200. disturbed: requests that got no such answer.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, seed: int, share: float, lies) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rng, self.share, self.lies, self.truth = random.Random(seed), share, lies, lies.example()
        self.raw = share > 0 and self.rng.random() < 0.5
        self.answered: list[tuple[str, dict, bytes]] = []
        self.disturbed = 0
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that gave up is what a liar expects."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.rsplit("/", 1)[-1]
        reply = {"fit": server.truth.fit, "recommend": server.truth.recommend}[path](message)
        status, body = 200, json.dumps(reply).encode()
        if server.rng.random() < server.share:
            if server.raw:
                server.disturbed += 1
                how = server.rng.choice([*LIES, 204, 301, 401, 404, 418, 429, 500, 503])
                if isinstance(how, str):
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        for piece in Lying(how, body=body, over=server.over).pieces():
                            self.wfile.write(piece)
                    return
                status, body = how, server.rng.choice([body, b"", b"no\nmore", b"\xff" * 500])
            else:
                body = server.lies.told(server.rng, reply)
        if status == 200:
            server.answered.append((path, message, body))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def is_right(path, message, body, items) -> bool:
    """Whether an answer keeps the contract of `environments.recommenders.replies`, judged without any of its code."""
    try:
        reply = json.loads(body)
        if path == "fit":
            return isinstance(reply, dict) and "error" not in reply and isinstance(reply.get("state"), str)
        if "error" in reply or len(reply["slates"]) != len(message["people"]):
            return False
        return all(
            is_right_slate(slate, person, message["n"], items) for slate, person in zip(reply["slates"], message["people"], strict=True)
        )
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return False


def is_right_slate(slate, person, n, items) -> bool:
    names, scores, chances = slate["items"], slate["scores"], slate.get("propensities")
    hidden = {*person["history"], *person["exclude"]}
    if not isinstance(names, list) or not isinstance(scores, list) or len(scores) != len(names):
        return False
    if chances is not None and (len(chances) != len(names) or not all(is_number(one) and 0 < one <= 1 for one in chances)):
        return False
    shown = [str(name) for name in names]
    right = len(set(shown)) == len(shown) and set(shown) <= items and not hidden & set(shown) and all(map(is_number, scores))
    return right and sorted(scores, reverse=True) == scores and len(shown) >= min(n, len(items) - len(hidden))


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1.8e308 and math.isfinite(value)


def check_log(run: Path) -> None:
    """What must hold in any log, whoever filled the pages and answered for the people."""
    shown, pages, sessions = (pl.read_parquet(run / f"{name}.parquet") for name in ("impressions", "pages", "sessions"))
    summary = json.loads((run / "summary.json").read_text())
    known = set(pl.read_parquet(run / "items.parquet")["item"])
    assert set(shown["item"]) <= known
    assert not shown.select("user", "session", "page", "item").is_duplicated().any()
    for name in ("score", "propensity", *(one for one in shown.columns if one.endswith("_probability"))):
        assert shown[name].is_finite().all(), name
    for name in ("propensity", *(one for one in shown.columns if one.endswith("_probability"))):
        assert shown[name].is_between(0, 1).all(), name
    real = pl.read_parquet(run / "real.parquet").select("user", "item")
    assert shown.join(real, on=["user", "item"], how="semi").is_empty()
    bad = pages.filter(pl.col("status") != "ok").height
    assert summary["fallback_share"] == pytest.approx(bad / pages.height)
    assert shown.height == pages["shown"].sum()
    assert sessions["pages"].sum() == pages.height
    if "rating" in shown.columns:
        assert shown["rating"].drop_nulls().is_between(1, 5).all()


def log_of(run: Path) -> list[str]:
    """Hashes of the log, but for the name of the policy, which holds that of the recommender."""
    return [rows_sha256(pl.read_parquet(run / f"{name}.parquet").drop("policy", strict=False)) for name in LOG]


class Tried:
    """Where a case lies, what it is told about, and what a run without lies has come to."""

    def __init__(self, tmp_path, film_files, outcome_of, lies) -> None:
        self.folder, self.data, self.outcome_of, self.lies = tmp_path, json.dumps(str(film_files)), outcome_of, lies
        self.right: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def run(self, name: str, **settings):
        """The outcome of an experiment, and the folder of its run."""
        settings = {"rounds": 1, "more": "", "model": "", "most": 0.02, "users": 6, "decision": "controls:EvidenceDecisions", **settings}
        file, output = self.folder / f"{name}.toml", self.folder / name
        file.write_text(EXPERIMENT.format(data=self.data, **settings), encoding="utf-8")
        outcome = self.outcome_of(["run", str(file), "--output", str(output), "--workers", "1"])
        if outcome.status == 0:
            check_log(output)
            verified = self.outcome_of(["verify", str(output)])
            assert verified.status == 0, verified.out
        return outcome, output

    def service(self, seed: int) -> None:
        """A recommender behind HTTP."""
        rng = random.Random(seed)
        share, repair, rounds = rng.choice([0.05, 0.2, 0.6]), rng.choice(["refuse", "repair"]), rng.randint(1, 2)
        with self.served(seed, share) as server:
            settings = {"use": "environments.recommenders.http_service:HttpService", "url": server.url, "repair": repair}
            settings |= {"timeout_seconds": 0.25, "fit_timeout_seconds": 0.25, "attempts": rng.randint(1, 4), "wait_seconds": 0.01}
            outcome, run = self.run(f"service-{seed}", rounds=rounds, more="language_model = false", recommender=lines(settings))
        assert outcome.status in (0, 2), outcome.err
        self.counts[f"service {outcome.status}"] += 1
        items = {str(100 + item) for item in range(40)}
        wrong = [one for one in server.answered if not is_right(*one, items)]
        if not wrong and not server.disturbed:
            assert outcome.status == 0, f"nothing was wrong: {outcome.sentence}"
        if outcome.status == 0 and not wrong and server.share and server.raw:
            told = f"honest, {rounds} rounds"
            assert self.right.setdefault(told, log_of(run)) == log_of(run), "another log, after failures that were asked again"
        if wrong:
            repairs = (
                sum(sum(one.values()) for one in json.loads((run / "summary.json").read_text())["repairs"]) if outcome.status == 0 else 0
            )
            assert outcome.status == 2 or (repair == "repair" and repairs), f"taken as right: {wrong[0][2][:300]!r}"
        elif outcome.status == 0:
            assert not any(json.loads((run / "summary.json").read_text())["repairs"])

    @contextlib.contextmanager
    def served(self, seed, share):
        server = Service(seed, share, self.lies)
        with serving(server):
            yield server

    def program(self, seed: int) -> None:
        """A recommender in a program of its own."""
        rng = random.Random(seed)
        share, repair = rng.choice([0.0, 0.1, 0.3]), rng.choice(["refuse", "repair"])
        command = [sys.executable, str(Path(__file__).with_name("lies.py")), str(seed), str(share)]
        settings = {"use": "environments.recommenders.program:Program", "command": command, "repair": repair}
        settings |= {"timeout_seconds": 2.0, "fit_timeout_seconds": 2.0, "restarts": rng.randint(0, 2)}
        outcome, run = self.run(f"program-{seed}", more="language_model = false", recommender=lines(settings))
        assert outcome.status in (0, 2), outcome.err
        self.counts[f"program {outcome.status}"] += 1
        if share == 0:
            assert outcome.status == 0, outcome.err
            assert self.right.setdefault("program", log_of(run)) == log_of(run)

    def model(self, seed: int) -> None:
        """The server of a language model."""
        rng = random.Random(seed)
        quick, patient = ("500", "429", "cut", "not json", "slow", "deep"), ("drip", "drip head", "endless", "vast", "bomb", "hang")
        few = [*rng.sample(quick, 2), rng.choice(quick + patient)]
        share, lying = rng.choice([0.0, 0.1, 0.3]), rng.choice([0.0, 0.0, 0.05, 0.5])
        form = rng.choice(["lists", "chat"])
        server = MadeUpServer(probabilities=rng.random() < 0.7, form=form, echo=form == "lists" and rng.random() < 0.7)
        server.retry_after, server.slow = rng.choice([0.01, "soon", -1, "nan"]), 0.02
        lies = [0]
        original = server.completion, server.chat

        def altered(answer, body):
            code, document = answer(body)
            if code != 200 or rng.random() >= lying:
                return code, document
            lies[0] += 1
            try:
                changed = json.loads(self.lies.told(rng, document))
            except ValueError:
                changed = rng.choice(self.lies.ODD)
            return 200, changed

        def fault_of(body, original=server.fault_of):
            original(body)
            return rng.choice(few) if rng.random() < share else "ok"

        server.completion, server.chat = (lambda body, answer=answer: altered(answer, body) for answer in original)
        server.fault_of = fault_of
        if lying and rng.random() < 0.3:
            server.tells = lambda chance: rng.choice([chance, chance, 0.5, float("nan"), float("-inf"), "-1", None, 1e308])
            lies[0] += 1
        kind = f"{form} {server.probabilities} {server.echo}"
        with server:
            settings = {
                "base_url": server.url,
                "first_wait_s": 0.001,
                "longest_wait_s": 0.01,
                "timeout_s": 0.15 if share else 5.0,
                "concurrency": 1,
            }
            settings |= {"use": "simulator.llm.openai_api:OpenAIServer", "retries": rng.randint(1, 6)}
            recommender = 'use = "environments.recommenders.popularity:Popularity"'
            options = {"decision": "decisions:LanguageModelDecisions", "most": rng.choice([0.02, 0.5, 1.0]), "users": 3}
            model = f"reference_pages = 2\n[language_model]\n{lines(settings)}"
            outcome, run = self.run(f"model-{seed}", model=model, recommender=recommender, **options)
        assert outcome.status in (0, 1, 2), outcome.err
        self.counts[f"model {outcome.status}"] += 1
        if not lies[0] and outcome.status == 0:
            bad = pl.read_parquet(run / "pages.parquet").filter(pl.col("status") != "ok")
            assert set(bad["status"]) <= {"timeout", "unreadable", "cut off", "error 500"}, bad["status"].unique().to_list()
            if bad.is_empty():
                assert self.right.setdefault(kind, log_of(run)) == log_of(run), f"another log, after {few} that were asked again"
        if not lies[0] and not share:
            assert outcome.status == 0, outcome.err

    def download(self, seed: int) -> None:
        """A file from somewhere: what arrives is right, or nothing is there."""
        rng = random.Random(seed)
        content = b"1\t2\t3\n" * rng.randint(1, 3_000)
        plain, packed = downloads.RemoteFile("a.txt", sha256=hashlib.sha256(content).hexdigest()), self.zipped(rng, content)
        archive = rng.random() < 0.5
        wanted = downloads.RemoteFile("a.txt", "top/a.txt", plain.sha256) if archive else plain
        body = packed if archive else content
        shown = self.bent(rng, body)
        target = self.folder / f"download-{seed}"
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(self.files(rng, shown, rng.choice([None, rng.choice(LIES)])))
            sources = [downloads.Source("official", server.url, (wanted,), rng.choice([None, len(body), 10]))]
            said = ""
            try:
                downloads.fetch("it", target, sources, patience=0.5)
            except DownloadError as error:
                said = str(error)
        self.counts[f"download {'refused' if said else 'right'}"] += 1
        if said:
            assert "\n" not in said
            assert not target.exists() or not any(target.iterdir())
            assert shown != body or server.lie is not None, f"nothing was wrong: {said}"
        else:
            assert (target / "a.txt").read_bytes() == content

    @staticmethod
    def zipped(rng, content) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])) as archive:
            archive.writestr("top/a.txt", content)
            archive.writestr("../b.txt", b"x")
        return buffer.getvalue()

    @staticmethod
    def bent(rng, body) -> bytes:
        """What is sent: the file, or the file with something wrong."""
        place = rng.randrange(len(body))
        return rng.choice(
            (
                body,
                body,
                body,
                body,
                body[:place],
                body[:place] + b"x" + body[place:],
                body * 2,
                b"",
                b"<html>",
                bytes([body[0] ^ 1]) + body[1:],
                body[::-1],
            )
        )

    @contextlib.contextmanager
    def files(self, rng, body, lie):
        folder = self

        class Files(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.server.lie is not None:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        for piece in Lying(self.server.lie, body=body, over=self.server.over).pieces():
                            self.wfile.write(piece)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        server = Service(0, 0.0, folder.lies)
        server.RequestHandlerClass, server.lie = Files, lie
        with serving(server):
            yield server


def test_lies_end_in_a_log_that_is_right_or_in_a_sentence(tmp_path, film_files, outcome_of, beside):
    tried = Tried(tmp_path, film_files, outcome_of, beside("lies"))
    kinds = (tried.service, tried.model, tried.download, tried.service, tried.program, tried.service, tried.model, tried.download)
    failures = []
    for seed in range(FIRST, FIRST + CASES):
        kind = kinds[seed % len(kinds)]
        try:
            kind(seed)
        except Exception:
            failures.append(f"seed {seed} ({kind.__name__}): {traceback.format_exc(limit=-4)}")
        for left in tmp_path.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    print(dict(tried.counts))  # noqa: T201 - shown where the test fails, and with -s
    assert not failures, f"{len(failures)} of {CASES} {dict(tried.counts)}:\n" + "\n".join(failures)

"""A made-up language model behind HTTP, on this machine: for tests and dry runs, with every fault a server can have.

It speaks the part of the OpenAI interface that `simulator.llm.openai_api` uses. What it says depends on the text alone, so
equal questions have equal answers, and what a client should have read is known (`next_tokens`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, cast

from simulator.testing_liars import LIES, Lie, Lying

Fault = Literal["ok", "500", "429", "hang", "cut", "not json", "slow", "drip", "drip head", "endless", "vast", "bomb", "deep"]
"""What happens to a request: "429" asks to wait `MadeUpServer.retry_after` seconds, "hang" answers never, "cut" closes the
connection within the reply, "slow" answers late; the last six are lies of `simulator.testing_liars`."""

_TOKEN = re.compile(r" ?\w+|\s|[^\w\s]")


def next_tokens(text: str) -> dict[str, float]:
    """Probabilities of what the made-up model writes after a text; digits come after a space of their own."""
    if text.endswith(" "):
        words = [str(digit) for digit in range(1, 10)] + ["\n"]
    elif text.endswith(" 1"):
        words = ["0", "\n"]
    else:
        words = [" yes", " no", " Yes", " leave", " next", " ", "3", "\n", " The"]
    weights = [0.1 + hashlib.blake2b(f"{text}|{word}".encode(), digest_size=1).digest()[0] / 255 for word in words]
    return {word: weight / sum(weights) for word, weight in zip(words, weights, strict=True)}


class MadeUpServer:
    """The server, from ``with MadeUpServer() as server`` to the end of the block.

    Args:
        faults: what happens to the POST requests that come, one after another; afterwards all go well.
        key: the only bearer token that is accepted, or None.
        models: names of the models.
        probabilities: whether completions tell log-probabilities; echo: also for the prompt; most: at most so many per token.
        response_format: the one that chat accepts. refused_with: status of a completion that cannot tell probabilities.
        form: of log-probabilities, "lists" or, as llama-server writes them, "chat", in which none of the prompt are told.
        system: whether the model takes a system turn.

    Attributes:
        broken: a fault of every request from now on, or None. poison: requests with this in their body always fail (500).
        retry_after: seconds that "429" asks for, or an HTTP date. slow: seconds of "slow".
        says: what chat answers instead of its own words, or None. tells: what it says of a log-probability, by default the truth.
        usage: what it says of its tokens instead of the truth, or None.
        asked: bodies of the POST requests that were answered well, in the order they came.
        attempts: POST requests that came. moments: when each came (`time.monotonic`).
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        key: str | None = None,
        models: tuple[str, ...] = ("made-up",),
        probabilities: bool = True,
        echo: bool = True,
        most: int = 20,
        response_format: str = "json_schema",
        refused_with: int = 400,
        form: Literal["lists", "chat"] = "lists",
        system: bool = True,
    ) -> None:
        self.key, self.models, self.probabilities, self.echo, self.most = key, models, probabilities, echo, most
        self.response_format, self.refused_with, self.form, self.system = response_format, refused_with, form, system
        self.broken: Fault | None = None
        self.poison: str | None = None
        self.retry_after: float | str = 0.1
        self.slow = 0.2
        self.says: Any = None
        self.tells: Callable[[float], Any] = float
        self.usage: Any = None
        self.asked: list[dict[str, Any]] = []
        self.attempts = 0
        self.moments: list[float] = []
        self._faults: Iterator[Fault] = iter(faults)
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """What to give as ``base_url``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fault_of(self, body: str) -> Fault:
        """What happens to a request that just came."""
        with self._lock:
            self.attempts += 1
            self.moments.append(time.monotonic())
            if self.broken is not None:
                return self.broken
            return "500" if self.poison is not None and self.poison in body else next(self._faults, "ok")

    def wait(self, seconds: float) -> None:
        """Sleeps, but not beyond the end of the server."""
        self.ended.wait(seconds)

    def completion(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to POST completions: status and document."""
        prompt, most = body["prompt"], body.get("logprobs")
        if most is not None and (not self.probabilities or most > self.most or (body.get("echo") and not self.echo)):
            return self.refused_with, _refusal("logprobs are not available like that")
        text, listed = self._continued(prompt, body.get("max_tokens", 16))
        logprobs = None
        if most is not None:
            tokens = _TOKEN.findall(prompt) if body.get("echo") else []
            starts = [sum(map(len, tokens[:i])) for i in range(len(tokens))] or [len(prompt)]
            places = [*starts, len(prompt)] if tokens else starts
            logprobs = (
                {"content": [self._entry(prompt, listed[0], most)]}
                if self.form == "chat"
                else {
                    "tokens": [*tokens, listed[0]],
                    "text_offset": places,
                    "top_logprobs": [None if place == 0 else self._likeliest(prompt[:place], most) for place in places],
                }
            )
        choice = {"index": 0, "text": prompt + text if body.get("echo") else text, "logprobs": logprobs, "finish_reason": "length"}
        return 200, {"choices": [choice], "usage": self._usage(len(_TOKEN.findall(prompt)), len(listed))}

    def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to POST chat/completions: status and document."""
        asked, form = json.dumps(body["messages"]), body.get("response_format")
        if not self.system and any(message["role"] == "system" for message in body["messages"]):
            return self.refused_with, _refusal("System role not supported")
        if form is not None and form["type"] != self.response_format:
            return 400, _refusal(f"response_format {form['type']} is not supported")
        if self.says is not None:
            text = self.says
        elif form is not None:
            schema = form["json_schema"]["schema"] if "json_schema" in form else form["schema"]
            text = json.dumps({name: _picked(f"{asked}|{name}", entry["enum"]) for name, entry in schema["properties"].items()})
        else:
            text = " ".join(_picked(f"{asked}|{body.get('seed')}|{i}", ["quiet", "old", "films", "again"]) for i in range(4))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return 200, {"choices": [choice], "usage": self._usage(len(asked) // 4, len(str(text)) // 4)}

    def _usage(self, prompt: int, completion: int) -> Any:
        return {"prompt_tokens": prompt, "completion_tokens": completion} if self.usage is None else self.usage

    def _likeliest(self, text: str, most: int) -> dict[str, Any]:
        ranked = sorted(next_tokens(text).items(), key=lambda entry: -entry[1])[:most]
        return {token: self.tells(math.log(chance)) for token, chance in ranked}

    def _entry(self, text: str, drawn: str, most: int) -> dict[str, Any]:
        """One token in the form of chats."""
        listed = [{"token": token, "bytes": list(token.encode()), "logprob": told} for token, told in self._likeliest(text, most).items()]
        own = next((entry for entry in listed if entry["token"] == drawn), listed[0])
        return {**own, "top_logprobs": listed}

    def _continued(self, prompt: str, count: int) -> tuple[str, list[str]]:
        written: list[str] = []
        for _ in range(count):
            likely = next_tokens(prompt + "".join(written))
            written.append(max(likely, key=lambda token: likely[token]))
        return "".join(written), written


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report."""


def _handler(server: MadeUpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self._allowed():
                found = self.path == "/v1/models"
                self._send(200 if found else 404, {"data": [{"id": name} for name in server.models]} if found else _refusal("not found"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if not self._allowed():
                return
            fault = server.fault_of(body)
            if fault in ("500", "429"):
                headers = {"Retry-After": str(server.retry_after)} if fault == "429" else {}
                self._send(int(fault), _refusal("made to fail"), headers)
            elif fault == "hang":
                server.wait(60)
            elif fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.wfile.flush()
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif fault in LIES:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    for piece in Lying(cast(Lie, fault), over=server.ended).pieces():
                        self.wfile.write(piece)
            elif fault == "not json":
                self._write(200, b"<html>gateway</html>", {})
            else:
                server.wait(server.slow if fault == "slow" else 0)
                self._answer(json.loads(body))

        def _answer(self, body: dict[str, Any]) -> None:
            answers = {"/v1/completions": server.completion, "/v1/chat/completions": server.chat}
            if self.path not in answers or body["model"] not in server.models:
                self._send(404, _refusal(f"no model {body['model']} at {self.path}"))
                return
            code, document = answers[self.path](body)
            if code == 200:
                server.asked.append(body)
            self._send(code, document)

        def _allowed(self) -> bool:
            allowed = server.key is None or self.headers["Authorization"] == f"Bearer {server.key}"
            if not allowed:
                self._send(401, _refusal("incorrect key"))
            return allowed

        def _send(self, code: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            self._write(code, json.dumps(document).encode(), headers or {})

        def _write(self, code: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _picked(key: str, options: list[str]) -> str:
    return options[hashlib.blake2b(key.encode(), digest_size=2).digest()[0] % len(options)]


def _refusal(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}

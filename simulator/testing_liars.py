"""A server on this machine that lies in a chosen way to whoever asks it: for tests of everything that asks over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Literal, Self, get_args

Lie = Literal[
    "silent",
    "drip",
    "drip head",
    "endless",
    "endless head",
    "vast",
    "short",
    "long",
    "bomb",
    "broken gzip",
    "unknown packing",
    "to a file",
    "elsewhere",
    "deep",
    "not http",
]
"""What a server does with every request: "drip" sends a blank now and then for ever, "vast" promises a terabyte, "short" less than it
promises, "long" more, "bomb" half a gigabyte in half a megabyte, "to a file" and "elsewhere" send the client on, "deep" is nested JSON."""

LIES: tuple[Lie, ...] = get_args(Lie)

BOMB = 500_000_000
"""Bytes to which "bomb" unpacks."""

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Lying:
    """One lie, as the bytes that a server sends.

    Args:
        lie: which. body: what "short" and "long" send. pause: seconds between two signs of "drip".
        over: set when the server ends.
    """

    def __init__(self, lie: Lie, body: bytes = b'{"state": "s"}', pause: float = 0.05, over: threading.Event | None = None) -> None:
        self.lie, self.body, self.pause = lie, body, pause
        self.over = over or threading.Event()

    def pieces(self) -> Iterator[bytes]:
        """What it sends, piece by piece."""
        yield from _ANSWERS[self.lie](self)

    def slowly(self, start: bytes, sign: bytes) -> Iterator[bytes]:
        """Some bytes, and then one sign after another for ever."""
        yield start
        while not self.over.wait(self.pause):
            yield sign

    def fast(self, start: bytes, block: bytes) -> Iterator[bytes]:
        """Some bytes, and then blocks for ever."""
        yield start
        while not self.over.is_set():
            yield block


class Liar(Lying):
    """The server, from ``with Liar("drip") as server`` to the end of the block.

    Args:
        lie, body, pause: as for `Lying`.

    Attributes:
        url: where it is. sent: bytes that it got rid of. heads: what it was asked, the head of each request.
    """

    def __init__(self, lie: Lie, body: bytes = b'{"state": "s"}', pause: float = 0.05) -> None:
        super().__init__(lie, body, pause)
        self.sent = 0
        self.heads: list[bytes] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _bomb(_: Lying) -> Iterator[bytes]:
    packed = gzip.compress(bytes(BOMB // 500), compresslevel=9) * 500
    yield _HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    yield packed


def _silent(liar: Lying) -> Iterator[bytes]:
    liar.over.wait()
    yield b""


def _sent(head: bytes, body: Callable[[Lying], bytes] = lambda liar: liar.body) -> Callable[[Lying], Iterator[bytes]]:
    return lambda liar: iter((head % {b"length": len(liar.body)} + b"\r\n" + body(liar),))


def _elsewhere(to: bytes) -> Callable[[Lying], Iterator[bytes]]:
    return lambda _: iter((b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\nContent-Length: 0\r\n\r\n",))


_ANSWERS: dict[Lie, Callable[[Lying], Iterator[bytes]]] = {
    "silent": _silent,
    "drip": lambda liar: liar.slowly(_HEAD + b"Connection: close\r\n\r\n", b" "),
    "drip head": lambda liar: liar.slowly(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "endless": lambda liar: liar.fast(_HEAD + b"Connection: close\r\n\r\n", b" " * 65_536),
    "endless head": lambda liar: liar.fast(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1_000 + b"\r\n"),
    "vast": lambda liar: liar.slowly(_HEAD + b"Content-Length: 1000000000000\r\n\r\n", b" "),
    "short": _sent(_HEAD + b"Content-Length: 1%(length)d\r\nConnection: close\r\n"),
    "long": _sent(_HEAD + b"Content-Length: %(length)d\r\n", lambda liar: liar.body * 1_000),
    "bomb": _bomb,
    "broken gzip": _sent(_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %(length)d\r\n"),
    "unknown packing": _sent(_HEAD + b"Content-Encoding: br\r\nContent-Length: %(length)d\r\n"),
    "to a file": _elsewhere(b"file:///etc/hostname"),
    "elsewhere": _elsewhere(b"http://user:hunter2@127.0.0.1:9/secret?token=hunter2"),
    "deep": lambda _: iter((_HEAD + b"Content-Length: 2000000\r\n\r\n" + b"[" * 2_000_000,)),
    "not http": lambda _: iter((b"SSH-2.0-OpenSSH_9.0\r\n",)),
}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what a liar expects."""


def _handler(liar: Liar) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request: socket.socket = self.request
            request.settimeout(10)
            liar.heads.append(request.recv(65_536))
            threading.Thread(target=_swallow, args=(request,), daemon=True).start()
            with contextlib.suppress(OSError):
                for piece in liar.pieces():
                    request.sendall(piece)
                    liar.sent += len(piece)

    return Handler


def _swallow(request: socket.socket) -> None:
    """Reads the rest of a request, so that no answer is lost in a reset."""
    with contextlib.suppress(OSError):
        while request.recv(65_536):
            continue

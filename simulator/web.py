"""HTTP with bounds: the client behind every service, server and download, which no answer can keep waiting or fill up.

httpx bounds single reads, so an answer that trickles in, or that never ends, is waited for without end. Here one deadline holds for a whole
exchange, head and body, and one limit for the bytes of the body, also of those that it unpacks to. An answer on loopback never goes
through a proxy; elsewhere the usual variables are heeded (HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE ...).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import ssl
import threading
import time
import urllib.request
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from simulator.errors import ConfigError

CONNECT_SECONDS = 10.0
"""Longest wait for a connection, if the whole exchange may take longer."""

_PIECE = 65_536


class TooLargeError(Exception):
    """An answer has more bytes than its limit, or says that it will; the rest was not read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer is larger than {size_of(most)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers, and the body without its compression."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none become a mark."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names: its address, and `variable`, which names it."""

    address: str
    variable: str


class WebClient:
    """Asks over HTTP. May be used by several threads at once; redirects are not followed.

    Args:
        headers: sent with every request.
        connections: at once, at most.
    """

    def __init__(self, headers: Mapping[str, str] | None = None, *, connections: int = 16) -> None:
        self._transport = _Transport(connections)
        # What the environment says is heeded by the transport; netrc, which could exchange a key for another one, is not.
        self._client = httpx.Client(
            headers={"Accept-Encoding": "identity", **(headers or {})}, transport=self._transport, trust_env=False, follow_redirects=False
        )
        self._close = weakref.finalize(self, self._client.close)  # also for one that nobody closes

    def exchange(self, method: str, url: str, *, seconds: float, most: int, content: str | bytes | None = None) -> Answer:
        """One request and its whole answer.

        Args:
            method: "GET" or "POST". url: whole. content: the body that is sent.
            seconds: from sending to the last byte. most: bytes of the body.

        Raises:
            TooLargeError: the answer is larger.
            httpx.HTTPError: there is no whole answer in time.
            ConfigError: the environment names a proxy that cannot be used.
        """
        with self.stream(method, url, seconds=seconds, content=content) as response:
            return Answer(response.status_code, response.headers, b"".join(pieces(response, most)))

    @contextlib.contextmanager
    def stream(
        self, method: str, url: str, *, seconds: float, stall: float | None = None, content: str | bytes | None = None
    ) -> Iterator[httpx.Response]:
        """One request and the head of its answer, whose body is then read with `pieces`, in the same thread.

        Args:
            method, url, content: as in `exchange`.
            seconds: until the block ends. stall: seconds without a byte, if they are fewer.

        Raises:
            httpx.HTTPError, ConfigError: as in `exchange`.
        """
        wait = min(seconds, stall or seconds)
        timeout = httpx.Timeout(wait, connect=min(wait, CONNECT_SECONDS), pool=None)
        with _deadline(seconds), self._client.stream(method, url, content=content, timeout=timeout) as response:
            yield response

    def close(self) -> None:
        """Closes all connections."""
        self._close()


def pieces(response: httpx.Response, most: int) -> Iterator[bytes]:
    """The body in pieces, unpacked, as long as it has at most `most` bytes; little more than one piece is ever held.

    Raises:
        TooLargeError: it has more, or says so in its head.
        httpx.HTTPError: it is cut off, damaged, or packed in a way that was not asked for.
    """
    told = response.headers.get("content-length", "")
    if told.isdigit() and int(told[:20]) > most:
        raise TooLargeError(most)
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"the answer is packed as {packed[:40]!r}, which was not asked for")
    plain = packed in ("identity", "")
    read = unpacked = 0
    for piece in response.iter_raw() if plain else _unpacked(response.iter_raw()):
        unpacked += len(piece)
        read = max(read, response.num_bytes_downloaded)
        if max(read, unpacked) > most:
            raise TooLargeError(most)
        yield piece


def _unpacked(stream: Iterator[bytes]) -> Iterator[bytes]:
    """What gzip or zlib data unpacks to, in pieces of a bounded size: a small bomb may not explode in one step."""
    engine, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False
    try:
        for piece in stream:
            left = piece
            while left:
                if engine.eof:
                    engine = zlib.decompressobj(zlib.MAX_WBITS | 32)
                begun = True
                yield engine.decompress(left, _PIECE)
                left = engine.unused_data if engine.eof else engine.unconsumed_tail
        if begun and not engine.eof:
            yield engine.flush()  # a few bytes that filled no piece
    except zlib.error as error:
        raise httpx.DecodingError(f"the answer says that it is compressed, and cannot be unpacked ({error})") from error
    if begun and not engine.eof:
        raise httpx.RemoteProtocolError("the compressed answer was cut off")


def size_of(count: int) -> str:
    """Bytes in words, such as "64 MB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


def readable(text: str, most: int = 10_000) -> str:
    """The beginning of a text from elsewhere on one line, without signs that steer a terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[:most]).split())


# --- proxies --------------------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, whatever a name server says."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def is_private(host: str) -> bool:
    """Whether a host is this machine's, or an address of its own network that means nothing elsewhere."""
    if is_loopback(host):
        return True
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        return False


def proxy_for(url: str | httpx.URL) -> Proxy | None:
    """The proxy that the environment names for an address; None where there is none, and always on loopback."""
    parsed = httpx.URL(url)
    if is_loopback(parsed.host) or urllib.request.proxy_bypass(parsed.host):
        return None
    known = urllib.request.getproxies()
    for kind in (parsed.scheme, "all"):
        address = known.get(kind)
        if address:
            names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
            variable = next((name for name in names if os.environ.get(name)), "the system's settings")
            return Proxy(address if "://" in address else f"http://{address}", variable)
    return None


def through(url: str | httpx.URL) -> str:
    """Words for a sentence about a failure: by which proxy an address is reached; empty without one. Says no address of a proxy."""
    try:
        proxy = proxy_for(url)
    except (httpx.InvalidURL, ValueError):
        return ""
    return f" through the proxy that {proxy.variable} names" if proxy else ""


def _pool(proxy: Proxy | None, certificates: ssl.SSLContext | None, connections: int) -> httpcore.ConnectionPool:
    settings: dict[str, Any] = {
        "ssl_context": certificates,
        "max_connections": connections,
        "max_keepalive_connections": connections,
        "network_backend": _Network(),
    }
    if proxy is None:
        return httpcore.ConnectionPool(**settings)
    try:
        given = httpx.Proxy(proxy.address)
    except (httpx.InvalidURL, ValueError):
        raise ConfigError(f"{proxy.variable} does not name a proxy; write it like http://host:port, or unset it.") from None
    where = httpcore.URL(scheme=given.url.raw_scheme, host=given.url.raw_host, port=given.url.port, target=b"/")
    if given.url.scheme in ("http", "https"):
        return httpcore.HTTPProxy(proxy_url=where, proxy_auth=given.raw_auth, **settings)
    if importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{proxy.variable} names a SOCKS proxy, for which the package socksio is needed; try: pip install 'httpx[socks]', or unset "
            f"{proxy.variable}, or name the host in NO_PROXY."
        )
    return httpcore.SOCKSProxy(proxy_url=where, proxy_auth=given.raw_auth, **settings)


# --- one deadline for a whole exchange ------------------------------------------------------------------------------

_clock = threading.local()


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    before = getattr(_clock, "end", None)
    _clock.end, _clock.seconds = time.monotonic() + seconds, seconds
    try:
        yield
    finally:
        _clock.end = before


def _left(timeout: float | None) -> float | None:
    """The time-out of one step, shortened to what is left of the exchange in this thread.

    Raises:
        httpcore.TimeoutException: nothing is left.
    """
    end = getattr(_clock, "end", None)
    if end is None:
        return timeout
    left: float = end - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout(f"no whole answer within {_clock.seconds:g} s")
    return left if timeout is None else min(timeout, left)


class _Network(httpcore.NetworkBackend):
    """The network of the operating system, every step of which ends with the exchange."""

    def __init__(self) -> None:
        self._own = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *more: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._own.connect_tcp(host, port, _left(timeout), *more, **options))

    def sleep(self, seconds: float) -> None:
        self._own.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, own: httpcore.NetworkStream) -> None:
        self._own = own

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._own.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._own.write(buffer[start : start + _PIECE], _left(timeout))

    def close(self) -> None:
        self._own.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._own.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._own.get_extra_info(info)


class _Transport(httpx.BaseTransport):
    """Carries the requests of httpx over the pools of httpcore, one for each proxy in use."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._pools: dict[tuple[str, str], httpcore.ConnectionPool] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = proxy_for(request.url)
        with self._lock:
            key = (request.url.scheme, proxy.address if proxy else "")
            if key not in self._pools:
                # Reading the certificates takes a moment, which a server on loopback does not need.
                certificates = httpx.create_ssl_context() if "https" in (key[0], key[1].partition(":")[0]) else None
                self._pools[key] = _pool(proxy, certificates, self._connections)
            pool = self._pools[key]
        url = httpcore.URL(scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path)
        assert isinstance(request.stream, httpx.SyncByteStream)
        with _as_httpx():
            answer = pool.handle_request(
                httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions)
            )
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """Exceptions of httpcore as those of the same name of httpx."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProxyError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error

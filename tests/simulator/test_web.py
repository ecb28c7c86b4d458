"""One deadline and one limit for a whole exchange, whatever the server does; and proxies."""

from __future__ import annotations

import gzip
import zlib

import httpx
import pytest

from simulator.errors import ConfigError
from simulator.testing_liars import LIES, Liar
from simulator.web import TooLargeError, WebClient, is_loopback, proxy_for, through

MOST = 10_000_000


@pytest.fixture
def client():
    made = WebClient()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_keeps_anybody_waiting_or_fills_anything(client, lie):
    with Liar(lie) as server:
        if lie in ("long", "deep"):
            assert client.exchange("POST", server.url, seconds=5, most=MOST, content="{}").status == 200
        elif lie in ("to a file", "elsewhere"):
            assert client.exchange("GET", server.url, seconds=5, most=MOST).status == 302
        else:
            with pytest.raises((httpx.HTTPError, TooLargeError)) as error:
                client.exchange("POST", server.url, seconds=0.4, most=MOST, content="{}")
            assert "\n" not in str(error.value)
        # what was under way in the buffers of the system comes on top
        assert server.sent < 3 * MOST


@pytest.mark.parametrize("lie", ["endless", "vast", "bomb"])
def test_what_is_too_large_is_said_so(client, lie):
    with Liar(lie) as server, pytest.raises(TooLargeError, match="larger than 1 MB"):
        client.exchange("GET", server.url, seconds=30, most=1_000_000)


@pytest.mark.parametrize("lie", ["silent", "drip", "drip head"])
def test_the_deadline_is_for_the_whole_answer_and_a_later_request_has_its_own(client, lie):
    with Liar(lie) as server, pytest.raises(httpx.TimeoutException):
        client.exchange("GET", server.url, seconds=0.3, most=MOST)
    with Liar("long") as server:
        assert client.exchange("GET", server.url, seconds=5, most=MOST).body == server.body


@pytest.mark.parametrize(
    ("packing", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]))],
)
def test_a_packed_answer_is_unpacked_though_none_was_asked_for(client, monkeypatch, packing, pack):
    text = b'{"state": "s"}' * 20_000
    packed = pack(text)
    with Liar("long", body=packed) as server:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (packing.encode(), len(packed))
        monkeypatch.setattr(server, "pieces", lambda: iter((head + packed,)))
        assert client.exchange("GET", server.url, seconds=5, most=MOST).body == text
        assert b"identity" in server.heads[0]


def test_an_answer_of_exactly_the_limit_is_read(client):
    with Liar("long", body=b"x" * 1_000) as server:
        assert len(client.exchange("GET", server.url, seconds=5, most=1_000).body) == 1_000
        with pytest.raises(TooLargeError):
            client.exchange("GET", server.url, seconds=5, most=999)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "api.localhost", "LOCALHOST", "::ffff:127.0.0.1", "0.0.0.0"]
)
def test_this_machine_is_recognised(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "example.org", "10.0.0.1", "::2", ""])
def test_other_machines_are_not_this_one(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_loopback_is_never_asked_through_a_proxy(client, monkeypatch, variable, address):
    monkeypatch.setenv(variable, address)
    with Liar("long") as server:
        assert client.exchange("GET", server.url, seconds=5, most=MOST).status == 200


def test_the_variable_of_a_proxy_is_named_and_never_its_address(client, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert through("http://elsewhere.example/v1") == " through the proxy that HTTP_PROXY names"
    assert through("http://inside.example/v1") == through("https://elsewhere.example") == ""
    with pytest.raises(httpx.ConnectError) as error:
        client.exchange("GET", "http://elsewhere.example/v1", seconds=5, most=MOST)
    assert "hunter2" not in str(error.value)


def test_a_proxy_is_used_for_other_machines(client, monkeypatch):
    with Liar("long") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:pass@"))
        assert client.exchange("GET", "http://elsewhere.example/v1", seconds=5, most=MOST).status == 200
    assert proxy.heads[0].startswith(b"GET http://elsewhere.example/v1 HTTP/1.1")
    assert b"proxy-authorization: basic" in proxy.heads[0].lower()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("socks5://127.0.0.1:9", "ALL_PROXY names a SOCKS proxy, for which the package socksio is needed"),
        ("ftp://h:1", "does not name a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_sentence(client, monkeypatch, address, words):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", address)
    assert proxy_for("http://elsewhere.example").variable == "ALL_PROXY"
    with pytest.raises(ConfigError, match=words):
        client.exchange("GET", "http://elsewhere.example/v1", seconds=5, most=MOST)

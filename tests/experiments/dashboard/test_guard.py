"""Nobody uses the dashboard who was not given its address: other sites, other names, other accounts, with a real WebSocket client."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from experiments.dashboard.guard import Guard

uvicorn = pytest.importorskip("uvicorn")
TOKEN = "right-token-of-this-start"


async def application(scope, receive, send):
    """Says yes to everything that it is asked."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "welcome"})
        await send({"type": "websocket.close"})
    elif scope["type"] == "http":
        headers = [(b"x-frame-options", b"ALLOWALL"), (b"content-security-policy", b"frame-ancestors *"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """Where a guarded application is, as host and port."""
    from experiments.dashboard.server import listen

    socket = listen(0)
    port = socket.getsockname()[1]
    guarded = Guard(application, "127.0.0.1", port, TOKEN)
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="error", lifespan="off", proxy_headers=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    socket.close()


@pytest.fixture
def client(place) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{place}", trust_env=False) as made:
        yield made


@pytest.fixture
def cookie(client) -> str:
    client.get("/", params={"token": TOKEN})
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def connect(place: str, origin: str | None, headers: dict[str, str], query: str = "") -> str:
    """What a real WebSocket client hears, or the status that it is refused with."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect as open_socket

    address = f"ws://{place}/jupyter/api/kernels/{uuid.uuid4()}/channels?session_id=x{query}"
    try:
        with open_socket(address, origin=origin, additional_headers=headers, proxy=None) as socket:
            return str(socket.recv(timeout=5))
    except InvalidStatus as error:
        return str(error.response.status_code)


def test_the_printed_address_opens_the_page_and_leaves_the_token_nowhere(client, place):
    first = client.get("/", params={"token": TOKEN, "tab": "2"})
    assert (first.status_code, first.headers["location"]) == (303, "/?tab=2")
    assert TOKEN not in str(first.headers)
    assert all(word in first.headers["set-cookie"] for word in ("HttpOnly", "SameSite=Lax", "Path=/"))
    again = client.get("/")
    assert (again.status_code, again.text) == (200, "/")


WRONG = (
    "",
    "?token=",
    "?token=wrong",
    f"?token={TOKEN}x",
    f"?token={TOKEN[:-1]}",
    f"?Token={TOKEN}",
    f"?token=x&token={TOKEN}",
    "?token=%ff",
)


@pytest.mark.parametrize("query", WRONG)
def test_nothing_is_answered_without_the_token(client, query):
    for path in ("/", "/static/x.js", "/readyz", "/jupyter/api/kernels/x"):
        refused = client.get(path + query)
        assert refused.status_code == 403
        assert "Open the whole address" in refused.text
        assert "set-cookie" not in refused.headers


def test_a_cookie_of_another_start_or_port_opens_nothing(client, cookie):
    name, _, value = cookie.partition("=")
    client.cookies.clear()
    for wrong in (f"{name}=x", f"{name}={value}0", f"other={value}", f"{name}={TOKEN}", f"{name}=", "\x7f;;=,"):
        assert client.get("/", headers={"Cookie": wrong}).status_code == 403
    assert client.get("/", headers={"Cookie": cookie}).status_code == 200


FOREIGN = ("http://evil.example", "null", "http://127.0.0.1:1", "https://{place}", "http://{place}.evil.example", "file://", "")


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("with_cookie", [True, False])
def test_a_web_page_from_elsewhere_opens_no_socket_and_sends_nothing(client, place, cookie, origin, with_cookie):
    origin = origin.format(place=place)
    headers = {"Cookie": cookie} if with_cookie else {}
    assert connect(place, origin, headers) == "403"
    assert connect(place, origin, headers, f"&token={TOKEN}") == "403"
    client.cookies.clear()
    for method in ("GET", "POST"):
        assert client.request(method, "/x", params={"token": TOKEN}, headers={"Origin": origin, **headers}).status_code == 403


@pytest.mark.parametrize(("name", "query"), [(None, ""), ("Cookie", ""), (None, "&token=wrong")])
def test_a_socket_needs_the_cookie_or_the_token_even_from_the_own_page(place, name, query):
    assert connect(place, f"http://{place}", {name: "usersim-dashboard=x"} if name else {}, query) == "403"


def test_the_own_page_opens_its_socket(place, cookie):
    assert connect(place, f"http://{place}", {"Cookie": cookie}) == "welcome"


OTHER_NAMES = ("evil.example", "127.0.0.1", "127.0.0.1.evil.example:{port}", "[::1]:{port}", "127.0.0.1:1", "0.0.0.0:{port}")


@pytest.mark.parametrize("host", OTHER_NAMES)
def test_the_page_is_not_reached_under_another_name(client, place, cookie, host):
    host = host.format(port=place.rpartition(":")[2])
    assert client.get("/", headers={"Host": host, "Cookie": cookie}).status_code == 403
    assert client.get("/", headers={"Host": host}, params={"token": TOKEN}).status_code == 403


def test_localhost_is_the_same_place(client, place):
    port = place.rpartition(":")[2]
    assert client.get("/", params={"token": TOKEN}, headers={"Host": f"localhost:{port}"}).status_code == 303


def test_no_answer_may_be_framed_or_read_by_other_pages(client, cookie):
    for answer in (client.get("/"), client.get("/", params={"token": TOKEN}), httpx.get(client.base_url, trust_env=False)):
        assert answer.headers.get_list("content-security-policy") == ["frame-ancestors 'none'"]
        assert answer.headers.get_list("x-frame-options") == ["DENY"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/%2F/evil.example", "/\r\nX-Evil: 1"])
def test_nobody_is_sent_elsewhere_with_the_token(client, path):
    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    host = str(client.base_url.netloc.decode()).encode()
    scope = {"type": "http", "method": "GET", "path": path, "query_string": f"token={TOKEN}".encode(), "headers": [(b"host", host)]}
    asyncio.run(Guard(application, "127.0.0.1", int(host.rpartition(b":")[2]), TOKEN)(scope, None, send))
    place = dict(sent[0]["headers"])[b"location"].decode()
    assert re.match(r"/(?![/\\])", place)
    assert "\r" not in place


def test_every_start_has_a_token_of_its_own():
    tokens = {Guard(application, "127.0.0.1", 1).token for _ in range(8)}
    assert len(tokens) == 8
    assert all(len(token) >= 40 for token in tokens)
    assert json.dumps(sorted(tokens))

"""Who may talk to the dashboard: the browser that was given its address, and nobody else.

The address that is printed holds a random token. A visit with it sets a cookie, and everything else, the WebSocket above all, needs that
cookie (or the token). A request that comes from another site, or under another name of this machine, is refused whatever it holds, and the
page cannot be shown inside another one. So neither a web page that is open beside it nor another account of this machine can use it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PARAMETER = "token"
"""The part of the printed address that holds the token."""

HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Sent with every answer: no other page may frame the dashboard, read from it, or learn its address."""


class Guard:
    """An ASGI application in front of another one, which lets through who may use it.

    Args:
        application: what is guarded.
        host: address that it listens on. port: and the port.
        token: what the printed address holds; made up anew if not given.

    Attributes:
        token: the secret of this start.
    """

    def __init__(self, application: Application, host: str, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self._application = application
        self._hosts = {f"{name}:{port}".encode() for name in (host, "localhost")} | ({host.encode(), b"localhost"} if port == 80 else set())
        self._origins = {b"http://" + name for name in self._hosts}
        # Cookies are told to every port of a host, so that this one's has a name of its own; it holds a digest, and not the token.
        self._cookie = f"usersim-dashboard-{port}"
        self._pass = hmac.new(self.token.encode(), b"usersim dashboard", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers or refuses one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})  # before it is accepted: status 403
        elif refusal:
            await _answer(send, 403, refusal)
        elif scope["type"] == "http" and scope["method"] == "GET" and self._has_token(scope):
            await self._welcome(scope, send)
        else:
            await self._application(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> str:
        """Why this request is not answered; empty if it is."""
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "The dashboard answers under the address that usersim printed, and no other."
        if any(origin.lower() not in self._origins for origin in origins):
            return "The dashboard does not answer other sites."
        if b"cross-site" in _headers(scope, b"sec-fetch-site") and scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return "The dashboard does not answer other sites."
        if not (self._has_token(scope) or self._has_cookie(scope)):
            return "Open the whole address that usersim printed, with its token."
        return ""

    def _has_token(self, scope: Scope) -> bool:
        given = [value for name, value in _query(scope) if name == PARAMETER]
        return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), self.token.encode())

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(b"; ".join(_headers(scope, b"cookie")).decode("latin-1"))
        except CookieError:
            return False
        given = cookies.get(self._cookie)
        return given is not None and hmac.compare_digest(given.value.encode("utf-8", "replace"), self._pass.encode())

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """Sets the cookie and goes to the same address without the token, which then stands in no history and on no screen."""
        rest = urlencode([(name, value) for name, value in _query(scope) if name != PARAMETER])
        # one slash at the start: two would lead to another host
        place = "/" + scope["path"].lstrip("/\\") if scope["path"].isascii() and scope["path"].isprintable() else "/"
        cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Lax"
        more = [(b"set-cookie", cookie.encode()), (b"location", f"{place}{'?' if rest else ''}{rest}".encode())]
        await _answer(send, 303, "", more)


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


async def _answer(send: Send, status: int, text: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = f"{text}\n".encode() if text else b""
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *HEADERS, *more]})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    """Sends on, with `HEADERS` in place of what the application may say about the same."""
    ours = {name for name, _ in HEADERS}

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in ours]
            message = {**message, "headers": [*kept, *HEADERS]}
        await send(message)

    return sending

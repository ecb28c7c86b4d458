"""Addresses that lead to others: followed a few times, and only to where one would have gone oneself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from simulator.web import WebClient, is_private

MOST = 5
"""So often may an address lead to another one."""


class RedirectError(Exception):
    """An address leads to where nobody should follow; says where to, in a few words that hold no secret of an address."""


@contextmanager
def followed(client: WebClient, url: str, *, seconds: float, stall: float, elsewhere: bool) -> Iterator[httpx.Response]:
    """The answer of an address, or of the one that it leads to in the end.

    Args:
        client: asks. url: where to begin. seconds, stall: as for `WebClient.stream`, for every step.
        elsewhere: whether it may lead to another host, since what arrives is verified.

    Raises:
        RedirectError: it leads to no web address, to one with a name and password, out of encryption, from the world into this machine or
            its network, to another host, or on and on.
        httpx.HTTPError, ConfigError: as `WebClient.stream`.
    """
    address = httpx.URL(url)
    for _ in range(MOST + 1):
        with client.stream("GET", str(address), seconds=seconds, stall=stall) as response:
            if response.status_code not in (301, 302, 303, 307, 308) or "location" not in response.headers:
                yield response
                return
            address = _next(address, response.headers["location"], elsewhere=elsewhere)
    raise RedirectError("from one address to the next without end")


def _next(address: httpx.URL, location: str, *, elsewhere: bool) -> httpx.URL:
    try:
        further = address.join(location)
    except (httpx.InvalidURL, ValueError):
        raise RedirectError("to something that is no address") from None
    if further.scheme not in ("http", "https") or not further.host:
        raise RedirectError(f"to something that is no web address ({further.scheme[:20]}:)")
    if further.userinfo:
        raise RedirectError("to an address with a name and password")
    if address.scheme == "https" and further.scheme == "http":
        raise RedirectError("from https to http")
    if is_private(further.host) and not is_private(address.host):
        raise RedirectError("into this machine or its network")
    if further.host != address.host and not elsewhere:
        raise RedirectError(f"to another host ({further.host[:100]}), for which nothing vouches")
    return further

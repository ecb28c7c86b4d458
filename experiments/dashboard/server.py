"""The web server of the dashboard, on loopback alone and for one browser (`guard`).

Nothing is fetched from elsewhere, and nothing is told to anybody.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

from experiments.dashboard.guard import PARAMETER, Guard
from simulator.errors import ConfigError
from simulator.paths import cache_folder

HOST = "127.0.0.1"
NEEDED = ("solara", "altair", "uvicorn")
"""Packages of the extra ``dashboard``: Mesa's visualisation is made of the first two."""


def check_installed() -> None:
    """Passes if everything is there that the dashboard needs besides usersim.

    Raises:
        ConfigError: it is not, and how to get it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the dashboard needs {', '.join(missing)}, which is not installed; try: pip install 'usersim[dashboard]'.")


def listen(port: int) -> socket.socket:
    """A bound socket on loopback; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise ConfigError(f"port {port} of {HOST} cannot be used ({error.strerror}); give another --port, or --port 0 for any.") from error
    return found


def address(place: socket.socket, token: str) -> str:
    """What is opened in the browser."""
    return f"http://{HOST}:{place.getsockname()[1]}/?{PARAMETER}={token}"


def serve(place: socket.socket, ready: Callable[[], None], token: str) -> None:
    """Serves the page of `experiments.dashboard.app` until interrupted.

    Args:
        place: bound (`listen`). ready: called once when the page can be opened.
        token: what whoever opens the page must know, see `address`.
    """
    settings = {
        "SOLARA_APP": "experiments.dashboard.app",
        "SOLARA_HOME": str(cache_folder() / "solara"),
        "SOLARA_MODE": "production",
        "SOLARA_SESSION_HTTP_ONLY": "true",
        "SOLARA_TELEMETRY_MIXPANEL_ENABLE": "false",
        "SOLARA_TELEMETRY_SERVER_USER_ID": "usersim",
        "SOLARA_THEME_VARIANT": "light",
        "SOLARA_THEME_SHOW_BANNER": "false",
        "SOLARA_THEME_TITLE": "usersim",
        # the scripts and fonts come with solara-assets; this address answers nothing, so that none is ever fetched
        "SOLARA_ASSETS_CDN": f"http://{HOST}:9/",
    }
    os.environ.update(settings)
    # Of a component of Mesa that is not shown here, and of cookies: on loopback there is no https, and none is needed.
    warnings.filterwarnings("ignore", message=".*ComponentsView: `use_state` found despite early return", category=UserWarning)
    warnings.filterwarnings("ignore", message="Cookies with samesite=none require https", category=UserWarning)
    import uvicorn  # noqa: PLC0415 - after the settings, which are read on import
    from solara.server.starlette import app  # noqa: PLC0415

    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            ready()

    guarded: Any = Guard(app, HOST, place.getsockname()[1], token)
    config = uvicorn.Config(guarded, log_level="error", access_log=False, proxy_headers=False, timeout_graceful_shutdown=2)
    Server(config).run(sockets=[place])
